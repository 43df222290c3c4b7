"""Finding the frame of one clip that belongs to a time of another."""

from collections.abc import Iterator
from math import inf

from vsr.video.frames import Frame


class Timeline:
    """A clip whose frames are taken by time: the nearest one within half a frame step, each at most
    once.

    The step is the shortest around the frame in either clip, so that a gap in one does not invite a
    wrong partner.
    """

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._unmatched: list[int] = []
        self._seconds_before, self._last_request = -inf, -inf
        self._current: Frame | None = next(frames, None)
        self._following: Frame | None = next(frames, None)
        self._is_matched = False

    def pop_nearest(self, seconds: float, next_seconds: float = inf) -> Frame | None:
        """Take the frame shown at `seconds`, in this clip's times; they must not decrease.

        `next_seconds` is the time of the next call, where that is known.
        """
        while self._current is not None and self._following is not None:
            # Of two equally near frames the earlier one, so that none is skipped.
            if abs(self._following.seconds - seconds) >= abs(self._current.seconds - seconds):
                break
            self._advance(self._current)
        # Half the shortest step around: further off another frame would be the partner.
        step = min(
            self._shortest_step_seconds(), seconds - self._last_request, next_seconds - seconds
        )
        self._last_request = seconds
        if (
            self._current is None
            or self._is_matched
            or abs(seconds - self._current.seconds) >= step / 2
        ):
            return None
        self._is_matched = True
        return self._current

    def unmatched_frames(self) -> list[int]:
        """Numbers of the frames that were not taken; reads the clip to its end."""
        while self._current is not None:
            self._advance(self._current)
        return self._unmatched

    def _shortest_step_seconds(self) -> float:
        """Time from the current frame to its nearer neighbor; infinite where it has none."""
        if self._current is None:
            return inf
        after = inf if self._following is None else self._following.seconds
        return min(after - self._current.seconds, self._current.seconds - self._seconds_before)

    def _advance(self, current: Frame) -> None:
        if not self._is_matched:
            self._unmatched.append(current.index)
        self._seconds_before = current.seconds
        self._current, self._following, self._is_matched = (
            self._following,
            next(self._frames, None),
            False,
        )
