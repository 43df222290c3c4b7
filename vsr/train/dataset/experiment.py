"""Experiments on still pictures: systems trained on some folders and scored on others, one table as
a result."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from vsr.engine.options import choose_device
from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import write_atomically
from vsr.image.resample import BICUBIC, LANCZOS, InterpolationKernel, resize
from vsr.metrics import METRICS
from vsr.metrics.scoreboard import Scoreboard
from vsr.records import load_options, to_table
from vsr.train.dataset.dataset import ImageDataset, find_images
from vsr.train.dataset.training import train
from vsr.train.fit import TrainingListener
from vsr.upscale.networks.files import load_network
from vsr.upscale.networks.network import apply_network
from vsr.video.frames import Frame

UpscaleFn = Callable[[torch.Tensor, int, int, int], torch.Tensor]
"""Picture (3, h, w) in [0, 1], height, width and seed -> (3, height, width) in [0, 1]."""


@dataclass(frozen=True)
class System:
    """One row of each table: an interpolation, a file below the data folder, or a network that is
    trained for it."""

    name: str
    interpolation: str = ""
    """`nearest`, `bicubic` or `lanczos`."""
    file: str = ""
    method: str = ""
    """Method of `vsr train`."""
    start: str = ""
    """Name of a system before this one, whose weights the training starts from."""
    settings: tuple[str, ...] = ()
    """Settings of the training, as with `--set`, at a size that fits two cores."""
    full: tuple[str, ...] = ()
    """Over the settings with `--full`: the published size, for a GPU."""


@dataclass(frozen=True)
class Experiment:
    """A recipe for `vsr experiment`. Folders are below the data folder."""

    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    metrics: tuple[str, ...]
    systems: tuple[System, ...]
    scale: int = 4
    border: int = 4
    """Pixels left off each side when scoring."""
    samples: int = 1
    """Drawn of every picture; metrics of single pictures are means over them."""


@dataclass(frozen=True)
class Row:
    """One system's figures on one folder."""

    test: str
    system: str
    trained: str
    """Steps and pictures of its training, or why there is none."""
    figures: dict[str, float | None]
    """Means over the pictures by metric; None where the metric or the system is not available."""


def load_experiment(path: Path) -> Experiment:
    """Raises `UsageError` for a recipe that is not an experiment or contradicts itself."""
    experiment = load_options(Experiment, path)
    # In the order of the file: a system can only start from one that is trained before it.
    known: set[str] = set()
    for system in experiment.systems:
        if sum(map(bool, (system.interpolation, system.file, system.method))) != 1:
            raise UsageError(
                f"system {system.name} in {path} must have one of interpolation, file and method."
            )
        if system.interpolation and system.interpolation not in INTERPOLATIONS:
            raise UsageError(
                f"{system.interpolation} in {path} is unknown; known: {', '.join(INTERPOLATIONS)}."
            )
        if system.start and system.start not in known:
            raise UsageError(
                f"system {system.name} in {path} starts from {system.start}, which is not before "
                "it."
            )
        known.add(system.name)
    return experiment


def run_experiment(
    experiment: Experiment,
    data: Path,
    models: Path,
    *,
    full: bool = False,
    settings: Sequence[str] = (),
    device: str = "auto",
    pictures: Path | None = None,
    listener: TrainingListener = TrainingListener(),
) -> list[Row]:
    """Train what is to be trained, into `models`, where finished networks are kept, and score all
    systems.

    `settings` go over those of every training. A system whose weights are not here has a row
    without figures. The folder `pictures` takes each system's results, and the truths, as
    TEST/SYSTEM/NAME.png, the first sample of each.
    """
    target = choose_device(device)
    stores = {
        test: ImageDataset(find_images(data / test), experiment.scale) for test in experiment.test
    }
    try:
        models.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"no networks can be written to {models}: {error.strerror}. Name another folder."
        ) from None
    rows: list[Row] = []
    for system in experiment.systems:
        listener.notify(f"system {system.name}")
        try:
            trained, system_enlarge = _prepare(
                experiment, system, data, models, full, settings, target, listener
            )
        except ModelError as error:
            listener.notify(f"{system.name} is left out: {error}")
            rows += [
                Row(test, system.name, "not available", dict.fromkeys(experiment.metrics))
                for test in stores
            ]
            continue
        for test, store in stores.items():
            keep = None
            if pictures is not None:
                keep = pictures / _slug(test) / _slug(system.name)
                _keep_truths(store, pictures / _slug(test) / "truth")
            figures = score_system(system_enlarge, store, experiment, target, keep)
            rows.append(Row(test, system.name, trained, figures))
    return sorted(rows, key=lambda row: experiment.test.index(row.test))


def score_system(
    enlarged: UpscaleFn,
    store: ImageDataset,
    experiment: Experiment,
    device: torch.device,
    pictures: Path | None = None,
) -> dict[str, float | None]:
    """Means over the pictures, results rounded to 8 bit, or the figure of the set where a metric
    has one; None for a metric without a value. The folder `pictures` takes the results."""
    is_of_set = {name: name in METRICS and METRICS[name].of_sets for name in experiment.metrics}

    def board(of_set: bool) -> Scoreboard:
        return Scoreboard(
            [name for name in experiment.metrics if is_of_set[name] == of_set],
            has_truth=True,
            has_low_resolution=True,
            border=experiment.border,
        )

    figures: dict[str, list[float | None]] = {name: [] for name in experiment.metrics}
    of_all, shown = board(True), 0
    for number in range(len(store.paths)):
        example = store[number]
        low, truth = (picture.float().to(device) / 255 for picture in (example.low, example.high))
        of_picture = board(False)
        for sample in range(experiment.samples):
            height, width = truth.shape[-2:]
            # Rounded, as the files that others score are.
            pixels = (enlarged(low, height, width, sample) * 255).round() / 255
            if pictures is not None and sample == 0:
                _write_picture(pixels, pictures / f"{store.paths[number].stem}.png")
            of_picture.update(Frame(pixels, sample, sample, Fraction(1, 25)), truth, low)
            of_all.update(Frame(pixels, shown, shown, Fraction(1, 25)), truth, low)
            shown += 1
        for name, result in of_picture.compute().items():
            figures[name].append(result.mean)
    for name, result in of_all.compute().items():
        figures[name].append(result.mean)
    return {name: _mean(values) for name, values in figures.items()}


def to_markdown(experiment: Experiment, rows: Sequence[Row]) -> str:
    """The tables, one for each test folder."""
    lines = [experiment.title]
    for test in experiment.test:
        lines += ["", f"**{test}**", "", f"| system | trained | {' | '.join(experiment.metrics)} |"]
        lines.append("|---|---|" + "--:|" * len(experiment.metrics))
        for row in rows:
            if row.test == test:
                cells = ["-" if value is None else f"{value:.4g}" for value in row.figures.values()]
                lines.append(f"| {row.system} | {row.trained} | {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(experiment: Experiment, rows: Sequence[Row]) -> dict[str, object]:
    """The recipe and its rows as plain values."""
    return {"experiment": to_table(experiment), "rows": [asdict(row) for row in rows]}


def _prepare(
    experiment: Experiment,
    system: System,
    data: Path,
    models: Path,
    full: bool,
    settings: Sequence[str],
    device: torch.device,
    listener: TrainingListener,
) -> tuple[str, UpscaleFn]:
    """Train the system where that is left to do; a word on its training, and the system ready to
    run."""
    if system.interpolation:
        return "-", INTERPOLATIONS[system.interpolation]
    trained, path = "by others", data / system.file
    if system.method:
        path = _model_path(models, system.name, full)
        start = _model_path(models, system.start, full) if system.start else None
        # Finished networks are kept; an unfinished one goes on by itself.
        if not path.exists():
            # Later ones win: the user over the published size, that over the size for two cores.
            chosen = [*system.settings, *(system.full if full else ()), *settings]
            folders = [data / folder for folder in experiment.train]
            train(
                folders,
                path,
                method=system.method,
                scale=experiment.scale,
                settings=chosen,
                start=start,
                device=str(device),
                listener=listener,
            )
        trained = _training_summary(path)
    upscaler = load_network(path, device)
    return trained, lambda low, height, width, seed: apply_network(
        upscaler, low, height, width, seed
    )


def _training_summary(path: Path) -> str:
    from vsr.upscale.networks.files import read_own

    card, _ = read_own(path)
    assert card is not None, "we trained it"
    words = f"{card.training['steps']} steps, {card.training['pictures']} pictures"
    losses = card.training["options"]["losses"]
    # Where weights were missing, the row must not pass for one that had them.
    if "random" in (losses["perceptual"], losses["diversity_features"]):
        words += ", random features"
    return words


def _model_path(models: Path, name: str, full: bool) -> Path:
    return models / f"{_slug(name)}{'-full' if full else ''}.safetensors"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _keep_truths(store: ImageDataset, folder: Path) -> None:
    if not folder.exists():
        for number, path in enumerate(store.paths):
            _write_picture(store[number].high.float() / 255, folder / f"{path.stem}.png")


def _write_picture(pixels: torch.Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as a PNG of 8 bit."""
    import cv2

    image = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    is_made, png = cv2.imencode(".png", image[..., ::-1])
    assert is_made, "any picture of 8 bit is a PNG"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, png.tobytes())
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Name another folder for the pictures."
        ) from None


def _nearest(low: torch.Tensor, height: int, width: int, _: int) -> torch.Tensor:
    rows = low.repeat_interleave(height // low.shape[-2], dim=-2)
    return rows.repeat_interleave(width // low.shape[-1], dim=-1)


def _interpolate(
    kernel: InterpolationKernel, low: torch.Tensor, height: int, width: int, _: int
) -> torch.Tensor:
    return resize(low, height, width, kernel).clamp(0, 1)


INTERPOLATIONS: dict[str, UpscaleFn] = {
    "nearest": _nearest,
    "bicubic": partial(_interpolate, BICUBIC),
    "lanczos": partial(_interpolate, LANCZOS),
}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
