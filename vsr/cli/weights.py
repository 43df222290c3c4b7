"""`vsr weights` and `vsr weights fit-niqe`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import OverwriteOption, notify
from vsr.errors import OutputError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from vsr.metrics.metric import Metric

weights = typer.Typer(
    help="List the weight files that metrics need; fit NIQE's model.", rich_markup_mode=None
)


@weights.callback(invoke_without_command=True)
def list_weights(context: typer.Context) -> None:
    """List the weight files of metrics: those found, and where to get the others. Nothing is
    downloaded."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from vsr.models.weights import WEIGHTS_PATH_VARIABLE, weight_folders

    console = Console()
    console.print(_metric_table())
    console.print(_file_table())
    folders = ", ".join(map(str, weight_folders()))
    console.print(
        f"Looked for in {folders}; {WEIGHTS_PATH_VARIABLE} names further folders.",
        highlight=False,
        markup=False,
    )


@weights.command("fit-niqe")
def fit_niqe(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Sharp, undamaged pictures or clips.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.npz", help="File for the model.")
    ],
    overwrite: OverwriteOption = False,
) -> None:
    """Fit NIQE's model of pristine pictures to your own pictures. Figures made with it carry its
    name."""
    from vsr.files import check_record
    from vsr.metrics.niqe import fit_model

    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; give -y to replace it, or name another file")
    check_record(output, pictures)
    model = fit_model(_pixels(pictures))
    try:
        model.save(output)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror}; name another file"
        ) from error
    notify(
        f"{output}: {model.name}; name its folder in VSR_WEIGHTS, before that of any other model "
        "for NIQE"
    )


def _pixels(sources: list[str]) -> "Iterator[torch.Tensor]":
    from vsr.video.reader import open_clip

    for source in sources:
        with open_clip(source) as reader:
            for frame in reader.frames():
                yield frame.pixels


def _metric_table() -> "Table":
    from rich.text import Text

    from vsr.metrics import METRICS
    from vsr.models.weights import LOSS_WEIGHTS, find_weights

    table = _folding_table("metric or loss", "needs", "state")
    for name, metric in METRICS.items():
        if metric.weights and ":" not in name:
            needs = " or ".join(
                " and ".join(file.name for file in files) or "nothing: a model is shipped"
                for files in metric.weights
            )
            table.add_row(name, needs, Text(_state(metric)))
    for name, files in LOSS_WEIGHTS.items():
        lacking = [file.name for file in files if find_weights(file.patterns) is None]
        state = f"lacks {' and '.join(lacking)}" if lacking else "ready"
        needs = " and ".join(file.name for file in files)
        table.add_row(f"{name} loss", needs, Text(state))
    return table


def _state(metric: "Metric") -> str:
    """Tell whether a metric can be measured, by loading it where its files are."""
    from vsr.metrics.metric import MetricUnavailableError
    from vsr.models.weights import find_weights

    lacking = [
        [file.name for file in files if find_weights(file.patterns) is None]
        for files in metric.weights
    ]
    if all(lacking):
        return f"lacks {' or '.join(' and '.join(names) for names in lacking)}"
    try:
        network = metric.load().network
    except MetricUnavailableError as unavailable:
        return f"no: {unavailable}"
    return "ready" if network is None else f"ready ({network})"


def _file_table() -> "Table":
    from rich.text import Text

    from vsr.metrics import METRICS
    from vsr.models.weights import LOSS_WEIGHTS, find_weights, is_published

    files = dict.fromkeys(
        file for metric in METRICS.values() for needed in metric.weights for file in needed
    )
    files |= dict.fromkeys(file for needed in LOSS_WEIGHTS.values() for file in needed)
    table = _folding_table("file", "here", "usually from")
    for file in files:
        path = find_weights(file.patterns)
        here = (
            "-"
            if path is None
            else f"{path}{'' if is_published(file, path) else ' (not the published file)'}"
        )
        table.add_row(file.name, Text(here), file.source)
    return table


def _folding_table(*heads: str) -> "Table":
    """Make a table that wraps long names: a file's name is of no use without its end."""
    from rich.table import Table

    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold")
    return table
