"""The command line: each command parses, calls one function, prints. Heavy imports wait until a command needs them."""

import os
import signal
import sys

import typer

from vsr.cli.common import EXIT_INTERRUPTED, say
from vsr.cli.mos import mos
from vsr.cli.running import run
from vsr.cli.scoring import score
from vsr.cli.shot import train_shot
from vsr.cli.steady import steady
from vsr.cli.training import distil, list_models, train_keyframe
from vsr.cli.weights import weights
from vsr.errors import UsageError, VsrError

app = typer.Typer(
    help="Upscale a video with small models trained on the video itself, keep it steady, and say how much it flickers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
)

app.command()(run)
app.command("train-keyframe")(train_keyframe)
app.command("train-shot")(train_shot)
app.command()(distil)
app.command()(steady)
app.command()(score)
app.add_typer(mos, name="mos")
app.command("models")(list_models)
app.add_typer(weights, name="weights")


def main() -> None:
    """Run the command line; the only place where failures become exit codes."""
    # Read when torch is loaded: by default its threads spin while they wait, which on a busy machine takes the cores
    # from the very threads that are waited for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Typer turns Ctrl-C and its own Exit into the code that it returns here.
        code = app(standalone_mode=False) or 0
    except VsrError as error:
        say(f"vsr: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left. Python would complain once more when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UsageError.exit_code)
    except Exception as error:
        if _is_usage_error(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(UsageError.exit_code)
        raise
    if code == EXIT_INTERRUPTED:
        say("vsr: interrupted; nothing unfinished was left behind.")
    sys.exit(code)


def _is_usage_error(error: Exception) -> bool:
    """Whether typer refused the arguments; its exception types are not public."""
    return hasattr(error, "show") and getattr(error, "exit_code", None) == UsageError.exit_code
