"""A stack of 3x3 convolutions as fast as the machine runs it: channels last, in the precision that
suits it."""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F

Layer = tuple[torch.Tensor, torch.Tensor]
"""Weight (out, in, 3, 3) and bias (out)."""
VECTOR_WIDTH = 8
"""Numbers of fp32 that processors with AVX2 work on at a time; oneDNN fills up the outputs of a
layer to it."""


class ConvolutionStack:
    """Convolutions without padding, a leaky ReLU after each but the last."""

    def __init__(
        self, layers: Sequence[Layer], leak: float, device: torch.device, dtype: torch.dtype
    ) -> None:
        *hidden, last = layers
        self._outputs = len(last[0])
        self._in_pairs = device.type == "cpu" and 2 * self._outputs <= VECTOR_WIDTH
        self._layers = [
            (
                weight.detach().to(device, dtype, memory_format=torch.channels_last),
                bias.detach().to(device, dtype),
            )
            for weight, bias in (*hidden, _pack_pixel_pairs(*last) if self._in_pairs else last)
        ]
        self._leak = leak
        self._dtype = dtype
        self._fused = device.type == "cpu" and fused_activation_works(dtype)

    @torch.inference_mode()
    def __call__(self, padded: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> float32, two rows and columns fewer for each layer."""
        width = padded.shape[3] - 2 * len(self._layers)
        if self._in_pairs and width % 2:
            padded = F.pad(padded, (0, 1))
        features = padded.to(self._dtype, memory_format=torch.channels_last)
        for weight, bias in self._layers[:-1]:
            if self._fused:
                features = _fused(features, weight, bias, self._leak)
            else:
                features = F.leaky_relu_(F.conv2d(features, weight, bias), self._leak)
        if self._in_pairs:
            weight, bias = self._layers[-1]
            pairs = F.conv2d(features, weight, bias, stride=(1, 2))
            return _unpack_pixel_pairs(pairs, self._outputs)[..., :width].float()
        return F.conv2d(features, *self._layers[-1]).float()


def _pack_pixel_pairs(weight: torch.Tensor, bias: torch.Tensor) -> Layer:
    """The layer for two pixels side by side at once, their outputs one after the other: with a
    stride of (1, 2).

    A processor works on a vector of outputs at a time, and a few outputs leave most of it empty: 3
    for two pixels, with a third more to multiply, took 0.57 to 0.6 of the time.
    """
    outputs, inputs = weight.shape[:2]
    pairs, biases = weight.new_zeros(VECTOR_WIDTH, inputs, 3, 4), bias.new_zeros(VECTOR_WIDTH)
    for pixel in range(2):
        place = slice(pixel * outputs, (pixel + 1) * outputs)
        pairs[place, ..., pixel : pixel + 3], biases[place] = weight, bias
    return pairs, biases


def _unpack_pixel_pairs(pairs: torch.Tensor, outputs: int) -> torch.Tensor:
    """(N, VECTOR, H, W / 2) of pairs -> (N, outputs, H, W)."""
    count, _, height, half = pairs.shape
    side_by_side = pairs.permute(0, 2, 3, 1)[..., : 2 * outputs]
    return side_by_side.reshape(count, height, 2 * half, outputs).permute(0, 3, 1, 2)


@cache
def fused_activation_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolution with the activation in it, which is no public function of torch,
    is there and right.

    In bf16 oneDNN refuses it where the processor has no instructions for that.
    """
    ramp = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
    features, weight, bias = (
        ramp.to(dtype),
        ramp.flip(3)[..., :3, :3].to(dtype),
        torch.zeros(1, dtype=dtype),
    )
    with torch.inference_mode():
        try:
            fused = _fused(features, weight, bias, 0.2)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(
            fused, F.leaky_relu(F.conv2d(features, weight, bias), 0.2), rtol=1e-2, atol=1e-2
        )


def _fused(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, leak: float
) -> torch.Tensor:
    activated: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
        features, weight, bias, [0, 0], [1, 1], [1, 1], 1, "leaky_relu", [leak], ""
    )
    return activated
