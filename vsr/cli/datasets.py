"""Commands that train on folders of pictures: `vsr train` and `vsr experiment`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import JsonOption, notify, training_listener
from vsr.errors import UsageError


def train(
    images: Annotated[
        list[Path],
        typer.Option(
            "--images", metavar="DIR", help="Folder of pictures to learn from; repeatable."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.safetensors", help="The network.")
    ],
    # options of vsr train, by tools/write_signatures.py
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="srcnn, fsrcnn, espcn, srresnet, srgan, esrgan, esrgan-fft, stochastic or shot-"
            "prior.",
        ),
    ] = "fsrcnn",
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation",
            metavar="DIR",
            help="Pictures to validate the network on during training.",
        ),
    ] = None,
    scale: Annotated[int, typer.Option("-s", "--scale", help="Enlargement, 2 to 8.")] = 4,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="FILE",
            help="Start from the weights of this network; its layers may differ (shot-prior: be "
            "narrower).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the training.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Discard the state of a stopped training and start over."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    # end of options
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Option of the method, such as steps=2000 or network.width=32; repeatable.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for curves and validation pictures for TensorBoard."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Train a network on folders of pictures, for vsr run --upscaler. The same command resumes a
    stopped training."""
    given = locals()
    from dataclasses import asdict

    from vsr.files import check_record, strict_json, write_json
    from vsr.records import load_options
    from vsr.train.dataset.training import train_network
    from vsr.train.options import DatasetTraining

    check_record(json, [output])
    options = load_options(DatasetTraining, given=given)
    with training_listener() as listener:
        report = train_network(images, output, options, settings or [], tensorboard, listener)
    notify(
        f"{report.file}: {report.steps} steps on {report.pictures} pictures in "
        f"{report.seconds:.0f} s"
    )
    write_json(strict_json(asdict(report)), json)


def experiment(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE.toml", help="A recipe, such as pipelines/classics.toml."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder that holds the picture folders of the recipe, or its clip.",
        ),
    ],
    models: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the networks; finished ones are reused.")
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Train at the published size: for a GPU.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a setting of every training; repeatable."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep each system's pictures, as for vsr mos sheet --stills."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Reprint a published table. Trains the systems of a recipe and scores them on still pictures,
    or judges how policies choose among the models of a bank."""
    from vsr.evaluate.selection import (
        is_selection_study,
        load_selection_study,
        run_selection_study,
    )
    from vsr.files import check_record, strict_json, write_json
    from vsr.train.dataset.experiment import load_experiment, run_experiment, to_json, to_markdown

    check_record(json, [])
    if is_selection_study(recipe):
        if full or settings:
            raise UsageError("this recipe trains nothing that --full or --set could change.")
        study = load_selection_study(recipe)
        report = run_selection_study(
            study, data, models, device=device, pictures=pictures, notify=notify
        )
        if json != "-":
            print(report.to_markdown())
        write_json(strict_json(report.to_json()), json)
        return
    chosen = load_experiment(recipe)
    with training_listener() as listener:
        rows = run_experiment(
            chosen,
            data,
            models,
            full=full,
            settings=settings or [],
            device=device,
            pictures=pictures,
            listener=listener,
        )
    if json != "-":
        print(to_markdown(chosen, rows))
    write_json(strict_json(to_json(chosen, rows)), json)
