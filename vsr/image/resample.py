"""Antialiased bicubic resizing and back-projection: the one definition of "the low resolution of" a
picture.

The bicubic kernel is Keys' cubic with a = -0.5, half-pixel centers, stretched by the factor on
reduction only, weights normalized, borders mirrored with the edge repeated. That is MATLAB's
`imresize`, with which Vid4's pairs were made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch

BAND_ROWS, BAND_COLUMNS = 16, 32
"""Outputs that one product of matrices makes on a CPU. A sample needs few inputs (4 when
enlarging), so a wide band multiplies by zero and a narrow one has much to set up: these ran a 720p
frame through in half the time of a sparse matrix."""
GPU_BAND = 128
"""Few calls, and no whole matrix: at 2160p that would multiply as much as the networks do."""

Band = tuple[int, int, torch.Tensor]
"""The inputs that some neighboring outputs of an axis need, from first to before end, and their
weights (outputs, inputs)."""


@dataclass(frozen=True)
class InterpolationKernel:
    """An interpolation kernel."""

    weight: Callable[[torch.Tensor], torch.Tensor]
    """Weight at a distance in pixels, for distances from 0; zero from `radius` on."""
    radius: int


def _keys_cubic(distance: torch.Tensor) -> torch.Tensor:
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(
        distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance))
    )


def _lanczos3(distance: torch.Tensor) -> torch.Tensor:
    inside = torch.sinc(distance) * torch.sinc(distance / 3)
    return torch.where(distance < 3, inside, torch.zeros_like(distance))


BICUBIC = InterpolationKernel(_keys_cubic, radius=2)
LANCZOS = InterpolationKernel(_lanczos3, radius=3)


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Compute the sides of a picture enlarged by `scale`, each rounded half up."""
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize(
    image: torch.Tensor, height: int, width: int, kernel: InterpolationKernel = BICUBIC
) -> torch.Tensor:
    """Resize (..., H, W) to (..., height, width); the ratio of each axis is that of its sizes.

    Overshoots are kept: clamping is the caller's decision. Differentiable; works on the image's
    device.
    """
    return resize_strip(image, height, width, 0, height, kernel)


def resize_strip(
    image: torch.Tensor,
    height: int,
    width: int,
    top: int,
    end: int,
    kernel: InterpolationKernel = BICUBIC,
) -> torch.Tensor:
    """Resize rows `top` to before `end` of `resize(image, height, width)`, made from those rows of
    it that they need."""
    if image.shape[-2:] == (height, width):
        return image[..., top:end, :]
    planes = image.reshape(-1, *image.shape[-2:])
    bands = _axis_bands(planes.shape[1], height, top, end, kernel, planes.device, BAND_ROWS)
    # The smaller picture goes through the second axis.
    if height < planes.shape[1]:
        planes = _resize_columns(_apply_to_rows(planes, 0, bands), width, kernel)
    else:
        first, last = min(band[0] for band in bands), max(band[1] for band in bands)
        planes = _apply_to_rows(_resize_columns(planes[:, first:last], width, kernel), first, bands)
    return planes.view(*image.shape[:-2], end - top, width)


def back_project(image: torch.Tensor, low: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Back-project `image` onto `low`: image + weight * up(low - down(image)).

    One step of iterative back-projection (Irani and Peleg, 1991) with `resize` for both directions.
    """
    residual = low - resize(image, *low.shape[-2:])
    return torch.add(image, resize(residual, *image.shape[-2:]), alpha=weight)


def resize_there_and_back(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Compute `resize(resize(image, height, width), *image.shape[-2:])` without the picture in
    between: (..., h, w) -> (..., h, w)."""
    planes = image.reshape(-1, *image.shape[-2:])
    rows, columns = (
        _round_trip_bands(length, between, planes.device, band)
        for length, between, band in zip(
            planes.shape[1:], (height, width), (BAND_ROWS, BAND_COLUMNS), strict=True
        )
    )
    return _apply_to_rows(_apply_to_columns(planes, columns), 0, rows).view(image.shape)


def _apply_to_rows(planes: torch.Tensor, first_row: int, bands: Sequence[Band]) -> torch.Tensor:
    """`planes` begin with row `first_row` of those that the bands speak of."""
    return torch.cat(
        [weights @ planes[:, first - first_row : end - first_row] for first, end, weights in bands],
        dim=1,
    )


def _apply_to_columns(planes: torch.Tensor, bands: Sequence[Band]) -> torch.Tensor:
    lines = planes.reshape(-1, planes.shape[2])
    made = torch.cat([lines[:, first:end] @ weights.T for first, end, weights in bands], dim=1)
    return made.view(*planes.shape[:2], -1)


def _resize_columns(planes: torch.Tensor, width: int, kernel: InterpolationKernel) -> torch.Tensor:
    return _apply_to_columns(
        planes,
        _axis_bands(planes.shape[2], width, 0, width, kernel, planes.device, BAND_COLUMNS),
    )


@lru_cache(maxsize=1024)
def _axis_bands(
    in_length: int,
    out_length: int,
    top: int,
    end: int,
    kernel: InterpolationKernel,
    device: torch.device,
    band: int,
) -> list[Band]:
    """Resampling of one axis, outputs `top` to before `end`, `band` of them at a time on a CPU."""
    # What is made in inference mode could never be used in training.
    with torch.inference_mode(False):
        return _split_into_bands(
            _axis_matrix(in_length, out_length, top, end, kernel), device, band
        )


@lru_cache(maxsize=64)
def _round_trip_bands(length: int, between: int, device: torch.device, band: int) -> list[Band]:
    """Resampling of one axis to `between` outputs and back to its own length."""
    with torch.inference_mode(False):
        there = _axis_matrix(length, between, 0, between, BICUBIC)
        back = _axis_matrix(between, length, 0, length, BICUBIC)
        return _split_into_bands(back @ there, device, band)


def _split_into_bands(whole: torch.Tensor, device: torch.device, band: int) -> list[Band]:
    bands = []
    for rows in whole.split(band if device.type == "cpu" else GPU_BAND):
        used = rows.any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        bands.append((first, last, rows[:, first:last].float().contiguous().to(device)))
    return bands


def _axis_matrix(
    in_length: int, out_length: int, top: int, end: int, kernel: InterpolationKernel
) -> torch.Tensor:
    """Rows `top` to before `end` of the resampling of one axis as a matrix, float64 (out_length,
    in_length)."""
    factor = out_length / in_length
    stretch = max(1 / factor, 1.0)
    centers = (torch.arange(top, end, dtype=torch.float64) + 0.5) / factor - 0.5
    taps = ceil(2 * kernel.radius * stretch) + 1
    first = torch.floor(centers - kernel.radius * stretch).long() + 1
    positions = first[:, None] + torch.arange(taps)
    weights = kernel.weight((centers[:, None] - positions).abs() / stretch)
    # Rounding and the cut tail leave sums a little off 1, which would shift flat areas.
    weights = weights / weights.sum(dim=1, keepdim=True)
    # Half-sample symmetric: -1 is 0, -2 is 1, and periodic beyond twice the length.
    mirrored = positions % (2 * in_length)
    mirrored = torch.where(mirrored < in_length, mirrored, 2 * in_length - 1 - mirrored)
    return torch.zeros(end - top, in_length, dtype=torch.float64).scatter_add_(1, mirrored, weights)
