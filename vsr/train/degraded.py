"""The degradation of the shots that models are trained for, as a run will find it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vsr.restore.degradation import estimate_degradation, num_probe_frames
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import Shot
from vsr.video.step import Degradation


def degradations_of_shots(
    clip: str | Path, shots: Sequence[Shot], read: ReadOptions, restore: float | Literal["auto"]
) -> list[Degradation]:
    """Look at the first frames of each shot, in one pass over the clip, for a run that restores
    with this strength; nothing is found for one of 0.

    Raises `InputError` where the clip cannot be read.
    """
    if restore == 0:
        return [Degradation()] * len(shots)
    found: dict[int, Degradation] = {}
    waiting = sorted(shots, key=lambda shot: shot.first_frame)
    probe: list[Frame] = []
    with open_clip(clip, read) as reader:
        for frame in reader.frames():
            # The rest of the clip need not be decoded.
            if not waiting:
                break
            shot = waiting[0]
            if frame.index < shot.first_frame:
                continue
            probe.append(frame)
            is_whole = len(probe) == num_probe_frames(probe[0])
            if is_whole or frame.index == shot.last_frame:
                found[shot.first_frame] = estimate_degradation(
                    probe, looks_back=read.quantizer is None
                )
                probe = []
                waiting.pop(0)
    return [found.get(shot.first_frame, Degradation()) for shot in shots]
