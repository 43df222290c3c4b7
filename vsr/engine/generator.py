"""A generator made ready to run: normalisation folded into the convolutions, channels last, cut
into strips."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vsr.engine.convolutions import ConvolutionStack, Layer
from vsr.engine.options import EngineOptions
from vsr.engine.resampling import back_project_in_place
from vsr.engine.strips import RowReader, Strips, padded_strip
from vsr.errors import ModelError
from vsr.image.blur import KernelTaps as Kernel
from vsr.image.resample import resize, resize_strip
from vsr.models.networks.singan import Generator


def check_finite(detail: torch.Tensor, model: str) -> None:
    """Raise `ModelError` where a value of `model`'s `detail` is not finite.

    While a CUDA graph is recorded nothing can be read: then all of `detail` becomes NaN in such a
    case, which no limit takes away, and who runs the graph looks for that.
    """
    # One value that is not finite makes the sum so.
    total = detail.sum()
    if detail.is_cuda and torch.cuda.is_current_stream_capturing():
        detail += 0 * total
    elif not torch.isfinite(total):
        raise ModelError(
            f"{model} gave values that are not finite: it is broken. Train it again or choose "
            "another."
        )


MIDPOINT = 0.5
"""Of a network's [-1, 1], in [0, 1]."""


@dataclass(frozen=True)
class StepOptions:
    """What is done with a generator beyond adding its detail once."""

    self_ensemble: bool = False
    """Median over the eight flips and quarter turns of the picture, as ZSSR has it: eight times the
    work."""
    projections: int = 1
    """Rounds of back-projection onto the input after each step."""
    kernel: Kernel | None = None
    """Blur kernel that the generator was trained for, by which it agrees with the input; None:
    bicubic."""


class FastGenerator:
    """The same function as a `Generator` in eval mode, within float rounding, for one picture in
    [0, 1]."""

    def __init__(
        self,
        name: str,
        generator: Generator,
        step_ratio: float,
        device: torch.device,
        step_options: StepOptions = StepOptions(),
        options: EngineOptions = EngineOptions(),
    ) -> None:
        self.name = name
        self.step_ratio = step_ratio
        self.spec = generator.spec
        self.step_options = step_options
        self._device = device
        self._strips = Strips(device, options.max_strip_px)
        # A network's [-1, 1] is twice as wide as [0, 1]; a tanh in between cannot be folded into a
        # layer.
        self._share = 0.5 if self.spec.tanh else 1.0
        layers = _for_half_range(folded_convolutions(generator), 0.5 / self._share)
        self._stack = ConvolutionStack(layers, self.spec.leak, device, options.dtype)

    def enlarge(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(3, h, w) in [0, 1] -> (3, height, width), resized and with the generator's detail, in
        [0, 1].

        Raises `ModelError` for values that are not finite.
        """
        if self.step_options.self_ensemble:
            return self.add_detail(resize(image, height, width)).clamp_(0, 1)
        return self._add_detail(
            partial(resize_strip, image, height, width), height, width, limited=True
        )

    def add_detail(self, base: torch.Tensor) -> torch.Tensor:
        """(3, H, W) in [0, 1] -> the same picture with the generator's detail, not clamped.

        Raises `ModelError` for values that are not finite.
        """
        if not self.step_options.self_ensemble:
            return self._add_detail_to(base)
        turned = [(turns, flip) for turns in range(4) for flip in (False, True)]
        ways = [_turn_back(self._add_detail_to(_turn(base, *way)), *way) for way in turned]
        return torch.stack(ways).sort(dim=0).values[3:5].mean(dim=0)

    def back_project(self, image: torch.Tensor, low: torch.Tensor, weight: float) -> torch.Tensor:
        """`image`, in [0, 1], pulled by `weight` towards agreement with `low`, in [0, 1] again;
        overwrites `image`."""
        for _ in range(self.step_options.projections):
            back_project_in_place(image, low, weight, self.step_options.kernel)
        return image

    def _add_detail_to(self, base: torch.Tensor) -> torch.Tensor:
        return self._add_detail(
            lambda first, last: base[:, first:last], *base.shape[1:], limited=False
        )

    def _add_detail(
        self, base: RowReader, height: int, width: int, *, limited: bool
    ) -> torch.Tensor:
        detailed = torch.empty(3, height, width, device=self._device)
        halo, outside = self.spec.halo, MIDPOINT if self.spec.padding == "zeros" else None

        # Everything that is done to a strip is done while it is in cache.
        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = padded_strip(base, height, top, end, halo, outside)
            # Around zero, where half precision is finest.
            detail = self._stack((padded - MIDPOINT)[None])[0]
            if self.spec.tanh:
                detail.tanh_()
            check_finite(detail, f"model {self.name}")
            strip = detailed[:, top:end]
            torch.add(padded[:, halo:-halo, halo:-halo], detail, alpha=self._share, out=strip)
            if limited:
                strip.clamp_(0, 1)

        self._strips.cover(work, height, width)
        return detailed


def _for_half_range(layers: Sequence[Layer], last_factor: float) -> list[Layer]:
    """The same layers for a picture in [-0.5, 0.5] in place of [-1, 1], and multiplied by
    `last_factor` in the end."""
    (weight, bias), *rest = layers
    first = (2 * weight, bias)
    *hidden, (last_weight, last_bias) = (first, *rest)
    return [*hidden, (last_factor * last_weight, last_factor * last_bias)]


def _turn(image: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    turned = torch.rot90(image, turns, (-2, -1))
    return turned.flip(-1) if flip else turned


def _turn_back(image: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    return torch.rot90(image.flip(-1) if flip else image, -turns, (-2, -1))


def folded_convolutions(generator: Generator) -> list[Layer]:
    """Weight and bias of every convolution, with the normalisation that follows it multiplied
    in."""
    layers = []
    for block in generator.body:
        modules = list(block) if isinstance(block, nn.Sequential) else [block]
        convolution = modules[0]
        assert isinstance(convolution, nn.Conv2d)
        if len(modules) > 1 and isinstance(modules[1], nn.BatchNorm2d):
            convolution = fuse_conv_bn_eval(convolution.eval(), modules[1].eval())
        bias = (
            convolution.weight.new_zeros(convolution.out_channels)
            if convolution.bias is None
            else convolution.bias
        )
        layers.append((convolution.weight.detach(), bias.detach()))
    return layers
