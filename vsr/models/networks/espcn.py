"""ESPCN (Shi et al., CVPR 2016): sub-pixel convolution, each output pixel of a block its own
channel."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class EspcnSpec:
    """Shape of an ESPCN."""

    scale: int = 4
    width: int = 64
    inner_width: int = 32
    activation: Literal["tanh", "relu"] = "tanh"
    """The paper has tanh; files that go around have ReLU."""
    bounded: bool = False
    """Tanh after the last layer, as in files that go around."""

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, an output pixel sees."""
        return 4


class Espcn(nn.Module):
    """Three convolutions at the low resolution, then the shuffle."""

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
        activation = ACTIVATIONS[self.spec.activation]
        shuffled = F.pixel_shuffle(
            self.conv3(activation(self.conv2(activation(self.conv1(luma))))), self.spec.scale
        )
        return torch.tanh(shuffled) if self.spec.bounded else shuffled
