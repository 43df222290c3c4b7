"""Where in a picture the versions differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

RgbImage = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
Plane = NDArray[np.float32]
"""(H, W)."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601."""


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: NDArray[T]) -> NDArray[T]:
        """That part of a picture (H, W, ...), as a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


EMPTY_BOX = Box(0, 0, 0, 0)


def luma(picture: RgbImage) -> Plane:
    """In [0, 255]."""
    return np.asarray(picture.astype(np.float32) @ LUMA_WEIGHTS)


def difference(pictures: Sequence[RgbImage]) -> Plane:
    """How far pictures of one size lie apart at each pixel; for a single one, its own contrast."""
    stack = np.stack([luma(picture) for picture in pictures])
    return np.asarray(stack.std(axis=0) if len(stack) > 1 else np.abs(stack[0] - stack[0].mean()))


def busiest_box(difference_map: Plane, height: int, width: int) -> Box:
    """The box of that size (or the picture's, where that is smaller) with the largest sum."""
    height, width = min(height, difference_map.shape[0]), min(width, difference_map.shape[1])
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
    """The part of a single column with the largest sum, in the box of that height and as wide that
    has the largest."""
    box = busiest_box(difference_map, height, height)
    return Box(box.top, box.left + int(box.of(difference_map).sum(axis=0).argmax()), box.height, 1)
