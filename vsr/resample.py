"""Antialiased bicubic resizing and back-projection: the one definition of "the low resolution of" a picture.

The bicubic kernel is Keys' cubic with a = -0.5, half-pixel centres, stretched by the factor on reduction only, weights
normalised, borders mirrored with the edge repeated. That is MATLAB's `imresize`, with which Vid4's pairs were made.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)


@dataclass(frozen=True)
class Kernel:
    """An interpolation kernel."""

    weight: Callable[[torch.Tensor], torch.Tensor]
    """Weight at a distance in pixels, for distances from 0; zero from `radius` on."""
    radius: int


def _keys_cubic(distance: torch.Tensor) -> torch.Tensor:
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _lanczos3(distance: torch.Tensor) -> torch.Tensor:
    inside = torch.sinc(distance) * torch.sinc(distance / 3)
    return torch.where(distance < 3, inside, torch.zeros_like(distance))


BICUBIC = Kernel(_keys_cubic, radius=2)
LANCZOS = Kernel(_lanczos3, radius=3)


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Sides of a picture enlarged by `scale`, each rounded half up."""
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize(image: torch.Tensor, height: int, width: int, kernel: Kernel = BICUBIC) -> torch.Tensor:
    """Resize (..., H, W) to (..., height, width); the ratio of each axis is that of its sizes.

    Overshoots are kept: clamping is the caller's decision. Differentiable; works on the image's device.
    """
    if image.shape[-2:] == (height, width):
        return image
    in_height, in_width = image.shape[-2:]
    leading = image.shape[:-2]
    planes = image.reshape(-1, in_height, in_width)
    count = planes.shape[0]
    # The matrix of an axis is sparse (4 weights a row when enlarging), and a sparse product wants that axis first.
    columns = planes.permute(2, 0, 1).reshape(in_width, count * in_height)
    columns = _axis_matrix(in_width, width, kernel, image.device) @ columns
    rows = columns.view(width, count, in_height).permute(2, 1, 0).reshape(in_height, count * width)
    rows = _axis_matrix(in_height, height, kernel, image.device) @ rows
    return rows.view(height, count, width).permute(1, 0, 2).reshape(*leading, height, width)


def back_project(image: torch.Tensor, low: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Pull `image` towards agreement with `low`: image + weight * up(low - down(image)).

    One step of iterative back-projection (Irani and Peleg, 1991) with `resize` for both directions.
    """
    residual = low - resize(image, *low.shape[-2:])
    return image + weight * resize(residual, *image.shape[-2:])


@lru_cache(maxsize=64)
def _axis_matrix(in_length: int, out_length: int, kernel: Kernel, device: torch.device) -> torch.Tensor:
    """Resampling of one axis as a sparse (out_length, in_length) matrix."""
    factor = out_length / in_length
    stretch = max(1 / factor, 1.0)
    centres = (torch.arange(out_length, dtype=torch.float64) + 0.5) / factor - 0.5
    taps = ceil(2 * kernel.radius * stretch) + 1
    first = torch.floor(centres - kernel.radius * stretch).long() + 1
    positions = first[:, None] + torch.arange(taps)
    weights = kernel.weight((centres[:, None] - positions).abs() / stretch)
    weights = weights / weights.sum(dim=1, keepdim=True)
    mirrored = positions % (2 * in_length)
    mirrored = torch.where(mirrored < in_length, mirrored, 2 * in_length - 1 - mirrored)
    rows = torch.arange(out_length)[:, None].expand_as(mirrored)
    used = weights != 0
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows[used], mirrored[used]]), weights[used].float(), (out_length, in_length), check_invariants=True
    )
    return matrix.coalesce().to_sparse_csr().to(device)
