"""AMI, alternating models inference: the generator changes at every step (seed 000)."""

from collections.abc import Iterable, Iterator

from vsr.errors import ModelError
from vsr.frames import Frame
from vsr.policies.protocol import Policy, PolicyContext, peek


def ami(context: PolicyContext) -> Policy:
    """The named models in their order, else the first `alternating` of the shot's own keyframe."""
    options = context.options
    chosen = [context.named(name) for name in options.order]
    if not chosen:
        context.require_models(options.alternating, "ami")
    elif len(chosen) < 2:
        raise ModelError(f"policy ami alternates two models or more; the order names {len(chosen)}. Use policy smi.")
    if len({model.card.step_ratio for model in chosen}) > 1:
        raise ModelError("policy ami needs models of one step ratio; those of the order were trained for several.")

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        if chosen:
            return context.take_turns(frames, chosen, "ordered by the user")
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        return context.take_turns(frames, models[: options.alternating], reason)

    return policy
