"""Brightness that flickers, as of old film: evened along time, region by region.

How much lighter a frame is than the one before is measured along the motion, so what moves does not
count. Added up, these steps give the brightness of each region over time, of which a straight line
through some frames is kept. A fade is such a line, and a flash rises and falls once: neither is
changed. A frame that is shown again, as where film was made to fit a faster rate, counts once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch

from vsr.image.luma import luma
from vsr.image.motion import DIS_FAST, MIN_FAST_SIDE_PX, FloatArray, backward_warp, dis_flow

REACH = 6
"""Frames on either side that a frame is compared with."""
MAX_REPEAT_DIFFERENCE, MAX_REPEATS = 0.3, 4
"""Mean difference, in gray levels, up to which a frame shows the one before again, and how often
one is at most: a still picture has no end."""
MIN_LIGHT = 12.0
"""Median gray level from which on a region counts as lit: black bars never flicker."""
REGION_PX, MAX_REGIONS = 48, 4
"""Least side of a region, and how many lie along a side at most."""
PEDESTAL = 16.0
"""Gray levels added before logarithms are taken: black is no infinity."""
MIN_STEP = 0.006
"""Smallest step, in natural logarithms, that counts as a rise or a fall."""
MIN_TURNS = 4
"""Changes between rising and falling in a window, from which on brightness flickers: a flash has
one, two flashes three."""
END_TURNS = 3
"""Limit at a shot's ends, where windows are half as long."""
MAX_OUTLIER = 5.0
"""Departure from the line, over the median one, from which on a frame is a flash in a flickering
shot, and is left."""
SLOPE_DOUBT = 4.0
"""Squared deviations that a slope must exceed to be believed: flicker alone has a slope by chance,
most of all at a shot's ends."""


class BrightnessEvening:
    """Evens the brightness of the pictures of one shot."""

    def __init__(self) -> None:
        self.frames_evened = 0

    def through(self, pictures: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Even pictures (3, H, W) in gray levels; `REACH` frames late, as many come out."""
        held: deque[_Shown] = deque()
        behind: deque[FloatArray] = deque(maxlen=REACH)
        for picture in pictures:
            if held and held[-1].is_shown_again_by(picture):
                held[-1].pictures.append(picture)
                continue
            if len(held) > REACH:
                yield from self._even(held, behind)
            if held:
                level = held[-1].level + brightness_step(held[-1].pictures[0], picture)
            else:
                # Levels count from the shot's first frame: only their differences matter.
                level = np.zeros((3, *_grid(picture)), np.float32)
            held.append(_Shown([picture], level))
        while held:
            yield from self._even(held, behind)

    def _even(self, held: deque["_Shown"], behind: deque[FloatArray]) -> Iterator[FloatArray]:
        """Take the first held frame out, evened by the levels around it."""
        first = held.popleft()
        levels = np.stack([*behind, first.level, *(each.level for each in held)])
        correction = steady_correction(levels, len(behind))
        behind.append(first.level)
        if not correction.any():
            yield from first.pictures
            return
        self.frames_evened += len(first.pictures)
        height, width = first.pictures[0].shape[-2:]
        # Smooth from region to region, so that no border shows.
        gains = np.stack(
            [
                cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
                for plane in np.exp(correction).astype(np.float32)
            ]
        )
        for picture in first.pictures:
            yield np.clip((picture + PEDESTAL) * gains - PEDESTAL, 0, 255)


@dataclass
class _Shown:
    """A frame, as often as it is shown, and its level."""

    pictures: list[FloatArray]
    level: FloatArray

    def is_shown_again_by(self, picture: FloatArray) -> bool:
        return len(self.pictures) <= MAX_REPEATS and _repeats(self.pictures[0], picture)


def _repeats(before: FloatArray, picture: FloatArray) -> bool:
    return float(np.abs(picture - before).mean()) <= MAX_REPEAT_DIFFERENCE


def steady_correction(levels: FloatArray, at: int) -> FloatArray:
    """Find what makes frame `at` lie on the line through `levels`, (frames, ...) in logarithms.

    0 where the levels do not flicker.
    """
    count = len(levels)
    none: FloatArray = np.zeros(levels.shape[1:], np.float32)
    if count < MIN_TURNS + 2:
        return none
    steps = np.diff(levels, axis=0)
    # Centered times: mean and slope of the line are then independent of each other.
    times = np.arange(count, dtype=np.float32) - (count - 1) / 2
    spread = float((times**2).sum())
    mean = levels.mean(axis=0)
    slope = np.asarray(np.tensordot(times, levels, axes=1), np.float32) / spread
    shape = (-1,) + (1,) * (levels.ndim - 1)
    residual = levels - mean - slope * times.reshape(shape)
    # A slope that chance explains is none.
    doubt = SLOPE_DOUBT * (residual**2).sum(axis=0) / (count - 2) / spread
    slope = slope * np.maximum(0, 1 - doubt / np.maximum(slope**2, 1e-12))
    residual = levels - mean - slope * times.reshape(shape)
    usual = np.median(np.abs(residual), axis=0)
    turns_needed = MIN_TURNS if count > REACH + 3 else END_TURNS
    flickers = (_turns(steps) >= turns_needed) & (np.abs(residual[at]) <= MAX_OUTLIER * usual)
    return np.asarray(np.where(flickers, -residual[at], none), np.float32)


def _turns(steps: FloatArray) -> np.ndarray:
    """Count along the first axis how often a rise follows a fall or a fall a rise; small steps do
    not count."""
    turns = np.zeros(steps.shape[1:], int)
    last = np.zeros(steps.shape[1:], int)
    for step in steps:
        sign = np.where(np.abs(step) > MIN_STEP, np.sign(step), 0).astype(int)
        turns += (sign != 0) & (last != 0) & (sign != last)
        last = np.where(sign != 0, sign, last)
    return turns


def brightness_step(before: FloatArray, now: FloatArray) -> FloatArray:
    """By how much `now` is lighter than `before` along the motion, in natural logarithms: the
    median of each region, (3, rows, columns)."""
    moved = before
    if min(now.shape[-2:]) >= MIN_FAST_SIDE_PX:
        # Flow takes brightness for constant, so the two are brought to one level first.
        ratio = (now.mean() + 1) / (before.mean() + 1)
        views = [_view(now), _view(before * ratio)]
        moved = backward_warp(before, dis_flow(views[0], views[1], DIS_FAST))
    difference = np.log(now + PEDESTAL) - np.log(np.maximum(moved, 0) + PEDESTAL)
    return np.stack([_in_regions(plane, np.median) for plane in difference])


def _in_regions(plane: FloatArray, summed_up: Callable[[FloatArray], float]) -> FloatArray:
    """Sum up each region of (H, W): (rows, columns)."""
    rows, columns = _grid(plane)
    return np.array(
        [
            [summed_up(cell) for cell in np.array_split(band, columns, axis=1)]
            for band in np.array_split(plane, rows, axis=0)
        ],
        np.float32,
    )


def flicker_along_motion(pictures: Iterable[FloatArray], at_most: int) -> float:
    """Measure by how much of its brightness a frame departs from the mean of its neighbors: the
    median over frames and regions that are lit; 0 where the brightness does not go up
    and down. It takes the first `at_most` frames, without those that are shown again."""
    shown: list[FloatArray] = []
    for picture in pictures:
        if shown and _repeats(shown[-1], picture):
            continue
        shown.append(picture)
        if len(shown) == at_most:
            break
    if len(shown) < MIN_TURNS + 2:
        return 0.0
    steps = np.stack([brightness_step(a, b) for a, b in pairwise(shown)]).mean(axis=1)
    steps = steps[:, _in_regions(luma(shown[0]), np.median) >= MIN_LIGHT]
    if not steps.size or float(np.median(_turns(steps))) < MIN_TURNS:
        return 0.0
    departures = np.abs(steps[1:] - steps[:-1]) / 2
    return round(float(np.median(departures)), 4)


def _grid(picture: FloatArray) -> tuple[int, int]:
    rows, columns = (int(np.clip(side // REGION_PX, 1, MAX_REGIONS)) for side in picture.shape[-2:])
    return rows, columns


def _view(picture: FloatArray) -> np.ndarray:
    view: np.ndarray = (
        np.rint(cv2.GaussianBlur(luma(picture), (0, 0), 1.2)).clip(0, 255).astype(np.uint8)
    )
    return view


def brightness_flicker(pictures: Sequence[torch.Tensor]) -> float:
    """Mean deviation of a frame's mean level from the mean of its neighbors', in gray levels.

    A fade changes evenly and has none; a flash counts once, so the median is taken.
    """
    if len(pictures) < 3:
        return 0.0
    means = np.array([255 * float(picture.mean()) for picture in pictures])
    return round(float(np.median(np.abs(means[1:-1] - (means[:-2] + means[2:]) / 2))), 3)
