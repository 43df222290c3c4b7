"""Ctrl-C and SIGTERM while frames are made: the first asks for an end, the second ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from vsr.cli.options import say

WorkDir = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Where the work of an unfinished run is kept; default: hidden, beside the output."
    ),
]
KeepWork = Annotated[bool, typer.Option("--keep-work", help="Keep the work of a finished run as well.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Throw away the work of an unfinished run and begin at the first frame.")
]


@contextmanager
def stopping_on_request() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether an end was asked for. A second request raises KeyboardInterrupt."""
    asked = False

    def ask(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for number in before:
            signal.signal(number, signal.default_int_handler)
        say("vsr: stopping after the frame in hand; once more stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
