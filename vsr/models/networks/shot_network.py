"""The shot network: a frame's luma with its neighbors' brought onto it -> the detail that the frame
lacks.

It works on the smaller grid, four sub-pixels to a position, so that a layer costs a quarter of one
at full size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from vsr.records import limits

LEAK = 0.1
"""Slope of LeakyReLU below zero."""
BLOCK = 2
"""Side of the block of pixels that becomes channels."""
DIFFERENCE_GAIN = 4.0
"""Amplification of differences between frames and of the missing detail, which are small beside the
picture itself."""


@dataclass(frozen=True)
class ShotNetworkSpec:
    """Shape of a shot network; its receptive field is 2 (2 layers + 1) pixels wide."""

    neighbours: int = field(default=2, metadata=limits(at_least=0, at_most=8))
    """Frames on each side of the frame itself. (Spelled as in the files of all models so far.)"""
    width: int = field(default=48, metadata=limits(at_least=1, at_most=256))
    """Channels of every hidden layer."""
    layers: int = field(default=5, metadata=limits(at_least=2, at_most=16))
    """Number of 3x3 convolutions."""

    def summary(self) -> str:
        """Name the shape in a few words."""
        return f"{self.width} channels, {self.layers} layers, {self.neighbours} neighbors a side"

    @property
    def planes(self) -> int:
        """Pictures that go in: the frame, then its neighbors."""
        return 1 + 2 * self.neighbours

    @property
    def halo(self) -> int:
        """Pixels that the convolutions use up on each side."""
        return BLOCK * self.layers


class ShotNetwork(nn.Module):
    """3x3 convolutions without padding between a pixel unshuffle and its inverse."""

    def __init__(self, spec: ShotNetworkSpec = ShotNetworkSpec()) -> None:
        super().__init__()
        self.spec = spec
        widths = [BLOCK**2 * spec.planes, *[spec.width] * (spec.layers - 1), BLOCK**2]
        self.body = first_convolutions(widths)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, planes, H + 2 halo, W + 2 halo) -> detail (N, 1, H, W); H and W are even.

        Plane 0 is the enlarged frame, each other one a neighbor's difference from it, times its
        confidence.
        """
        return apply_layers(planes, list(self.body))


def first_convolutions(widths: Sequence[int]) -> nn.ModuleList:
    """Make 3x3 convolutions between numbers of channels, as a training begins with them."""
    layers = [nn.Conv2d(into, out, kernel_size=3) for into, out in pairwise(widths)]
    for layer in layers:
        assert layer.bias is not None
        nn.init.kaiming_normal_(layer.weight, a=LEAK)
        nn.init.zeros_(layer.bias)
    # Near zero, so that training begins from the frame itself.
    with torch.no_grad():
        layers[-1].weight.mul_(0.1)
    return nn.ModuleList(layers)


def apply_layers(
    planes: torch.Tensor, layers: Sequence[Callable[[torch.Tensor], torch.Tensor]]
) -> torch.Tensor:
    """Run the convolutions of a shot network; shapes as in `ShotNetwork.forward`."""
    scaled = torch.cat([planes[:, :1], DIFFERENCE_GAIN * planes[:, 1:]], dim=1)
    # Channels last is the order that a CPU's convolutions run fastest in.
    features = F.pixel_unshuffle(scaled, BLOCK).contiguous(memory_format=torch.channels_last)
    for layer in layers[:-1]:
        features = F.leaky_relu_(layer(features), LEAK)
    return F.pixel_shuffle(layers[-1](features), BLOCK) / DIFFERENCE_GAIN
