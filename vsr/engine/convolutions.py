"""A stack of 3x3 convolutions as fast as the machine runs it: channels last, in the precision that suits it."""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F

Layer = tuple[torch.Tensor, torch.Tensor]
"""Weight (out, in, 3, 3) and bias (out)."""


class ConvolutionStack:
    """Convolutions without padding, a leaky ReLU after each but the last."""

    def __init__(self, layers: Sequence[Layer], leak: float, device: torch.device, dtype: torch.dtype) -> None:
        self._layers = [
            (weight.detach().to(device, dtype, memory_format=torch.channels_last), bias.detach().to(device, dtype))
            for weight, bias in layers
        ]
        self._leak = leak
        self._dtype = dtype
        self._fused = device.type == "cpu" and fused_activation_works(dtype)

    @torch.inference_mode()
    def __call__(self, padded: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> float32, two rows and columns fewer for each layer."""
        features = padded.to(self._dtype, memory_format=torch.channels_last)
        for weight, bias in self._layers[:-1]:
            if self._fused:
                features = _fused(features, weight, bias, self._leak)
            else:
                features = F.leaky_relu_(F.conv2d(features, weight, bias), self._leak)
        return F.conv2d(features, *self._layers[-1]).float()


@cache
def fused_activation_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolution with the activation in it, which is no public function of torch, is there and right.

    In bf16 oneDNN refuses it where the processor has no instructions for that.
    """
    ramp = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
    features, weight, bias = ramp.to(dtype), ramp.flip(3)[..., :3, :3].to(dtype), torch.zeros(1, dtype=dtype)
    with torch.inference_mode():
        try:
            fused = _fused(features, weight, bias, 0.2)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(fused, F.leaky_relu(F.conv2d(features, weight, bias), 0.2), rtol=1e-2, atol=1e-2)


def _fused(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, leak: float) -> torch.Tensor:
    activated: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
        features, weight, bias, [0, 0], [1, 1], [1, 1], 1, "leaky_relu", [leak], ""
    )
    return activated
