"""The discriminators of SRGAN (Ledig et al., 2017) and ESRGAN (Wang et al., 2018): one logit for a
whole crop."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

LEAK = 0.2


@dataclass(frozen=True)
class DiscriminatorSpec:
    """Shape of a discriminator for square crops."""

    crop_px: int = 128
    """Side of the crops; a multiple of 2 ** halvings."""
    width: int = 64
    """Of the first layer; it doubles with each halving of the crop, up to eight times this."""
    halvings: int = 5
    """5 in ESRGAN, 4 in SRGAN."""
    head_width: int = 100
    """100 in ESRGAN, 1024 in SRGAN."""
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
            # Without normalisation after the very first convolution, as published.
            layers += _layer(channels, width, 1, "none" if number == 0 else spec.norm)
            layers += _layer(width, width, 2, spec.norm)
            channels = width
        side = spec.crop_px // 2**spec.halvings
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels * side**2, spec.head_width),
            nn.LeakyReLU(LEAK),
            nn.Linear(spec.head_width, 1),
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """RGB (N, 3, crop, crop) in [0, 1] -> logits (N,), higher for what looks real."""
        logits: torch.Tensor = self.head(self.features(2 * crops - 1).flatten(1))
        return logits[:, 0]


def _layer(inputs: int, outputs: int, stride: int, norm: str) -> list[nn.Module]:
    kernel = 3 if stride == 1 else 4
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=1),
        nn.LeakyReLU(LEAK),
    ]
    if norm == "batch":
        layers.insert(1, nn.BatchNorm2d(outputs))
    elif norm == "instance":
        layers.insert(1, nn.InstanceNorm2d(outputs, affine=True))
    return layers
