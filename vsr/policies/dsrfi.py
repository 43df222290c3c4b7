"""DSRFI, DSRF-best inference: the model whose critic finds the frame most like its keyframe (seed 000)."""

from vsr.errors import ModelError
from vsr.policies.choice import choose_by
from vsr.policies.fitness import dsrf
from vsr.policies.protocol import Policy, PolicyContext


def dsrfi(context: PolicyContext) -> Policy:
    """The model of the whole bank with the least absolute DSRF."""
    context.require_models(1, "dsrfi")
    if without := [model.name for model in context.models if model.critic is None]:
        raise ModelError(
            f"policy dsrfi asks the models' critics, and {without[0]} was trained without one, as all of ZSSR are. "
            "Use policy selfrec."
        )
    return choose_by(context, lambda model, pixels: abs(dsrf(model, pixels)), "least absolute DSRF")
