"""Ctrl-C and SIGTERM while frames are made: the first asks for an end, the second ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from vsr.cli.options import notify

WorkDirOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder for the unfinished segments; default: a hidden folder beside the output.",
    ),
]
KeepWorkOption = Annotated[
    bool, typer.Option("--keep-work", help="Keep the segments after the run has finished.")
]
RestartOption = Annotated[
    bool,
    typer.Option("--restart", help="Discard the unfinished segments and start at the first frame."),
]


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether an end was asked for. A second request raises KeyboardInterrupt."""
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
