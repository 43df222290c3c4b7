"""Ranking of results, and whether it is more than noise: paired bootstrap intervals over
blocks of frames.

Frames that follow each other are alike, so that n frames tell less than n independent ones: whole
blocks of them are drawn (circular block bootstrap, Politis and Romano 1992), as long as their
correlation asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Values = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
RESAMPLES_PER_DRAW = 100
SEED = 0
MIN_FRAMES = 6
"""Smallest number of values whose noise is judged."""
MIN_BLOCKS = 4
"""A block is never longer than this share of the frames: the spread is that between blocks."""
MAX_CORRELATION = 0.97


@dataclass(frozen=True)
class Interval:
    """Range of a mean over frames, with a stated confidence."""

    low: float
    high: float
    block_frames: int
    """Length of the blocks of frames that were drawn."""

    @property
    def holds_zero(self) -> bool:
        """Whether the mean may be 0."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Entry:
    """A result's figures of one metric."""

    file: str
    mean: float
    by_frame: dict[int, float] | None
    """Value for each frame of the clip that all are compared with; None for a metric of whole
    clips."""


@dataclass(frozen=True)
class Standing:
    """Place of a result in a ranking."""

    file: str
    mean: float
    rank: int
    """From 1; equal numbers are ties."""
    difference: float | None
    """Mean over the common frames of this result's value less that of the first in the ranking;
    None for itself, and where there are no common frames."""
    interval: Interval | None
    """Interval of the difference, at a confidence of 95 % for all results of the ranking together;
    None where unknown."""


@dataclass(frozen=True)
class Ranking:
    """Results from best to worst by one metric; those that the noise does not tell apart share a
    rank."""

    metric: str
    network: str | None
    """The network behind the figures: results of different networks have rankings of their own."""
    label: str
    """The metric's name, with its network where several networks were used."""
    standings: tuple[Standing, ...]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Files by rank: those that share a group are tied."""
        ranks = dict.fromkeys(standing.rank for standing in self.standings)
        return tuple(
            tuple(standing.file for standing in self.standings if standing.rank == rank)
            for rank in ranks
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for strict JSON."""
        return {
            "order": [standing.file for standing in self.standings],
            "groups": [list(group) for group in self.groups],
            "network": self.network,
            "against_first": {
                standing.file: _difference_json(standing) for standing in self.standings[1:]
            },
            "method": "paired circular block bootstrap over frames, "
            f"{RESAMPLES} resamples, seed {SEED}",
        }


def rank(entries: Sequence[Entry], higher_is_better: bool) -> tuple[Standing, ...]:
    """Rank entries from best to worst by the mean over the frames that all have a value for, else
    by their own means.

    A result ties with the best of its rank unless their paired difference is more than noise; with
    fewer than `MIN_FRAMES` common values, and for metrics of whole clips, nothing is known of the
    noise, so nobody wins.
    """
    sign = -1 if higher_is_better else 1
    common = _common_means(entries)
    ordered = [entries[i] for i in sorted(range(len(entries)), key=lambda i: sign * common[i])]
    first = ordered[0]
    # One interval for each of several results: that all hold together asks more of each
    # (Bonferroni).
    confidence = 1 - (1 - CONFIDENCE) / max(len(ordered) - 1, 1)
    standings = [Standing(first.file, first.mean, 1, None, None)]
    leader, leader_rank = first, 1
    for position, one in enumerate(ordered[1:], start=2):
        # From the best of the rank, not from the one before: small steps must not add up to a tie.
        if not is_tie(paired_differences(one, leader), confidence):
            leader, leader_rank = one, position
        differences = paired_differences(one, first)
        mean = float(differences.mean()) if len(differences) else None
        standings.append(
            Standing(one.file, one.mean, leader_rank, mean, mean_interval(differences, confidence))
        )
    return tuple(standings)


def paired_differences(one: Entry, other: Entry) -> Values:
    """Return the values of one less those of the other on the frames where both have one, in order;
    may be empty."""
    if one.by_frame is None or other.by_frame is None:
        return np.empty(0)
    common = sorted(one.by_frame.keys() & other.by_frame.keys())
    return np.array([one.by_frame[index] - other.by_frame[index] for index in common], dtype=float)


def is_tie(differences: Values, confidence: float = CONFIDENCE) -> bool:
    """Tell whether the mean difference may be noise."""
    interval = mean_interval(differences, confidence)
    return interval is None or interval.holds_zero


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the percentile interval of the mean of successive values; None for fewer than
    `MIN_FRAMES`.

    Drawn means spread too little where there are few blocks, so their deviations are widened as
    Student's t asks for (Hesterberg, 2015). The same values always give the same interval.
    """
    count = len(values)
    if count < MIN_FRAMES:
        return None
    length = block_frames(values)
    blocks = max(round(count / length), MIN_BLOCKS)
    deviations = _drawn_means(values, length, blocks) - values.mean()
    tail = (1 - confidence) / 2
    widening = np.sqrt(blocks / (blocks - 1)) * t.ppf(1 - tail, blocks - 1) / norm.ppf(1 - tail)
    low, high = values.mean() + widening * np.quantile(deviations, [tail, 1 - tail])
    return Interval(float(low), float(high), length)


def block_frames(values: Values) -> int:
    """Return the block length for the mean of a series whose correlation falls off like an
    autoregression of order one.

    (6 r^2 / (1 - r^2)^2)^(1/3) n^(1/3) for correlation r of neighbors (Politis and White, 2004), 1
    for r <= 0.
    """
    deviations = values - values.mean()
    power = float(deviations @ deviations)
    if power == 0:
        return 1
    # Limited: values that hardly change would ask for one block as long as the clip.
    correlation = min(float(deviations[1:] @ deviations[:-1]) / power, MAX_CORRELATION)
    if correlation <= 0:
        return 1
    wanted = (6 * correlation**2 / (1 - correlation**2) ** 2 * len(values)) ** (1 / 3)
    return int(min(max(round(wanted), 1), len(values) // MIN_BLOCKS))


def _common_means(entries: Sequence[Entry]) -> list[float]:
    per_frame = [one.by_frame for one in entries if one.by_frame is not None]
    frames = set(per_frame[0]).intersection(*per_frame) if len(per_frame) == len(entries) else set()
    if not frames:
        return [one.mean for one in entries]
    return [fmean(values[index] for index in frames) for values in per_frame]


def _drawn_means(values: Values, length: int, blocks: int) -> Values:
    """Draw the means of `RESAMPLES` series made of blocks that start anywhere, the end of the
    series joined to its start."""
    # Running sums give each block's sum as one difference.
    sums = np.cumsum(np.concatenate([[0.0], values, values[: length - 1]]))
    block_sums = sums[length:] - sums[:-length]
    random = np.random.default_rng(SEED)
    # A few at a time: all together would take gigabytes for a film.
    starts = (
        random.integers(len(values), size=(RESAMPLES_PER_DRAW, blocks))
        for _ in range(RESAMPLES // RESAMPLES_PER_DRAW)
    )
    return np.concatenate([block_sums[some].sum(axis=1) for some in starts]) / (blocks * length)


def _difference_json(standing: Standing) -> dict[str, Any]:
    interval = standing.interval
    return {
        "rank": standing.rank,
        "difference": standing.difference,
        "interval_95": None if interval is None else [interval.low, interval.high],
        "block_frames": None if interval is None else interval.block_frames,
    }
