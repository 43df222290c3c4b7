"""Choosing one model out of the whole bank by a fitness: what `dsrfi` and `selfrec` share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from vsr.engine.progressive import progressive_upscale
from vsr.errors import ModelError
from vsr.models.bank import Model
from vsr.upscale.fitness import dsrf, restoration_error
from vsr.upscale.policy import Decision, Policy, PolicyContext, peek
from vsr.video.frames import Frame

FitnessFunction = Callable[[Model, torch.Tensor], float]
"""Misfit of a model to a low-resolution frame; 0 is best."""


def select_by(context: PolicyContext, fitness: FitnessFunction, reason: str) -> Policy:
    """Use the model of least `fitness`, chosen at the first frame of a shot or, where asked, at
    every frame."""

    def rank(frame: Frame) -> list[tuple[str, float]]:
        scores = [(model.name, fitness(model, frame.pixels)) for model in context.models]
        return sorted(scores, key=lambda entry: entry[1])

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        first, frames = peek(frames)
        back_projection_weight, noise = context.back_projection_weight(first)
        chosen = ""
        for frame in frames:
            if frame is first or context.options.per_frame:
                ranking = rank(frame)
                best = _keep_or_switch(chosen, ranking, context.options.hysteresis)
                if best != chosen:
                    chosen = best
                    context.on_decision(
                        Decision(
                            frame.index,
                            (chosen,),
                            reason,
                            back_projection_weight,
                            noise,
                            tuple(ranking),
                        )
                    )
            generator = context.generator_for(context.get_model(chosen))
            yield replace(
                frame,
                pixels=progressive_upscale(
                    frame.pixels, [generator], context.scale, back_projection_weight
                ),
            )

    return policy


def _keep_or_switch(current: str, ranking: list[tuple[str, float]], hysteresis: float) -> str:
    """The best model, unless the current one is worse by no more than the share `hysteresis`:
    switching flickers."""
    best, least = ranking[0]
    scores = dict(ranking)
    if current in scores and scores[current] <= least * (1 + hysteresis):
        return current
    return best


def dsrfi(context: PolicyContext) -> Policy:
    """The model of the whole bank with the least absolute DSRF."""
    context.require_models(1, "dsrfi")
    if without := [model.name for model in context.models if model.critic is None]:
        raise ModelError(
            f"policy dsrfi asks the models' critics, and {without[0]} was trained without one, as "
            "all of ZSSR are. Use policy selfrec."
        )
    return select_by(context, lambda model, pixels: abs(dsrf(model, pixels)), "least absolute DSRF")


def selfrec(context: PolicyContext) -> Policy:
    """The model of the whole bank that best restores the frame from its reduction."""
    context.require_models(1, "selfrec")

    def misfit(model: Model, pixels: torch.Tensor) -> float:
        return restoration_error(context.generator_for(model), pixels)

    return select_by(context, misfit, "best restores the frame from its reduction")
