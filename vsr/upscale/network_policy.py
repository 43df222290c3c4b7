"""`--upscaler FILE`: a network from elsewhere, frame by frame, in the place of a policy over a
bank."""

from math import isqrt

import torch

from vsr.engine.graphs import Upscale
from vsr.engine.options import name_of_dtype
from vsr.engine.resampling import back_project_in_place
from vsr.errors import UsageError
from vsr.image.noise import noise_level
from vsr.image.resample import scaled_size
from vsr.upscale.networks.files import load_network
from vsr.upscale.networks.network import UpscalingNetwork, apply_network, scale_note
from vsr.upscale.policy import Decision, PerFramePolicy, PolicyContext, PolicyStage
from vsr.video.frames import Frame

SAMPLE_SEED_STRIDE = 1_000_003
"""Between the noise of one sample and of the next; shots of a sample are told apart by their first
frames."""


def network_policy(context: PolicyContext) -> PolicyStage:
    """Use the network of the context's file.

    The policy itself projects back onto the input only where the user chose a weight: other
    networks were not trained for it. Flicker control, where it is on, projects its result back in
    any case. A stochastic network gets one noise for each shot: `sample` numbers the draws, frames
    of a shot share theirs.
    """
    if context.network is None:
        raise UsageError("policy upscaler needs a network: --upscaler FILE.")
    network = load_network(context.network, context.device, context.engine.dtype)
    weight = context.options.back_projection_weight or 0.0
    remarks = [
        scale_note(network, context.scale),
        network.remark,
        _precision_note(network, context.engine.dtype),
    ]
    largest = context.engine.max_strip_px
    tile_px = None if largest is None else isqrt(largest)
    summary = "; ".join([network.summary, *filter(None, remarks)])

    def decide(first: Frame, _: Decision | None) -> Decision:
        noise = noise_level(first.pixels)
        return Decision(first.index, (network.name,), summary, weight, noise)

    def prepare(decision: Decision, _: torch.Tensor) -> tuple[Upscale, str]:
        # Frames of a shot share their noise, which would flicker otherwise.
        seed = SAMPLE_SEED_STRIDE * context.sample + decision.frame

        def upscale(pixels: torch.Tensor) -> torch.Tensor:
            height, width = scaled_size(pixels.shape[-2], pixels.shape[-1], context.scale)
            large = apply_network(network, pixels, height, width, seed, tile_px)
            return back_project_in_place(large, pixels, weight) if weight else large

        return upscale, ""

    return PerFramePolicy(context, decide, prepare)


def _precision_note(network: UpscalingNetwork, wanted: torch.dtype) -> str | None:
    """Tell of a network that does not compute in the precision of the others."""
    if network.dtype == wanted:
        return None
    return (
        f"in {name_of_dtype(network.dtype)}, as {network.arch} is not known to work in "
        f"{name_of_dtype(wanted)}"
    )
