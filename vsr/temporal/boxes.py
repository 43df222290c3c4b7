"""Boxes: the part of a frame in which a shot moves, where the rest stands still."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Box:
    """Rows and columns of a low-resolution frame; those at `bottom` and `right` lie outside."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of its rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of its columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return self.height * self.width

    def grown(self, pixels: int, within: "Box") -> "Box":
        """The box with so many pixels more on each side, as far as `within` goes."""
        return Box(
            max(within.top, self.top - pixels),
            max(within.left, self.left - pixels),
            min(within.bottom, self.bottom + pixels),
            min(within.right, self.right + pixels),
        )

    def shrunk(self, pixels: int, within: "Box") -> "Box":
        """The box with so many pixels fewer on each side that is no side of `within`; it may be
        empty."""
        top = self.top + pixels * (self.top > within.top)
        left = self.left + pixels * (self.left > within.left)
        bottom = self.bottom - pixels * (self.bottom < within.bottom)
        right = self.right - pixels * (self.right < within.right)
        return Box(top, left, max(top, bottom), max(left, right))

    def common(self, other: "Box") -> "Box":
        """The part of the box that lies in `other`; it may be empty."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, max(top, bottom), max(left, right))

    def seen_from(self, other: "Box") -> "Box":
        """The box counted from the corner of `other`."""
        return Box(
            self.top - other.top,
            self.left - other.left,
            self.bottom - other.top,
            self.right - other.left,
        )

    def cut(self, planes: torch.Tensor, ratio: int = 1) -> torch.Tensor:
        """View the box in planes (..., H, W) that are `ratio` times as large as the frame."""
        return planes[
            ..., ratio * self.top : ratio * self.bottom, ratio * self.left : ratio * self.right
        ]


def whole_box(planes: torch.Tensor) -> Box:
    """The box of all of (..., h, w)."""
    return Box(0, 0, *planes.shape[-2:])


def united(one: Box | None, other: Box | None) -> Box | None:
    """The smallest box that holds both; None is a box of nothing."""
    if one is None or other is None:
        return one or other
    return Box(
        min(one.top, other.top),
        min(one.left, other.left),
        max(one.bottom, other.bottom),
        max(one.right, other.right),
    )


def box_of_changes(now: torch.Tensor, before: torch.Tensor) -> Box | None:
    """The smallest box that holds all pixels in which two frames (C, h, w) differ; None where they
    are equal."""
    differs = (now != before).any(dim=0)
    rows, columns = (differs.any(dim=axis).nonzero().flatten().cpu().tolist() for axis in (1, 0))
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if rows else None
