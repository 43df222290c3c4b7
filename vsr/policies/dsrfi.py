"""DSRFI, DSRF-best inference: the model whose critic finds the frame most like its keyframe (seed 000)."""

from vsr.policies.choice import choose_by
from vsr.policies.fitness import dsrf
from vsr.policies.protocol import Policy, PolicyContext


def dsrfi(context: PolicyContext) -> Policy:
    """The model of the whole bank with the least absolute DSRF."""
    context.require_models(1, "dsrfi")
    return choose_by(context, lambda model, pixels: abs(dsrf(model, pixels)), "least absolute DSRF")
