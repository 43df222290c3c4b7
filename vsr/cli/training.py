"""Commands that train models, and the one that lists them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vsr.cli.common import Json, number, say


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
    with training_progress() as progress:
        report = learning.train_keyframe(
            clip,
            models,
            count=count,
            shots=shots if shots in ("longest", "all") else number(shots, "--shots"),  # type: ignore[arg-type]
            keyframe=None if keyframe == "auto" else number(keyframe, "--keyframe"),
            seed=seed,
            method=method,
            workers=len(os.sched_getaffinity(0)),
            say=say,
            progress=progress,
        )
    kept = f", {len(report.kept)} kept" if report.kept else ""
    say(f"{len(report.trained)} models trained{kept} in {report.seconds:.0f} s: {report.bank}")
    if json is not None:
        write_json(report.to_json(), json)


def list_models(bank: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")]) -> None:
    """List the models of a bank."""
    from rich.console import Console

    from vsr.report import bank_table

    Console().print(bank_table(bank))


@contextmanager
def training_progress() -> Iterator[Callable[[Any], None]]:
    from vsr.progress import progress_line

    with progress_line() as update:

        def hear(state: Any) -> None:
            update(f"training: {state.models_done} of {state.models} models, loss {state.loss:.4f}", state.share_done)

        yield hear
