"""What the commands share: options, words to the user, progress."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from vsr.errors import UsageError
from vsr.text import printable

EXIT_DAMAGED = 6
EXIT_INTERRUPTED = 130

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the record as JSON; - for stdout."),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option("--models", metavar="DIR", readable=False, help="The bank: a folder of models."),
]
DeinterlaceOption = Annotated[
    bool, typer.Option("--deinterlace", help="Deinterlace before training.")
]


def split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_number(text: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(
            f"{option} is {text}; expected a number from 0 or one of the words in --help."
        )
    return int(text)


def exit_if_damaged(damage: list[str]) -> None:
    if damage:
        for line in dict.fromkeys(damage):
            notify(f"damaged input: {line}")
        raise typer.Exit(EXIT_DAMAGED)


def notify(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def frame_progress(verb: str) -> Iterator[Callable[[int, int | None], None]]:
    from vsr.progress import progress_line

    with progress_line() as update:

        def on_progress(done: int, total: int | None) -> None:
            of_all = f" of {total}" if total else ""
            update(f"{verb}: frame {done}{of_all}", done / total if total else None)

        yield on_progress
