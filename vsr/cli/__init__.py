"""The command line: each command parses, calls one function, prints. Heavy imports wait until a
command needs them."""

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import typer
from typer.core import TyperGroup

from vsr.cli.cache import cache
from vsr.cli.datasets import experiment, train
from vsr.cli.doctor import doctor
from vsr.cli.export import export
from vsr.cli.inspect import inspect
from vsr.cli.models import list_models, upscalers
from vsr.cli.mos import mos
from vsr.cli.preview import preview
from vsr.cli.run import plan, run
from vsr.cli.score import score
from vsr.cli.steady import steady
from vsr.cli.terminal import EXIT_INTERRUPTED, notify
from vsr.cli.training import distil, kernel, train_keyframe, train_shot
from vsr.cli.ui import ui
from vsr.cli.weights import weights
from vsr.errors import InterruptedRunError, UsageError, VsrError

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Settings of glibc's allocator, as in its malloc.h."""

_COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Begin here": {"run": run, "preview": preview, "score": score},
    "Make": {"plan": plan, "steady": steady, "ui": ui, "export": export},
    "Measure": {"mos": mos},
    "Look": {
        "inspect": inspect,
        "models": list_models,
        "upscalers": upscalers,
        "weights": weights,
        "cache": cache,
        "doctor": doctor,
    },
    "Train": {
        "train-shot": train_shot,
        "train-keyframe": train_keyframe,
        "distil": distil,
        "kernel": kernel,
        "train": train,
        "experiment": experiment,
    },
}
"""By heading of `vsr --help`; the commands that matter most come first."""
RESUMABLE_COMMANDS = {"run", "steady", *_COMMANDS["Train"]} - {"kernel"}
"""Commands that continue the work of an earlier one."""


class CommandsByPurpose(TyperGroup):
    """Commands under headings, as rich would print them: rich doubles the start-up time."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the headings of `--help`, and under each its commands."""
        # One width for all, so that the sections stand in one column.
        widest = max(map(len, self.commands))
        room = formatter.width - 6 - widest
        for heading, names in _COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name.ljust(widest), self.commands[name].get_short_help_str(room))
                        for name in names
                    ]
                )


app = typer.Typer(
    cls=CommandsByPurpose,
    help="Upscale videos with small models trained on the video itself, with flicker control.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in chain.from_iterable(group.items() for group in _COMMANDS.values()):
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def main() -> None:
    """Run the command line; the only place where failures become exit codes."""
    # Read when torch is loaded: by default its threads spin while they wait, which on a busy
    # machine takes the cores from the very threads that are waited for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Typer turns Ctrl-C and its own Exit into the code that it returns here.
        code = app(standalone_mode=False) or 0
    except VsrError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            # The one who closed a pipe knows.
            notify(f"vsr: {error}")
        if isinstance(error, InterruptedRunError) and error.can_resume:
            notify(f"vsr: resume with: {resume_command(sys.argv)}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has left. Python would complain once more when it flushes
        # standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UsageError.exit_code)
    except Exception as error:
        if _is_usage_error(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(UsageError.exit_code)
        raise
    if code == EXIT_INTERRUPTED:
        notify("vsr: interrupted; no partial output was left behind.")
        if sys.argv[1:2] and sys.argv[1] in RESUMABLE_COMMANDS:
            notify(f"vsr: finished work is kept; resume with: {resume_command(sys.argv)}")
    sys.exit(code)


def resume_command(arguments: Sequence[str]) -> str:
    """Write the command line that continues the work of this one, for a shell."""
    return shlex.join(["vsr", *(word for word in arguments[1:] if word != "--restart")])


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next frame; elsewhere nothing happens.

    By default large blocks go back to the system at once and come again as fresh pages, each with a
    fault: at 2160p a quarter of the processor's time, for no less memory at the peak. All threads
    share one heap, so that what one has freed serves the others: frames pass from one to the next.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def _is_usage_error(error: Exception) -> bool:
    """Tell whether typer refused the arguments; its exception types are not public."""
    return hasattr(error, "show") and getattr(error, "exit_code", None) == UsageError.exit_code
