"""SRCNN (Dong, Loy, He, Tang, ECCV 2014): three convolutions that sharpen a bicubically enlarged
luma."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class SrcnnSpec:
    """Shape of an SRCNN; (9, 1, 5), (9, 3, 5) and (9, 5, 5) are the published ones."""

    kernels: tuple[int, int, int] = (9, 5, 5)
    """Sides of the kernels, odd."""
    width: int = 64
    inner_width: int = 32
    scale: int = 4
    """What it was trained for; the network itself keeps the size."""

    @property
    def receptive_radius_px(self) -> int:
        """How far, in pixels of the enlarged picture, an output pixel sees."""
        return sum(side // 2 for side in self.kernels)


class Srcnn(nn.Module):
    """Patches to features, features to features, features to pixels."""

    def __init__(self, spec: SrcnnSpec = SrcnnSpec()) -> None:
        super().__init__()
        first, second, third = spec.kernels
        self.extract = nn.Conv2d(1, spec.width, first, padding=first // 2)
        self.map = nn.Conv2d(spec.width, spec.inner_width, second, padding=second // 2)
        self.reconstruct = nn.Conv2d(spec.inner_width, 1, third, padding=third // 2)

    def forward(self, luma: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W), enlarged -> (N, 1, H, W), in the same units; not clamped."""
        features = torch.relu(self.map(torch.relu(self.extract(luma))))
        sharpened: torch.Tensor = self.reconstruct(features)
        return sharpened
