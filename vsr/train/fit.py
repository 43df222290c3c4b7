"""The one loop that every training goes through, and what it tells, checks and keeps on the way."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from time import monotonic, perf_counter
from typing import Any, ClassVar, Protocol

import torch

from vsr.errors import InterruptedRunError, ModelError

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
    """How far a training of one model or of many is."""

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


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """The outcome of a training on a clip; each kind of training adds what is its own."""

    clip: str
    bank: str
    kept: tuple[str, ...]
    """Names of models that were there already."""
    seconds: float
    """Of this call."""

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


class Resumable:
    """An object whose state can be written down and taken up again: what the attributes named in
    `kept` hold."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, which share nothing with the object that changes later."""
        return {name: _state_of(getattr(self, name)) for name in self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of an object that was built alike."""
        for name in self.kept:
            value, saved = getattr(self, name), state[name]
            if isinstance(value, torch.Generator):
                value.set_state(saved)
            elif isinstance(value, torch.Tensor):
                # In place: weights of a network may be views of it.
                value.copy_(saved)
            elif hasattr(value, "load_state_dict"):
                value.load_state_dict(saved)
            else:
                setattr(self, name, saved)


def _state_of(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if hasattr(value, "state_dict"):
        return value.state_dict()
    return value.copy() if isinstance(value, list | dict) else value


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


class StateKeeper(Protocol):
    """Keeps states of a training where they outlive it."""

    def save(self, training: Training) -> None:
        """Keep the state in place of the one before. Raises `OutputError`."""

    def load(self, training: Training) -> None:
        """Bring the training to where the kept state was, where there is one."""


def iterate(
    training: Training,
    states: StateKeeper | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[float]:
    """Take a training to its end; yields each iteration's loss, and keeps the state now and then.

    Raises `ModelError` where it diverges and nothing is worth keeping, and `InterruptedRunError`,
    with the state kept, where the user asks for an end.
    """
    saved_at = monotonic()
    while not training.is_over:
        training.step()
        if training.has_diverged:
            training.restore_best()
            return
        yield training.losses[-1]
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


def fit(
    training: Training,
    progress: IterationProgress = ignore,
    states: StateKeeper | None = None,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Take a training from its kept state, where there is one, to its end, and report each
    iteration. Raises as `iterate` does."""
    if states is not None:
        states.load(training)
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
