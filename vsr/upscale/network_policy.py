"""`--upscaler FILE`: a network from elsewhere, frame by frame, in the place of a policy over a bank."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isqrt
from pathlib import Path

import torch

from vsr.engine.options import name_of
from vsr.engine.resampling import agree_in_place
from vsr.image.noise import noise_level
from vsr.image.resample import scaled_size
from vsr.upscale.networks import Upscaler, enlarge, load_upscaler
from vsr.upscale.networks.apply import mismatch
from vsr.upscale.policy import Decision, Policy, PolicyContext, peek
from vsr.video.frames import Frame

UPSCALER = "upscaler"
"""The policy's name in records."""
SEEDS_APART = 1_000_003
"""Between the noise of one sample and of the next; shots of a sample are told apart by their first frames."""


def upscaler(context: PolicyContext, file: Path, sample: int = 0) -> Policy:
    """The network of `file`; back-projection onto the input only where the user asked for it.

    A stochastic network gets one noise for each shot: `sample` numbers the draws, frames of a shot share theirs.
    """
    network = load_upscaler(file, context.device, context.engine.dtype)
    agreement = context.options.agreement or 0.0
    remarks = [mismatch(network, context.scale), network.remark, _precision(network, context.engine.dtype)]
    largest = context.engine.largest_strip_px
    tile_px = None if largest is None else isqrt(largest)
    about = "; ".join([network.about, *filter(None, remarks)])

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        first, frames = peek(frames)
        context.decide(Decision(first.index, (network.name,), about, agreement, noise_level(first.pixels)))
        seed = SEEDS_APART * sample + first.index
        for frame in frames:
            height, width = scaled_size(frame.height, frame.width, context.scale)
            pixels = enlarge(network, frame.pixels, height, width, seed, tile_px)
            if agreement:
                pixels = agree_in_place(pixels, frame.pixels, agreement)
            yield replace(frame, pixels=pixels)

    return policy


def _precision(network: Upscaler, wanted: torch.dtype) -> str | None:
    """What the user ought to know of a network that does not compute as the others would."""
    if network.dtype == wanted:
        return None
    return f"in {name_of(network.dtype)}, as {network.arch} is not known to work in {name_of(wanted)}"
