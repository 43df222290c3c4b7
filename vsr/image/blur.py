"""Blur kernels, and reduction through them, for clips that were not reduced bicubically.

A kernel is a square, sums to 1 and belongs to a reduction to half the size. Output pixel i takes
the inputs from 2 i - (n - 1) // 2 on, so that pictures stay aligned as `resample.resize` aligns
them when the kernel's center of mass lies at `aligned_center(n)`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vsr.errors import ModelError
from vsr.image.degradation import GaussianBlur
from vsr.image.motion import FloatArray
from vsr.image.pyramid_flow import filter_both_ways
from vsr.image.resample import resize

FACTOR = 2
"""Reduction that a kernel belongs to."""
WHOLE_FACTORS = (2, 4, 8, 16)
"""Factors of reduction for which a kernel is known."""
BICUBIC_TAPS = 8
KernelTaps = tuple[tuple[float, ...], ...]
"""A kernel as plain numbers: comparable, and as JSON has it."""
Blur = KernelTaps | GaussianBlur
"""Blur that back-projection goes through: a kernel of any shape for half the size, or a Gaussian in
pixels of the input."""


def aligned_center(side: int, factor: int = FACTOR) -> float:
    """Row and column at which the center of mass of an aligned kernel of `side` taps lies."""
    return (side - 1) // 2 + (factor - 1) / 2


def taps_from_tensor(kernel: torch.Tensor) -> KernelTaps:
    """A square tensor as plain numbers."""
    return tuple(tuple(float(value) for value in row) for row in kernel)


def taps_to_tensor(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """Plain numbers as a float32 square."""
    return torch.tensor(rows, dtype=torch.float32)


def bicubic_kernel() -> torch.Tensor:
    """Build the kernel, 8x8 taps, by which `resample.resize` halves a picture."""
    # The weights of an output pixel far from every border.
    weights = resize(torch.eye(4 * BICUBIC_TAPS), 2 * BICUBIC_TAPS, 4 * BICUBIC_TAPS)[BICUBIC_TAPS]
    row = weights[weights != 0]
    assert len(row) == BICUBIC_TAPS
    return row[:, None] * row[None, :]


@lru_cache(maxsize=64)
def none_if_bicubic(rows: KernelTaps | None) -> KernelTaps | None:
    """Return a kernel that is not bicubic; None for one that `resample.resize` stands for, at every
    scale and whichever way a picture is turned."""
    return None if rows == taps_from_tensor(bicubic_kernel()) else rows


def gaussian_kernel(side: int, sigma_px: tuple[float, float], degrees: float) -> torch.Tensor:
    """An aligned anisotropic Gaussian: standard deviations along its axes, turned counter-clockwise
    by `degrees`."""
    angle = torch.deg2rad(torch.tensor(degrees))
    offsets = torch.arange(side, dtype=torch.float32) - aligned_center(side)
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    along = columns * torch.cos(angle) - rows * torch.sin(angle)
    across = columns * torch.sin(angle) + rows * torch.cos(angle)
    kernel = torch.exp(-0.5 * ((along / sigma_px[0]) ** 2 + (across / sigma_px[1]) ** 2))
    return kernel / kernel.sum()


def recentered(kernel: torch.Tensor) -> torch.Tensor:
    """Move the kernel, by parts of a pixel, until its center of mass is at `aligned_center`; sum
    1, same side."""
    side = len(kernel)
    moved = kernel / kernel.sum()
    # Twice: what is pushed over the border is lost, and moves the center a little.
    for _ in range(2):
        down, right = (aligned_center(side) - float(at) for at in center_of_mass(moved))
        moved = _shifted(_shifted(moved, down).T, right).T
        moved = moved / moved.sum()
    return moved


def center_of_mass(kernel: torch.Tensor) -> torch.Tensor:
    """Row and column of the center of mass, differentiable."""
    positions = torch.arange(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return (
        torch.stack([kernel.sum(dim=1) @ positions, kernel.sum(dim=0) @ positions]) / kernel.sum()
    )


def _shifted(kernel: torch.Tensor, rows: float) -> torch.Tensor:
    """Rows moved down by a number of pixels, linearly between two; zeros come in."""
    whole = int(torch.floor(torch.tensor(rows)))
    part = rows - whole
    side = len(kernel)
    padded = F.pad(kernel, (0, 0, side, side))
    start = side - whole
    return (1 - part) * padded[start : start + side] + part * padded[start - 1 : start - 1 + side]


def reduce_blurred(image: torch.Tensor, kernel: torch.Tensor, factor: int = FACTOR) -> torch.Tensor:
    """(..., H, W) -> (..., H / factor, W / factor) through a kernel of that factor, (n, n); borders
    are repeated.

    Both sides must be multiples of `factor`. Differentiable in both arguments.
    """
    height, width = image.shape[-2:]
    assert height % factor == width % factor == 0, "a kernel reduces by whole factors"
    side = len(kernel)
    before, after = (side - 1) // 2, side - (side - 1) // 2 - 1
    # The longer side of an even kernel lies after the pixel, as in `aligned_center`.
    planes = F.pad(
        image.reshape(-1, 1, height, width), (before, after, before, after), mode="replicate"
    )
    reduced = F.conv2d(planes, kernel.to(image.device)[None, None], stride=factor)
    return reduced[..., : height // factor, : width // factor].reshape(
        *image.shape[:-2], height // factor, width // factor
    )


def kernel_of_factor(kernel: torch.Tensor, factor: int) -> torch.Tensor:
    """The kernel of several reductions to half the size in one: k, convolved with k taken apart by
    2, 4, ..."""
    assert factor in WHOLE_FACTORS
    whole, spread = kernel, 1
    while FACTOR * spread < factor:
        spread *= FACTOR
        apart = kernel.new_zeros(spread * (len(kernel) - 1) + 1, spread * (len(kernel) - 1) + 1)
        apart[::spread, ::spread] = kernel
        side = len(apart)
        # A convolution, so the kernel is flipped against `conv2d`, which correlates.
        whole = F.conv2d(F.pad(whole, (side - 1,) * 4)[None, None], apart.flip(0, 1)[None, None])[
            0, 0
        ]
    # Of an even number of taps each reduction has fewer before its pixel than after it, and the
    # whole far fewer.
    too_early = (len(whole) - 1) // 2 - (factor - 1) * ((len(kernel) - 1) // 2)
    return F.pad(whole, (2 * too_early, 0, 2 * too_early, 0))


def back_project_blurred(
    image: torch.Tensor,
    low: torch.Tensor,
    rows: KernelTaps,
    weight: float,
    keep: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Back-project `image` onto `low`, with a reduction through the kernel. `keep` filters the
    residual before it is fed back.

    Raises `ModelError` unless the ratio of sizes is 2, 4, 8 or 16, for which the kernel is known.
    """
    factor = image.shape[-2] // low.shape[-2]
    if (
        image.shape[-2:] != (factor * low.shape[-2], factor * low.shape[-1])
        or factor not in WHOLE_FACTORS
    ):
        raise ModelError(
            "these models were trained with a blur kernel, which works at scales 2, 4, 8 and 16 "
            "only. Choose one of these with --scale."
        )
    # Up again by bicubic interpolation, as `resample.back_project` does.
    residual = low - reduce_blurred(image, _kernel(rows, factor), factor)
    if keep is not None:
        residual = keep(residual)
    return image + weight * resize(residual, *image.shape[-2:])


@lru_cache(maxsize=16)
def _kernel(rows: KernelTaps, factor: int) -> torch.Tensor:
    return kernel_of_factor(taps_to_tensor(rows), factor)


def gaussian_mean(plane: torch.Tensor, window_px: int, sigma_px: float) -> torch.Tensor:
    """`gaussian_filter` of a tensor (H, W), on its device."""
    if plane.device.type == "cpu":
        return torch.from_numpy(gaussian_filter(plane.numpy(), window_px, sigma_px))
    weights = plane.new_tensor(cv2.getGaussianKernel(window_px, sigma_px)[:, 0])
    return filter_both_ways(plane[None], weights)[0]


def gaussian_filter(plane: FloatArray, window_px: int, sigma_px: float) -> FloatArray:
    """Gaussian-weighted mean around each pixel of (H, W), weights adding up to 1, borders repeated.

    By OpenCV's separable filter: several times as fast as torch on a CPU.
    """
    weights = cv2.getGaussianKernel(window_px, sigma_px)
    means = cv2.sepFilter2D(plane, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(means, dtype=np.float32)
