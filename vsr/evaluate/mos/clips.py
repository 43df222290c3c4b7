"""Short loops of several clips: equal moments, the same part of the picture; or single pictures of
several folders."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from vsr.errors import InputError
from vsr.evaluate.alignment import ProbedClip, Source
from vsr.evaluate.images import RgbImage, to_rgb_image
from vsr.video.align import Timeline, TimeMap
from vsr.video.align.crops import format_size
from vsr.video.align.time_map import guess_time_map
from vsr.video.reader import open_clip

WINDOW_STEP_PX = 8
STILL_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class Trial:
    """One moment of every clip."""

    start_seconds: float
    """Time on the first clip's clock."""
    left: int
    top: int
    loops: tuple[tuple[RgbImage, ...], ...]
    """Frames of each clip, all of one size."""
    picture: str = ""
    """Name of the picture, where folders of stills are compared."""


def sample_trials(
    sources: Sequence[Source], trials: int, loop_frames: int, window: tuple[int, int]
) -> tuple[list[Trial], float]:
    """Cut loops at up to `trials` moments spread over the first clip; return them and their
    frames a second.

    The part of the picture, at most `window` = (height, width) in pixels, is where the clips differ
    most at the loop's start. Raises InputError for clips of unequal sizes and for those that share
    no moment.
    """
    probes = [ProbedClip(source) for source in sources]
    for probe in probes:
        if probe.size != probes[0].size:
            raise InputError(
                f"{probe.source} is {format_size(probe.size)} and {sources[0]} "
                f"{format_size(probes[0].size)}; expected one size"
            )
    clocks = [guess_time_map(probe.brief, probes[0].brief) for probe in probes]
    with probes[0].open() as clip:
        times = [frame.seconds for frame in clip.frames()]
    starts = _starts(len(times), trials, loop_frames)
    moments = {
        first + step: number for number, first in enumerate(starts) for step in range(loop_frames)
    }
    gathered = _read_loops(probes, clocks, moments, window)
    found = [_trial(times[starts[number]], loop) for number, loop in sorted(gathered.items())]
    if not found:
        raise InputError(
            f"{', '.join(map(str, sources))} share no moment; give results of one and the same clip"
        )
    # The median: one gap in the times must not slow down all loops.
    return found, 1 / float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def sample_stills(
    folders: Sequence[Source], trials: int, window: tuple[int, int]
) -> tuple[list[Trial], float]:
    """Take up to `trials` pictures that all folders have under one name, whatever the suffix; each
    is one trial. Return them and a rate that means nothing.

    Pictures of a set differ in size; each is cut where the folders differ most, as a clip is.
    Raises InputError for what is no folder, folders that share no name, and unequal sizes.
    """
    by_name = [_stills(folder) for folder in folders]
    shared = [name for name in by_name[0] if all(name in stills for stills in by_name)]
    if not shared:
        raise InputError(
            f"{', '.join(map(str, folders))} have no picture of one name; expected results of the "
            "same pictures under the same names"
        )
    # Spread over the set, which is often sorted by what it shows.
    count = min(trials, len(shared))
    chosen = [shared[(2 * number + 1) * len(shared) // (2 * count)] for number in range(count)]
    found = []
    for name in chosen:
        pictures = [_read_still(stills[name]) for stills in by_name]
        sizes = [(picture.shape[-2], picture.shape[-1]) for picture in pictures]
        for folder, size in zip(folders, sizes, strict=True):
            if size != sizes[0]:
                raise InputError(
                    f"{name} is {format_size(size)} in {folder} and {format_size(sizes[0])} in "
                    f"{folders[0]}; expected one size"
                )
        corner = _most_different(pictures, window)
        loops = tuple((_crop(picture, corner, window),) for picture in pictures)
        found.append(Trial(0.0, corner[1], corner[0], loops, name))
    return found, 1.0


def _stills(folder: Source) -> dict[str, Path]:
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{folder} is no folder; expected folders of pictures with --stills")
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in STILL_SUFFIXES)
    return {each.stem: each for each in found}


def _read_still(path: Path) -> torch.Tensor:
    with open_clip(path) as reader:
        frame = next(reader.frames(), None)
    if frame is None:
        raise InputError(f"{path} holds no picture")
    return frame.pixels


@dataclass
class _Loop:
    corner: tuple[int, int]
    """Top and left."""
    frames: list[list[RgbImage]]
    """Pictures of all clips for each time."""


def _read_loops(
    probes: Sequence[ProbedClip],
    clocks: Sequence[TimeMap],
    moments: dict[int, int],
    window: tuple[int, int],
) -> dict[int, _Loop]:
    """Read loops by the number of their trial; `moments` has the trial that a frame of the first
    clip belongs to."""
    loops: dict[int, _Loop] = {}
    with ExitStack() as stack:
        clips = [stack.enter_context(probe.open()) for probe in probes]
        timelines = [Timeline(clip.frames()) for clip in clips[1:]]
        for frame in clips[0].frames():
            partners = [
                timeline.pop_nearest(time_map.to_result(frame.seconds))
                for timeline, time_map in zip(timelines, clocks[1:], strict=True)
            ]
            number = moments.get(frame.index)
            present = [frame, *(partner for partner in partners if partner is not None)]
            # A moment that one clip lacks cannot be compared.
            if number is None or len(present) < len(probes):
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


def _starts(num_frames: int, trials: int, loop_frames: int) -> list[int]:
    """Choose the first frames of loops that do not overlap, spread evenly; one from the start where
    the clip is too short."""
    count = max(min(trials, num_frames // loop_frames), 1)
    room = max(num_frames - count * loop_frames, 0)
    return [round((number + 0.5) * room / count) + number * loop_frames for number in range(count)]


def _most_different(pictures: Sequence[torch.Tensor], window: tuple[int, int]) -> tuple[int, int]:
    """Return top and left of the window with the largest variance between the pictures
    (3, H, W)."""
    spread = torch.stack(list(pictures)).var(dim=0, correction=0).mean(dim=0)
    height, width = (min(side, whole) for side, whole in zip(window, spread.shape, strict=True))
    # Windows 8 px apart are enough, and a hundred times as fast as all.
    sums = avg_pool2d(spread[None, None], (height, width), stride=WINDOW_STEP_PX)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return row * WINDOW_STEP_PX, column * WINDOW_STEP_PX


def _crop(pixels: torch.Tensor, corner: tuple[int, int], window: tuple[int, int]) -> RgbImage:
    (top, left), (height, width) = corner, window
    return to_rgb_image(pixels[:, top : top + height, left : left + width])
