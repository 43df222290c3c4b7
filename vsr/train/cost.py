"""Time that trainings take on this machine, found by training for a moment."""

from collections.abc import Sequence
from dataclasses import replace
from operator import mul
from statistics import median
from time import perf_counter

import torch

from vsr.engine.tiling import single_thread
from vsr.models.shot_model import NetworkPair
from vsr.train.methods.shot_network import ShotModelTraining, ShotTrainingOptions
from vsr.train.workers import CPU

PROBE_STEPS = 8
"""Steps of each network that is trained; torch makes itself ready in the first."""
PROBE_FRAMES = 5
"""Whole windows, of few frames."""


def shot_training_seconds(
    frames: Sequence[torch.Tensor],
    frames_of_models: Sequence[int],
    trainings: Sequence[ShotTrainingOptions],
    starts: NetworkPair | None = None,
    device: torch.device = CPU,
) -> list[float]:
    """Estimate the seconds that shot models take which are trained on so many frames, by training
    one for a moment on `frames`, (3, h, w) each, on all cores of the CPU or on a GPU.

    `trainings` are the settings of each model, alike but for the number of steps, `starts` the
    networks of the prior that they begin from; a model of 0 frames takes no time.
    """
    if not any(frames_of_models):
        return [0.0] * len(frames_of_models)
    first, second = (PROBE_STEPS if count else 0 for count in trainings[0].iterations)
    brief = replace(trainings[0], iterations=(first, second))
    seconds = []
    with single_thread():
        training = ShotModelTraining(
            [frames[:PROBE_FRAMES]], brief, 0, device=device, starts=starts
        )
        while not training.is_over:
            start = perf_counter()
            training.step()
            seconds.append(perf_counter() - start)
    # The first step of each network makes the examples that it learns from, the last one judges it
    # by those that were held out.
    parts = seconds[:first], seconds[first:]
    steps = [median(part) if part else 0.0 for part in parts]
    examples = sum(
        max(0.0, part[end] - step)
        for part, step in zip(parts, steps, strict=True)
        for end in (0, -1)
        if part
    )
    each = examples / len(frames[:PROBE_FRAMES])
    return [
        sum(map(mul, one.iterations, steps)) + count * each if count else 0.0
        for one, count in zip(trainings, frames_of_models, strict=True)
    ]
