"""AVGI, averaging inference: the mean of what many models of one keyframe make (seed 000)."""

from collections.abc import Iterable, Iterator

import torch

from vsr.engine.steps import enlarge
from vsr.frames import Frame
from vsr.policies.protocol import Decision, Policy, PolicyContext, peek, per_frame


def avgi(context: PolicyContext) -> Policy:
    """Mean, in float, of the final pictures of `members` models of the shot's own keyframe (default: all)."""
    context.require_models(context.options.members or 2, "avgi")

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        models = models[: context.options.members]
        agreement, noise = context.agreement(first)
        context.decide(Decision(first.index, tuple(model.name for model in models), reason, agreement, noise))
        generators = [context.ready(model) for model in models]

        def mean(pixels: torch.Tensor) -> torch.Tensor:
            total = enlarge(pixels, generators[:1], context.scale, agreement).clone()
            for generator in generators[1:]:
                total += enlarge(pixels, [generator], context.scale, agreement)
            return total / len(generators)

        return per_frame(mean)(frames)

    return policy
