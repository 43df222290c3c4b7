"""Content of the page of scored clips: the results, and the clips that they were compared with."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from vsr.engine.machine import versions
from vsr.evaluate import ClipScores, Scores
from vsr.evaluate.report.content import (
    MeasuredVersion,
    ReportContent,
    Role,
    Version,
    by_number,
    curves,
    figure_table,
    printable,
)


def score_report_content(scores: Scores) -> ReportContent:
    """Gather the content. The page counts frames as the truth does; without one as the
    low-resolution input, or the first result."""
    first = scores.results[0]
    labels = _labels(scores.results)
    columns = [
        MeasuredVersion(label, _page_frames(clip), clip.metrics, clip.intervals or {})
        for label, clip in zip(labels, scores.results, strict=True)
    ]
    results = _results(scores.results, columns)
    shown = [*_enlarged(first, results[0]), *results, *_truth(first, results[0])]
    leader = next(role for role, source in _leading(first) if source is not None)
    if first.baseline is not None:
        columns.append(MeasuredVersion("bicubic", columns[0].frames, first.baseline))
    frames = sorted({frame for column in columns for frame in column.frames})
    captions = [
        "Means over the frames, with 95 % confidence intervals where there are enough frames."
    ]
    if scores.ranking:
        captions.append(
            "Marked: results that no other result beats significantly, paired by frame; none where "
            "all tie."
        )
    return ReportContent(
        title=", ".join(labels),
        versions=tuple(shown),
        leader=[version.role for version in shown].index(leader),
        frames=tuple(frames),
        curves=tuple(curves(columns, frames)),
        table=figure_table(columns, captions, partial(_unbeaten, scores)),
        notes=tuple(
            dict.fromkeys(line for clip in scores.results for line in (*clip.notes, *clip.damage))
        ),
        record={"command": sys.argv, "versions": versions()} | scores.to_json(),
        cuts=tuple(sorted({cut for clip in scores.results for cut in _page_cuts(clip)})),
    )


def _labels(clips: Sequence[ClipScores]) -> list[str]:
    """Label results by file names; whole paths, and numbers, where names alone would not tell all
    versions apart."""
    names = [Path(clip.file).name for clip in clips]
    paths = [
        name if names.count(name) == 1 else clip.file
        for name, clip in zip(names, clips, strict=True)
    ]
    taken = [*paths, "bicubic", "truth"]
    return [
        printable(path if taken.count(path) == 1 else f"{path} ({number})")
        for number, path in enumerate(paths, start=1)
    ]


def _leading(clip: ClipScores) -> list[tuple[Role, str | None]]:
    return [
        (Role.TRUTH, clip.reference),
        (Role.ENLARGED, clip.low_resolution),
        (Role.RESULT, clip.file),
    ]


def _page_frames(clip: ClipScores) -> tuple[int, ...]:
    partners = clip.partners or {}
    return partners.get("reference") or partners.get("low_resolution") or clip.frame_indices


def _page_cuts(clip: ClipScores) -> list[int]:
    numbers = dict(zip(clip.frame_indices, _page_frames(clip), strict=True))
    return [numbers[cut] for cut in clip.cuts if cut in numbers]


def _results(clips: Sequence[ClipScores], columns: Sequence[MeasuredVersion]) -> list[Version]:
    """Cut results at the top and left so that all begin where the truth and each of them have
    something to show."""
    corners = [_corner(clip) for clip in clips]
    top, left = (max(0, *(corner[axis] for corner in corners)) for axis in (0, 1))
    return [
        Version(
            label=column.label,
            source=clip.file,
            role=Role.RESULT,
            pairing=by_number(dict(zip(column.frames, clip.frame_indices, strict=True))),
            crop_top_px=top - corner[0],
            crop_left_px=left - corner[1],
        )
        for clip, column, corner in zip(clips, columns, corners, strict=True)
    ]


def _corner(clip: ClipScores) -> tuple[int, int]:
    """Return the place of a result's top left on the truth, in pixels down and right."""
    crop = clip.crop
    return (
        (0, 0)
        if crop is None
        else (crop.reference_top - crop.result_top, crop.reference_left - crop.result_left)
    )


def _enlarged(clip: ClipScores, result: Version) -> Iterator[Version]:
    if clip.low_resolution is not None:
        numbers = dict(
            zip(_page_frames(clip), (clip.partners or {})["low_resolution"], strict=True)
        )
        yield Version(
            "bicubic",
            clip.low_resolution,
            Role.ENLARGED,
            by_number(numbers),
            result.crop_top_px,
            result.crop_left_px,
        )


def _truth(clip: ClipScores, result: Version) -> Iterator[Version]:
    if clip.reference is not None:
        down, right = _corner(clip)
        numbers = {frame: frame for frame in _page_frames(clip)}
        yield Version(
            "truth",
            clip.reference,
            Role.TRUTH,
            by_number(numbers),
            result.crop_top_px + down,
            result.crop_left_px + right,
        )


def _unbeaten(scores: Scores, metric: str) -> frozenset[int]:
    """Return the columns of the results that share the first rank, unless that is all of them."""
    files = [clip.file for clip in scores.results]
    groups = [entry.groups for entry in scores.ranking if entry.metric == metric]
    return frozenset(files.index(file) for ranks in groups if len(ranks) > 1 for file in ranks[0])
