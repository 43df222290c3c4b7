"""The command line: each command parses, calls one function, prints. Heavy imports wait until a
command needs them."""

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Sequence

import typer

from vsr.cli.kernel import kernel
from vsr.cli.mos import mos
from vsr.cli.options import EXIT_INTERRUPTED, notify
from vsr.cli.plan import doctor
from vsr.cli.run import plan, run
from vsr.cli.score import score
from vsr.cli.steady import steady
from vsr.cli.train import experiment, train
from vsr.cli.train_keyframe import distil, list_models, train_keyframe
from vsr.cli.train_shot import train_shot
from vsr.cli.upscalers import upscalers
from vsr.cli.weights import weights
from vsr.errors import InterruptedRunError, UsageError, VsrError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of settings of glibc's allocator, as in its malloc.h."""

app = typer.Typer(
    help=(
        "Upscale videos with small models trained on the video itself, with flicker control "
        "and flicker metrics."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
)

app.command()(run)
app.command("train-keyframe")(train_keyframe)
app.command("train-shot")(train_shot)
app.command()(train)
app.command()(experiment)
app.command()(kernel)
app.command()(distil)
app.command()(steady)
app.command()(score)
app.add_typer(mos, name="mos")
app.command("models")(list_models)
app.command()(upscalers)
app.add_typer(weights, name="weights")
app.command("plan")(plan)
app.command()(doctor)


RESUMABLE_COMMANDS = (
    "run",
    "steady",
    "train-keyframe",
    "train-shot",
    "distil",
    "train",
    "experiment",
)
"""Commands that find what an earlier one left."""


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
            # Whoever closed a pipe knows.
            notify(f"vsr: {error}")
        if isinstance(error, InterruptedRunError) and error.can_resume:
            notify(f"vsr: resume with: {resume_command(sys.argv)}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left. Python would complain once more when it flushes standard
        # output.
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
    """The command line that goes on with what this one began, for a shell."""
    return shlex.join(["vsr", *(word for word in arguments[1:] if word != "--restart")])


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next frame; elsewhere nothing happens.

    By default large blocks go back to the system at once and come again as fresh pages, each with a
    fault: at 2160p a quarter of the processor's time, for no less memory at the peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def _is_usage_error(error: Exception) -> bool:
    """Whether typer refused the arguments; its exception types are not public."""
    return hasattr(error, "show") and getattr(error, "exit_code", None) == UsageError.exit_code
