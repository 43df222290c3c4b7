"""`vsr train` and `vsr experiment`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.options import JsonOption, notify
from vsr.cli.signals import stop_on_signal

if TYPE_CHECKING:
    from vsr.train.fit import TrainingListener


def train(
    images: Annotated[
        list[Path],
        typer.Option("--images", metavar="DIR", help="Pictures to learn from; may be given again."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.safetensors", help="The network.")
    ],
    method: Annotated[
        str, typer.Option(help="srcnn, fsrcnn, espcn, srresnet, srgan, esrgan or stochastic.")
    ] = "fsrcnn",
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation", metavar="DIR", help="Pictures to judge the network on as it learns."
        ),
    ] = None,
    scale: Annotated[int, typer.Option("-s", "--scale", min=2, max=8)] = 4,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Such as steps=2000, network.width=32, losses.fft_weight=0.3.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A network whose weights are the first; layers may differ."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Takes curves and validation pictures for TensorBoard."),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Discard the state of a stopped training of this output."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Train a network on a folder of pictures, for `vsr run --upscaler`. A stopped training goes on
    by itself."""
    from dataclasses import asdict

    from vsr.files import check_record, strict_json, write_json
    from vsr.train import dataset as external

    check_record(json, [output])
    with training_listener() as listener:
        report = external.train(
            images,
            output,
            method=method,
            scale=scale,
            settings=settings or [],
            validation=validation,
            start=start,
            seed=seed,
            device=device,
            restart=restart,
            overwrite=overwrite,
            tensorboard=tensorboard,
            listener=listener,
        )
    notify(
        f"{report.file}: {report.steps} steps on {report.pictures} pictures in "
        f"{report.seconds:.0f} s"
    )
    if json is not None:
        write_json(strict_json(asdict(report)), json)


def experiment(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="Such as pipelines/classics.toml.")
    ],
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Holds the folders of pictures that the recipe names."),
    ],
    models: Annotated[
        Path, typer.Option(metavar="DIR", help="Takes the networks; finished ones are used again.")
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
    json: JsonOption = None,
) -> None:
    """Train the systems of a recipe, score them on still pictures, and print its table."""
    from vsr.files import check_record, strict_json, write_json
    from vsr.train.dataset.experiment import load_experiment, run_experiment, to_json, to_markdown

    check_record(json, [])
    chosen = load_experiment(recipe)
    with training_listener() as listener:
        rows = run_experiment(
            chosen,
            data,
            models,
            full=full,
            settings=settings or [],
            device=device,
            listener=listener,
        )
    if json != "-":
        print(to_markdown(chosen, rows))
    if json is not None:
        write_json(strict_json(to_json(chosen, rows)), json)


@contextmanager
def training_listener(*, estimates: bool = True) -> Iterator["TrainingListener"]:
    """Yields what shows a training's progress and ends it when the user asks.

    Without `estimates` the time left is not shown: where what comes before the first step takes
    long, it would be wrong.
    """
    from vsr.progress import progress_line
    from vsr.train.fit import TrainingListener, TrainingProgress

    with progress_line() as update, stop_on_signal() as should_stop:

        def show(state: TrainingProgress) -> None:
            done = (
                f"{state.models_done} of {state.models} models"
                if state.models > 1
                else f"step {state.iteration} of {state.iterations}"
            )
            text = f"training: {done}, loss {state.loss:.4f}"
            update(text, state.share_done if estimates else None)

        yield TrainingListener(notify, show, should_stop)
