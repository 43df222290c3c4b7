"""Commands that train models, and the one that lists them."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.options import DeinterlaceOption, JsonOption, notify, parse_number
from vsr.cli.train import training_listener


def train_keyframe(
    clip: Annotated[str, typer.Argument(help="The video to learn from.")],
    models: Annotated[
        Path, typer.Option("--models", metavar="DIR", help="The folder that takes the models.")
    ],
    count: Annotated[
        int | None, typer.Option(help="Models for each keyframe; default 15, zssr and zssrgan 1.")
    ] = None,
    shots: Annotated[
        str, typer.Option(metavar="longest|all|N", help="Shots to train for.")
    ] = "longest",
    keyframe: Annotated[
        str, typer.Option(metavar="auto|N", help="Frame to train on, from 0.")
    ] = "auto",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first model; later models count up.")
    ] = 0,
    method: Annotated[
        str, typer.Option(help="quick, faithful, pyramid, zssr or zssrgan.")
    ] = "quick",
    full: Annotated[
        bool, typer.Option("--full", help="zssr, zssrgan: the schedule as published.")
    ] = False,
    regime: Annotated[str | None, typer.Option(help="zssrgan: fixed, serial or semi-e2e.")] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|auto", help="quick, zssr, zssrgan: the blur to undo (see vsr kernel)."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the method, as crop_px=96."),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Train with a temporal loss over N frames on each side of the keyframe.",
        ),
    ] = 0,
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="quick: seconds for all models together; default: a fixed number of iterations.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; a GPU trains method quick.")
    ] = "auto",
    deinterlace: DeinterlaceOption = False,
    json: JsonOption = None,
) -> None:
    """Train small models on a keyframe of CLIP. Finished models are kept; the same command
    continues."""
    from vsr.files import check_record, write_json
    from vsr.train import keyframe as learning
    from vsr.train.workers import available_cores
    from vsr.video.reader import ReadOptions

    check_record(json, [clip])
    with training_listener() as listener:
        report = learning.train_keyframe(
            clip,
            models,
            count=count,
            shots=shots if shots in ("longest", "all") else parse_number(shots, "--shots"),  # type: ignore[arg-type]
            keyframe=None if keyframe == "auto" else parse_number(keyframe, "--keyframe"),
            seed=seed,
            method=method,
            full=full,
            regime=regime,
            settings=settings or [],
            kernel=kernel,
            neighbours=neighbours,
            budget_seconds=budget_seconds,
            workers=available_cores(),
            device=device,
            read=ReadOptions(deinterlace=deinterlace),
            listener=listener,
        )
    kept = f", {len(report.kept)} kept" if report.kept else ""
    notify(f"{len(report.trained)} models trained{kept} in {report.seconds:.0f} s: {report.bank}")
    if json is not None:
        write_json(report.to_json(), json)


def distil(
    clip: Annotated[str, typer.Argument(help="The video that the models were trained on.")],
    models: Annotated[
        Path, typer.Option("--models", metavar="DIR", help="The folder of its models.")
    ],
    teacher: Annotated[
        str, typer.Option(help="Policy whose output the student learns to reproduce: avgi.")
    ] = "avgi",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the student.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    deinterlace: DeinterlaceOption = False,
    json: JsonOption = None,
) -> None:
    """Distil the models of each keyframe into one student, which --policy student runs at the cost
    of one model."""
    from vsr.files import check_record, write_json
    from vsr.train import distill as distilling
    from vsr.video.reader import ReadOptions

    check_record(json, [clip])
    # The teachers work for long before the first step.
    with training_listener(estimates=False) as listener:
        report = distilling.distil(
            clip,
            models,
            teacher=teacher,
            seed=seed,
            device=device,
            read=ReadOptions(deinterlace=deinterlace),
            listener=listener,
        )
    kept = f", {len(report.kept)} kept" if report.kept else ""
    notify(f"{len(report.students)} students made{kept} in {report.seconds:.0f} s: {report.bank}")
    if json is not None:
        write_json(report.to_json(), json)


def list_models(
    bank: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")],
) -> None:
    """List the models of a bank."""
    from rich.console import Console

    from vsr.cli.tables import bank_table

    Console().print(bank_table(bank))
