"""Ratings: their means with confidence intervals, and the clips that raters tell apart."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeVar

from rich.table import Table
from rich.text import Text
from scipy.stats import t

from vsr.errors import InputError
from vsr.records import Origin, from_json, limits
from vsr.text import printable

CONFIDENCE = 0.95
WORST, BEST = 1, 5

T = TypeVar("T")


@dataclass(frozen=True)
class ClipOpinion:
    """Opinion of the raters of one clip."""

    clip: str
    mean: float
    """Mean of the raters' own means, 1 to 5."""
    interval: tuple[float, float] | None
    """Range of the mean of all such raters, at 95 %; None for a single rater."""
    raters: int
    ratings: int
    rank: int
    """From 1; clips that the raters do not tell apart from the best of a rank share it."""


@dataclass(frozen=True)
class Opinions:
    """The clips from best to worst, of one sheet."""

    sheet: str
    clips: tuple[ClipOpinion, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for strict JSON."""
        clips = [
            {**asdict(clip), "interval": clip.interval and list(clip.interval)}
            for clip in self.clips
        ]
        return {
            "sheet": self.sheet,
            "scale": [WORST, BEST],
            "confidence": CONFIDENCE,
            "clips": clips,
        }


def read_opinions(ratings: Sequence[Path], key: Path) -> Opinions:
    """Undo the shuffling and average: first over each rater's trials, then over the raters.

    Intervals are Student's t over raters, since ratings by one person are alike. A clip shares the
    rank of the one before unless the paired differences to the best of that rank, rater by rater,
    are more than noise. Raises InputError for files that are no ratings of this key's sheet, hold
    none, or repeat a rater.
    """
    answer_key = _read_key(key)
    by_rater: dict[str, dict[int, float]] = {}
    counts = dict.fromkeys(range(len(answer_key.clips)), 0)
    for path in ratings:
        rater, given = _read_ratings(path, answer_key)
        if rater in by_rater:
            raise InputError(f"{path}: a second file by rater '{rater}'; give one for each rater")
        # One rater, one vote: who rates more trials does not count more.
        by_rater[rater] = {clip: fmean(values) for clip, values in given.items() if values}
        for clip, values in given.items():
            counts[clip] += len(values)
    means = {clip: [own[clip] for own in by_rater.values() if clip in own] for clip in counts}
    unrated = [answer_key.clips[clip] for clip, own in means.items() if not own]
    if unrated:
        raise InputError(
            f"nobody rated {', '.join(unrated)}; expected at least one rating for every clip"
        )
    ordered = sorted(means, key=lambda clip: -fmean(means[clip]))
    ranks = _ranks(ordered, list(by_rater.values()))
    clips = [
        ClipOpinion(
            answer_key.clips[clip], fmean(own), t_interval(own), len(own), counts[clip], ranks[clip]
        )
        for clip in ordered
        for own in [means[clip]]
    ]
    return Opinions(answer_key.sheet, tuple(clips))


def opinion_table(opinions: Opinions) -> Table:
    """Tabulate the clips from best to worst."""
    table = Table(
        caption="#: rank; = is a tie: the paired difference over the raters is not significant"
    )
    table.add_column("clip", overflow="fold")
    for heading in ("mean of 1 to 5", "95 % interval", "raters", "ratings", "#"):
        table.add_column(heading, justify="right")
    ranks = [clip.rank for clip in opinions.clips]
    for clip in opinions.clips:
        # As Text: brackets in a name are no markup.
        name = Text(printable(clip.clip))
        interval = (
            "-" if clip.interval is None else f"{clip.interval[0]:.2f} to {clip.interval[1]:.2f}"
        )
        tie = "=" if ranks.count(clip.rank) > 1 else ""
        table.add_row(
            name,
            f"{clip.mean:.2f}",
            interval,
            str(clip.raters),
            str(clip.ratings),
            f"{clip.rank}{tie}",
        )
    return table


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return Student's interval of a mean at 95 %; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _ranks(ordered: Sequence[int], raters: Sequence[dict[int, float]]) -> dict[int, int]:
    # Paired by rater: that some are stricter than others is no noise.
    leader, ranks = ordered[0], {ordered[0]: 1}
    for position, clip in enumerate(ordered[1:], start=2):
        differences = [own[leader] - own[clip] for own in raters if leader in own and clip in own]
        interval = t_interval(differences)
        if interval is not None and interval[0] > 0:
            leader, ranks[clip] = clip, position
        else:
            ranks[clip] = ranks[leader]
    return ranks


@dataclass(frozen=True)
class _KeyTrial:
    """One trial in the key of a sheet."""

    order: tuple[int, ...]
    """Clip that stood at each label."""


@dataclass(frozen=True)
class _Key:
    """Part of a sheet's key that ratings are read by; other tools may add to the file."""

    sheet: str
    clips: tuple[str, ...]
    trials: tuple[_KeyTrial, ...]


@dataclass(frozen=True)
class _Ratings:
    """Ratings of one rater, as the page saves them."""

    sheet: str
    ratings: tuple[tuple[int | None, ...], ...] = field(
        metadata=limits(at_least=WORST, at_most=BEST)
    )
    """One row for each trial, one entry for each label; None for a picture left unrated."""
    rater: str = ""


def _read_key(path: Path) -> _Key:
    key = _read(_Key, path, "give what vsr mos sheet wrote beside the page")
    clips = list(range(len(key.clips)))
    if any(sorted(trial.order) != clips for trial in key.trials):
        raise InputError(
            f"{path}: its trials do not show each clip once; give what vsr mos sheet wrote"
        )
    return key


def _read_ratings(path: Path, key: _Key) -> tuple[str, dict[int, list[int]]]:
    """Return the rater's name, or the file's for one without, and the ratings of each clip."""
    saved = _read(_Ratings, path, "give what the sheet saved")
    if saved.sheet != key.sheet:
        raise InputError(f"{path} rates sheet {saved.sheet}; the key belongs to {key.sheet}")
    if len(saved.ratings) != len(key.trials):
        raise InputError(f"{path}: expected ratings of {len(key.trials)} trials")
    given: dict[int, list[int]] = {clip: [] for clip in range(len(key.clips))}
    for number, (row, trial) in enumerate(zip(saved.ratings, key.trials, strict=True), start=1):
        if len(row) != len(trial.order):
            raise InputError(
                f"{path}: trial {number} has {len(row)} ratings; expected {len(trial.order)}"
            )
        for clip, rating in zip(trial.order, row, strict=True):
            if rating is not None:
                given[clip].append(rating)
    return saved.rater or str(path), given


def _read(cls: type[T], path: Path, remedy: str) -> T:
    """Read a dataclass from JSON; raises InputError where the file holds something else."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return from_json(cls, text, Origin(f"{path} ({remedy})", InputError, lenient=True))
