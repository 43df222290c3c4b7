"""Choosing one model out of the whole bank by a fitness: what `dsrfi` and `selfrec` share."""

from collections.abc import Callable
from dataclasses import replace

import torch

from vsr.errors import ModelError
from vsr.models.bank import Model
from vsr.upscale.fitness import dsrf, restoration_error
from vsr.upscale.policy import Decision, PerFramePolicy, PolicyContext, PolicyStage
from vsr.video.frames import Frame

FitnessFunction = Callable[[Model, torch.Tensor], float]
"""Misfit of a model to a low-resolution frame; 0 is best."""


def dsrfi(context: PolicyContext) -> PolicyStage:
    """Use the model of the whole bank with the least absolute DSRF."""
    context.require_models(1, "dsrfi")
    if without := [model.name for model in context.models if model.critic is None]:
        raise ModelError(
            f"policy dsrfi needs models with a critic; {without[0]} has none (ZSSR models never "
            "have one). Use policy selfrec."
        )
    return select_by(context, lambda model, pixels: abs(dsrf(model, pixels)), "least absolute DSRF")


def selfrec(context: PolicyContext) -> PolicyStage:
    """Use the model of the whole bank that best restores the frame from its reduction."""
    context.require_models(1, "selfrec")

    def misfit(model: Model, pixels: torch.Tensor) -> float:
        return restoration_error(context.generator_for(model), pixels)

    return select_by(context, misfit, "best restores the frame from its reduction")


def select_by(context: PolicyContext, fitness: FitnessFunction, reason: str) -> PolicyStage:
    """Use the model of least `fitness`, chosen at the first frame of a shot or, where the user asks
    for it, at every frame."""

    def decide(frame: Frame, current: Decision | None) -> Decision:
        scores = [(model.name, fitness(model, frame.pixels)) for model in context.models]
        ranking = sorted(scores, key=lambda entry: entry[1])
        if current is None:
            return context.decide(frame, [ranking[0][0]], reason, ranking)
        best = _keep_or_switch(current.models[0], ranking, context.options.hysteresis)
        if best == current.models[0]:
            return current
        # The back-projection stays that of the shot: changing it would flicker as well.
        return replace(current, frame=frame.index, models=(best,), ranking=tuple(ranking))

    return PerFramePolicy(context, decide, context.alternate, every_frame=context.options.per_frame)


def _keep_or_switch(current: str, ranking: list[tuple[str, float]], hysteresis: float) -> str:
    """The best model, unless the current one is worse by no more than the share `hysteresis`:
    switching flickers."""
    # A current model that is not ranked has left the bank.
    best, least = ranking[0]
    scores = dict(ranking)
    if current in scores and scores[current] <= least * (1 + hysteresis):
        return current
    return best
