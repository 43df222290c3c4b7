"""Preview: three moments of a clip, enlarged in every way, on one page, before the work begins."""

import shlex
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from time import perf_counter

from vsr.errors import UsageError
from vsr.evaluate.preview.excerpts import (
    Excerpt,
    Survey,
    choose_looks,
    looks_at,
    read_excerpt,
    survey_clip,
)
from vsr.evaluate.preview.models import PreviewModels, train_models
from vsr.evaluate.preview.versions import (
    NUM_VERSIONS,
    SHOWN_FIRST,
    PreviewVersion,
    enlarge_excerpts,
    seconds_to_encode,
)
from vsr.evaluate.report.content import (
    Cell,
    FigureTable,
    ReportContent,
    TableRow,
    Version,
)
from vsr.evaluate.report.frames import ReportFrames
from vsr.evaluate.report.moments import num_moments
from vsr.pipeline.options import Recipe, with_scale
from vsr.progress import Listener, format_duration
from vsr.records import to_table
from vsr.train.fit import TrainingListener

PREVIEW_OPTIONS = (
    "scale",
    "height",
    "width",
    "fit",
    "prior",
    "restore",
    "grain",
    "device",
    "dtype",
    "tile",
    "threads",
    "read.on_damage",
    "read.deinterlace",
    "read.allow_huge",
    "read.stream",
    "read.quantizer",
)
"""Keys of the options of a run that a preview offers."""


def write_preview(
    clip: str | Path,
    page: Path,
    recipe: Recipe = Recipe(),
    at: Sequence[float] = (),
    *,
    whole: bool = False,
    listener: Listener = Listener(),
    on_training: TrainingListener = TrainingListener(),
) -> None:
    """Show what runs would make of a clip, at its most telling moments or those `at` some seconds.

    Within a minute and a half on two cores, unless `whole` frames are wanted. Raises `UsageError`,
    `InputError`, `OutputError`, `ModelError`, or `InterruptedRunError` where a listener asks for an
    end.
    """
    from vsr.evaluate.report import write_pictures

    began = perf_counter()
    if len(at) > num_moments(NUM_VERSIONS):
        raise UsageError(
            f"{len(at)} moments were asked for; a page has room for {num_moments(NUM_VERSIONS)}."
        )
    with ExitStack() as resources:
        work = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="vsr-preview-")))
        survey = survey_clip(clip, recipe.read)
        recipe = with_scale(recipe, survey.info)
        chosen = looks_at(survey, at) if at else choose_looks(survey)
        excerpts = [read_excerpt(clip, recipe.read, survey, one, whole) for one in chosen]
        models = train_models(clip, recipe, survey, excerpts, resources, work, began, on_training)
        versions, samples = enlarge_excerpts(recipe, survey, excerpts, models, listener)
        costs = [
            _seconds_of_run(version, recipe, survey, excerpts, encoding)
            for encoding in [seconds_to_encode(samples[0].pictures, work)]
            for version in versions
        ]
        content = _content(clip, recipe, survey, models, versions, costs)
        frames = ReportFrames(samples, [sample.seconds for sample in samples])
        listener.notify(f"previewed in {perf_counter() - began:.0f} s")
        write_pictures(content, frames, page)


def _seconds_of_run(
    version: PreviewVersion,
    recipe: Recipe,
    survey: Survey,
    excerpts: Sequence[Excerpt],
    encoding: float,
) -> float | None:
    """Estimate the time of a run without its training; None where the clip's length is unknown."""
    if survey.num_frames is None:
        return None
    megapixels = survey.info.width * survey.info.height / 1e6
    reading = fmean(excerpt.reading_seconds for excerpt in excerpts)
    enlarging = version.seconds_per_megapixel * megapixels
    return survey.num_frames * (reading + enlarging + encoding * megapixels * recipe.scale**2)


def _content(
    clip: str | Path,
    recipe: Recipe,
    survey: Survey,
    models: PreviewModels,
    versions: Sequence[PreviewVersion],
    costs: Sequence[float | None],
) -> ReportContent:
    name = Path(clip).name or str(clip)
    rows = (
        TableRow("flicker", "gray levels, lower is steadier", _cells(v.flicker for v in versions)),
        TableRow(
            "sharpness",
            "times that of bicubic interpolation",
            _cells(v.sharpness for v in versions),
        ),
        TableRow(
            "time of the whole clip",
            "about, on this machine",
            tuple(
                Cell(
                    "unknown" if cost is None else format_duration(cost + v.training_seconds),
                    f"{format_duration(v.training_seconds)} of it training"
                    if v.training_seconds
                    else "",
                )
                for v, cost in zip(versions, costs, strict=True)
            ),
        ),
    )
    info = survey.info
    frames = "unknown" if survey.num_frames is None else str(survey.num_frames)
    commands = [
        f"{v.label}: vsr run {shlex.quote(str(clip))} --scale {recipe.scale:g} {v.options}"
        for v in versions
    ]
    return ReportContent(
        title=f"{name}: preview x{recipe.scale:g}",
        versions=tuple(Version(v.label, str(clip), v.role) for v in versions),
        leader=0,
        frames=(),
        curves=(),
        table=FigureTable(
            tuple(v.label for v in versions),
            rows,
            "Flicker and sharpness as a run prints them, measured on the excerpts. A blurred video "
            "never flickers: read the two together.",
        ),
        notes=(*models.notes, *survey.damage, *commands),
        record={
            "clip": str(clip),
            "size": [info.width, info.height],
            "frames": survey.num_frames,
            "models_kept": models.is_kept,
            "versions": [
                to_table(v) | {"role": v.role.value, "seconds": cost}
                for v, cost in zip(versions, costs, strict=True)
            ],
            "recipe": to_table(recipe),
        },
        summary=(
            f"Excerpts of {frames} frames of {info.width}x{info.height}, enlarged "
            f"{recipe.scale:g} times in {len(versions)} ways."
        ),
        shown_first=SHOWN_FIRST,
    )


def _cells(values: Iterable[float | None]) -> tuple[Cell, ...]:
    return tuple(Cell("-" if value is None else f"{value:.3f}") for value in values)
