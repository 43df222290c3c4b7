"""SRResNet, the generator of SRGAN (Ledig et al., CVPR 2017), and the same with noise as a further
input."""

from dataclasses import dataclass
from math import log2

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class SrresnetSpec:
    """Shape of an SRResNet; 16 blocks of width 64 are the published one."""

    width: int = 64
    blocks: int = 16
    scale: int = 4
    """2, 3, 4 or 8."""
    batch_norm: bool = True
    noise_channels: int = 0
    """Channels of noise that are put beside the colours of the input; 0 for a deterministic
    network."""
    residual: bool = False
    """Whether the network adds to the bicubically enlarged input, which spares a short training
    much; not so in the paper."""

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, an output pixel sees."""
        return 4 + 2 * self.blocks + 1 + 3 + 4

    @property
    def stages(self) -> tuple[int, ...]:
        """What each sub-pixel stage enlarges by."""
        return (3,) if self.scale == 3 else (2,) * round(log2(self.scale))


class Srresnet(nn.Module):
    """Residual blocks at the low resolution, then sub-pixel stages."""

    def __init__(self, spec: SrresnetSpec = SrresnetSpec()) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        self.head = nn.Sequential(
            nn.Conv2d(3 + spec.noise_channels, width, 9, padding=4), nn.PReLU()
        )
        self.body = nn.Sequential(
            *(ResidualBlock(width, spec.batch_norm) for _ in range(spec.blocks)),
            *_convolution(width, spec.batch_norm),
        )
        self.enlarge = nn.Sequential(*(_sub_pixel_stage(width, ratio) for ratio in spec.stages))
        self.tail = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, 3 + noise channels, h, w), RGB in [0, 1] first -> RGB (N, 3, scale h, scale w), in
        (0, 1) unless residual."""
        features = self.head(planes)
        features = features + self.body(features)
        result = torch.tanh(self.tail(self.enlarge(features)))
        if not self.spec.residual:
            return (result + 1) / 2
        return result + F.interpolate(planes[:, :3], scale_factor=self.spec.scale, mode="bicubic")


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(width, batch_norm), nn.PReLU(), *_convolution(width, batch_norm)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, width, h, w) -> the same shape."""
        changed: torch.Tensor = features + self.layers(features)
        return changed


def _convolution(width: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(width, width, 3, padding=1)
    return [convolution, nn.BatchNorm2d(width)] if batch_norm else [convolution]


def _sub_pixel_stage(width: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width * ratio**2, 3, padding=1), nn.PixelShuffle(ratio), nn.PReLU()
    )
