"""A number of iterations for each model, so that a whole bank is trained in a given time."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from math import floor
from pathlib import Path
from time import perf_counter

import torch

from vsr.engine.tiling import single_thread
from vsr.errors import UsageError
from vsr.models.bank import bank_files, load_card
from vsr.train.methods.method import BatchedMethod, Method
from vsr.train.methods.quick import QuickOptions
from vsr.train.methods.together import REPORT_EVERY
from vsr.train.workers import CPU

SETUP_SECONDS = 8.0
"""Until the processes of a training have loaded what they need."""
TRIAL_ITERATIONS = 24
SAFETY = 0.85
"""Share of the time that is planned for: cores that all work are slower than one that works
alone."""
ROUND_TO = 50
MIN_ITERATIONS = 100


def iterations_for_budget(
    seconds: float,
    models: int,
    workers: int,
    method: Method,
    keyframe: torch.Tensor,
    bank: Path,
    keyframe_hash: str,
    device: torch.device = CPU,
) -> int:
    """Plan how many iterations each of `models` models may have; those that were begun within such
    a budget before keep their number.

    Raises `UsageError` for another method than `quick`, or where the time does not suffice.
    """
    if not isinstance(method.options, QuickOptions):
        raise UsageError(
            "--budget-seconds is only for method quick; the other methods have fixed schedules."
        )
    # A bank that was begun keeps its number, or its models could not be used together.
    if (known := _earlier_iterations(bank, keyframe_hash)) is not None:
        return known
    # Models are spread over the cores, so the last round may leave some idle.
    at_once = min(workers, models)
    if (
        device != CPU
        and method.batched is not None
        and method.batched.can_train(keyframe, method.options)
    ):
        rounds, each = (
            1,
            seconds_per_batched_iteration(method, method.batched, keyframe, models, device),
        )
    else:
        rounds, each = -(-models // at_once), seconds_per_iteration(method, keyframe)
    # Rounded down: models of one budget and machine should bear one name.
    iterations = floor(SAFETY * (seconds - SETUP_SECONDS) / rounds / each / ROUND_TO) * ROUND_TO
    if iterations < MIN_ITERATIONS:
        needed = SETUP_SECONDS + MIN_ITERATIONS * each * rounds / SAFETY
        raise UsageError(
            f"--budget-seconds is {seconds:g}; {models} models need about {needed:.0f} on "
            f"{at_once} cores. Ask for more time or for fewer models with --count."
        )
    return iterations


def budget_label(iterations: int) -> str:
    """Name of a number of iterations, as models bear it."""
    return f"{iterations}it"


def _earlier_iterations(bank: Path, keyframe_hash: str) -> int | None:
    """The number of iterations of models of this keyframe that a budget was given for."""
    for path in bank_files(bank) if bank.is_dir() else ():
        card = load_card(path)
        # Only a budget puts the number of iterations into a recipe's name.
        found = re.search(r"-(\d+)it(-|$)", card.recipe)
        if card.keyframe_hash == keyframe_hash and found:
            return int(found[1])
    return None


def seconds_per_iteration(method: Method, keyframe: torch.Tensor) -> float:
    """Time a short training of the same parts, without its first iterations, in which torch makes
    itself ready."""
    ends: list[float] = []
    with single_thread():
        # Short, but with both parts of the recipe: their iterations cost differently.
        options = replace(method.options, iterations=TRIAL_ITERATIONS)
        method.train(keyframe, options, 0, lambda *_: ends.append(perf_counter()))
    return _mean_seconds(ends)


def seconds_per_batched_iteration(
    method: Method,
    batched: BatchedMethod,
    keyframe: torch.Tensor,
    models: int,
    device: torch.device,
) -> float:
    """Time an iteration of all models as one job, without those before its first report."""
    options = replace(method.options, iterations=TRIAL_ITERATIONS)
    ends: list[float] = []
    deque(
        batched.train(
            keyframe, options, range(models), device, lambda *_: ends.append(perf_counter())
        ),
        maxlen=0,
    )
    return (ends[-1] - ends[0]) / (TRIAL_ITERATIONS - REPORT_EVERY)


def _mean_seconds(ends: Sequence[float]) -> float:
    # Torch chooses its kernels in the first iterations.
    first = len(ends) // 4
    return (ends[-1] - ends[first]) / (len(ends) - 1 - first)
