"""Moments and parts of the picture that a page shows: those at which the versions differ most. Pure
functions of figures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vsr.evaluate.images import RgbImage
from vsr.evaluate.report.content import Curve, Values
from vsr.image.luma import LUMA_WEIGHTS

T = TypeVar("T", bound=np.generic)

Plane = NDArray[np.float32]
"""(H, W)."""

MAX_WHOLE_FRAMES = 30
"""Whole frames on a page, over all moments and versions."""
MAX_MOMENTS = 6
MIN_GAP = 3
"""Frames from one moment to the next, at least."""
LOOP_FRAMES = 8
"""Neighboring frames that are shown in turn."""
SLICE_FRAMES = 96
"""Width of an x-t picture where the clip is long enough."""


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: NDArray[T]) -> NDArray[T]:
        """Return that part of a picture (H, W, ...), as a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


EMPTY_BOX = Box(0, 0, 0, 0)


@dataclass(frozen=True)
class Moment:
    """One moment that the page shows."""

    frame: int
    """The frame that is shown whole."""
    loop: range
    """Frames that are shown in turn."""
    time_slice: range
    """Frames of which one column each makes the x-t picture."""
    reason: str


def num_moments(num_versions: int) -> int:
    """Return the number of moments that a page of that many versions has room for."""
    return max(1, min(MAX_MOMENTS, MAX_WHOLE_FRAMES // num_versions))


def choose_moments(frames: Sequence[int], curves: Sequence[Curve], count: int) -> list[Moment]:
    """Choose at most `count` moments in order of time, none closer to another than a fair share of
    the clip allows.

    Where no figure tells frames apart, they are spread evenly.
    """
    if not frames:
        return []
    # The shape is given, for without curves numpy would not know of the frames.
    interest = np.array([_interest(curve) for curve in curves]).reshape(len(curves), len(frames))
    total = interest.sum(axis=0)
    if total.max() == 0:
        evenly = [int((2 * place + 1) * len(frames) / (2 * count)) for place in range(count)]
        return [_moment(frames, position, "chosen evenly") for position in sorted(set(evenly))]
    gap = max(MIN_GAP, len(frames) // (2 * count))
    chosen: list[int] = []
    # What was chosen, and all that is near, counts -1.
    while len(chosen) < count and total.max() >= 0:
        position = int(total.argmax())
        chosen.append(position)
        total[max(0, position - gap + 1) : position + gap] = -1
    several = max(len(curve.values) for curve in curves) > 1
    verb = "the versions differ most in" if several else "the result is poorest in"
    return [
        _moment(frames, position, f"{verb} {curves[int(interest[:, position].argmax())].metric}")
        for position in sorted(chosen)
    ]


def decimate(values: Values, max_points: int) -> NDArray[np.intp]:
    """Return the positions of at most `max_points` values that keep the curve's shape: the extremes
    of equal stretches.

    NaN is left out. No value is averaged, so that a spike of one frame stays as high as it was.
    """
    existing = np.flatnonzero(~np.isnan(values))
    if len(existing) <= max_points:
        return existing
    # Two points for each stretch: its least and its greatest value.
    stretches = np.array_split(existing, max_points // 2)
    extremes = [(part[values[part].argmin()], part[values[part].argmax()]) for part in stretches]
    return np.unique(np.array(extremes))


def luma(picture: RgbImage) -> Plane:
    """Return luma in [0, 255]."""
    return np.asarray(picture.astype(np.float32) @ np.array(LUMA_WEIGHTS, dtype=np.float32))


def difference(pictures: Sequence[RgbImage]) -> Plane:
    """Return the spread of pictures of one size at each pixel; for a single one, its own
    contrast."""
    stack = np.stack([luma(picture) for picture in pictures])
    return np.asarray(stack.std(axis=0) if len(stack) > 1 else np.abs(stack[0] - stack[0].mean()))


def busiest_box(difference_map: Plane, height: int, width: int) -> Box:
    """Return the box of that size (or the picture's, where that is smaller) with the largest
    sum."""
    height, width = min(height, difference_map.shape[0]), min(width, difference_map.shape[1])
    # Sums from the top left, of which four give the sum of any box.
    sums = np.pad(difference_map.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    inside = (
        sums[height:, width:]
        - sums[:-height, width:]
        - sums[height:, :-width]
        + sums[:-height, :-width]
    )
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return Box(int(top), int(left), height, width)


def busiest_column(difference_map: Plane, height: int) -> Box:
    """Return the part of a single column with the largest sum, in the box of that height and as
    wide that has the largest."""
    box = busiest_box(difference_map, height, height)
    return Box(box.top, box.left + int(box.of(difference_map).sum(axis=0).argmax()), box.height, 1)


def _interest(curve: Curve) -> Values:
    """Return the distance between the versions, or how poor the only one is, in units of the clip's
    average."""
    rows = np.array(list(curve.values.values()))
    if len(rows) == 1:
        # A single version is compared with its own best frame.
        best = np.fmax if curve.higher_is_better else np.fmin
        rows = np.array([rows[0], np.full_like(rows[0], best.reduce(rows[0]))])
    measured = ~np.isnan(rows).any(axis=0)
    apart = np.where(measured, np.ptp(np.nan_to_num(rows), axis=0), 0.0)
    average = apart[measured].mean() if measured.any() else 0.0
    return np.asarray(apart / average) if average > 0 else np.zeros(rows.shape[1])


def _moment(frames: Sequence[int], position: int, reason: str) -> Moment:
    loop, time_slice = (
        _window(frames, position - 1, length) for length in (LOOP_FRAMES, SLICE_FRAMES)
    )
    return Moment(frames[position], loop, time_slice, reason)


def _window(frames: Sequence[int], start: int, length: int) -> range:
    first = frames[max(0, min(start, len(frames) - length))]
    return range(first, min(first + length, frames[-1] + 1))
