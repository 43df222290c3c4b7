"""Presentation times as a player needs them: strictly rising, and changed only where they cannot be meant."""

from collections.abc import Iterable, Iterator
from itertools import tee, zip_longest
from typing import TypeVar

T = TypeVar("T")

LONGEST_STEP_SECONDS = 24 * 3600
"""No frame is meant to be shown for longer than a day."""


class Clock:
    """Makes presentation times strictly increase and changes as few of them as it can."""

    def __init__(self, usual_step: int, ticks_per_second: int) -> None:
        self._step = usual_step
        self._ticks_per_second = ticks_per_second
        self._last: int | None = None
        self._shift = 0

    def tick(self, pts: int | None, following: int | None = None) -> tuple[int, str | None]:
        """The time for a frame that claims `pts`, and what was wrong with the claim: None, or an adjective.

        `following` is what the next frame claims, by which a single time that leapt is told from times that go on.
        """
        claimed = None if pts is None else pts + self._shift
        after = None if following is None else following + self._shift
        if self._last is None:
            return self._begin(claimed, after)
        if claimed is None:
            return self._fill(self._step, after), "missing"
        if claimed > self._last:
            if self._is_leap(claimed, after):
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

    def _is_leap(self, claimed: int, after: int | None) -> bool:
        """Whether the next frame's time fits what came before better than this one's does."""
        assert self._last is not None
        if claimed - self._last > LONGEST_STEP_SECONDS * self._ticks_per_second:
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
