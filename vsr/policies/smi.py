"""SMI, single model inference: one model for every frame (seed 000)."""

from collections.abc import Iterable, Iterator

from vsr.frames import Frame
from vsr.policies.protocol import Policy, PolicyContext, peek


def smi(context: PolicyContext) -> Policy:
    """The named model, else the first by name of the shot's own keyframe."""
    context.require_models(1, "smi")
    chosen = None if context.options.model is None else context.named(context.options.model)

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        if chosen is not None:
            return context.take_turns(frames, [chosen], "named by the user")
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        return context.take_turns(frames, models[:1], reason)

    return policy
