"""Short loops of several clips: the same moments, the same part of the picture."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from vsr.errors import InputError
from vsr.video.align import Timeline, TimeMap
from vsr.video.align.time_map import (
    BRIEF_FINGERPRINT_FRAMES,
    Fingerprint,
    guess_time_map,
    take_fingerprint,
)
from vsr.video.reader import open_clip

Source = str | Path
RgbImage = NDArray[np.uint8]
"""RGB, (H, W, 3)."""

WINDOW_STEP_PX = 8


@dataclass(frozen=True)
class Trial:
    """One moment of every clip."""

    start_seconds: float
    """On the first clip's clock."""
    left: int
    top: int
    loops: tuple[tuple[RgbImage, ...], ...]
    """For each clip its frames, all of one size."""


def sample_trials(
    sources: Sequence[Source], trials: int, loop_frames: int, window: tuple[int, int]
) -> tuple[list[Trial], float]:
    """Loops at up to `trials` moments spread over the first clip, and their frames a second.

    The part of the picture, at most `window` = (height, width) in pixels, is where the clips differ
    most at the loop's start. Raises InputError for clips of unequal sizes and for those that share
    no moment.
    """
    surveys = [_survey(source) for source in sources]
    for source, seen in zip(sources, surveys, strict=True):
        if seen.size != surveys[0].size:
            raise InputError(
                f"{source} is {_format_size(seen.size)} and {sources[0]} "
                f"{_format_size(surveys[0].size)}; expected one size"
            )
    clocks = [guess_time_map(seen, surveys[0]) for seen in surveys]
    times = _times(sources[0])
    starts = _starts(len(times), trials, loop_frames)
    moments = {
        first + step: number for number, first in enumerate(starts) for step in range(loop_frames)
    }
    gathered = _read_loops(sources, clocks, moments, window)
    found = [_trial(times[starts[number]], loop) for number, loop in sorted(gathered.items())]
    if not found:
        raise InputError(
            f"{', '.join(map(str, sources))} share no moment; give results of one and the same clip"
        )
    return found, _rate(times)


@dataclass
class _Loop:
    corner: tuple[int, int]
    """Top and left."""
    frames: list[list[RgbImage]]
    """For each time the pictures of all clips."""


def _read_loops(
    sources: Sequence[Source],
    clocks: Sequence[TimeMap],
    moments: dict[int, int],
    window: tuple[int, int],
) -> dict[int, _Loop]:
    """Loops by the number of their trial; `moments` says to which trial a frame of the first clip
    belongs."""
    loops: dict[int, _Loop] = {}
    with ExitStack() as stack:
        clips = [stack.enter_context(open_clip(source)) for source in sources]
        timelines = [Timeline(clip.frames()) for clip in clips[1:]]
        for frame in clips[0].frames():
            partners = [
                timeline.pop_nearest(time_map.to_result(frame.seconds))
                for timeline, time_map in zip(timelines, clocks[1:], strict=True)
            ]
            number = moments.get(frame.index)
            present = [frame, *(partner for partner in partners if partner is not None)]
            if number is None or len(present) < len(sources):
                continue
            pictures = [one.pixels for one in present]
            if number not in loops:
                loops[number] = _Loop(_most_different(pictures, window), [])
            loops[number].frames.append(
                [_crop(picture, loops[number].corner, window) for picture in pictures]
            )
    return loops


def _trial(start_seconds: float, loop: _Loop) -> Trial:
    top, left = loop.corner
    return Trial(start_seconds, left, top, tuple(zip(*loop.frames, strict=True)))


def _survey(source: Source) -> Fingerprint:
    with open_clip(source) as clip:
        rate = clip.info.average_rate
        return take_fingerprint(
            clip.frames(), BRIEF_FINGERPRINT_FRAMES, None if rate is None else float(rate)
        )


def _times(source: Source) -> list[float]:
    with open_clip(source) as clip:
        return [frame.seconds for frame in clip.frames()]


def _rate(times: Sequence[float]) -> float:
    return 1 / float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def _starts(num_frames: int, trials: int, loop_frames: int) -> list[int]:
    """First frames of loops that do not overlap, spread evenly; one from the start where the clip
    is too short."""
    count = max(min(trials, num_frames // loop_frames), 1)
    room = max(num_frames - count * loop_frames, 0)
    return [round((number + 0.5) * room / count) + number * loop_frames for number in range(count)]


def _most_different(pictures: Sequence[torch.Tensor], window: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the window with the largest spread between the pictures (3, H, W)."""
    spread = torch.stack(list(pictures)).var(dim=0, correction=0).mean(dim=0)
    height, width = (min(side, whole) for side, whole in zip(window, spread.shape, strict=True))
    sums = avg_pool2d(spread[None, None], (height, width), stride=WINDOW_STEP_PX)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return row * WINDOW_STEP_PX, column * WINDOW_STEP_PX


def _crop(pixels: torch.Tensor, corner: tuple[int, int], window: tuple[int, int]) -> RgbImage:
    part = pixels[:, corner[0] : corner[0] + window[0], corner[1] : corner[1] + window[1]]
    picture: RgbImage = (
        (part * 255)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(1, 2, 0)
        .contiguous()
        .cpu()
        .numpy()
    )
    return picture


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
