"""Generators and discriminators of SRGAN (Ledig et al., CVPR 2017) and ESRGAN (Wang et al., ECCV
workshops 2018): SRResNet, RRDB, and one logit for a whole crop.

Pictures are RGB (N, 3, H, W) in [0, 1].
"""

from dataclasses import dataclass, field
from math import log2
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from vsr.records import limits

WIDTHS, BLOCKS = limits(at_least=1, at_most=1024), limits(at_least=0, at_most=64)
SCALES = limits(at_least=1, at_most=16)
LEAK = 0.2
"""Slope of the discriminators' LeakyReLU below zero."""


@dataclass(frozen=True)
class SrresnetSpec:
    """Shape of an SRResNet; 16 blocks of width 64 are the published one."""

    width: int = field(default=64, metadata=WIDTHS)
    blocks: int = field(default=16, metadata=BLOCKS)
    scale: int = field(default=4, metadata=SCALES)
    """2, 3, 4 or 8."""
    batch_norm: bool = True
    noise_channels: int = field(default=0, metadata=limits(at_least=0, at_most=1024))
    """Channels of noise that are put beside the colors of the input; 0 for a deterministic
    network."""
    residual: bool = False
    """Addition to the bicubically enlarged input, which spares a short training
    much; not so in the paper."""

    @property
    def receptive_radius_px(self) -> int:
        """Distance, in input pixels, that an output pixel sees."""
        # 9x9 head, two 3x3 layers a block, 3x3 after them, sub-pixel stages, 9x9 tail.
        return 4 + 2 * self.blocks + 1 + 3 + 4

    @property
    def stages(self) -> tuple[int, ...]:
        """Ratio of each sub-pixel stage."""
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
            *_normed_convolution(width, spec.batch_norm),
        )
        self.enlarge = nn.Sequential(*(_sub_pixel_stage(width, ratio) for ratio in spec.stages))
        self.tail = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, 3 + noise channels, h, w), RGB first -> RGB (N, 3, scale h, scale w), in (0, 1)
        unless residual."""
        features = self.head(planes)
        features = features + self.body(features)
        result = torch.tanh(self.tail(self.enlarge(features)))
        if not self.spec.residual:
            # From tanh's (-1, 1).
            return (result + 1) / 2
        return result + F.interpolate(planes[:, :3], scale_factor=self.spec.scale, mode="bicubic")


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normed_convolution(width, batch_norm),
            nn.PReLU(),
            *_normed_convolution(width, batch_norm),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, width, h, w) -> the same shape."""
        changed: torch.Tensor = features + self.layers(features)
        return changed


def _normed_convolution(width: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(width, width, 3, padding=1)
    return [convolution, nn.BatchNorm2d(width)] if batch_norm else [convolution]


def _sub_pixel_stage(width: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width * ratio**2, 3, padding=1), nn.PixelShuffle(ratio), nn.PReLU()
    )


@dataclass(frozen=True)
class RrdbSpec:
    """Shape of an RRDB network; 23 blocks of width 64 are the published one."""

    width: int = field(default=64, metadata=WIDTHS)
    blocks: int = field(default=23, metadata=BLOCKS)
    scale: int = field(default=4, metadata=SCALES)
    """A power of 2."""

    @property
    def receptive_radius_px(self) -> int:
        """Distance, in input pixels, that an output pixel sees: 15 convolutions to a block."""
        return 3 + 15 * self.blocks


def rrdb(spec: RrdbSpec = RrdbSpec()) -> nn.Module:
    """Build an RRDB network, as spandrel has it: RGB (N, 3, h, w) -> (N, 3, scale h, scale w), not
    clamped."""
    from spandrel.architectures.ESRGAN import ESRGAN

    network: nn.Module = ESRGAN(num_filters=spec.width, num_blocks=spec.blocks, scale=spec.scale)
    for name, module in network.named_modules():
        # As published: dense blocks that start near zero leave a deep network near the identity.
        if isinstance(module, nn.Conv2d) and ".RDB" in name:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(0.1)
    return network


@dataclass(frozen=True)
class DiscriminatorSpec:
    """Shape of a discriminator for square crops."""

    crop_px: int = 128
    """Side of the crops; a multiple of 2 ** halvings."""
    width: int = 64
    """Channels of the first layer; they double with each halving of the crop, up to eight times
    this."""
    halvings: int = 5
    """5 in ESRGAN, 4 in SRGAN."""
    head_width: int = 100
    """100 in ESRGAN, 1024 in SRGAN."""
    stride_kernel: Literal[3, 4] = 4
    """Side of the kernels that halve the crop: 4 in ESRGAN, 3 in SRGAN."""
    norm: Literal["batch", "instance", "none"] = "batch"
    """Batch statistics tie the crops of a batch together, which a gradient penalty for each crop
    cannot have."""


class Discriminator(nn.Module):
    """Pairs of convolutions, the second of stride 2, down to a few pixels; then two dense
    layers."""

    def __init__(self, spec: DiscriminatorSpec = DiscriminatorSpec()) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number in range(spec.halvings):
            width = spec.width * min(2**number, 8)
            # Without normalization after the very first convolution, as published.
            layers += _discriminator_layer(channels, width, 3, 1, spec.norm if number else "none")
            layers += _discriminator_layer(width, width, spec.stride_kernel, 2, spec.norm)
            channels = width
        side = spec.crop_px // 2**spec.halvings
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels * side**2, spec.head_width),
            nn.LeakyReLU(LEAK),
            nn.Linear(spec.head_width, 1),
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """RGB (N, 3, crop, crop) -> logits (N,), higher for what looks real."""
        # The network's own pictures are in [-1, 1].
        logits: torch.Tensor = self.head(self.features(2 * crops - 1).flatten(1))
        return logits[:, 0]


def _discriminator_layer(
    inputs: int, outputs: int, kernel: int, stride: int, norm: str
) -> list[nn.Module]:
    # Padded by 1, a kernel of 3 or 4 with stride 2 halves an even side exactly.
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=1),
        nn.LeakyReLU(LEAK),
    ]
    if norm == "batch":
        layers.insert(1, nn.BatchNorm2d(outputs))
    elif norm == "instance":
        layers.insert(1, nn.InstanceNorm2d(outputs, affine=True))
    return layers
