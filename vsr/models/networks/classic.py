"""Classic networks for luma alone: SRCNN (Dong, Loy, He, Tang, ECCV 2014), FSRCNN (Dong, Loy, Tang,
ECCV 2016) and ESPCN (Shi et al., CVPR 2016).

Luma is (N, 1, H, W) in whatever units a network was trained in, [0, 1] as a rule.
"""

from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from vsr.records import limits

WIDTHS, SCALES = limits(at_least=1, at_most=1024), limits(at_least=1, at_most=16)
FSRCNN_LAST_KERNEL = 9
"""Side of the kernel that enlarges."""
ESPCN_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class SrcnnSpec:
    """Shape of an SRCNN; (9, 1, 5), (9, 3, 5) and (9, 5, 5) are the published ones."""

    kernels: tuple[int, int, int] = field(
        default=(9, 5, 5), metadata=limits(at_least=1, at_most=31)
    )
    """Sides of the kernels, odd."""
    width: int = field(default=64, metadata=WIDTHS)
    """Channels after the first layer."""
    inner_width: int = field(default=32, metadata=WIDTHS)
    """Channels after the second layer."""
    scale: int = field(default=4, metadata=SCALES)
    """Scale that it was trained for; the network itself keeps the size."""

    @property
    def receptive_radius_px(self) -> int:
        """Distance, in pixels of the enlarged picture, that an output pixel sees."""
        return sum(side // 2 for side in self.kernels)


class Srcnn(nn.Module):
    """Three convolutions that sharpen a bicubically enlarged luma: patches to features, features to
    features, features to pixels."""

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


@dataclass(frozen=True)
class FsrcnnSpec:
    """Shape of an FSRCNN(d, s, m); (56, 12, 4) is the published one and (32, 5, 1) its fast
    version, FSRCNN-s."""

    d: int = field(default=56, metadata=WIDTHS)
    """Features."""
    s: int = field(default=12, metadata=WIDTHS)
    """Features after shrinking."""
    m: int = field(default=4, metadata=limits(at_least=0, at_most=64))
    """3x3 layers between shrinking and expanding."""
    scale: int = field(default=4, metadata=SCALES)

    @property
    def receptive_radius_px(self) -> int:
        """Distance, in input pixels, that an output pixel sees."""
        # The first layer is 5x5 and m are 3x3; the last kernel lies on the larger grid.
        return 2 + self.m + -(-(FSRCNN_LAST_KERNEL // 2) // self.scale)


class Fsrcnn(nn.Module):
    """Convolutions at the low resolution, the last of which enlarges.

    Everything but `enlarge` is the same for every scale, so a network for one scale can start
    another's.
    """

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
            FSRCNN_LAST_KERNEL,
            stride=spec.scale,
            padding=FSRCNN_LAST_KERNEL // 2,
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


@dataclass(frozen=True)
class EspcnSpec:
    """Shape of an ESPCN."""

    scale: int = field(default=4, metadata=SCALES)
    width: int = field(default=64, metadata=WIDTHS)
    """Channels after the first layer."""
    inner_width: int = field(default=32, metadata=WIDTHS)
    """Channels after the second layer."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Nonlinearity between layers: tanh in the paper, ReLU in files that go around."""
    bounded: bool = False
    """Tanh after the last layer, as in files that go around."""

    @property
    def receptive_radius_px(self) -> int:
        """Distance, in input pixels, that an output pixel sees."""
        # Layers of 5x5, 3x3 and 3x3.
        return 4


class Espcn(nn.Module):
    """Three convolutions at the low resolution, then the shuffle by which each output pixel of a
    block comes from a channel of its own."""

    def __init__(self, spec: EspcnSpec = EspcnSpec()) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv2d(1, spec.width, 5, padding=2)
        self.conv2 = nn.Conv2d(spec.width, spec.inner_width, 3, padding=1)
        self.conv3 = nn.Conv2d(spec.inner_width, spec.scale**2, 3, padding=1)
        with torch.no_grad():
            # One kernel for all sub-pixels to begin with: the picture starts out smooth, not as a
            # checkerboard.
            self.conv3.weight.copy_(self.conv3.weight[:1].expand_as(self.conv3.weight).clone())
            nn.init.zeros_(self.conv3.bias)  # type: ignore[arg-type]

    def forward(self, luma: torch.Tensor) -> torch.Tensor:
        """(N, 1, h, w) -> (N, 1, scale h, scale w), in the same units; not clamped."""
        activation = ESPCN_ACTIVATIONS[self.spec.activation]
        features = activation(self.conv2(activation(self.conv1(luma))))
        shuffled = F.pixel_shuffle(self.conv3(features), self.spec.scale)
        return torch.tanh(shuffled) if self.spec.bounded else shuffled
