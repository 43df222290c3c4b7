"""AVGI, averaging inference: the mean of what many models of one keyframe make (SinGANxSR)."""

from collections.abc import Sequence

import torch

from vsr.engine.generator import FastGenerator, can_batch, progressive_upscale
from vsr.engine.graphs import Upscale
from vsr.models.bank import Model
from vsr.restore.data_term import DataTerm
from vsr.upscale.policy import Decision, PerFramePolicy, PolicyContext, PolicyStage
from vsr.video.frames import Frame

PUBLISHED_MEMBERS = 15


def avgi(context: PolicyContext) -> PolicyStage:
    """Average, in float, the final pictures of `members` models of the shot's own keyframe
    (default: all)."""
    context.require_models(context.options.members or 2, "avgi")

    def decide(first: Frame, _: Decision | None) -> Decision:
        models, reason = context.own_models(first)
        names = [model.name for model in models[: context.options.members]]
        # The source's figures are of fifteen: fewer flicker more, and are sharper.
        if len(names) != PUBLISHED_MEMBERS:
            reason += f"; the mean of {len(names)} models, of {PUBLISHED_MEMBERS} in SinGANxSR"
        return context.decide(first, names, reason)

    def prepare(decision: Decision, pixels: torch.Tensor) -> tuple[Upscale, str]:
        models = [context.get_model(name) for name in decision.models]
        term = decision.data_term
        variants = _upscale_variants(context, models, term)
        if context.options.as_published:
            # Noise is drawn anew for every frame, which no recorded graph can do.
            return variants["one model after another"], "as published"
        return context.autotuner.find(variants, pixels, (decision.models, term))

    return PerFramePolicy(context, decide, prepare)


def _upscale_variants(
    context: PolicyContext, models: Sequence[Model], term: DataTerm
) -> dict[str, Upscale]:
    """Offer ways to the mean of what these models make of a frame; the second, if there is one,
    differs by rounding."""
    generators = [context.generator_for(model) for model in models]

    def one_by_one(pixels: torch.Tensor) -> torch.Tensor:
        # A running sum: fifteen pictures of the result's size would fill the memory.
        total: torch.Tensor | None = None
        for generator in generators:
            random = context.draws(generator.name)
            made = progressive_upscale(
                pixels, [generator], context.scale, term.weight, term.keep, random
            )
            total = made.clone() if total is None else total.add_(made)
        assert total is not None, "a bank of none is refused"
        return total / len(generators)

    networks, step_options, ratio = (
        [model.generator for model in models],
        generators[0].step_options,
        models[0].card.step_ratio,
    )
    # On a CPU one model fills all cores already.
    if context.device.type == "cpu" or not can_batch(networks, step_options):
        return {"one model after another": one_by_one}
    members = FastGenerator(
        f"one of {len(models)} models",
        networks,
        ratio,
        context.device,
        step_options,
        context.engine,
    )

    def as_one(pixels: torch.Tensor) -> torch.Tensor:
        return members.mean(
            progressive_upscale(pixels, [members], context.scale, term.weight, term.keep)
        )

    return {"one model after another": one_by_one, "all models as one": as_one}
