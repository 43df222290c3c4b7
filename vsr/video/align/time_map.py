"""Maps from the times of one clip to those of another: from their timestamps, checked against
their pictures.

Containers differ in start and unit of their times, so several maps are guessed from the timestamps,
and the one under which the pictures match best wins. A search by pictures overrules the timestamps
only where it matches clearly better, so that a still clip keeps its own times.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from vsr.video.frames import Frame

Values = NDArray[np.float16]
Size = tuple[int, int]
"""Height and width in pixels."""

BRIEF_FINGERPRINT_FRAMES = 24
"""Each is decoded once more than scoring itself needs."""
LONG_FINGERPRINT_FRAMES = 20_000
"""A quarter of an hour at 25 frames a second: 61 MB of small pictures."""
THUMBNAIL_PX = (32, 48)
SAMPLES = 64
"""Frames that a guess is judged by."""
COARSE_SAMPLES = 8
CLOSE_RATE_RATIO = 0.05
"""Rates closer than this (film on television, NTSC) part too slowly for a brief fingerprint."""
UNRELATED_ERROR = 4.0
"""Error in squared gray levels of small pictures: a result differs less from its truth, whatever
upscaled it."""
CODING_ERROR = 0.05
"""Squared gray levels by which rounding and coding change one picture."""
CLEARLY_LESS_RATIO = 1 / 6
NEIGHBOR_STEPS = 4
SAME_RATE = 1e-5


@dataclass(frozen=True, order=True)
class TimeMap:
    """Turns a result's times into another clip's."""

    offset_seconds: float = 0.0
    stretch: float = 1.0
    """1 unless the clips show the same frames at different rates."""

    def to_other(self, seconds: float) -> float:
        """The other clip's time at a time of the result."""
        return seconds * self.stretch + self.offset_seconds

    def to_result(self, seconds: float) -> float:
        """The result's time at a time of the other clip."""
        return (seconds - self.offset_seconds) / self.stretch

    def compose(self, other: "TimeMap") -> "TimeMap":
        """Map this clip's times to those of another clip, given the maps of both onto one and the
        same third."""
        return TimeMap(
            (self.offset_seconds - other.offset_seconds) / other.stretch,
            self.stretch / other.stretch,
        )

    def to_json(self) -> dict[str, float]:
        """Plain values for strict JSON."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """When the first frames of a clip are shown, and roughly what they show."""

    seconds: NDArray[np.float64]
    """(N,), strictly increasing."""
    thumbnails: Values
    """(N, P), see `thumbnail`."""
    size: Size
    frames_per_second: float | None
    """The header's claim."""


@dataclass(frozen=True)
class _Fit:
    matches: int
    error: float
    """Mean squared difference of small pictures, in gray levels; infinite without matches."""


def thumbnail(pixels: torch.Tensor) -> Values:
    """Reduce a picture (3, H, W) to a few numbers, in gray levels less their mean, so that
    brightness does not matter."""
    # Green is most of what is seen, and a third of the work.
    small = adaptive_avg_pool2d(pixels[1:2], THUMBNAIL_PX).flatten()
    levels: Values = (255 * (small - small.mean())).half().cpu().numpy()
    return levels


def squared_error(one: Values, other: Values) -> float:
    """Mean squared difference of two thumbnails."""
    return float(np.square(one - other, dtype=np.float32).mean())


def error_floor(one: Size, other: Size) -> float:
    """The error up to which thumbnails of two clips' pictures say nothing of time.

    Where the grids of pixels differ, one may be cropped or sampled a pixel aside, which looks like
    a moment's pan.
    """
    if any(
        side < cells
        for size in (one, other)
        for side, cells in zip(size, THUMBNAIL_PX, strict=True)
    ):
        return inf
    return CODING_ERROR if one == other else UNRELATED_ERROR


def is_clearly_less(error: float, than: float, floor: float) -> bool:
    """Whether two errors of thumbnails differ by more than coding, or a pixel aside, explains."""
    return than > floor and error < than * CLEARLY_LESS_RATIO


def take_fingerprint(
    frames: Iterable[Frame], limit: int, frames_per_second: float | None
) -> Fingerprint:
    """Read the first `limit` frames and keep a thumbnail of each."""
    seconds, thumbnails = [], []
    size = (0, 0)
    for frame in islice(frames, limit):
        size = (frame.height, frame.width)
        seconds.append(frame.seconds)
        thumbnails.append(thumbnail(frame.pixels))
    return Fingerprint(np.array(seconds), np.array(thumbnails), size, frames_per_second)


def guess_time_map(result: Fingerprint, other: Fingerprint) -> TimeMap:
    """Guess the time map from timestamps: their own, or aligned by their first frames; each at
    their own rates or at one.

    Where the pictures do not decide, the guess that matches most frames wins, own times before
    others: a result that lost its first frame keeps its times, one whose container starts anew does
    not.
    """
    # Equal times come first, and only a better fit replaces them.
    chosen, *others = _candidate_maps(result, other)
    fit = _evaluate(result, other, chosen)
    floor = error_floor(result.size, other.size)
    for guess in others:
        rival = _evaluate(result, other, guess)
        matches_more = guess.stretch == chosen.stretch and rival.matches > fit.matches
        fits_as_well = not is_clearly_less(fit.error, rival.error, floor)
        if is_clearly_less(rival.error, fit.error, floor) or (matches_more and fits_as_well):
            chosen, fit = guess, rival
    return chosen


def needs_search(result: Fingerprint, other: Fingerprint, time_map: TimeMap) -> bool:
    """Tell whether the pictures contradict a time map, or rates are so close that only a longer
    look tells them apart."""
    floor = error_floor(result.size, other.size)
    # 25 and 24 fps part by one frame in a second: a brief look cannot tell such rates apart.
    if SAME_RATE < abs(_rate_ratio(result, other) - 1) < CLOSE_RATE_RATIO:
        return floor < inf
    fit = _evaluate(result, other, time_map)
    if fit.error > UNRELATED_ERROR and floor < inf:
        return True
    step = _median_step(other)
    shifted = [
        TimeMap(time_map.offset_seconds + steps * step, time_map.stretch)
        for steps in range(-NEIGHBOR_STEPS, NEIGHBOR_STEPS + 1)
    ]
    return any(
        is_clearly_less(_evaluate(result, other, guess).error, fit.error, floor)
        for guess in shifted
    )


def search_time_map(result: Fingerprint, other: Fingerprint) -> TimeMap:
    """Search the time map by pictures: any start of one clip within the other, where that fits
    clearly better than the timestamps."""
    stamped = guess_time_map(result, other)
    # A few frames match well by chance: half of the shorter clip must.
    least = min(SAMPLES, max(min(len(result.seconds), len(other.seconds)) // 2, 2))
    # Either clip may begin within the other.
    candidates = [
        TimeMap(float(offset), stretch)
        for stretch in {guess.stretch for guess in _candidate_maps(result, other)}
        for offset in [
            *(other.seconds - result.seconds[0] * stretch),
            *(other.seconds[0] - result.seconds * stretch),
        ]
    ]
    fits_and_maps = [
        (_evaluate(result, other, time_map, COARSE_SAMPLES), time_map) for time_map in candidates
    ]
    # A few samples rule most offsets out; only the best of them are measured in full.
    likely = sorted(
        (fit.error, time_map) for fit, time_map in fits_and_maps if fit.matches >= least
    )[:SAMPLES]
    fits = [(_evaluate(result, other, time_map).error, time_map) for _, time_map in likely]
    if not fits:
        return stamped
    error, best = min(fits)
    floor = error_floor(result.size, other.size)
    return (
        best if is_clearly_less(error, _evaluate(result, other, stamped).error, floor) else stamped
    )


def _candidate_maps(result: Fingerprint, other: Fingerprint) -> list[TimeMap]:
    start, other_start = float(result.seconds[0]), float(other.seconds[0])
    guesses = [TimeMap(), TimeMap(other_start - start)]
    ratio = _rate_ratio(result, other)
    if abs(ratio - 1) > SAME_RATE:
        guesses += [TimeMap(0.0, ratio), TimeMap(other_start - start * ratio, ratio)]
    return list(dict.fromkeys(guesses))


def _rate_ratio(result: Fingerprint, other: Fingerprint) -> float:
    """Ratio that stretches the result's frame step to the other's; 1 where a rate is unknown."""
    if not result.frames_per_second or not other.frames_per_second:
        return 1.0
    return result.frames_per_second / other.frames_per_second


def _median_step(clip: Fingerprint) -> float:
    return (
        float(np.median(np.diff(clip.seconds)))
        if len(clip.seconds) > 1
        else 1 / (clip.frames_per_second or 25.0)
    )


def _evaluate(
    result: Fingerprint, other: Fingerprint, time_map: TimeMap, samples: int = SAMPLES
) -> _Fit:
    """Count the frames that have a partner, and measure how well a sample of those fits."""
    wanted = result.seconds * time_map.stretch + time_map.offset_seconds
    # The nearest time in `other` is the one right before or right after.
    after = np.searchsorted(other.seconds, wanted).clip(1, max(len(other.seconds) - 1, 1))
    last = len(other.seconds) - 1
    before, after = np.minimum(after - 1, last), np.minimum(after, last)
    nearest = np.where(
        wanted - other.seconds[before] <= other.seconds[after] - wanted, before, after
    )
    # Half a step of the faster clip: a frame further off belongs to a neighbor.
    reach = min(_median_step(other), _median_step(result) * time_map.stretch) / 2
    matched = np.flatnonzero(np.abs(other.seconds[nearest] - wanted) < reach * 0.999)
    if not len(matched):
        return _Fit(0, inf)
    sample = matched[
        np.linspace(0, len(matched) - 1, min(samples, len(matched))).round().astype(int)
    ]
    return _Fit(
        len(matched), squared_error(result.thumbnails[sample], other.thumbnails[nearest[sample]])
    )
