"""What a page is about, before any picture is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsr.video.align import Timeline
from vsr.video.frames import Frame

Partner = Callable[[Frame], Frame | None]
"""The frame that belongs to one of the leading version; those are asked for in order, each once."""

Pairing = Callable[[Iterator[Frame]], Partner]
"""Makes a partner of a version's frames."""


def by_order(frames: Iterator[Frame]) -> Partner:
    """For clips that have the same frames."""
    return lambda _: next(frames, None)


def by_time(frames: Iterator[Frame]) -> Partner:
    """For clips that have the same clock."""
    timeline = Timeline(frames)
    return lambda frame: timeline.pop_nearest(frame.seconds)


def by_number(numbers: Mapping[int, int]) -> Pairing:
    """For clips that were matched before: numbers of the leading version's frames to this one's,
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
    """What a version of the clip stands for."""

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
    """How its frames are found for those of the leading version."""
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
    """By label; float64 (frames,), NaN where a frame has no value."""


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
class ReportContent:
    """Everything that the page says, but for the pictures."""

    title: str
    versions: tuple[Version, ...]
    """In the order in which they are shown."""
    leader: int
    """Position of the version whose frame numbers and times are those of the page."""
    frames: tuple[int, ...]
    """Numbers of the frames that were measured; `curves` have one value for each."""
    curves: tuple[Curve, ...]
    table: FigureTable
    notes: tuple[str, ...]
    """What a reader ought to know: offsets, crops, damage."""
    record: dict[str, Any]
    """The manifest or the scores, as plain values."""
    cuts: tuple[int, ...] = ()
    """First frames of the shots after the first."""

    def compared_curves(self) -> list[Curve]:
        """The curves, of the competing versions only."""
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
    """Positions of the versions whose differences are shown: the results.

    A single one competes with the enlarged input; where there is none, with the truth.
    """
    places = [place for place, version in enumerate(versions) if version.role is Role.RESULT]
    for role in (Role.ENLARGED, Role.TRUTH):
        if len(places) < 2:
            places += [place for place, version in enumerate(versions) if version.role is role]
    return places


def hint(unit: str, higher_is_better: bool) -> str:
    """What to know of a metric's figures to read them."""
    direction = "higher is better" if higher_is_better else "lower is better"
    return direction if unit == "1" else f"{unit}, {direction}"


def printable(text: str) -> str:
    """Bytes of a file name that are no text, shown escaped."""
    return text.encode(errors="backslashreplace").decode()
