"""A generator made ready to run: normalisation folded into the convolutions, channels last, cut into strips."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vsr.engine.cores import cores
from vsr.networks.singan import LEAK, Generator, pad

LARGEST_STRIP_PX = 115_200
"""Of a CPU's strips. Whole frames spend their time in page faults: 90 rows of 1280 ran 2.8 times as fast as the plain
network on a whole 720p frame, on a core with AVX2 alone."""
FEWEST_STRIPS = 4
"""So that small pictures, too, keep several cores busy."""
SHORTEST_STRIP_ROWS = 64
"""Shorter ones would spend their time on the halo."""


class FastGenerator:
    """The same function as a `Generator` in eval mode, within float rounding, for one picture in [0, 1]."""

    def __init__(self, name: str, generator: Generator, step_ratio: float, device: torch.device) -> None:
        self.name = name
        self.step_ratio = step_ratio
        self.spec = generator.spec
        self._on_cpu = device.type == "cpu"
        self._layers = [
            (weight.to(device, memory_format=torch.channels_last), bias.to(device))
            for weight, bias in folded_convolutions(generator)
        ]

    def add_detail(self, base: torch.Tensor) -> torch.Tensor:
        """(3, H, W) in [0, 1] -> the same picture with the generator's detail, not clamped."""
        _, height, width = base.shape
        halo = self.spec.halo
        padded = pad((2 * base - 1)[None], self.spec).contiguous(memory_format=torch.channels_last)
        rows = strip_rows(height, width) if self._on_cpu else height
        strips = [padded[:, :, top : min(top + rows, height) + 2 * halo] for top in range(0, height, rows)]
        details = cores().map(self._detail, strips) if self._on_cpu else map(self._detail, strips)
        return base + torch.cat(list(details), dim=2)[0] / 2

    @torch.inference_mode()
    def _detail(self, padded: torch.Tensor) -> torch.Tensor:
        features = padded
        for weight, bias in self._layers[:-1]:
            features = F.leaky_relu_(F.conv2d(features, weight, bias), LEAK)
        detail = F.conv2d(features, *self._layers[-1])
        return torch.tanh_(detail) if self.spec.tanh else detail


def strip_rows(height: int, width: int, largest_px: int = LARGEST_STRIP_PX) -> int:
    """Rows of a strip. They follow from the picture alone, so that the result does not depend on the cores."""
    for_all_cores = max(-(-height // FEWEST_STRIPS), SHORTEST_STRIP_ROWS)
    return max(1, min(for_all_cores, largest_px // width))


def folded_convolutions(generator: Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of every convolution, with the normalisation that follows it multiplied in."""
    layers = []
    for block in generator.body:
        modules = list(block) if isinstance(block, nn.Sequential) else [block]
        convolution = modules[0]
        assert isinstance(convolution, nn.Conv2d)
        if len(modules) > 1 and isinstance(modules[1], nn.BatchNorm2d):
            convolution = fuse_conv_bn_eval(convolution.eval(), modules[1].eval())
        assert convolution.bias is not None
        layers.append((convolution.weight.detach(), convolution.bias.detach()))
    return layers
