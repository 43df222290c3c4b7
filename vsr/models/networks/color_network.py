"""The color network: a compressed frame's luma and color -> what its color lacks.

Codecs keep color at half the size and round it more coarsely than luma, which shows where the
edges are. The network works on that half grid, four pixels to a position, so that it costs little.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from vsr.image.luma import LUMA_WEIGHTS, luma
from vsr.models.networks.shot_network import BLOCK, LEAK, first_convolutions
from vsr.records import limits

COLOR_GAIN = 4.0
"""Amplification of color differences, which are small beside luma."""
QUANTIZER_RANGE = 51.0
"""Largest quantizer of H.264's scale; the network sees a share of it."""
NUM_PLANES = 3
"""Luma, R - Y and B - Y."""


@dataclass(frozen=True)
class ColorNetworkSpec:
    """Shape of a color network; its receptive field is 2 (2 layers + 1) - 2 pixels wide."""

    width: int = field(default=32, metadata=limits(at_least=1, at_most=256))
    """Channels of every hidden layer."""
    layers: int = field(default=6, metadata=limits(at_least=2, at_most=16))
    """Number of 3x3 convolutions."""

    @property
    def halo(self) -> int:
        """Pixels that the convolutions use up on each side."""
        return BLOCK * self.layers


class ColorNetwork(nn.Module):
    """3x3 convolutions without padding between a pixel unshuffle and its inverse."""

    def __init__(self, spec: ColorNetworkSpec = ColorNetworkSpec()) -> None:
        super().__init__()
        self.spec = spec
        # One input is the quantizer, the same everywhere.
        widths = [BLOCK**2 * NUM_PLANES + 1, *[spec.width] * (spec.layers - 1), 2 * BLOCK**2]
        self.body = first_convolutions(widths)

    def forward(self, planes: torch.Tensor, quantizers: torch.Tensor) -> torch.Tensor:
        """Find what color lacks.

        `planes` are those of `to_planes`, (N, 3, H + 2 halo, W + 2 halo) with even H and W and its
        first row and column even ones of the frame; `quantizers`, (N,), are on H.264's scale. The
        result, (N, 2, H, W), is to be added to R - Y and B - Y.
        """
        features = unshuffled(planes, quantizers)
        for layer in self.body[:-1]:
            features = F.leaky_relu(layer(features), LEAK)
        return F.pixel_shuffle(self.body[-1](features), BLOCK) / COLOR_GAIN


def unshuffled(planes: torch.Tensor, quantizers: torch.Tensor) -> torch.Tensor:
    """Lay planes (N, 3, H, W) out as the first convolution takes them, (N, 13, H / 2, W / 2)."""
    scaled = torch.cat([planes[:, :1], COLOR_GAIN * planes[:, 1:]], dim=1)
    blocks = F.pixel_unshuffle(scaled, BLOCK)
    known = (quantizers / QUANTIZER_RANGE).view(-1, 1, 1, 1).expand(-1, 1, *blocks.shape[-2:])
    # Channels last is the order that a CPU's convolutions run fastest in.
    return torch.cat([blocks, known], dim=1).contiguous(memory_format=torch.channels_last)


def to_planes(rgb: torch.Tensor) -> torch.Tensor:
    """Take RGB (..., 3, H, W) apart into luma, R - Y and B - Y."""
    red, _, blue = rgb.unbind(-3)
    gray = luma(rgb.movedim(-3, 0))
    return torch.stack([gray, red - gray, blue - gray], dim=-3)


def to_rgb(planes: torch.Tensor) -> torch.Tensor:
    """Put RGB together again, the inverse of `to_planes`."""
    gray, red, blue = planes.unbind(-3)
    # Y = .299 R + .587 G + .114 B, so R - Y and B - Y give G - Y.
    green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
    return torch.stack([gray + red, gray + green, gray + blue], dim=-3)
