"""Progress on standard error: a bar on a terminal, else a line every few seconds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

SECONDS_BETWEEN_LINES = 5.0
LEAST_SHARE = 0.02
"""Before this much is done, what it took says little about the rest: getting ready is counted in."""

Update = Callable[[str, float | None], None]
"""Told what is going on and the share done, 0 to 1, or None where the whole is unknown."""


@contextmanager
def progress_line() -> Iterator[Update]:
    """Shows the updates that it yields a function for."""
    show = _on_terminal if sys.stderr.isatty() else _in_lines
    with show() as update:
        yield update


@contextmanager
def _on_terminal() -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(text: str, share: float | None) -> None:
            bar.update(task, description=text, total=None if share is None else 1.0, completed=share or 0.0)

        yield update


@contextmanager
def _in_lines() -> Iterator[Update]:
    start = monotonic()
    last = start

    def update(text: str, share: float | None) -> None:
        nonlocal last
        now = monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = f", {in_words((now - start) * (1 - share) / share)} left" if share and share >= LEAST_SHARE else ""
        print(text + left, file=sys.stderr, flush=True)

    yield update


def in_words(seconds: float) -> str:
    """A time as people say it, to the unit that matters."""
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"


def _ignore(*_: object) -> None:
    """What is said to nobody."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Listener:
    """Who hears of a run while it goes on."""

    say: Callable[[str], None] = _ignore
    """A sentence for the user."""
    advance: Callable[[int, int | None], None] = _ignore
    """Frames done, and how many there should be where the header says."""
    is_stopping: Callable[[], bool] = _never
    """Whether the run is to end after the frame in hand, with its work kept."""
