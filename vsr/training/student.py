"""Distillation: one generator learns what many make together."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.networks.singan import Generator
from vsr.training.adam import Adam, cosine_rate
from vsr.training.crops import Pair, Place, cut, uniform_draw
from vsr.training.method import Progress, loss_curve_summary, one_thread
from vsr.training.quick import update_average


@dataclass(frozen=True)
class StudentOptions:
    """How a student learns. With these it ends 50 to 55 dB from fifteen teachers on clips of Vid4."""

    iterations: int = 1500
    crop_px: int = 48
    learning_rate: float = 3e-3
    average_decay: float = 0.99
    """Of the exponential moving average of the weights, which is what is kept."""


def train_student(
    start: Generator, lessons: Sequence[Pair], options: StudentOptions, seed: int, progress: Progress
) -> tuple[Generator, tuple[float, ...]]:
    """A generator trained on `lessons`, in eval mode, and its loss curve. Deterministic for a seed.

    It begins as a copy of `start`: from scratch it was 9 dB farther from its teachers after 500 iterations. Crops are
    neither flipped nor turned, since what the teachers would make of those was not asked.
    """
    draw = uniform_draw(torch.Generator().manual_seed(seed))
    # Eval mode throughout: statistics of a normalisation are kept as the keyframe's training left them.
    student = copy.deepcopy(start).eval().requires_grad_(True)
    average = copy.deepcopy(student)
    optimiser = Adam(student, options.learning_rate)
    halo = start.spec.halo
    losses = []
    with one_thread():
        for iteration in range(options.iterations):
            lesson = lessons[draw(len(lessons))]
            height, width = lesson.target.shape[-2:]
            side = min(options.crop_px, height, width)
            place = Place(draw(height - side + 1), draw(width - side + 1), side, turns=0, flip=0)
            padded, target = cut(lesson, [place])
            loss = F.l1_loss(padded[..., halo:-halo, halo:-halo] + student.residual(padded), target)
            losses.append(loss.item())
            optimiser.learning_rate = cosine_rate(options.learning_rate, iteration / options.iterations)
            optimiser.descend(loss)
            update_average(average, student, options.average_decay)
            progress(iteration + 1, options.iterations, losses[-1])
    return average.requires_grad_(False), loss_curve_summary(losses)
