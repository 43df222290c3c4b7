"""The part that two pictures have in common when their sizes differ by a few pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import torch

from vsr.errors import InputError
from vsr.video.align.time_map import Size

MAX_CROP_PX = 7


@dataclass(frozen=True)
class Crop:
    """The part that a result's pictures and its reference's have in common, in pixels."""

    height: int
    width: int
    result_top: int = 0
    result_left: int = 0
    reference_top: int = 0
    reference_left: int = 0

    @classmethod
    def at(cls, result: Size, reference: Size, down: int, right: int) -> Self:
        """Crop the larger picture in each direction by `down` rows at its top, `right` columns at
        its left."""
        height, width = min(result[0], reference[0]), min(result[1], reference[1])
        return cls(
            height=height,
            width=width,
            result_top=down if result[0] > height else 0,
            result_left=right if result[1] > width else 0,
            reference_top=down if reference[0] > height else 0,
            reference_left=right if reference[1] > width else 0,
        )

    def of_result(self, pixels: torch.Tensor) -> torch.Tensor:
        """The common part of a result's picture (..., H, W), as a view."""
        return self._crop(pixels, self.result_top, self.result_left)

    def of_reference(self, pixels: torch.Tensor) -> torch.Tensor:
        """The common part of a reference's picture (..., H, W), as a view."""
        return self._crop(pixels, self.reference_top, self.reference_left)

    def to_json(self) -> dict[str, int]:
        """Plain values for strict JSON."""
        return dict(vars(self))

    def _crop(self, pixels: torch.Tensor, top: int, left: int) -> torch.Tensor:
        return pixels[..., top : top + self.height, left : left + self.width]


def check_sizes(result: Size, reference: Size) -> None:
    """Raises InputError where a side of the two differs by more than `MAX_CROP_PX`."""
    if max(abs(result[0] - reference[0]), abs(result[1] - reference[1])) > MAX_CROP_PX:
        raise InputError(
            f"the result is {format_size(result)} and the reference {format_size(reference)}; "
            f"expected equal sizes (up to {MAX_CROP_PX} px may be cropped): score against the "
            "truth of this very clip and scale"
        )


def check_scale(result: Size, low_resolution: Size) -> None:
    """Raises InputError where the result cannot be the low-resolution input made larger, give or
    take a crop."""
    (height, width), (low_height, low_width) = result, low_resolution
    # A crop moves the ratio of a side by so much at most.
    slack = MAX_CROP_PX / low_height + MAX_CROP_PX / low_width
    if (
        min(height - low_height, width - low_width) < 0
        or abs(height / low_height - width / low_width) > slack
    ):
        raise InputError(
            f"the result is {format_size(result)} and the low-resolution input "
            f"{format_size(low_resolution)}; expected the same picture, smaller: give the clip "
            "that this result was made from"
        )


def find_crop(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Crop:
    """Find the alignment with the least squared error over pairs of a result's picture and its
    reference's (3, H, W).

    Their sizes have passed `check_sizes`. Of equally good ones the nearest to the top left.
    """
    result, reference = (_size(picture) for picture in pairs[0])
    slack = (abs(result[0] - reference[0]), abs(result[1] - reference[1]))
    crops = [
        Crop.at(result, reference, down, right)
        for down, right in product(range(slack[0] + 1), range(slack[1] + 1))
    ]
    # Where a side agrees, all its shifts are one crop: each is tried once, the nearest first.
    return min(
        dict.fromkeys(crops), key=lambda crop: sum(_squared_error(crop, *pair) for pair in pairs)
    )


def crop_note(crop: Crop, result: Size, reference: Size) -> str:
    """Say which part of the pictures was compared."""
    return (
        f"the result is {format_size(result)} and the reference {format_size(reference)}: "
        f"compared over the {crop.width}x{crop.height} that fit best, from ({crop.result_left}, "
        f"{crop.result_top}) of the result and ({crop.reference_left}, {crop.reference_top}) of "
        "the reference (right, down)"
    )


def _squared_error(crop: Crop, result: torch.Tensor, reference: torch.Tensor) -> float:
    # Green alone: it is most of what is seen, and there are up to 64 alignments to try.
    return float((crop.of_result(result[1]) - crop.of_reference(reference[1])).square().mean())


def _size(picture: torch.Tensor) -> Size:
    return picture.shape[-2], picture.shape[-1]


def format_size(size: Size) -> str:
    """Write a size as people do, width first."""
    return f"{size[1]}x{size[0]}"
