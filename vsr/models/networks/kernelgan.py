"""KernelGAN's deep linear reducer and its patch discriminator (Bell-Kligler, Shocher, Irani,
NeurIPS 2019)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

GENERATOR_KERNEL_SIDES = (7, 5, 3, 1, 1, 1)
"""Sides of the reducer's convolutions, one after another."""
KERNEL_SIDE = sum(GENERATOR_KERNEL_SIDES) - len(GENERATOR_KERNEL_SIDES) + 1
"""13, the side of the kernel that they make together."""
WIDTH = 64
"""Channels between the layers of either network."""
DISCRIMINATOR_BLOCKS = 5
DISCRIMINATOR_SIDE = 7
"""Side of the patches that are judged."""


class DeepLinearGenerator(nn.Module):
    """Six convolutions without bias or activation, applied to each color apart: all in all one
    13x13 kernel.

    They are never run on a picture: that would be the same function of the same weights at some
    forty times the cost.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = [1, *[WIDTH] * (len(GENERATOR_KERNEL_SIDES) - 1), 1]
        sizes = zip(pairwise(channels), GENERATOR_KERNEL_SIDES, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(*pair, side, bias=False) for pair, side in sizes)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            # As in the published code.
            nn.init.xavier_normal_(layer.weight, gain=0.1)

    def kernel(self) -> torch.Tensor:
        """Compute the (13, 13) kernel that the convolutions make, as `blur.reduce_blurred` takes
        it; its sum is free. Differentiable."""
        # The answer to a single point, wide enough that nothing is cut off.
        response = torch.zeros(1, 1, 2 * KERNEL_SIDE - 1, 2 * KERNEL_SIDE - 1)
        response[..., KERNEL_SIDE - 1, KERNEL_SIDE - 1] = 1
        for layer in self.layers:
            response = layer(response)
        # A correlation's answer to a point is its kernel turned by half a turn.
        return response[0, 0].flip(0, 1)


class PatchDiscriminator(nn.Module):
    """Judge of how much each 7x7 patch looks like the keyframe's own, 0 to 1. Pictures are in
    [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_spectral_norm_conv(3, WIDTH, DISCRIMINATOR_SIDE)]
        for _ in range(DISCRIMINATOR_BLOCKS):
            # By the pictures at hand even when frozen: it has learnt to judge a fake beside a real
            # one.
            normalization = nn.BatchNorm2d(WIDTH, track_running_stats=False)
            blocks += [_spectral_norm_conv(WIDTH, WIDTH, 1), normalization, nn.ReLU()]
        self.body = nn.Sequential(*blocks, _spectral_norm_conv(WIDTH, 1, 1), nn.Sigmoid())
        for module in self.modules():
            # As in the published code.
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1, H - 6, W - 6)."""
        scores: torch.Tensor = self.body(image)
        return scores


def _spectral_norm_conv(in_channels: int, out_channels: int, side: int) -> nn.Module:
    convolution = nn.Conv2d(in_channels, out_channels, side)
    nn.init.xavier_normal_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.utils.parametrizations.spectral_norm(convolution)


def label_loss(scores: torch.Tensor, label: float) -> torch.Tensor:
    """Compute KernelGAN's adversarial loss: the mean distance of a map from `label`, 0 or 1."""
    return F.l1_loss(scores, scores.new_full((), label).expand_as(scores))
