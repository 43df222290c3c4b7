"""What raters said: means with confidence intervals, and which clips they tell apart."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table
from rich.text import Text
from scipy.stats import t

from vsr.errors import InputError

CONFIDENCE = 0.95
WORST, BEST = 1, 5


@dataclass(frozen=True)
class ClipOpinion:
    """What raters think of one clip."""

    clip: str
    mean: float
    """Of the raters' own means, 1 to 5."""
    interval: tuple[float, float] | None
    """Where the mean of all such raters lies, at 95 %; None for a single rater."""
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
        """Plain values for strict JSON."""
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
    answer_key = _Key.read(key)
    by_rater: dict[str, dict[int, float]] = {}
    counts = dict.fromkeys(range(len(answer_key.clips)), 0)
    for path in ratings:
        rater, given = answer_key.read_ratings(path)
        if rater in by_rater:
            raise InputError(f"{path}: a second file by rater '{rater}'; give one for each rater")
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
    """For reading."""
    table = Table(
        caption="#: rank; = is a tie: the paired difference over the raters is not significant"
    )
    table.add_column("clip", overflow="fold")
    for heading in ("mean of 1 to 5", "95 % interval", "raters", "ratings", "#"):
        table.add_column(heading, justify="right")
    ranks = [clip.rank for clip in opinions.clips]
    for clip in opinions.clips:
        # Brackets in a name are no markup, and bytes that are no text are shown escaped.
        name = Text(clip.clip.encode(errors="backslashreplace").decode())
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
    """Student's interval of a mean at 95 %; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _ranks(ordered: Sequence[int], raters: Sequence[dict[int, float]]) -> dict[int, int]:
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
class _Key:
    sheet: str
    clips: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    """For each trial the clip that stood at each label."""

    @classmethod
    def read(cls, path: Path) -> "_Key":
        record = _read_object(path)
        try:
            key = cls(
                str(record["sheet"]),
                tuple(str(clip) for clip in record["clips"]),
                tuple(tuple(int(clip) for clip in trial["order"]) for trial in record["trials"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is not the key of a sheet; give what vsr mos sheet wrote beside it"
            ) from error
        if any(sorted(order) != list(range(len(key.clips))) for order in key.orders):
            raise InputError(
                f"{path}: its trials do not show each clip once; give what vsr mos sheet wrote"
            )
        return key

    def read_ratings(self, path: Path) -> tuple[str, dict[int, list[int]]]:
        """The rater's name, or the file's for one without, and what was given to each clip."""
        record = _read_object(path)
        if record.get("sheet") != self.sheet:
            raise InputError(
                f"{path} rates sheet {record.get('sheet')}; the key belongs to {self.sheet}"
            )
        rows = record.get("ratings")
        if not isinstance(rows, list) or len(rows) != len(self.orders):
            raise InputError(f"{path}: expected ratings of {len(self.orders)} trials")
        given: dict[int, list[int]] = {clip: [] for clip in range(len(self.clips))}
        for number, (row, order) in enumerate(zip(rows, self.orders, strict=True), start=1):
            if not isinstance(row, list) or len(row) != len(order) or not all(map(_is_rating, row)):
                raise InputError(
                    f"{path}: trial {number} is {row}; expected {len(order)} ratings of {WORST} to "
                    f"{BEST}, or null"
                )
            for clip, rating in zip(order, row, strict=True):
                if rating is not None:
                    given[clip].append(rating)
        return str(record.get("rater") or path), given


def _is_rating(value: Any) -> bool:
    return value is None or (type(value) is int and WORST <= value <= BEST)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds no JSON object; give what the sheet saved")
    return record
