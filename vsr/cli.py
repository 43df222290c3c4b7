"""The command line: each command parses, calls one function, prints. Heavy imports wait until a command needs them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vsr.errors import UsageError, VsrError

EXIT_DAMAGED = 6
EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="Upscale a video with small models trained on the video itself, keep it steady, and say how much it flickers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
)

Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the record as JSON; - for stdout.")]
Models = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", readable=False, help="The bank: a folder of models.")
]


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
        _say(f"vsr: {error}")
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
        _say("vsr: interrupted; nothing unfinished was left behind.")
    sys.exit(code)


@app.command()
def run(
    clip: Annotated[str, typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="smi, dsrfi, selfrec, ami, avgi, bicubic or lanczos.")] = None,
    models: Models = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Any number from 1.")] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B", help="Scored before encoding; an empty text: none.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="TRUTH", help="The clip at the output's size.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    codec: Annotated[
        str | None, typer.Option("-c", "--codec", help="auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME.")
    ] = None,
    crf: Annotated[float | None, typer.Option(help="Quality of the encoding; lower is better.")] = None,
    preset: Annotated[str | None, typer.Option(help="Speed of the encoder, by its own words.")] = None,
    pixel_format: Annotated[str | None, typer.Option("--pix-fmt", help="Default: like the input.")] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")] = False,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="A recipe, such as pipelines/avgi.toml.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")] = None,
    json: Json = None,
) -> None:
    """Upscale CLIP, with every timestamp and stream kept, and print how much it flickers."""
    from vsr import pipeline
    from vsr.api import command_recipe
    from vsr.manifest import check_record, write_json
    from vsr.report import print_comparison, print_run

    if output == json == "-":
        raise UsageError("standard output cannot carry both the video and the JSON; give one of them a file.")
    check_record(json, [clip, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        policy,
        scale,
        None if metrics is None else _names(metrics),
        device,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pixel_format,
    )
    with _frame_progress("upscaling") as advance:
        listener = pipeline.Listener(_say, advance)
        if chosen.compare:
            if output is not None or reference is None:
                raise UsageError("a recipe that compares policies needs --reference TRUTH and writes no -o OUT.")
            compared = pipeline.compare(clip, recipe=chosen, models=models, reference=reference, listener=listener)
        else:
            manifest = pipeline.run(
                clip,
                output,
                recipe=chosen,
                models=models,
                reference=reference,
                overwrite=overwrite,
                listener=listener,
            )
            compared = [manifest]
    if chosen.compare:
        print_comparison(compared)
    else:
        print_run(compared[0])
    if json is not None:
        bodies = [manifest.to_json() for manifest in compared]
        write_json(bodies[0] if not chosen.compare else "[" + ",\n".join(bodies) + "]", json)
    _leave_damaged([line for manifest in compared for line in manifest.damage])


@app.command("train-keyframe")
def train_keyframe(
    clip: Annotated[str, typer.Argument(help="The video to learn from.")],
    models: Annotated[Path, typer.Option("--models", metavar="DIR", help="The folder that takes the models.")],
    count: Annotated[int, typer.Option(help="Models for each keyframe.")] = 15,
    shots: Annotated[str, typer.Option(metavar="longest|all|N", help="Shots to train for.")] = "longest",
    keyframe: Annotated[str, typer.Option(metavar="auto|N", help="Frame to train on, from 0.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the first model; the next has the next.")] = 0,
    method: Annotated[str, typer.Option(help="quick, faithful or pyramid.")] = "quick",
    json: Json = None,
) -> None:
    """Train small models on a keyframe of CLIP. Finished models are kept; the same command continues."""
    from vsr import learning
    from vsr.manifest import check_record, write_json

    check_record(json, [clip])
    with _training_progress() as progress:
        report = learning.train_keyframe(
            clip,
            models,
            count=count,
            shots=shots if shots in ("longest", "all") else _number(shots, "--shots"),  # type: ignore[arg-type]
            keyframe=None if keyframe == "auto" else _number(keyframe, "--keyframe"),
            seed=seed,
            method=method,
            workers=len(os.sched_getaffinity(0)),
            say=_say,
            progress=progress,
        )
    kept = f", {len(report.kept)} kept" if report.kept else ""
    _say(f"{len(report.trained)} models trained{kept} in {report.seconds:.0f} s: {report.bank}")
    if json is not None:
        write_json(report.to_json(), json)


@app.command()
def score(
    results: Annotated[list[str], typer.Argument(metavar="RESULT...", help="Videos to score.")],
    reference: Annotated[str | None, typer.Option(metavar="TRUTH", help="What they should look like.")] = None,
    low_resolution: Annotated[str | None, typer.Option(metavar="LR", help="What they were made from.")] = None,
    metrics: Annotated[str | None, typer.Option(metavar="A,B", help="Default: all that can be computed.")] = None,
    border: Annotated[int, typer.Option(metavar="PX", help="Pixels left off at each side.")] = 0,
    json: Json = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="One row per frame.")] = None,
) -> None:
    """Score videos against a truth or their input: quality, sharpness and flicker, frame by frame."""
    from rich.console import Console

    from vsr import scoring
    from vsr.manifest import check_record, strict_json, write_json

    for record in (json, csv):
        check_record(record, [*results, reference, low_resolution])
    with _frame_progress("scoring") as advance:
        scores = scoring.score(
            results,
            reference=reference,
            low_resolution=low_resolution,
            metrics=None if metrics is None else _names(metrics),
            border=border,
            progress=lambda _, done: advance(done, None),
        )
    for clip in scores.results:
        for note in clip.notes:
            _say(note)
    if csv is not None:
        scoring.write_csv(scores, csv)
    if json is not None:
        write_json(strict_json(scores.to_json()), json)
    if json != "-":
        Console().print(scoring.score_table(scores))
    _leave_damaged([str(line) for clip in scores.results for line in clip.damage])


@app.command("models")
def list_models(bank: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")]) -> None:
    """List the models of a bank."""
    from rich.console import Console

    from vsr.report import bank_table

    Console().print(bank_table(bank))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _number(text: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{option} is {text}; expected a word it knows or a number from 0.")
    return int(text)


def _leave_damaged(damage: list[str]) -> None:
    if damage:
        for line in dict.fromkeys(damage):
            _say(f"damaged input: {line}")
        raise typer.Exit(EXIT_DAMAGED)


def _say(line: str) -> None:
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr, flush=True)


def _is_usage_error(error: Exception) -> bool:
    """Whether typer refused the arguments; its exception types are not public."""
    return hasattr(error, "show") and getattr(error, "exit_code", None) == UsageError.exit_code


@contextmanager
def _frame_progress(verb: str) -> Iterator[Callable[[int, int | None], None]]:
    from vsr.progress import progress_line

    with progress_line() as update:

        def advance(done: int, total: int | None) -> None:
            of_all = f" of {total}" if total else ""
            update(f"{verb}: frame {done}{of_all}", done / total if total else None)

        yield advance


@contextmanager
def _training_progress() -> Iterator[Callable[[Any], None]]:
    from vsr.progress import progress_line

    with progress_line() as update:

        def hear(state: Any) -> None:
            update(f"training: {state.models_done} of {state.models} models, loss {state.loss:.4f}", state.share_done)

        yield hear
