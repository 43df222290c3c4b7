"""Shot boundaries, and the frame of each shot that models are trained on.

A cut is where PySceneDetect's adaptive detector sees the picture change far more than around it.
The detector is fed with our own frames, so that a clip is decoded once; it judges a frame two
frames late, and that is all that is held.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from vsr.video.frames import Frame

T = TypeVar("T")

DETECTION_WIDTH_PX = 256
"""Wider pictures are reduced to this before cuts are looked for: it changes no cut, and the time no
longer counts."""


@dataclass(frozen=True)
class ShotOptions:
    """When a change of picture is a cut. The defaults are PySceneDetect's, but for the shorter
    shortest shot."""

    cut_ratio: float = 3.0
    """Change of a cut over that of the four frames around it, at least."""
    min_change: float = 15.0
    """Least change of a cut: mean absolute difference of hue, saturation and value, in 8-bit
    levels."""
    min_shot_frames: int = 6
    """A cut closer than this to the one before is not taken."""


@dataclass(frozen=True, eq=False)
class ShotFrames:
    """The frames of one shot, as a stream that is read once, before the next shot is asked for."""

    index: int
    """Position of the shot in the stream, from 0."""
    first_frame: int
    """Index of its first frame in the clip."""
    frames: Iterator[Frame]


@dataclass(frozen=True)
class Shot:
    """Where a shot lies in its clip. Frames are counted from 0 and `last_frame` belongs to the
    shot."""

    index: int
    first_frame: int
    last_frame: int
    start_seconds: float
    """Presentation time of the first frame."""
    end_seconds: float
    """Presentation time of the last frame plus its duration, where the clip says one."""
    keyframe: int
    """Index in the clip of the frame that `find_shots` chose for training."""

    @property
    def num_frames(self) -> int:
        return self.last_frame - self.first_frame + 1


def split_shots(
    frames: Iterable[Frame], options: ShotOptions = ShotOptions()
) -> Iterator[ShotFrames]:
    """Group a stream of equally large frames into shots, without losing, repeating or reordering
    any.

    Like `itertools.groupby`: all shots share one stream, so asking for the next one uses up what is
    left of the one before. A cut within two frames of either end of the stream is not seen, nor is
    a slow dissolve.
    """
    marked = mark_shots(frames, options, lambda frame: frame)
    for (index, first_frame), group in groupby(marked, key=itemgetter(0, 1)):
        yield ShotFrames(index, first_frame, map(itemgetter(2), group))


def find_shots(frames: Iterable[Frame], options: ShotOptions = ShotOptions()) -> list[Shot]:
    """List the shots of a clip, in order, in one pass; the same cuts as `split_shots`. A clip
    without frames has none."""
    return [_describe(shot) for shot in split_shots(frames, options)]


def choose_keyframe(sharpness: list[float], changes: list[float]) -> int:
    """Choose the position of the frame to train on, given each frame's sharpness and its change
    towards its neighbors.

    Of the middle half of the shot, the one with the largest `sharpness / (1 + change / median
    change)`: blur by motion or lost focus lowers the numerator, and the denominator prefers a
    moment of rest where sharpness leaves the choice open. Of equals, the nearest to the middle.
    """
    count = len(sharpness)
    usual = median(changes) or 1.0
    # The edges of a shot hold fades and the last of a dissolve.
    candidates = range(count // 4, count - count // 4)
    return max(
        candidates, key=lambda i: (sharpness[i] / (1 + changes[i] / usual), -abs(2 * i + 1 - count))
    )


def mark_shots(
    items: Iterable[T], options: ShotOptions, frame_of: Callable[[T], Frame]
) -> Iterator[tuple[int, int, T]]:
    """Yield each item after the index and the first frame of its shot, as many items late as the
    detector looks ahead. `frame_of` gives an item's frame."""
    items = iter(items)
    first = next(items, None)
    if first is None:
        return
    # Takes as long to load as some frames to read, and no shot is looked for before there is a
    # frame.
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(
        options.cut_ratio, options.min_shot_frames, min_content_val=options.min_change
    )
    lag = detector.event_buffer_length
    held: deque[T] = deque()
    pictures: deque[np.ndarray] = deque(maxlen=lag + 2)
    index, first_frame = -1, 0
    for position, item in enumerate(chain([first], items)):
        held.append(item)
        pictures.append(_detection_picture(frame_of(item).pixels))
        # Lengths are counted in frames: the rate that a timecode has to be given decides nothing.
        cuts = detector.process_frame(FrameTimecode(position, fps=25.0), pictures[-1])
        # The detector names a cut two frames late: the first frame still held begins the shot.
        if position == 0 or (cuts and not _is_flash(*pictures)):
            index, first_frame = index + 1, frame_of(held[0]).index
        # The detector judges a frame only when it has seen `lag` more: no frame leaves before.
        if len(held) > lag:
            yield index, first_frame, held.popleft()
    for item in held:
        yield index, first_frame, item


def _detection_picture(pixels: torch.Tensor) -> np.ndarray:
    """Make 8-bit BGR of at most `DETECTION_WIDTH_PX`, as PySceneDetect wants it."""
    height, width = pixels.shape[-2:]
    shrink = max(width / DETECTION_WIDTH_PX, 1.0)
    small = adaptive_avg_pool2d(pixels, (max(round(height / shrink), 1), round(width / shrink)))
    levels = (small * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.flip(0).permute(1, 2, 0).cpu().numpy())


def _is_flash(before: np.ndarray, at_cut: np.ndarray, *after: np.ndarray) -> bool:
    """Tell whether the picture soon looks again as it did before: a flashlight or a spoilt frame,
    not a cut."""
    change = _mean_difference(before, at_cut)
    # Half the change: a true cut leaves pictures that are as far from the old shot as its first.
    return any(_mean_difference(before, picture) < change / 2 for picture in after)


def _mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _describe(shot: ShotFrames) -> Shot:
    """Read a shot to its end, keeping two numbers a frame."""
    sharpness: list[float] = []
    steps: list[float] = []
    start_seconds = 0.0
    gray_before = None
    for frame in shot.frames:
        gray = frame.pixels.mean(dim=0)
        if gray_before is None:
            start_seconds = frame.seconds
        else:
            steps.append(float((gray - gray_before).abs().mean()))
        sharpness.append(_gradient_energy(gray))
        gray_before = gray
        last = frame
    # A frame counts as moving where it differs from either neighbor.
    changes = [max(pair) for pair in zip([0.0, *steps], [*steps, 0.0], strict=True)]
    return Shot(
        index=shot.index,
        first_frame=shot.first_frame,
        last_frame=last.index,
        start_seconds=start_seconds,
        end_seconds=float((last.pts + last.duration) * last.time_base),
        keyframe=shot.first_frame + choose_keyframe(sharpness, changes),
    )


def _gradient_energy(gray: torch.Tensor) -> float:
    """Mean squared difference of neighboring pixels: falls with any blur, less swayed by noise
    than a Laplacian."""
    energy = 0.0
    for axis in (0, 1):
        if gray.shape[axis] > 1:
            energy += float(gray.diff(dim=axis).square().mean())
    return energy
