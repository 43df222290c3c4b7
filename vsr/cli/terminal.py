"""The parts that commands share: options, notes, progress, Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vsr.errors import UsageError
from vsr.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from vsr.pipeline.options import Recipe, RunFiles
    from vsr.progress import Listener
    from vsr.train.fit import TrainingListener

EXIT_DEVICE, EXIT_DAMAGED, EXIT_INTERRUPTED = 5, 6, 130
NEWEST_FRAME_VARIABLE = "VSR_NEWEST_FRAME"
"""Environment variable: a folder that a run puts its newest frame into, for whoever watches it."""
SECONDS_BETWEEN_FRAMES = 1.0
NEWEST_WIDTH_PX = 640
CLIPS = ("clip", "result", "low_resolution", "output", "reference")
"""Parameters that name clips, which no record may replace."""

JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the results as JSON; - for standard output."
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE.toml", help="A recipe, such as pipelines/avgi.toml."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable."),
]
OverwriteOption = Annotated[
    bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")
]


def read_options(given: Mapping[str, Any]) -> "tuple[Recipe, RunFiles]":
    """Read what a command was given, its arguments by parameter, and check where it writes."""
    from vsr.files import check_distinct, check_record
    from vsr.pipeline.options import RunFiles, resolve_recipe
    from vsr.records import load_options

    # Before any work: a run of hours must not end at its record.
    records = {f"--{name}": given.get(name) for name in ("json", "report", "profile")}
    if given["output"] == given["json"] == "-":
        raise UsageError(
            "standard output cannot carry both the video and the JSON; give one of them a file."
        )
    check_distinct(records)
    clips = [*(given.get("clips") or ()), *(given.get(name) for name in CLIPS)]
    for record in records.values():
        check_record(record, clips)
    recipe = resolve_recipe(given["recipe"], given["settings"] or [], given)
    return recipe, load_options(RunFiles, given=given)


def exit_if_damaged(damage: list[str]) -> None:
    """Report the damage of the input and leave with the exit code for it."""
    if damage:
        for line in dict.fromkeys(damage):
            notify(f"damaged input: {line}")
        raise typer.Exit(EXIT_DAMAGED)


def notify(line: str) -> None:
    """Print a line for the user on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def counter(verb: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress over frames; yields a function of those done and of their number, or None."""
    from vsr.progress import progress_line

    with progress_line() as update:

        def show(done: int, total: int | None) -> None:
            update(*_frames_done(verb, done, total))

        yield show


@contextmanager
def run_listener(verb: str) -> Iterator["Listener"]:
    """Make the listener of a run: lines and progress on standard error, Ctrl-C as a request to
    stop."""
    with stop_on_signal() as should_stop, progress_listener(verb, should_stop) as listener:
        yield listener


@contextmanager
def progress_listener(verb: str, should_stop: Callable[[], bool]) -> Iterator["Listener"]:
    """Make the listener of one of many runs, which `should_stop` ends together."""
    from vsr.progress import Listener, progress_line

    with progress_line() as update:

        def show(done: int, total: int | None) -> None:
            update(*_frames_done(verb, done, total))

        def wait(text: str, share: float | None) -> None:
            # Its share is not the run's, which the time that is left is told from.
            update(text if share is None else f"{text}, {100 * share:.0f} %", None)

        yield Listener(notify, show, should_stop, _newest_frames(), wait)


def _frames_done(verb: str, done: int, total: int | None) -> tuple[str, float | None]:
    """Tell in words and as a share how many frames are done."""
    of_all = f" of {total}" if total else ""
    return f"{verb}: frame {done}{of_all}", done / total if total else None


def _newest_frames() -> "Callable[[Tensor, Tensor], None]":
    """Make the function that puts the newest frame and its source into the folder that
    `VSR_NEWEST_FRAME` names; without that it does nothing."""
    folder = os.environ.get(NEWEST_FRAME_VARIABLE)
    if not folder:
        return lambda *_: None
    import json
    from time import monotonic

    from vsr.evaluate.images import encode_small
    from vsr.files import write_atomically

    count, last = 0, -SECONDS_BETWEEN_FRAMES

    def show(source: "Tensor", result: "Tensor") -> None:
        nonlocal count, last
        count += 1
        if monotonic() - last < SECONDS_BETWEEN_FRAMES:
            return
        last = monotonic()
        # What watches a run must not end it.
        with suppress(OSError):
            for name, pixels in (("source", source), ("result", result)):
                picture = encode_small(pixels, NEWEST_WIDTH_PX)
                write_atomically(Path(folder, f"{name}.webp"), picture)
            write_atomically(Path(folder, "newest.json"), json.dumps(count).encode())

    return show


@contextmanager
def training_listener(verb: str = "training", has_eta: bool = True) -> Iterator["TrainingListener"]:
    """Make the listener of a training, as `run_listener` does of a run; the time left is shown
    where it can be estimated."""
    from vsr.progress import progress_line
    from vsr.train.fit import TrainingListener, TrainingProgress

    with progress_line() as update, stop_on_signal("iteration") as should_stop:

        def show(state: TrainingProgress) -> None:
            done = f"{state.models_done} of {state.models} models"
            if state.models == 1:
                done = f"step {state.iteration} of {state.iterations}"
            share = state.share_done if has_eta else None
            update(f"{verb}: {done}, loss {state.loss:.4f}", share)

        yield TrainingListener(notify, show, should_stop)


@contextmanager
def stop_on_signal(unit: str = "frame") -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM ask for an end, and the second end at once.

    Yields a function that tells whether an end was asked for. The second raises KeyboardInterrupt.
    """
    asked = False

    def ask(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True
        # The next one is Python's own, which ends at once.
        for number in before:
            signal.signal(number, signal.default_int_handler)
        notify(f"vsr: stopping after the current {unit}; interrupt again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
