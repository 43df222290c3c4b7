"""The loop of every training: reports, checks for divergence, and states for resume."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import isfinite
from time import monotonic, perf_counter
from typing import ClassVar

from vsr.errors import InterruptedRunError, ModelError
from vsr.files import strict_json
from vsr.models.bank import Distillation
from vsr.progress import ignore, never
from vsr.train.state_file import Resumable, StateFile

SECONDS_BETWEEN_STATES = 30.0
"""Time that is lost at most where a training is killed."""

IterationProgress = Callable[[int, int, float], None]
"""Called after each iteration with its number from 1, the number of all, and the loss."""


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training of one model or of many."""

    models_done: int
    models: int
    """Number of models to train now, without those that are kept."""
    iteration: int
    """Iteration of the model that reported last, from 1."""
    iterations: int
    """Planned iterations of that model."""
    share_done: float
    """Share of all iterations of all models that are done, 0 to 1."""
    loss: float
    """Loss of the model that reported last."""
    seconds_left: float
    """Estimate from the time taken so far."""


@dataclass(frozen=True)
class TrainingListener:
    """Callbacks of a training: notes, progress, and requests to stop."""

    notify: Callable[[str], None] = ignore
    """Takes a sentence for the user."""
    on_progress: Callable[[TrainingProgress], None] = ignore
    should_stop: Callable[[], bool] = never
    """Called after each iteration; if it returns True, the state is saved and the training
    stops."""


class ProgressAggregator:
    """Turns the iterations of single models into the progress of them all."""

    def __init__(self, models: int, listener: TrainingListener) -> None:
        self._shares = [0.0] * models
        self._start = perf_counter()
        self._listener = listener

    def update(self, number: int, done: int, total: int, loss: float) -> None:
        """Record that model `number` has done `done` of `total` iterations."""
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
    """Number of shots in the whole clip; 0 where they were not looked for."""
    trained: tuple[str, ...]
    """Names of the models made now."""
    kept: tuple[str, ...]
    """Names of those that were there already."""
    seconds: float
    """Duration of this call."""
    keyframes: tuple[int, ...] = ()
    """Frame numbers of the keyframes that were trained on."""
    students: dict[str, Distillation] = field(default_factory=dict)
    """Students made now, by name, with their distance from their teachers."""

    def to_json(self) -> str:
        """Strict JSON."""
        return strict_json(asdict(self))


class Training(Resumable, ABC):
    """Weights that are being fitted, one iteration after another.

    An iteration depends on the state alone, so that a resumed training ends exactly like an
    uninterrupted one.
    """

    kept: ClassVar[tuple[str, ...]] = ("losses",)

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        """Planned iterations; a schedule may end the training earlier."""
        self.losses: list[float] = []
        """Loss of each iteration so far."""

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
        """Whether training has diverged beyond recovery."""
        return not isfinite(self.losses[-1])

    def restore_best(self) -> None:
        """Restore the best state before the divergence. Raises `ModelError` if none is usable."""
        raise ModelError(
            f"training diverged at iteration {len(self.losses)}: its loss is not finite. Try "
            "another --seed or a lower learning rate."
        )


def iterate(
    training: Training,
    states: StateFile | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[float]:
    """Run a training to its end; yields each iteration's loss, and saves the state now and then.

    Raises `ModelError` if it diverges with no usable state, and `InterruptedRunError`, with the
    state saved, if the user asks to stop.
    """
    saved_at = monotonic()
    while not training.is_over:
        training.step()
        # Before anything is reported or saved: a diverged state is worthless.
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
    """Restore the state of a stopped training, with a note. Raises as `StateFile.load` does."""
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
    """Run a training to its end, from its saved state if there is one, and report each iteration.
    Raises as `iterate` does."""
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
