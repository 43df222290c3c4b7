"""Time that trainings take on this machine, found by training for a moment."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch

from vsr.train.methods.shot_network import ShotModelTraining, ShotTrainingOptions
from vsr.train.optimizer import single_thread
from vsr.train.shot import training_runs
from vsr.video.shots import Shot

PROBE_STEPS = 14
"""Of each of the two networks; torch makes itself ready in the first."""
PROBE_FRAMES = 5
"""Whole windows, of few frames."""


def shot_training_seconds(
    frames: Sequence[torch.Tensor], shots: Sequence[Shot], options: ShotTrainingOptions
) -> list[float]:
    """Estimate the seconds that the models of shots take, by training one for a moment on some
    `frames`, (3, h, w) each, on one thread of the CPU."""
    brief = replace(options, iterations=(PROBE_STEPS, PROBE_STEPS))
    seconds = []
    with single_thread():
        training = ShotModelTraining([frames], brief, 0)
        while not training.is_over:
            start = perf_counter()
            training.step()
            seconds.append(perf_counter() - start)
    step = median(seconds)
    # The first step of each network makes the examples that it learns from.
    examples = max(0.0, seconds[0] + seconds[PROBE_STEPS] - 2 * step)
    frame_px = frames[0].shape[1] * frames[0].shape[2]
    counts = [sum(map(len, training_runs(shot, frame_px))) for shot in shots]
    return [sum(options.iterations) * step + count * examples / len(frames) for count in counts]
