"""`vsr train-shot`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.options import DeinterlaceOption, JsonOption, notify, parse_number
from vsr.cli.train import training_listener


def train_shot(
    clip: Annotated[str, typer.Argument(help="The video to learn from.")],
    models: Annotated[
        Path, typer.Option("--models", metavar="DIR", help="The folder that takes the models.")
    ],
    shots: Annotated[
        str, typer.Option(metavar="longest|all|N", help="Shots to train for.")
    ] = "longest",
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Seconds for each model; default: a fixed number of iterations."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    deinterlace: DeinterlaceOption = False,
    json: JsonOption = None,
) -> None:
    """Train the shot model of CLIP's shots, which --policy shot applies. Finished models are
    kept."""
    from vsr.files import check_record, write_json
    from vsr.train import shot as shot_learning
    from vsr.video.reader import ReadOptions

    check_record(json, [clip])
    with training_listener() as listener:
        report = shot_learning.train_shot(
            clip,
            models,
            shots=shots if shots in ("longest", "all") else parse_number(shots, "--shots"),  # type: ignore[arg-type]
            budget_seconds=budget_seconds,
            seed=seed,
            device=device,
            read=ReadOptions(deinterlace=deinterlace),
            listener=listener,
        )
    notify(f"{len(report.trained)} shot models trained in {report.seconds:.0f} s: {report.bank}")
    if json is not None:
        write_json(report.to_json(), json)
