"""Scores to read: a table of means, and a file with a row per frame."""

import csv
import io
from pathlib import Path

from rich.table import Table
from rich.text import Text

from vsr.evaluate.ranking import RESAMPLES, SEED, Ranking, Standing
from vsr.evaluate.results import ClipScores, Scores
from vsr.files import write_text
from vsr.metrics import METRICS
from vsr.metrics.scoreboard import MetricResult
from vsr.text import printable


def write_csv(scores: Scores, path: Path) -> None:
    """Write one row per frame and file, the baseline's rows after the result's; an absent value is
    an empty cell. The file appears whole or not at all.

    Raises OutputError where the file cannot be written.
    """
    names = list(scores.results[0].metrics)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "frame", "seconds", *names])
    for clip in scores.results:
        for label, figures in _labeled_figures(clip):
            columns = [
                figures[name].per_frame or (None,) * len(clip.frame_indices) for name in names
            ]
            rows = zip(clip.frame_indices, clip.frame_seconds, *columns, strict=True)
            writer.writerows([label, *row] for row in rows)
    write_text(path, text.getvalue())


SUMMARY_ORDER = (
    *("lpips", "vif", "haarpsi", "dists", "niqe"),
    *("flicker", "flicker_live", "sharpness", "sharpness_live", "psnr_y", "lr_psnr", "ssim_y"),
)
"""Metrics that a summary begins with: those that agree best with human ratings, then flicker beside
sharpness."""
SUMMARY_ROWS = 10


def score_table(scores: Scores, max_rows: int | None = None) -> Table:
    """Tabulate means with their intervals: metrics down, results across, each beside its bicubic
    baseline where there is one.

    Ranks stand beside the means of several results. Metrics without a figure are named in one line
    below, and so are those that `max_rows` leaves out.
    """
    measured, missing = _split_by_figure(scores)
    rows, others = measured[:max_rows], measured[len(measured[:max_rows]) :]
    captions = [*_captions(scores, rows), *_unlisted(scores, missing, others)]
    table = Table(caption=Text(printable("\n".join(captions))), caption_justify="left")
    table.add_column("metric")
    for clip in scores.results:
        for label, _ in _labeled_figures(clip):
            # As Text: brackets in a file name are no markup.
            table.add_column(Text(printable(label)), justify="right", overflow="fold")
    ranks = {
        (ranking.metric, standing.file): _format_rank(ranking, standing)
        for ranking in scores.ranking
        for standing in ranking.standings
    }
    shown = scores.results[0].metrics
    for name in rows:
        cells = [
            cell
            for clip in scores.results
            for cell in _cells(clip, name, ranks.get((name, clip.file)))
        ]
        table.add_row(_heading(name, shown[name]), *cells)
    return table


def _heading(name: str, result: MetricResult) -> str:
    unit = "" if result.unit == "1" else f"{result.unit}, "
    note = "" if result.note is None else f"{result.note.partition(':')[0]}, "
    return f"{name} ({note}{unit}{'higher' if result.higher_is_better else 'lower'} is better)"


def _split_by_figure(scores: Scores) -> tuple[list[str], list[str]]:
    """Return the metrics by which some result has a figure, in the order of a summary, and the
    others."""
    known = [*SUMMARY_ORDER, *(name for name in METRICS if name not in SUMMARY_ORDER)]
    names = sorted(scores.results[0].metrics, key=known.index)
    measured = [
        name
        for name in names
        if any(clip.metrics[name].mean is not None for clip in scores.results)
    ]
    return measured, [name for name in names if name not in measured]


def _unlisted(scores: Scores, missing: list[str], others: list[str]) -> list[str]:
    """Return a line that names the metrics without a figure, and one for those beyond
    `max_rows`."""
    by_reason: dict[str, list[str]] = {}
    for name in missing:
        result = scores.results[0].metrics[name]
        # A metric that could not be loaded has no list of values.
        lacks_weights = METRICS[name].weights and result.per_frame is None
        reason = "no weights: vsr weights lists them" if lacks_weights else result.reason or ""
        by_reason.setdefault(reason, []).append(name)
    groups = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    lines = [f"not measured: {'; '.join(groups)}"] if groups else []
    if others:
        lines.append(f"measured as well, see --json: {', '.join(others)}")
    return lines


def _cells(clip: ClipScores, name: str, rank: str | None) -> list[str]:
    """Return a cell for the result and, where there is one, a cell for its baseline."""
    mean = _mean(clip.metrics[name])
    interval = (clip.intervals or {}).get(name)
    # Half of the interval, as a ± is read.
    spread = "" if interval is None else f" ±{(interval.high - interval.low) / 2:.4f}"
    cell = mean + spread + ("" if rank is None else f" {rank}")
    return [cell] if clip.baseline is None else [cell, _mean(clip.baseline[name])]


def _mean(result: MetricResult) -> str:
    if result.mean is None:
        return "-"
    return (
        f"{result.mean:.4f}" if result.network is None else f"{result.mean:.4f} ({result.network})"
    )


def _set_summary(result: MetricResult) -> str:
    return result.reason or (
        f"{_mean(result)} {result.unit}, "
        f"{'higher' if result.higher_is_better else 'lower'} is better"
    )


def _format_rank(ranking: Ranking, standing: Standing) -> str:
    is_tied = sum(other.rank == standing.rank for other in ranking.standings) > 1
    return f"#{standing.rank}{'=' if is_tied else ''}"


def _captions(scores: Scores, rows: list[str]) -> list[str]:
    """Return the captions that explain the figures of the rows."""
    lines = [f"{clip.file}: {len(clip.frame_indices)} frames measured" for clip in scores.results]
    lines += [f"{name}: {METRICS[name].form}" for name in rows if METRICS[name].form]
    lines += [f"{name}: {METRICS[name].note}" for name in rows if METRICS[name].note]
    lines += [
        f"{name} over all results: {_set_summary(result)}" for name, result in scores.of_set.items()
    ]
    intervals = [
        interval for clip in scores.results for interval in (clip.intervals or {}).values()
    ]
    if intervals:
        lengths = sorted({interval.block_frames for interval in intervals})
        lines.append(
            f"±: half of the mean's 95 % interval (bootstrap over blocks of {lengths[0]} to "
            f"{lengths[-1]} frames, {RESAMPLES} times, seed {SEED})"
        )
    if scores.ranking:
        lines.append(
            "#: rank; = is a tie: the paired difference from the best of the rank is not "
            "significant"
        )
    if scores.results[0].fast_flow:
        lines.append("motion was estimated with --flow fast: not comparable with --flow medium")
    return lines


def _labeled_figures(clip: ClipScores) -> list[tuple[str, dict[str, MetricResult]]]:
    labeled = [(clip.file, clip.metrics)]
    return (
        labeled
        if clip.baseline is None
        else [*labeled, (f"{clip.file} (bicubic baseline)", clip.baseline)]
    )
