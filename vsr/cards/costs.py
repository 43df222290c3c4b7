"""What networks cost, counted by running them: multiply-adds of convolutions for each output pixel."""

from collections.abc import Callable
from math import log

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.external.methods import METHODS
from vsr.networks.singan import Generator, NetworkSpec
from vsr.networks.window import WindowNetwork, WindowSpec
from vsr.upscalers import Upscaler
from vsr.upscalers.architectures import ARCHITECTURES
from vsr.upscalers.upscaler import Run

SCALE = 4
PROBE_SIDE_PX = 32
"""Of the input; all of these networks cost the same at every pixel."""


def of_generator(spec: NetworkSpec, step_ratio: float, times: int = 1) -> Callable[[], float]:
    """A generator that is applied again and again: each step works on the picture as large as it makes it."""

    def macs() -> float:
        with torch.device("meta"):
            at_full_size = _valid_macs(Generator(spec).body, 3, spec.halo)
        steps = round(log(SCALE) / log(step_ratio))
        return times * at_full_size * sum(step_ratio ** (-2 * step) for step in range(steps))

    return macs


def of_shot() -> float:
    """The two doublings of a shot model; the first works on a quarter of the pixels."""
    spec = WindowSpec()
    with torch.device("meta"):
        return _valid_macs(WindowNetwork(spec), spec.planes, spec.halo) * (1 + 1 / 4)


def of_method(name: str) -> Callable[[], float]:
    """The network of a method of `vsr train` with its default shape."""

    def macs() -> float:
        method = METHODS[name]
        architecture = ARCHITECTURES[method.arch]
        channels = 1 if architecture.luma else 3 + getattr(method.network, "noise_channels", 0)
        with torch.device("meta"):
            network = architecture.build(method.network)
            return _macs(network, channels, PROBE_SIDE_PX, 1 if architecture.enlarged_first else SCALE)

    return macs


def of_upscaler(upscaler: Upscaler) -> float:
    """A network from a file, at its own scale."""
    channels = 1 if upscaler.luma else 3 + upscaler.noise_channels
    return _macs(upscaler.run, channels, PROBE_SIDE_PX, 1 if upscaler.enlarged_first else upscaler.scale)


def _valid_macs(network: nn.Module, channels: int, halo: int) -> float:
    """Of a network that uses up `halo` pixels on each side, which for a large picture are nothing."""
    return _macs(network, channels, PROBE_SIDE_PX, 1, halo)


def _macs(run: Run, channels: int, side_px: int, enlargement: int, halo: int = 0) -> float:
    planes = torch.zeros(1, channels, side_px + 2 * halo, side_px + 2 * halo)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run(planes)
    return float(counter.get_total_flops() / 2 / (side_px * enlargement) ** 2)
