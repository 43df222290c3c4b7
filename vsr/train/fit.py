"""The one loop that every training goes through, and what it tells, checks and keeps on the way."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import isfinite
from time import monotonic, perf_counter
from typing import ClassVar

from vsr.errors import InterruptedRunError, ModelError
from vsr.models.bank import Distillation
from vsr.train.state_file import Resumable, StateFile

SECONDS_BETWEEN_STATES = 30.0
"""Time that is lost at most where a training is killed."""

IterationProgress = Callable[[int, int, float], None]
"""Called after each iteration with its number from 1, the number of all, and the loss."""


def ignore(*_: object) -> None:
    """Hear of nothing."""


def never() -> bool:
    """Ask for no end."""
    return False


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training of one model or of many."""

    models_done: int
    models: int
    """To train now, without those that are kept."""
    iteration: int
    """Of the model last heard of, from 1."""
    iterations: int
    """Of that model, as planned."""
    share_done: float
    """Of all iterations of all models, 0 to 1."""
    loss: float
    """Of the model last heard of."""
    seconds_left: float
    """Estimate from the time taken so far."""


@dataclass(frozen=True)
class TrainingListener:
    """Who hears of a training while it goes on, and may end it."""

    notify: Callable[[str], None] = ignore
    """Takes a sentence for the user."""
    on_progress: Callable[[TrainingProgress], None] = ignore
    should_stop: Callable[[], bool] = never
    """Asked after each iteration; where it says so, the state is kept and the training ends."""


class ProgressAggregator:
    """Turns the iterations of single models into the progress of them all."""

    def __init__(self, models: int, listener: TrainingListener) -> None:
        self._shares = [0.0] * models
        self._start = perf_counter()
        self._listener = listener

    def update(self, number: int, done: int, total: int, loss: float) -> None:
        """Take in that model `number` has `done` of `total` iterations behind it."""
        self._shares[number] = done / total
        share = sum(self._shares) / len(self._shares)
        seconds = perf_counter() - self._start
        finished = sum(part == 1 for part in self._shares)
        self._listener.on_progress(
            TrainingProgress(
                finished, len(self._shares), done, total, share, loss, seconds / share - seconds
            )
        )


@dataclass(frozen=True)
class TrainingReport:
    """The outcome of a training on a clip."""

    clip: str
    bank: str
    method: str
    shots: int
    """Of the whole clip; 0 where they were not looked for."""
    trained: tuple[str, ...]
    """Names of the models made now."""
    kept: tuple[str, ...]
    """Names of those that were there already."""
    seconds: float
    """Of this call."""
    keyframes: tuple[int, ...] = ()
    """Frame numbers of the keyframes that were trained on."""
    students: dict[str, Distillation] = field(default_factory=dict)
    """By name, those made now, with their distance from their teachers."""

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


class Training(Resumable, ABC):
    """Weights that are being fitted, one iteration after another.

    What an iteration does follows from the state alone, so that a training that was stopped and
    taken up again ends as one in one go.
    """

    kept: ClassVar[tuple[str, ...]] = ("losses",)

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        """As planned; a schedule may end the training before."""
        self.losses: list[float] = []
        """Of each iteration so far."""

    @abstractmethod
    def step(self) -> None:
        """Do one iteration, and add its loss to `losses`."""

    @property
    def iterations_done(self) -> int:
        """Those that a schedule has left out among them."""
        return len(self.losses)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.iterations_done >= self.iterations

    @property
    def has_diverged(self) -> bool:
        """Whether training went astray, from where it does not come back."""
        return not isfinite(self.losses[-1])

    def restore_best(self) -> None:
        """Go back to the best state before training went astray. Raises `ModelError` where none is
        worth keeping."""
        raise ModelError(
            f"training diverged at iteration {len(self.losses)}: its loss is not finite. Try "
            "another --seed or a lower learning rate."
        )


def iterate(
    training: Training,
    states: StateFile | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[float]:
    """Take a training to its end; yields each iteration's loss, and keeps the state now and then.

    Raises `ModelError` where it diverges and nothing is worth keeping, and `InterruptedRunError`,
    with the state kept, where the user asks for an end.
    """
    saved_at = monotonic()
    while not training.is_over:
        training.step()
        # Before anything is told or kept: a state that went astray is worth nothing.
        if training.has_diverged:
            training.restore_best()
            return
        yield training.losses[-1]
        # After the last iteration there is nothing left to stop.
        stops = should_stop() and not training.is_over
        if states is not None and (stops or monotonic() - saved_at > SECONDS_BETWEEN_STATES):
            states.save(training)
            saved_at = monotonic()
        if stops:
            raise InterruptedRunError(
                f"stopped after iteration {training.iterations_done} of {training.iterations}"
                + ("; the training's state is kept" if states is not None else ""),
                can_resume=states is not None,
            )


def resume(training: Training, states: StateFile) -> None:
    """Bring a training to where it was stopped, and tell so. Raises as `StateFile.load` does."""
    if states.load(training):
        states.notify(
            f"resuming {states.output.name} at iteration {training.iterations_done} of "
            f"{training.iterations}"
        )


def fit(
    training: Training,
    progress: IterationProgress = ignore,
    states: StateFile | None = None,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Take a training from its kept state, where there is one, to its end, and report each
    iteration. Raises as `iterate` does."""
    if states is not None:
        resume(training, states)
    total = training.iterations
    for loss in iterate(training, states, should_stop):
        progress(training.iterations_done, total, loss)
    # A schedule, or a divergence with a best state, ends it early: the rest counts as done.
    if training.iterations_done < total and training.losses:
        progress(total, total, training.losses[-1])


def loss_curve_summary(losses: list[float], parts: int = 10) -> tuple[float, ...]:
    """Means over `parts` equal stretches of the curve; fewer where there are fewer iterations, none
    of an empty one."""
    if not losses:
        return ()
    parts = min(parts, len(losses))
    edges = [len(losses) * part // parts for part in range(parts + 1)]
    return tuple(sum(losses[a:b]) / (b - a) for a, b in pairwise(edges))
