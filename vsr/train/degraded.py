"""The degradation of the shots that models are trained for, as a run will find it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vsr.image.degradation import CLEAN_SHOT, KnownDegradation
from vsr.restore.data_term import known_degradation
from vsr.restore.degradation import estimate_degradation, num_probe_frames
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import Shot


def degradations_of_shots(
    clip: str | Path, shots: Sequence[Shot], read: ReadOptions, restore: float | Literal["auto"]
) -> list[KnownDegradation]:
    """Look at the first frames of each shot, in one pass over the clip, for a run that restores
    with this strength.

    Raises `InputError` where the clip cannot be read.
    """
    strength = 1.0 if restore == "auto" else restore
    if strength == 0:
        return [CLEAN_SHOT] * len(shots)
    found: dict[int, KnownDegradation] = {}
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
                estimate = estimate_degradation(probe)
                found[shot.first_frame] = known_degradation(estimate, strength)
                probe = []
                waiting.pop(0)
    return [found.get(shot.first_frame, CLEAN_SHOT) for shot in shots]
