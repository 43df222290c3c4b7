"""Self-reconstruction: our answer to DSRFI, which asks the generators themselves."""

import torch

from vsr.checkpoints import Model
from vsr.policies.choice import choose_by
from vsr.policies.fitness import restoration_error
from vsr.policies.protocol import Policy, PolicyContext


def selfrec(context: PolicyContext) -> Policy:
    """The model of the whole bank that best restores the frame from its reduction."""
    context.require_models(1, "selfrec")

    def misfit(model: Model, pixels: torch.Tensor) -> float:
        return restoration_error(context.ready(model), pixels)

    return choose_by(context, misfit, "best restores the frame from its reduction")
