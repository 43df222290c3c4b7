"""Stacks of 3x3 convolutions as fast as the machine runs them: normalization and scales folded in,
channels last, in the precision that suits it."""

from collections.abc import Iterable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vsr.engine.tiling import cpu_pool
from vsr.errors import ModelError

Layer = tuple[torch.Tensor, torch.Tensor]
"""Weight (out, in, 3, 3) and bias (out)."""
VECTOR_WIDTH = 8
"""Numbers of fp32 that processors with AVX2 work on at a time; oneDNN fills up the outputs of a
layer to it."""
MIN_WINOGRAD_INPUTS, MIN_WINOGRAD_WIDTH = 12, 32
"""Channels that go into a stack, and those of its hidden layers, from which Winograd's algorithm
takes less time than oneDNN's direct one: 177 against 231 ns a pixel from 32 channels to 32, 192
against 353 for 40, 580 against 960 for 64; 76 against 55 for 16. With 12 channels going in, small
networks take .73 of the time."""


def fold_convolutions(blocks: Iterable[nn.Module]) -> list[Layer]:
    """Return the convolution of every block, with the batch normalization that follows it, in its
    eval mode, multiplied in.

    A block is a convolution, or a sequence of one, perhaps a normalization, and an activation,
    which is left out. The modules stay as they are.
    """
    layers = []
    for block in blocks:
        convolution, *rest = block if isinstance(block, nn.Sequential) else [block]
        assert isinstance(convolution, nn.Conv2d)
        weight, bias = convolution.weight, convolution.bias
        if rest and isinstance(rest[0], nn.BatchNorm2d):
            norm = rest[0]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        if bias is None:
            bias = weight.new_zeros(len(weight))
        layers.append((weight.detach(), bias.detach()))
    return layers


def scale_ends(
    layers: Sequence[Layer], input_gain: torch.Tensor | float, output_gain: float
) -> list[Layer]:
    """Fold two scales into a stack: of its inputs, one for all or one for each channel, and of its
    outputs. Powers of two change no digit of the result."""
    (weight, bias), *rest = layers
    gain = torch.as_tensor(input_gain, dtype=weight.dtype, device=weight.device)
    *hidden, (last_weight, last_bias) = ((weight * gain.view(1, -1, 1, 1), bias), *rest)
    return [*hidden, (last_weight * output_gain, last_bias * output_gain)]


def stack_networks(networks: Sequence[Sequence[Layer]]) -> list[Layer]:
    """Put the layers of M networks of one shape side by side, as groups of channels: weights
    (M out, in, 3, 3) and biases (M out)."""
    return [
        (torch.cat([weight for weight, _ in layer]), torch.cat([bias for _, bias in layer]))
        for layer in zip(*networks, strict=True)
    ]


class ConvolutionStack:
    """Convolutions without padding, a leaky ReLU after each but the last."""

    def __init__(
        self,
        layers: Sequence[Layer],
        leak: float,
        device: torch.device,
        dtype: torch.dtype,
        groups: int = 1,
    ) -> None:
        """Copy the layers to `device` in `dtype`; `groups` is the number of networks that
        `stack_networks` put side by side."""
        *hidden, last = layers
        self._outputs = len(last[0])
        # Pixel pairs only pay on a CPU, where networks run one by one.
        tuned = device.type == "cpu" and groups == 1
        self._by_winograd = tuned and dtype == torch.float32 and _suits_winograd(layers)
        self._fused = tuned and not self._by_winograd and fused_activation_works(dtype)
        self._in_pairs = tuned and not self._by_winograd and 2 * self._outputs <= VECTOR_WIDTH
        # Winograd's algorithm goes plane by plane, all else is fastest pixel by pixel.
        self._order = torch.contiguous_format if self._by_winograd else torch.channels_last
        self._layers = [
            (
                weight.detach().to(device, dtype, memory_format=self._order),
                bias.detach().to(device, dtype),
            )
            for weight, bias in (*hidden, _pack_pixel_pairs(*last) if self._in_pairs else last)
        ]
        self._leak = leak
        self._dtype = dtype
        self._groups = groups

    @torch.inference_mode()
    def __call__(self, padded: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> float32, two rows and columns fewer for each layer."""
        width = padded.shape[3] - 2 * len(self._layers)
        if self._in_pairs and width % 2:
            # One more column makes whole pairs; its output is cut off again.
            padded = F.pad(padded, (0, 1))
        features = padded.to(self._dtype, memory_format=self._order)
        for weight, bias in self._layers[:-1]:
            if self._by_winograd:
                features = F.leaky_relu_(_winograd(features, weight, bias), self._leak)
            elif self._fused:
                features = _fused(features, weight, bias, self._leak)
            else:
                made = F.conv2d(features, weight, bias, groups=self._groups)
                features = F.leaky_relu_(made, self._leak)
        weight, bias = self._layers[-1]
        if self._in_pairs:
            pairs = F.conv2d(features, weight, bias, stride=(1, 2))
            return _unpack_pixel_pairs(pairs, self._outputs)[..., :width].float()
        if self._by_winograd:
            return _winograd(features, weight, bias)
        return F.conv2d(features, weight, bias, groups=self._groups).float()


def _pack_pixel_pairs(weight: torch.Tensor, bias: torch.Tensor) -> Layer:
    """Make the layer that gives two pixels side by side at once, with a stride of (1, 2): their
    outputs one after the other, (VECTOR_WIDTH, in, 3, 4).

    A processor works on a vector of outputs at a time, and a few outputs leave most of it empty: 3
    for two pixels, with a third more to multiply, took 0.57 to 0.6 of the time.
    """
    outputs, inputs = weight.shape[:2]
    pairs, biases = weight.new_zeros(VECTOR_WIDTH, inputs, 3, 4), bias.new_zeros(VECTOR_WIDTH)
    for pixel in range(2):
        # The kernel of the right pixel lies one column further right.
        channels = slice(pixel * outputs, (pixel + 1) * outputs)
        pairs[channels, ..., pixel : pixel + 3], biases[channels] = weight, bias
    return pairs, biases


def _unpack_pixel_pairs(pairs: torch.Tensor, outputs: int) -> torch.Tensor:
    """(N, VECTOR_WIDTH, H, W / 2) of pairs -> (N, outputs, H, W)."""
    count, _, height, half = pairs.shape
    side_by_side = pairs.permute(0, 2, 3, 1)[..., : 2 * outputs]
    return side_by_side.reshape(count, height, 2 * half, outputs).permute(0, 3, 1, 2)


@cache
def fused_activation_works(dtype: torch.dtype) -> bool:
    """Try whether oneDNN's convolution with the activation in it, which is no public function of
    torch, is there and right.

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


def _suits_winograd(layers: Sequence[Layer]) -> bool:
    """Tell whether Winograd's algorithm takes less time for these layers, and is there."""
    inputs, *hidden = (weight.shape[1] for weight, _ in layers)
    wide = inputs >= MIN_WINOGRAD_INPUTS and min(hidden, default=0) >= MIN_WINOGRAD_WIDTH
    return wide and winograd_works()


@cache
def winograd_works() -> bool:
    """Try whether the convolution of NNPACK by Winograd's algorithm (Lavin and Gray, 2016), which
    is no public function of torch, is there and right.

    Its vectors are those of AVX2. oneDNN's of AVX-512 are twice as wide, and still lose on the one
    processor that was at hand (AMD, with all of its width).
    """
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    # NNPACK makes itself threads by the first call: one, for strips keep the cores busy.
    return cpu_pool().submit(_try_winograd).result()


def _try_winograd() -> bool:
    ramp = torch.linspace(-1, 1, 3 * 256).view(1, 3, 16, 16)
    weight, bias = ramp.flip(3)[..., :3, :3].contiguous(), torch.ones(1)
    with torch.inference_mode():
        try:
            # Asking makes NNPACK ready.
            found = torch.backends.nnpack.is_available() and _winograd(ramp, weight, bias)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return found is not False and torch.allclose(
            found, F.conv2d(ramp, weight, bias), rtol=1e-3, atol=1e-3
        )


def _winograd(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch._nnpack_spatial_convolution(features, weight, bias, [0, 0], [1, 1])


def check_finite(detail: torch.Tensor, model: str) -> None:
    """Raise `ModelError` where a value of `model`'s `detail` is not finite.

    While a CUDA graph is recorded, no value can be read. Then all of `detail` becomes NaN, which
    survives clamping, and the caller of the graph checks for NaN.
    """
    # One value that is not finite makes the sum not finite.
    total = detail.sum()
    if detail.is_cuda and torch.cuda.is_current_stream_capturing():
        detail += 0 * total
    elif not torch.isfinite(total):
        raise ModelError(
            f"{model} gave values that are not finite: it is broken. Train it again or choose "
            "another."
        )
