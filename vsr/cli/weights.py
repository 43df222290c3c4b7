"""`vsr weights`, `vsr weights get` and `vsr weights fit-niqe`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import OverwriteOption, notify
from vsr.errors import ModelError, OutputError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from vsr.metrics.metric import Metric
    from vsr.models.weights import WeightFile

weights = typer.Typer(
    help="List or get the weight files that metrics need; fit NIQE's model.",
    rich_markup_mode=None,
)


@weights.callback(invoke_without_command=True)
def list_weights(context: typer.Context) -> None:
    """List the weight files of metrics: those found, and where to get the others. Nothing is
    downloaded but by `vsr weights get`."""
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


@weights.command("get")
def get(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Metrics, losses or files, such as lpips, fid or vgg54."
        ),
    ],
    is_agreed: Annotated[
        bool, typer.Option("-y", "--yes", help="Download without being asked.")
    ] = False,
) -> None:
    """Download the weight files that metrics or losses need, once their size and license were shown
    and you agreed. Each is checked by the hash that its publisher states."""
    from vsr.models.weights import find_weights, weight_folders

    wanted = list(dict.fromkeys(file for name in names for file in _files_for(name)))
    missing = []
    for file in wanted:
        path = find_weights(file.patterns)
        if path is None or _is_damaged(file, path):
            missing.append(file)
        else:
            notify(f"{file.name} is here: {path}")
    if fetched := [file for file in missing if file.address]:
        _download_all(fetched, weight_folders()[0], is_agreed)
    elif not missing:
        notify("nothing to download")
    if unstated := [file for file in missing if not file.address]:
        for file in unstated:
            notify(f"not fetched: {file.missing} ({file.license})")
        raise ModelError(
            f"nobody states a hash of {' and '.join(file.name for file in unstated)} that a "
            "download could be checked by; get it by hand as said above"
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


def _files_for(name: str) -> "Sequence[WeightFile]":
    """Find the files of a metric, a loss or a file's own name; of alternatives those that are here,
    else the best."""
    from difflib import get_close_matches

    from vsr.metrics import METRICS
    from vsr.models.weights import LOSS_WEIGHTS, find_weights

    alternatives = {name: metric.weights for name, metric in METRICS.items() if metric.weights}
    alternatives |= {loss: (files,) for loss, files in LOSS_WEIGHTS.items()}
    alternatives |= {file.name: ((file,),) for file in _all_files()}
    if name in METRICS and not METRICS[name].weights:
        notify(f"{name} needs no weights")
        return ()
    if name not in alternatives:
        nearest = get_close_matches(name, alternatives, n=1, cutoff=0)[0]
        raise UsageError(
            f"nothing named {name} needs weights; did you mean {nearest}? vsr weights lists all."
        )
    for files in alternatives[name]:
        if all(find_weights(file.patterns) is not None for file in files):
            return files
    return alternatives[name][0]


def _is_damaged(file: "WeightFile", path: Path) -> bool:
    """Tell whether a file bears a name that states a hash which its content does not have."""
    from vsr.models.weights import is_published

    return bool(file.address) and path.name == file.name and not is_published(file, path)


def _download_all(files: "Sequence[WeightFile]", folder: Path, is_agreed: bool) -> None:
    """Show what would be downloaded, ask, and fetch it."""
    from vsr.models.download import download, download_address, download_size
    from vsr.progress import progress_line

    for file in files:
        size = download_size(file)
        shown = "size unknown" if size is None else f"{size / 1e6:.1f} MB"
        notify(f"{file.name}: {shown}, {file.license}; from {download_address(file)}")
    if not is_agreed and not _asked(f"Download to {folder}?"):
        notify("nothing was downloaded")
        raise typer.Exit()
    for file in files:
        with progress_line() as update:

            def show(done: int, total: int | None, name: str = file.name) -> None:
                of_all = f" of {total / 1e6:.1f}" if total else ""
                update(f"{name}: {done / 1e6:.1f}{of_all} MB", done / total if total else None)

            path = download(file, folder, show)
        notify(f"{path}: {file.sha256}, as its publisher states")


def _asked(question: str) -> bool:
    """Ask the user; raise UsageError where there is nobody to answer."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            # Ctrl-C.
            return False
        raise UsageError(
            "nobody is here to answer; give -y to download without being asked"
        ) from None


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

    from vsr.models.weights import find_weights, is_published

    table = _folding_table("file", "here", "usually from")
    for file in _all_files():
        path = find_weights(file.patterns)
        here = (
            "-"
            if path is None
            else f"{path}{'' if is_published(file, path) else ' (not the published file)'}"
        )
        got = "vsr weights get; " if file.address else ""
        table.add_row(file.name, Text(here), f"{got}{file.source}")
    return table


def _all_files() -> "list[WeightFile]":
    """List every file that a metric or a loss can use, once."""
    from vsr.metrics import METRICS
    from vsr.models.weights import LOSS_WEIGHTS

    sets = [files for metric in METRICS.values() for files in metric.weights]
    return list(dict.fromkeys(file for files in (*sets, *LOSS_WEIGHTS.values()) for file in files))


def _folding_table(*heads: str) -> "Table":
    """Make a table that wraps long names: a file's name is of no use without its end."""
    from rich.table import Table

    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold")
    return table
