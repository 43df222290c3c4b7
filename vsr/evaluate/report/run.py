"""What the page of a run is about: the enlarged input, the result, and the truth where there is
one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vsr.errors import UsageError
from vsr.evaluate.report.content import (
    Cell,
    Curve,
    FigureTable,
    ReportContent,
    Role,
    TableRow,
    Version,
    by_time,
    hint,
)
from vsr.pipeline.manifest import Manifest


def check_run_files(clip: str, output: str | Path | None) -> None:
    """Raises UsageError for a pipe: a page reads the clip and its result again."""
    if "-" in (clip, output):
        raise UsageError(
            "a report shows the clip and its result again, so neither can be a pipe; give them as "
            "files"
        )


def run_report_content(manifest: Manifest, reference: str | Path | None = None) -> ReportContent:
    """Raises UsageError where the clip or the result cannot be read again."""
    check_run_files(manifest.clip, manifest.output)
    assert manifest.output is not None, "a comparison writes no result that could be shown"
    enlarged = Version("bicubic", manifest.clip, Role.ENLARGED)
    result = Version(
        manifest.policy if manifest.policy != "bicubic" else "result", manifest.output, Role.RESULT
    )
    truth = [] if reference is None else [Version("truth", str(reference), Role.TRUTH, by_time)]
    figures = {result.label: manifest.metrics, enlarged.label: manifest.baseline}
    return ReportContent(
        title=f"{Path(manifest.output).name}: {manifest.policy} x{manifest.recipe['scale']:g}",
        versions=(enlarged, result, *truth),
        leader=0,
        frames=tuple(range(manifest.frames_out)),
        curves=tuple(_curves(figures, manifest.frames_out)),
        table=_table(figures),
        notes=(*manifest.notes, *manifest.damage),
        record=json.loads(manifest.to_json()),
        cuts=tuple(manifest.shots[1:]),
    )


def _curves(figures: dict[str, dict[str, Any]], num_frames: int) -> Iterator[Curve]:
    """Of the metrics that have a figure for every frame: those of a run with an incomplete truth
    cannot be placed."""
    first = next(iter(figures.values()))
    for metric, figure in first.items():
        lists = {
            label: of_version.get(metric, {}).get("per_frame")
            for label, of_version in figures.items()
        }
        values = {
            label: np.array(per_frame, dtype=np.float64)  # None becomes NaN
            for label, per_frame in lists.items()
            if per_frame is not None and len(per_frame) == num_frames
        }
        if values:
            yield Curve(metric, figure["unit"], figure["higher_is_better"], values)


def _table(figures: dict[str, dict[str, Any]]) -> FigureTable:
    first = next(iter(figures.values()))
    rows = [
        TableRow(
            metric,
            hint(figure["unit"], figure["higher_is_better"]),
            tuple(_mean(of_version.get(metric, {})) for of_version in figures.values()),
        )
        for metric, figure in first.items()
    ]
    reasons = [
        f"{metric}: {figure['reason']}" for metric, figure in first.items() if "reason" in figure
    ]
    return FigureTable(
        tuple(figures), tuple(rows), " ".join(["Means, measured before encoding.", *reasons])
    )


def _mean(figure: dict[str, Any]) -> Cell:
    mean = figure.get("mean")
    return Cell("\N{EN DASH}" if mean is None else f"{mean:.4f}")
