"""Content of a page, before any picture is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsr.evaluate.ranking import Interval
from vsr.metrics import METRICS
from vsr.metrics.scoreboard import MetricResult
from vsr.video.align import Timeline
from vsr.video.frames import Frame

Partner = Callable[[Frame], Frame | None]
"""The frame that belongs to one of the leading version; those are asked for in order, each once."""

Pairing = Callable[[Iterator[Frame]], Partner]
"""Makes a partner of a version's frames."""


def by_order(frames: Iterator[Frame]) -> Partner:
    """Pair clips that have the same frames."""
    return lambda _: next(frames, None)


def by_time(frames: Iterator[Frame]) -> Partner:
    """Pair clips that have the same clock."""
    timeline = Timeline(frames)
    return lambda frame: timeline.pop_nearest(frame.seconds)


def by_number(numbers: Mapping[int, int]) -> Pairing:
    """Pair clips that were matched before: numbers of the leading version's frames to this one's,
    both increasing."""

    def pair(frames: Iterator[Frame]) -> Partner:
        def partner(frame: Frame) -> Frame | None:
            wanted = numbers.get(frame.index)
            return (
                None
                if wanted is None
                else next((one for one in frames if one.index >= wanted), None)
            )

        return partner

    return pair


Values = NDArray[np.float64]


class Role(Enum):
    """Role of a version of the clip."""

    RESULT = "result"
    ENLARGED = "enlarged"
    """The low-resolution input, enlarged by bicubic interpolation while the page is made."""
    TRUTH = "truth"


@dataclass(frozen=True)
class Version:
    """One of the clips that the page shows beside each other."""

    label: str
    source: str
    """The file, folder or pattern that it is read from."""
    role: Role
    pairing: Pairing = by_order
    """Finds its frames for those of the leading version."""
    crop_top_px: int = 0
    """Rows left off so that the pictures lie on each other."""
    crop_left_px: int = 0


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric over the frames, for every version that it was measured on."""

    metric: str
    unit: str
    higher_is_better: bool
    values: dict[str, Values]
    """Values by label; float64 (frames,), NaN where a frame has no value."""


@dataclass(frozen=True)
class Cell:
    """One figure, in words."""

    mean: str
    interval: str = ""
    """Its confidence interval, where there is one."""


@dataclass(frozen=True)
class TableRow:
    """One metric in the table of figures."""

    metric: str
    hint: str
    """Its unit and which direction is better."""
    cells: tuple[Cell, ...]
    best: frozenset[int] = frozenset()
    """Positions of the cells that nothing beats beyond the noise."""


@dataclass(frozen=True)
class FigureTable:
    """Metrics down, versions across."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    caption: str


@dataclass(frozen=True, eq=False)
class MeasuredVersion:
    """Figures of one version, or of an enlarged input that is not shown."""

    label: str
    frames: tuple[int, ...]
    """Number that the page gives each measured frame."""
    figures: dict[str, MetricResult]
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything on the page but the pictures."""

    title: str
    versions: tuple[Version, ...]
    """Versions in the order in which they are shown."""
    leader: int
    """Position of the version whose frame numbers and times are those of the page."""
    frames: tuple[int, ...]
    """Numbers of the frames that were measured; `curves` have one value for each."""
    curves: tuple[Curve, ...]
    table: FigureTable
    notes: tuple[str, ...]
    """Notes for the reader: offsets, crops, damage."""
    record: dict[str, Any]
    """The manifest or the scores, as plain values."""
    cuts: tuple[int, ...] = ()
    """First frames of the shots after the first."""
    summary: str = ""
    """First sentence; empty: one that counts versions and frames."""
    shown_first: str | None = None
    """Label of the version that is shown at first; None: the first result."""

    def compared_curves(self) -> list[Curve]:
        """Return the curves of the compared versions only."""
        labels = {self.versions[place].label for place in compared_versions(self.versions)}
        return [
            replace(
                curve,
                values={label: line for label, line in curve.values.items() if label in labels},
            )
            for curve in self.curves
            if labels & curve.values.keys()
        ]


def compared_versions(versions: Sequence[Version]) -> list[int]:
    """Return the positions of the versions whose differences are shown: the results.

    A single one is compared with the enlarged input; where there is none, with the truth.
    """
    places = [place for place, version in enumerate(versions) if version.role is Role.RESULT]
    for role in (Role.ENLARGED, Role.TRUTH):
        if len(places) < 2:
            places += [place for place, version in enumerate(versions) if version.role is role]
    return places


def curves(measured: Sequence[MeasuredVersion], frames: Sequence[int]) -> Iterator[Curve]:
    """Draw a curve over `frames` for each metric that has a value for some of them."""
    for metric, figure in measured[0].figures.items():
        lines = {version.label: _line(version, metric, frames) for version in measured}
        values = {label: line for label, line in lines.items() if np.isfinite(line).any()}
        if values:
            yield Curve(metric, figure.unit, figure.higher_is_better, values)


def figure_table(
    measured: Sequence[MeasuredVersion],
    captions: Sequence[str],
    best: Callable[[str], frozenset[int]] = lambda _metric: frozenset(),
) -> FigureTable:
    """Tabulate the means; `best` gives the columns that nothing beats by a metric. The caption ends
    with why figures are missing, and with the forms of metrics of which several are in use."""
    shown = measured[0].figures
    rows = [
        TableRow(
            metric,
            _hint(figure),
            tuple(
                _cell(version.figures.get(metric), version.intervals.get(metric))
                for version in measured
            ),
            best(metric),
        )
        for metric, figure in shown.items()
    ]
    reasons = [f"{name}: {figure.reason}" for name, figure in shown.items() if figure.reason]
    forms = [f"{name}: {METRICS[name].form}." for name in shown if METRICS[name].form]
    return FigureTable(
        tuple(version.label for version in measured),
        tuple(rows),
        " ".join([*captions, *reasons, *forms]),
    )


def _line(version: MeasuredVersion, metric: str, frames: Sequence[int]) -> Values:
    """Return the values of a metric (frames,), NaN where there is none."""
    figure = version.figures.get(metric)
    values = () if figure is None else figure.per_frame or ()
    if len(values) != len(version.frames):
        # A run whose truth ends early has fewer values than frames; they cannot be placed.
        return np.full(len(frames), np.nan)
    by_frame = dict(zip(version.frames, values, strict=True))
    return np.array([by_frame.get(frame) for frame in frames], dtype=np.float64)  # None becomes NaN


def _cell(figure: MetricResult | None, interval: Interval | None) -> Cell:
    if figure is None or figure.mean is None:
        return Cell("\N{EN DASH}")
    network = "" if figure.network is None else f" ({figure.network})"
    between = "" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}"
    return Cell(f"{figure.mean:.4f}{network}", between)


def _hint(figure: MetricResult) -> str:
    direction = "higher is better" if figure.higher_is_better else "lower is better"
    return direction if figure.unit == "1" else f"{figure.unit}, {direction}"


def printable(text: str) -> str:
    """Show bytes of a file name that are no text escaped."""
    return text.encode(errors="backslashreplace").decode()
