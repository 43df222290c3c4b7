"""`--upscaler FILE`: a network from elsewhere, frame by frame, in the place of a policy over a
bank."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isqrt
from pathlib import Path

import torch

from vsr.engine.options import name_of_dtype
from vsr.engine.resampling import back_project_in_place
from vsr.image.noise import noise_level
from vsr.image.resample import scaled_size
from vsr.upscale.networks import UpscalingNetwork, apply_network, load_network
from vsr.upscale.networks.apply import scale_note
from vsr.upscale.policy import Decision, Policy, PolicyContext, peek
from vsr.video.frames import Frame

UPSCALER = "upscaler"
"""The policy's name in records."""
SAMPLE_SEED_STRIDE = 1_000_003
"""Between the noise of one sample and of the next; shots of a sample are told apart by their first
frames."""


def network_policy(context: PolicyContext, file: Path, sample: int = 0) -> Policy:
    """The network of `file`; back-projection onto the input only where the user asked for it.

    A stochastic network gets one noise for each shot: `sample` numbers the draws, frames of a shot
    share theirs.
    """
    network = load_network(file, context.device, context.engine.dtype)
    back_projection_weight = context.options.back_projection_weight or 0.0
    remarks = [
        scale_note(network, context.scale),
        network.remark,
        _precision_note(network, context.engine.dtype),
    ]
    largest = context.engine.max_strip_px
    tile_px = None if largest is None else isqrt(largest)
    summary = "; ".join([network.summary, *filter(None, remarks)])

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        first, frames = peek(frames)
        context.on_decision(
            Decision(
                first.index,
                (network.name,),
                summary,
                back_projection_weight,
                noise_level(first.pixels),
            )
        )
        seed = SAMPLE_SEED_STRIDE * sample + first.index
        for frame in frames:
            height, width = scaled_size(frame.height, frame.width, context.scale)
            pixels = apply_network(network, frame.pixels, height, width, seed, tile_px)
            if back_projection_weight:
                pixels = back_project_in_place(pixels, frame.pixels, back_projection_weight)
            yield replace(frame, pixels=pixels)

    return policy


def _precision_note(network: UpscalingNetwork, wanted: torch.dtype) -> str | None:
    """What the user ought to know of a network that does not compute as the others would."""
    if network.dtype == wanted:
        return None
    return (
        f"in {name_of_dtype(network.dtype)}, as {network.arch} is not known to work in "
        f"{name_of_dtype(wanted)}"
    )
