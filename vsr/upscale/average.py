"""AVGI, averaging inference: the mean of what many models of one keyframe make (seed 000)."""

from collections.abc import Iterable, Iterator, Sequence

import torch

from vsr.engine.ensemble import FastMembers, can_run_as_one
from vsr.engine.graphs import Upscale
from vsr.engine.progressive import enlarge
from vsr.models.bank import Model
from vsr.upscale.policy import Decision, Policy, PolicyContext, peek, per_frame, with_remark
from vsr.video.frames import Frame


def avgi(context: PolicyContext) -> Policy:
    """Mean, in float, of the final pictures of `members` models of the shot's own keyframe (default: all)."""
    context.require_models(context.options.members or 2, "avgi")

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        models = models[: context.options.members]
        agreement, noise = context.agreement(first)
        names = tuple(model.name for model in models)
        upscale, told = context.fastest_way.find(_ways(context, models, agreement), first.pixels, (names, agreement))
        context.decide(Decision(first.index, names, with_remark(reason, told), agreement, noise))
        return per_frame(upscale)(frames)

    return policy


def _ways(context: PolicyContext, models: Sequence[Model], agreement: float) -> dict[str, Upscale]:
    """To the mean of what these models make of a frame; the second way, if there is one, differs by rounding."""
    generators = [context.ready(model) for model in models]

    def one_by_one(pixels: torch.Tensor) -> torch.Tensor:
        total = enlarge(pixels, generators[:1], context.scale, agreement).clone()
        for generator in generators[1:]:
            total += enlarge(pixels, [generator], context.scale, agreement)
        return total / len(generators)

    networks, use, ratio = [model.generator for model in models], generators[0].use, models[0].card.step_ratio
    if context.device.type == "cpu" or not can_run_as_one(networks, use):
        return {"one model after another": one_by_one}
    members = FastMembers(f"one of {len(models)} models", networks, ratio, context.device, use, context.engine)

    def as_one(pixels: torch.Tensor) -> torch.Tensor:
        return members.mean(enlarge(pixels, [members], context.scale, agreement))

    return {"one model after another": one_by_one, "all models as one": as_one}
