"""The parts that commands share: options, words to the user, progress, Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vsr.errors import UsageError
from vsr.text import printable

if TYPE_CHECKING:
    from vsr.pipeline.options import Recipe, RunFiles
    from vsr.progress import Listener

EXIT_DEVICE, EXIT_DAMAGED, EXIT_INTERRUPTED = 5, 6, 130
CLIPS = ("clip", "result", "low_resolution", "output", "reference")
"""Parameters that name clips, which no record may replace."""

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the record as JSON; - for stdout."),
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

    records = {f"--{name}": given.get(name) for name in ("json", "report", "profile")}
    if given["output"] == given["json"] == "-":
        raise UsageError(
            "standard output cannot carry both the video and the JSON; give one of them a file."
        )
    check_distinct(records)
    for record in records.values():
        check_record(record, [given.get(name) for name in CLIPS])
    recipe = resolve_recipe(given["recipe"], given["settings"] or [], given)
    return recipe, load_options(RunFiles, given=given)


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Read "a, b"; None, where nothing was given, stays None."""
    return None if text is None else tuple(filter(None, map(str.strip, text.split(","))))


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
def counter(verb: str, unit: str = "frame", has_eta: bool = True) -> Iterator[Callable[..., None]]:
    """Show progress; yields a function of the units done, of how many or None, and of a loss."""
    from vsr.progress import progress_line

    with progress_line() as update:

        def show(done: int, total: int | None, loss: float | None = None) -> None:
            of_all = f" of {total}" if total else ""
            figure = "" if loss is None else f", loss {loss:.4f}"
            update(
                f"{verb}: {unit} {done}{of_all}{figure}",
                done / total if total and has_eta else None,
            )

        yield show


@contextmanager
def run_listener(verb: str) -> Iterator["Listener"]:
    """Make the listener of a run: lines and progress on standard error, Ctrl-C as a request to
    stop."""
    from vsr.progress import Listener

    with counter(verb) as on_progress, stop_on_signal() as should_stop:
        yield Listener(notify, on_progress, should_stop)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM ask for an end, and the second end at once.

    Yields a function that tells whether an end was asked for. The second raises KeyboardInterrupt.
    """
    asked = False

    def ask(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for number in before:
            signal.signal(number, signal.default_int_handler)
        notify("vsr: stopping after the current frame; interrupt again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
