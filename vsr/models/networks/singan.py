"""SinGAN's generator and patch critic of one scale (Rott Shaham, Dekel, Michaeli, ICCV 2019).

Pictures are in [-1, 1]. Both networks are stacks of valid 3x3 convolutions:
with five of them each output pixel sees 11x11 input pixels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

LEAK = 0.2
"""SinGAN's slope of LeakyReLU below zero."""


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of a generator and of its critic, which share width and depth."""

    width: int = 32
    """Channels of every hidden layer."""
    layers: int = 5
    """Number of 3x3 convolutions; each shrinks an unpadded picture by 2 pixels."""
    batch_norm: bool = False
    """Batch normalisation after every convolution but the last. Always in eval mode at inference:
    statistics of the frame at hand would make the output flicker."""
    tanh: bool = False
    """Tanh after the generator's last convolution, as published."""
    padding: Literal["zeros", "replicate"] = "replicate"
    """How the generator's input is extended once by `halo` pixels; the published code uses zeros,
    which show as a frame around the picture."""
    leak: float = LEAK
    """Slope of the activation below zero; 0 is ReLU, as in ZSSR."""
    bias: bool = True
    """Whether convolutions have biases; those of ZSSR have none."""

    @property
    def halo(self) -> int:
        """Pixels that the generator needs around each output pixel."""
        return self.layers


def pad(image: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """Extend (N, C, H, W) by the generator's halo on all four sides."""
    mode = "constant" if spec.padding == "zeros" else "replicate"
    return F.pad(image, (spec.halo,) * 4, mode=mode)


class Generator(nn.Module):
    """Adds the detail of one step: out = base + residual(noisy base)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = _stack(spec, out_channels=3)

    def forward(self, noisy: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) twice -> (N, 3, H, W). `noisy` is `base` plus noise (or `base` itself); not
        clamped."""
        return base + self.residual(pad(noisy, self.spec))

    def residual(self, padded: torch.Tensor) -> torch.Tensor:
        """Detail for an input that is already extended: (N, 3, H + 2 halo, W + 2 halo) -> (N, 3, H,
        W)."""
        detail: torch.Tensor = self.body(padded)
        return torch.tanh(detail) if self.spec.tanh else detail


class Critic(nn.Module):
    """Wasserstein patch critic: one unbounded number per 11x11 patch, higher for what looks like
    the keyframe."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = _stack(spec, out_channels=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1, H - 2 halo, W - 2 halo)."""
        scores: torch.Tensor = self.body(image)
        return scores


def _stack(spec: NetworkSpec, out_channels: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    channels = 3
    for _ in range(spec.layers - 1):
        blocks.append(_block(channels, spec))
        channels = spec.width
    blocks.append(nn.Conv2d(channels, out_channels, kernel_size=3, bias=spec.bias))
    return nn.Sequential(*blocks)


def _block(in_channels: int, spec: NetworkSpec) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, spec.width, kernel_size=3, bias=spec.bias)
    norm = [nn.BatchNorm2d(spec.width)] if spec.batch_norm else []
    return nn.Sequential(convolution, *norm, nn.LeakyReLU(spec.leak))


def init_as_published(network: nn.Module) -> None:
    """Convolution weights from N(0, 0.02), normalisation weights from N(1, 0.02), as SinGAN's code
    does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
