"""What is shown of a damaged clip: pictures that are whole, and at times that a player can use."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import tee, zip_longest
from typing import TypeVar

from vsr.video.read.damage import DamageLog
from vsr.video.read.decoder import DecodedFrame, Decoder


def conceal_by_repetition(
    pictures: Iterator[DecodedFrame], decoder: Decoder
) -> Iterator[DecodedFrame]:
    """The last whole picture again in place of each that is damaged or, where times are stored,
    lost."""
    whole: DecodedFrame | None = None
    last_time: int | None = None
    for picture in pictures:
        for time in _lost_times(decoder, last_time, picture.pts):
            if whole is not None:
                yield replace(whole, pts=time, duration=0)
        if picture.is_whole:
            whole = picture
        last_time = picture.pts
        yield picture if whole is None else replace(picture, frame=whole.frame)
    for time in _lost_times(decoder, last_time, None):
        if whole is not None:
            yield replace(whole, pts=time, duration=0)


def _lost_times(decoder: Decoder, after: int | None, before: int | None) -> list[int]:
    """The times between two pictures that lost ones had, taken out of the decoder's list."""
    times = sorted(decoder.lost)
    decoder.lost.clear()
    return [
        time
        for time in times
        if (after is None or time > after) and (before is None or time < before)
    ]


def with_repaired_timestamps(
    pictures: Iterator[DecodedFrame], decoder: Decoder, time_base: Fraction, log: DamageLog
) -> Iterator[tuple[DecodedFrame, int, int]]:
    """Each picture with its presentation time and duration; times strictly increase.

    Where the source stores none they are 0, 1, 2 ... of `time_base`; what had to be changed is told
    to `log`.
    """
    if not decoder.has_times:
        yield from ((picture, index, 1) for index, picture in enumerate(pictures))
        return
    usual_step = max(1, round(1 / (decoder.rate * time_base)))
    repairer = TimestampRepairer(usual_step, ticks_per_second=max(1, round(1 / time_base)))
    for index, (picture, following) in enumerate(with_next(pictures)):
        time, fault = repairer.repair(picture.pts, None if following is None else following.pts)
        if fault is not None:
            seconds = float(time * time_base)
            log.add(
                "repaired_timestamps",
                f"frame {index} has a {fault} timestamp and is shown at {seconds:.3f} s",
            )
        yield picture, time, picture.duration


T = TypeVar("T")

MAX_STEP_SECONDS = 24 * 3600
"""No frame is meant to be shown for longer than a day."""


class TimestampRepairer:
    """Makes presentation times strictly increase and changes as few of them as it can."""

    def __init__(self, usual_step: int, ticks_per_second: int) -> None:
        self._step = usual_step
        self._ticks_per_second = ticks_per_second
        self._last: int | None = None
        self._shift = 0

    def repair(self, pts: int | None, following: int | None = None) -> tuple[int, str | None]:
        """The time for a frame that claims `pts`, and what was wrong with the claim: None, or an
        adjective.

        `following` is what the next frame claims, by which a single time that leapt is told from
        times that go on.
        """
        claimed = None if pts is None else pts + self._shift
        after = None if following is None else following + self._shift
        if self._last is None:
            return self._begin(claimed, after)
        if claimed is None:
            return self._fill(self._step, after), "missing"
        if claimed > self._last:
            if self._is_jump(claimed, after):
                return self._fill(self._step, after), "leaping"
            self._step = claimed - self._last
            self._last = claimed
            return claimed, None
        if self._last - claimed > self._ticks_per_second and (after is None or after <= self._last):
            # The times start again, as in recordings that were joined: all that follow move along.
            self._shift += self._last + self._step - claimed
            self._last += self._step
            return self._last, "restarted"
        fault = "duplicate" if claimed == self._last else "backward"
        # Half a step leaves room before the next frame, whose own time is probably right.
        return self._fill(max(self._step // 2, 1), after), fault

    def _begin(self, claimed: int | None, after: int | None) -> tuple[int, str | None]:
        fault = "missing" if claimed is None else None
        if claimed is not None and after is not None and claimed - after > self._ticks_per_second:
            claimed, fault = None, "leaping"
        if claimed is None:
            claimed = 0 if after is None else min(max(after - self._step, 0), after - 1)
        self._last = claimed
        return claimed, fault

    def _is_jump(self, claimed: int, after: int | None) -> bool:
        """Whether the next frame's time fits what came before better than this one's does."""
        assert self._last is not None
        if claimed - self._last > MAX_STEP_SECONDS * self._ticks_per_second:
            return True
        if after is None or not self._last < after <= claimed:
            return False
        return abs(after - self._last - 2 * self._step) < abs(claimed - self._last - self._step)

    def _fill(self, step: int, after: int | None) -> int:
        """A time a step later, yet before the next frame's where that leaves room."""
        assert self._last is not None
        room = after - self._last if after is not None and after > self._last + 1 else 2 * step
        self._last += max(1, min(step, room // 2))
        return self._last


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each item beside the one after it."""
    items, following = tee(items)
    next(following, None)
    return zip_longest(items, following)
