"""Content of the page of a run: the enlarged input, the result, and the truth where there is
one."""

import json
from pathlib import Path

from vsr.errors import UsageError
from vsr.evaluate.report.content import (
    MeasuredVersion,
    ReportContent,
    Role,
    Version,
    by_time,
    curves,
    figure_table,
)
from vsr.metrics.scoreboard import MetricResult
from vsr.pipeline.manifest import Manifest
from vsr.records import from_table


def check_run_files(clip: str, output: str | Path | None) -> None:
    """Raise UsageError for a pipe: a page reads the clip and its result again."""
    if "-" in (clip, output):
        raise UsageError(
            "a report shows the clip and its result again, so neither can be a pipe; give them as "
            "files"
        )


def run_report_content(manifest: Manifest, reference: str | Path | None = None) -> ReportContent:
    """Gather the content; raises UsageError where the clip or the result cannot be read again."""
    check_run_files(manifest.clip, manifest.output)
    assert manifest.output is not None, "a comparison writes no result that could be shown"
    enlarged = Version("bicubic", manifest.clip, Role.ENLARGED)
    result = Version(
        manifest.policy if manifest.policy != "bicubic" else "result", manifest.output, Role.RESULT
    )
    truth = [] if reference is None else [Version("truth", str(reference), Role.TRUTH, by_time)]
    frames = tuple(range(manifest.frames_out))
    measured = [
        MeasuredVersion(
            label, frames, {name: from_table(MetricResult, entry) for name, entry in table.items()}
        )
        for label, table in (
            (result.label, manifest.metrics),
            (enlarged.label, manifest.baseline),
        )
    ]
    return ReportContent(
        title=f"{Path(manifest.output).name}: {manifest.policy} x{manifest.recipe['scale']:g}",
        versions=(enlarged, result, *truth),
        leader=0,
        frames=frames,
        curves=tuple(curves(measured, frames)),
        table=figure_table(measured, ["Means, measured before encoding."]),
        notes=(*manifest.notes, *manifest.damage),
        record=json.loads(manifest.to_json()),
        cuts=tuple(manifest.shots[1:]),
    )
