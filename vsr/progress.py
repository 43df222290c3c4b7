"""Progress on standard error: a bar on a terminal, else a line every few seconds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

SECONDS_BETWEEN_LINES = 5.0
MIN_SHARE_FOR_ETA = 0.02
"""Share before which no time is predicted: the start of a run says little about the rest."""

ProgressCallback = Callable[[str, float | None], None]
"""Takes a line of text and the share done, 0 to 1, or None where the whole is unknown."""

FrameProgress = Callable[[int, int | None], None]
"""Takes the number of frames done and of all frames, or None where the header does not say."""


@contextmanager
def progress_line() -> Iterator[ProgressCallback]:
    """Show progress as a bar or as lines; yields the function that takes it."""
    show = _progress_bar if sys.stderr.isatty() else _progress_lines
    with show() as update:
        yield update


@contextmanager
def _progress_bar() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(text: str, share: float | None) -> None:
            bar.update(
                task, description=text, total=None if share is None else 1.0, completed=share or 0.0
            )

        yield update


@contextmanager
def _progress_lines() -> Iterator[ProgressCallback]:
    last = monotonic()
    # Time and share of the first news: what was waited for before, or done by an earlier run, says
    # nothing of the rest.
    begun: tuple[float, float] | None = None

    def update(text: str, share: float | None) -> None:
        nonlocal last, begun
        now = monotonic()
        if begun is None and share is not None:
            begun = now, share
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = ""
        if begun is not None and share is not None and share - begun[1] >= MIN_SHARE_FOR_ETA:
            seconds = (now - begun[0]) * (1 - share) / (share - begun[1])
            left = f", {format_duration(seconds)} left"
        print(text + left, file=sys.stderr, flush=True)

    yield update


def format_duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours; a few minutes with their seconds, by tens."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 600:
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def ignore(*_: object) -> None:
    """Ignore a message that nobody listens to."""


def never() -> bool:
    """Ask for no end."""
    return False


@dataclass(frozen=True)
class Listener:
    """Listener to a run in progress."""

    notify: Callable[[str], None] = ignore
    """Takes a sentence for the user."""
    on_progress: FrameProgress = ignore
    """Takes the frames done, and their number where the header tells it."""
    should_stop: Callable[[], bool] = never
    """Tells whether the run is to end after the current frame, with its work kept."""
    on_frame: Callable[[Any, Any], None] = ignore
    """Takes the pixels of each frame, as tensors, and of its result once that is written."""
    on_wait: ProgressCallback = ignore
    """Takes what a run waits for before its next frame, and the share of it that is done."""

    def expecting(self, frames: int | None) -> "Listener":
        """Make one that hears of this number of frames where a clip's header tells none."""

        def on_progress(done: int, total: int | None) -> None:
            self.on_progress(done, frames if total is None else total)

        return replace(self, on_progress=on_progress)
