"""Cost of networks, counted by running them: multiply-adds of convolutions per output pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.engine.tiling import ForwardFunction
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.train.dataset.methods import METHODS
from vsr.upscale.networks.files import ARCHITECTURES
from vsr.upscale.networks.network import UpscalingNetwork

SCALE = 4
PROBE_SIDE_PX = 32
"""Side of the input; all of these networks cost the same at every pixel."""


def generator_macs(spec: NetworkSpec, step_ratio: float, times: int = 1) -> Callable[[], float]:
    """Count a generator that is applied repeatedly, each step at the size that it makes."""

    def macs() -> float:
        with torch.device("meta"):
            at_full_size = _valid_macs(Generator(spec).body, 3, spec.halo)
        # Earlier steps work on smaller pictures, down from the full size by the ratio of a step.
        steps = round(log(SCALE) / log(step_ratio))
        return times * at_full_size * sum(step_ratio ** (-2 * step) for step in range(steps))

    return macs


def shot_model_macs() -> float:
    """Count the two doublings of a shot model; the first works on a quarter of the pixels."""
    spec = ShotNetworkSpec()
    with torch.device("meta"):
        return _valid_macs(ShotNetwork(spec), spec.planes, spec.halo) * (1 + 1 / 4)


def method_macs(name: str) -> Callable[[], float]:
    """Count the network of a method of `vsr train` with its default shape."""

    def macs() -> float:
        method = METHODS[name]
        architecture = ARCHITECTURES[method.arch]
        channels = 1 if architecture.luma else 3 + getattr(method.network, "noise_channels", 0)
        with torch.device("meta"):
            network = architecture.build(method.network)
            return _macs(
                network, channels, PROBE_SIDE_PX, 1 if architecture.enlarged_first else SCALE
            )

    return macs


def network_macs(upscaler: UpscalingNetwork) -> float:
    """Count a network from a file, at its own scale."""
    channels = 1 if upscaler.luma else 3 + upscaler.noise_channels
    return _macs(
        upscaler.run, channels, PROBE_SIDE_PX, 1 if upscaler.enlarged_first else upscaler.scale
    )


def _valid_macs(network: nn.Module, channels: int, halo: int) -> float:
    """Count a network without padding, whose `halo` pixels on each side weigh nothing in a large
    picture."""
    return _macs(network, channels, PROBE_SIDE_PX, 1, halo)


def _macs(
    run: ForwardFunction, channels: int, side_px: int, enlargement: int, halo: int = 0
) -> float:
    planes = torch.zeros(1, channels, side_px + 2 * halo, side_px + 2 * halo)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run(planes)
    # A multiplication and its addition count as two operations.
    return float(counter.get_total_flops() / 2 / (side_px * enlargement) ** 2)


@dataclass(frozen=True)
class Card:
    """One upscaler."""

    what: str
    source: str
    when: str
    how: str
    """The command that makes it ready, if any, and the option that uses it."""
    macs: Callable[[], float] | None
    """Multiplications and additions of its convolutions for each output pixel at x4; None where
    there are none."""
    besides: str = ""
    """Work that is no convolution."""

    @property
    def cost(self) -> str:
        """Cost in words."""
        counted = "" if self.macs is None else format_macs(self.macs())
        return ", ".join(filter(None, [counted, self.besides]))


def format_macs(macs: float) -> str:
    """Write a number of multiply-adds, to three digits."""
    for unit, word in ((1e6, "million "), (1e3, "thousand ")):
        if macs >= unit:
            return f"{macs / unit:.3g} {word}multiply-adds"
    return f"{macs:.3g} multiply-adds"
