"""FSRCNN (Dong, Loy, Tang, ECCV 2016): works at the low resolution and enlarges in its last
layer."""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

LAST_KERNEL = 9


@dataclass(frozen=True)
class FsrcnnSpec:
    """FSRCNN(d, s, m); (56, 12, 4) is the published one and (32, 5, 1) its fast version,
    FSRCNN-s."""

    d: int = 56
    """Features."""
    s: int = 12
    """Features after shrinking."""
    m: int = 4
    """3x3 layers between shrinking and expanding."""
    scale: int = 4

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, an output pixel sees."""
        return 2 + self.m + -(-(LAST_KERNEL // 2) // self.scale)


class Fsrcnn(nn.Module):
    """Everything but `enlarge` is the same for every scale, so a network for one scale can start
    another's."""

    def __init__(self, spec: FsrcnnSpec = FsrcnnSpec()) -> None:
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(1, spec.d, 5, padding=2), nn.PReLU(spec.d))
        mapping = (
            (nn.Conv2d(spec.s, spec.s, 3, padding=1), nn.PReLU(spec.s)) for _ in range(spec.m)
        )
        self.map = nn.Sequential(
            *(nn.Conv2d(spec.d, spec.s, 1), nn.PReLU(spec.s)),
            *chain.from_iterable(mapping),
            *(nn.Conv2d(spec.s, spec.d, 1), nn.PReLU(spec.d)),
        )
        self.enlarge = nn.ConvTranspose2d(
            spec.d,
            1,
            LAST_KERNEL,
            stride=spec.scale,
            padding=LAST_KERNEL // 2,
            output_padding=spec.scale - 1,
        )
        for module in chain(self.extract, self.map):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        # As published: the sum of many strided kernels would start out as a checkerboard.
        nn.init.normal_(self.enlarge.weight, std=0.001)
        nn.init.zeros_(self.enlarge.bias)  # type: ignore[arg-type]

    def forward(self, luma: torch.Tensor) -> torch.Tensor:
        """(N, 1, h, w) -> (N, 1, scale h, scale w), in the same units; not clamped."""
        enlarged: torch.Tensor = self.enlarge(self.map(self.extract(luma)))
        return enlarged
