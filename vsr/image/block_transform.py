"""The cosine transform of square blocks, as a matrix."""

from functools import lru_cache
from math import cos, pi, sqrt

import torch


@lru_cache(maxsize=8)
def block_basis(side: int, device: torch.device) -> torch.Tensor:
    """Make the orthonormal DCT-II of blocks of `side` x `side` pixels: a row for each coefficient,
    the mean first, (side^2, side^2)."""
    with torch.inference_mode(False):
        rows = torch.tensor(
            [
                [
                    sqrt((1 if k == 0 else 2) / side) * cos(pi * (2 * n + 1) * k / 2 / side)
                    for n in range(side)
                ]
                for k in range(side)
            ]
        )
        # Separable: one product stands for the transforms of rows and columns.
        return torch.kron(rows, rows).to(device)
