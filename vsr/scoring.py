"""Scores finished clips: frames are aligned by time with a truth and the low-resolution input, then go through METRICS.

One pass per result, in memory that does not grow with the clip but for the figures themselves.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from vsr.alignment import Timeline
from vsr.errors import InputError, OutputError, UsageError
from vsr.frames import Frame
from vsr.metrics import METRICS, beside_sharpness, possible_metrics
from vsr.metrics.scoreboard import MetricResult, Scoreboard, common_size
from vsr.reader import open_clip

Source = str | Path


@dataclass(frozen=True)
class ClipScores:
    """What the metrics say of one result."""

    file: str
    frame_indices: tuple[int, ...]
    """Of the result's frames that were matched and measured, in order."""
    frame_seconds: tuple[float, ...]
    """Their presentation times."""
    metrics: dict[str, MetricResult]
    baseline: dict[str, MetricResult] | None
    """The same of the enlarged low-resolution input (bicubic), where that was given."""
    unmatched: dict[str, tuple[int, ...]]
    """Frame numbers without a partner: of `result`, `reference` and `low_resolution`."""
    notes: tuple[str, ...]
    """What the user ought to know: offsets, crops, what the readers chose."""
    damage: tuple[str, ...]
    """What was damaged in the clips; empty for sound ones."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        fields: dict[str, Any] = {
            "file": self.file,
            "frames": len(self.frame_indices),
            "metrics": {name: result.to_json() for name, result in self.metrics.items()},
        }
        if self.baseline is not None:
            fields["baseline"] = {name: result.to_json() for name, result in self.baseline.items()}
        unmatched = {clip: list(indices) for clip, indices in self.unmatched.items()}
        return fields | {"unmatched": unmatched, "notes": list(self.notes), "damage": list(self.damage)}


@dataclass(frozen=True)
class Scores:
    """The scores of one or several results."""

    results: tuple[ClipScores, ...]

    @property
    def ranking(self) -> dict[str, list[str]]:
        """Files from best to worst by each metric's mean; where networks differ, one list for each network."""
        return {name: files for metric in self.results[0].metrics for name, files in _rank(self.results, metric)}

    def to_json(self) -> dict[str, Any]:
        """The one result's object, or `results` and `ranking` for several."""
        if len(self.results) == 1:
            return self.results[0].to_json()
        return {"results": [result.to_json() for result in self.results], "ranking": self.ranking}


def score(
    results: Source | Sequence[Source],
    reference: Source | None = None,
    low_resolution: Source | None = None,
    metrics: Sequence[str] | None = None,
    border: int = 0,
    progress: Callable[[str, int], None] | None = None,
) -> Scores:
    """Score one clip or several against a truth and/or their low-resolution input.

    `metrics` defaults to all that these allow. `progress` is told the file and how many of its frames are done.
    Raises UsageError for a request that cannot be met, InputError for clips that cannot be read or compared.
    """
    results = [results] if isinstance(results, str | Path) else results
    if not results:
        raise UsageError("nothing to score; name at least one result")
    others = {"reference": reference, "low_resolution": low_resolution}
    given = {name: source for name, source in others.items() if source is not None}
    if "-" in map(str, [*results, *given.values()]):
        raise UsageError("clips to score are read more than once, so '-' cannot be one; give files")
    if not given:
        raise UsageError("nothing to score against; give --reference TRUTH, --low-resolution LR, or both")
    names = possible_metrics(reference is not None, low_resolution is not None) if metrics is None else metrics
    names = beside_sharpness(names, has_truth=reference is not None)
    return Scores(tuple(_score_clip(result, given, names, border, progress) for result in results))


def write_csv(scores: Scores, path: Path) -> None:
    """One row per frame and file, the baseline's rows after the result's; an absent value is an empty cell.

    Raises OutputError where the file cannot be written.
    """
    names = list(scores.results[0].metrics)
    try:
        # A file name need not be UTF-8.
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "frame", "seconds", *names])
            for clip in scores.results:
                for label, figures in _labelled_figures(clip):
                    columns = [figures[name].per_frame or (None,) * len(clip.frame_indices) for name in names]
                    rows = zip(clip.frame_indices, clip.frame_seconds, *columns, strict=True)
                    writer.writerows([label, *row] for row in rows)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; name another file") from error


def score_table(scores: Scores) -> Table:
    """Means for reading: metrics down, results across, each beside its bicubic baseline where there is one."""
    columns = [column for clip in scores.results for column in _labelled_figures(clip)]
    shown = scores.results[0].metrics
    reasons = [f"{name}: {result.reason}" for name, result in shown.items() if result.reason is not None]
    table = Table(caption=_as_written("\n".join(reasons)) if reasons else None, caption_justify="left")
    table.add_column("metric")
    for label, _ in columns:
        table.add_column(_as_written(label), justify="right", overflow="fold")
    for name in sorted(shown, key=list(METRICS).index):
        unit = "" if shown[name].unit == "1" else f"{shown[name].unit}, "
        better = "higher" if shown[name].higher_is_better else "lower"
        table.add_row(f"{name} ({unit}{better} is better)", *(_cell(figures[name]) for _, figures in columns))
    return table


def _score_clip(
    result: Source,
    others: dict[str, Source],
    metrics: Sequence[str],
    border: int,
    progress: Callable[[str, int], None] | None,
) -> ClipScores:
    has_truth, has_low_resolution = "reference" in others, "low_resolution" in others
    board = Scoreboard(
        metrics,
        has_truth=has_truth,
        has_low_resolution=has_low_resolution,
        border=border,
        with_baseline=has_low_resolution,
    )
    indices, seconds = [], []
    with ExitStack() as stack:
        alignment = _Alignment(result, others, stack)
        for frame, pixels in alignment.frames():
            board.observe(frame, pixels.get("reference"), pixels.get("low_resolution"))
            indices.append(frame.index)
            seconds.append(frame.seconds)
            if progress is not None:
                progress(str(result), len(indices))
    if not indices:
        raise InputError(f"no frame of {result} has a partner in time in {' and '.join(map(str, others.values()))}")
    return ClipScores(
        file=str(result),
        frame_indices=tuple(indices),
        frame_seconds=tuple(seconds),
        metrics=board.results(),
        baseline=board.baseline_results(),
        unmatched={name: tuple(numbers) for name, numbers in alignment.unmatched.items()},
        notes=tuple(alignment.notes),
        damage=tuple(alignment.damage),
    )


class _Alignment:
    """A result's frames with their partners in the other clips; its lists are whole after iteration."""

    def __init__(self, result: Source, others: dict[str, Source], stack: ExitStack) -> None:
        offsets = {name: _start_offset(result, source) for name, source in others.items()}
        self.unmatched: dict[str, list[int]] = {"result": []}
        self.damage: list[str] = []
        self.notes = [
            f"{others[name]} begins {offset:+.3f} s from {result}: aligned by their first frames"
            for name, offset in offsets.items()
            if offset
        ]
        self._readers = {
            name: stack.enter_context(open_clip(source)) for name, source in {"result": result, **others}.items()
        }
        self._timelines = {name: Timeline(self._readers[name].frames(), offsets[name]) for name in others}

    def frames(self) -> Iterator[tuple[Frame, dict[str, torch.Tensor]]]:
        """Frames that have a partner in every other clip, with the partners' pixels by the clip's name."""
        is_first = True
        for frame in self._readers["result"].frames():
            partners = {name: timeline.take_nearest(frame.seconds) for name, timeline in self._timelines.items()}
            pixels = {name: partner.pixels for name, partner in partners.items() if partner is not None}
            if len(pixels) < len(self._timelines):
                self.unmatched["result"].append(frame.index)
                continue
            if is_first and "reference" in pixels:
                self.notes += _crop_notes(frame.pixels, pixels["reference"])
            is_first = False
            yield frame, pixels
        self.unmatched |= {name: timeline.untaken() for name, timeline in self._timelines.items()}
        for reader in self._readers.values():
            self.notes += [f"{reader.info.path}: {note}" for note in reader.notes]
            self.damage += [f"{reader.info.path}: {damage.detail} ({damage.count} in all)" for damage in reader.damage]


def _start_offset(result: Source, other: Source) -> float:
    """Seconds to add to the result's times so that they fall on `other`'s.

    0 where both begin together. Else their own clocks are kept unless aligning the first frames matches more of
    them: a result that lost its first frame keeps its clock, one whose container starts anew does not.
    """
    with open_clip(result) as result_clip, open_clip(other) as other_clip:
        first, other_frames = next(result_clip.frames(), None), other_clip.frames()
        other_first, other_second = next(other_frames, None), next(other_frames, None)
    if first is None or other_first is None:
        return 0.0
    offset = other_first.seconds - first.seconds
    step = inf if other_second is None else other_second.seconds - other_first.seconds
    if abs(offset) < step / 2 or _count_matches(result, other, 0.0) >= _count_matches(result, other, offset):
        return 0.0
    return offset


def _count_matches(result: Source, other: Source, offset_seconds: float) -> int:
    with open_clip(result) as result_clip, open_clip(other) as other_clip:
        timeline = Timeline(other_clip.frames(), offset_seconds)
        return sum(timeline.take_nearest(frame.seconds) is not None for frame in result_clip.frames())


def _crop_notes(result: torch.Tensor, truth: torch.Tensor) -> list[str]:
    if result.shape == truth.shape:
        return []
    height, width = common_size(result, truth)
    sizes = [f"{picture.shape[-1]}x{picture.shape[-2]}" for picture in (result, truth)]
    return [f"the result is {sizes[0]} and the reference {sizes[1]}: compared over the top-left {width}x{height}"]


def _labelled_figures(clip: ClipScores) -> list[tuple[str, dict[str, MetricResult]]]:
    labelled = [(clip.file, clip.metrics)]
    return labelled if clip.baseline is None else [*labelled, (f"{clip.file} (bicubic baseline)", clip.baseline)]


def _as_written(text: str) -> Text:
    """For a table: brackets are no markup, and bytes of a file name that are no text are shown escaped."""
    return Text(text.encode(errors="backslashreplace").decode())


def _cell(result: MetricResult) -> str:
    if result.mean is None:
        return "-"
    return f"{result.mean:.4f}" if result.network is None else f"{result.mean:.4f} ({result.network})"


def _rank(results: Sequence[ClipScores], metric: str) -> Iterator[tuple[str, list[str]]]:
    scored = [clip for clip in results if clip.metrics[metric].mean is not None]
    networks = sorted({clip.metrics[metric].network or "" for clip in scored})
    for network in networks:
        group = [clip for clip in scored if (clip.metrics[metric].network or "") == network]
        sign = -1 if group[0].metrics[metric].higher_is_better else 1
        group.sort(key=lambda clip: sign * (clip.metrics[metric].mean or 0.0))
        yield (metric if len(networks) == 1 else f"{metric} ({network})"), [clip.file for clip in group]
