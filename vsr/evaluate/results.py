"""Results of scoring: plain data for the table, JSON, CSV and the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vsr.evaluate.ranking import Entry, Interval, Ranking, rank
from vsr.metrics.scoreboard import MetricResult
from vsr.video.align import Crop, TimeMap


@dataclass(frozen=True)
class ClipScores:
    """Figures of one result. All per-frame tuples have one entry for each matched
    frame, in order."""

    file: str
    frame_indices: tuple[int, ...]
    """Numbers of the result's frames that were matched and measured."""
    frame_seconds: tuple[float, ...]
    """Their presentation times on the result's clock."""
    metrics: dict[str, MetricResult]
    baseline: dict[str, MetricResult] | None
    """Figures of the enlarged low-resolution input (bicubic), where that was given."""
    unmatched: dict[str, tuple[int, ...]]
    """Frame numbers without a partner: of `result`, `reference` and `low_resolution`."""
    notes: tuple[str, ...]
    """Notes for the user: offsets, rates, crops, repeats, what the readers chose."""
    damage: tuple[str, ...]
    """Damage found in the clips; empty for sound ones."""
    reference: str | None = None
    """The truth's file, where one was given."""
    low_resolution: str | None = None
    """The input's file, where it was given."""
    partners: dict[str, tuple[int, ...]] | None = None
    """Frame numbers of the partners, by clip (`reference`, `low_resolution`), where there are such
    clips."""
    clocks: dict[str, TimeMap] | None = None
    """Maps from the result's times to those of `reference` and `low_resolution`, where there are
    such clips."""
    crop: Crop | None = None
    """Part of the result that was compared, and of the reference; None where nothing was cut
    off."""
    repeats: tuple[int, ...] = ()
    """Numbers of the result's frames that show the frame before once more while the clip it was
    compared with moves on."""
    cuts: tuple[int, ...] = ()
    """Numbers of the result's frames that were matched with the first frame of a new shot."""
    intervals: dict[str, Interval] | None = None
    """Range of each metric's mean, at 95 % by a block bootstrap over the frames; left out where it
    has none."""
    fast_flow: bool = False
    """Whether motion was estimated fast; such figures are not those of the full estimate."""

    @property
    def partner_indices(self) -> tuple[int, ...]:
        """Frame numbers in the clip that all results are compared with.

        A result's own where there is none, or where one picture is the partner of every frame.
        """
        # One picture is the partner of every frame, and its number tells them apart no more.
        leading = next(iter((self.partners or {}).values()), self.frame_indices)
        return leading if len(set(leading)) == len(leading) else self.frame_indices

    def to_json(self) -> dict[str, Any]:
        """Return plain values for strict JSON."""
        fields: dict[str, Any] = {
            "file": self.file,
            "frames": len(self.frame_indices),
            "metrics": {name: result.to_json() for name, result in self.metrics.items()},
        }
        if self.baseline is not None:
            fields["baseline"] = {name: result.to_json() for name, result in self.baseline.items()}
        intervals = self.intervals or {}
        return fields | {
            "intervals_95": {
                name: [interval.low, interval.high] for name, interval in intervals.items()
            },
            "reference": self.reference,
            "low_resolution": self.low_resolution,
            "clocks": {clip: time_map.to_json() for clip, time_map in (self.clocks or {}).items()},
            "crop": None if self.crop is None else self.crop.to_json(),
            "frame_indices": list(self.frame_indices),
            "frame_seconds": list(self.frame_seconds),
            "partners": {clip: list(indices) for clip, indices in (self.partners or {}).items()},
            "unmatched": {clip: list(indices) for clip, indices in self.unmatched.items()},
            "repeats": list(self.repeats),
            "cuts": list(self.cuts),
            "flow": "fast" if self.fast_flow else "medium",
            "notes": list(self.notes),
            "damage": list(self.damage),
        }


@dataclass(frozen=True)
class Scores:
    """The scores of one or several results."""

    results: tuple[ClipScores, ...]
    ranking: tuple[Ranking, ...] = ()
    """One entry for each metric and, where networks differ, each network; empty for a single
    result."""
    of_set: dict[str, MetricResult] = field(default_factory=dict)
    """Figures of all results together, such as their diversity; none but for those that were asked
    for."""

    def to_json(self) -> dict[str, Any]:
        """Return the one result's object, or `results` and `ranking` for several."""
        if len(self.results) == 1:
            return self.results[0].to_json()
        ranking = {entry.label: entry.to_json() for entry in self.ranking}
        fields: dict[str, Any] = {
            "results": [result.to_json() for result in self.results],
            "ranking": ranking,
        }
        return fields | (
            {"set": {name: of.to_json() for name, of in self.of_set.items()}} if self.of_set else {}
        )


def rank_results(results: Sequence[ClipScores]) -> tuple[Ranking, ...]:
    """Rank by every metric; results whose figures come from different networks apart, those without
    a figure left out."""
    return tuple(ranking for metric in results[0].metrics for ranking in _rank_by(metric, results))


def _rank_by(metric: str, results: Sequence[ClipScores]) -> Iterator[Ranking]:
    scored = [clip for clip in results if clip.metrics[metric].mean is not None]
    # Figures of different networks cannot be compared: each network has its own ranking.
    networks = sorted({clip.metrics[metric].network or "" for clip in scored})
    for network in networks:
        group = [clip for clip in scored if (clip.metrics[metric].network or "") == network]
        label = metric if len(networks) == 1 else f"{metric} ({network})"
        standings = rank(
            [_entry(clip, metric) for clip in group], group[0].metrics[metric].higher_is_better
        )
        yield Ranking(metric, network or None, label, standings)


def _entry(clip: ClipScores, metric: str) -> Entry:
    result = clip.metrics[metric]
    assert result.mean is not None, "only results with a figure compete"
    if result.per_frame is None:
        return Entry(clip.file, result.mean, None)
    values = zip(clip.partner_indices, result.per_frame, strict=True)
    return Entry(
        clip.file, result.mean, {index: value for index, value in values if value is not None}
    )
