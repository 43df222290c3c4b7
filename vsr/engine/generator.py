"""A generator made ready to run: normalisation folded into the convolutions, channels last, cut into strips."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vsr.blur import Rows, back_project_blurred
from vsr.engine.convolutions import ConvolutionStack
from vsr.engine.options import EngineOptions
from vsr.engine.strips import Strips, padded_strip
from vsr.errors import ModelError
from vsr.networks.singan import Generator
from vsr.resample import back_project

ZERO = 0.5
"""Of a network's [-1, 1], in [0, 1]."""


@dataclass(frozen=True)
class StepUse:
    """What is done with a generator beyond adding its detail once."""

    self_ensemble: bool = False
    """Median over the eight flips and quarter turns of the picture, as ZSSR has it: eight times the work."""
    projections: int = 1
    """Rounds of back-projection onto the input after each step."""
    kernel: Rows | None = None
    """Blur kernel that the generator was trained for, by which it agrees with the input; None: bicubic."""


class FastGenerator:
    """The same function as a `Generator` in eval mode, within float rounding, for one picture in [0, 1]."""

    def __init__(
        self,
        name: str,
        generator: Generator,
        step_ratio: float,
        device: torch.device,
        use: StepUse = StepUse(),
        options: EngineOptions = EngineOptions(),
    ) -> None:
        self.name = name
        self.step_ratio = step_ratio
        self.spec = generator.spec
        self.use = use
        self._strips = Strips(device, options.largest_strip_px)
        self._stack = ConvolutionStack(folded_convolutions(generator), self.spec.leak, device, options.dtype)

    def add_detail(self, base: torch.Tensor) -> torch.Tensor:
        """(3, H, W) in [0, 1] -> the same picture with the generator's detail, not clamped.

        Raises `ModelError` for values that are not finite.
        """
        if not self.use.self_ensemble:
            return self._add_detail(base)
        turned = [(turns, flip) for turns in range(4) for flip in (False, True)]
        ways = [_turn_back(self._add_detail(_turn(base, *way)), *way) for way in turned]
        return torch.stack(ways).sort(dim=0).values[3:5].mean(dim=0)

    def agree(self, image: torch.Tensor, low: torch.Tensor, weight: float) -> torch.Tensor:
        """`image`, in [0, 1], pulled by `weight` towards agreement with `low`, in [0, 1] again."""
        for _ in range(self.use.projections):
            if self.use.kernel is None:
                image = back_project(image, low, weight).clamp_(0, 1)
            else:
                image = back_project_blurred(image, low, self.use.kernel, weight).clamp_(0, 1)
        return image

    def _add_detail(self, base: torch.Tensor) -> torch.Tensor:
        detailed = torch.empty_like(base)
        outside = ZERO if self.spec.padding == "zeros" else None

        # Everything that is done to a strip is done while it is in cache.
        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = padded_strip(base, top, end, self.spec.halo, outside)
            detail = self._stack(padded.mul_(2).sub_(1)[None])[0]
            if self.spec.tanh:
                detail.tanh_()
            # One value that is not finite makes the sum so.
            if not torch.isfinite(detail.sum()):
                raise ModelError(
                    f"model {self.name} gave values that are not finite: it is broken. Train it again or choose "
                    "another."
                )
            torch.add(base[:, top:end], detail, alpha=0.5, out=detailed[:, top:end])

        self._strips.cover(work, *base.shape[1:])
        return detailed


def _turn(image: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    turned = torch.rot90(image, turns, (-2, -1))
    return turned.flip(-1) if flip else turned


def _turn_back(image: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    return torch.rot90(image.flip(-1) if flip else image, -turns, (-2, -1))


def folded_convolutions(generator: Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of every convolution, with the normalisation that follows it multiplied in."""
    layers = []
    for block in generator.body:
        modules = list(block) if isinstance(block, nn.Sequential) else [block]
        convolution = modules[0]
        assert isinstance(convolution, nn.Conv2d)
        if len(modules) > 1 and isinstance(modules[1], nn.BatchNorm2d):
            convolution = fuse_conv_bn_eval(convolution.eval(), modules[1].eval())
        bias = convolution.weight.new_zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
        layers.append((convolution.weight.detach(), bias.detach()))
    return layers
