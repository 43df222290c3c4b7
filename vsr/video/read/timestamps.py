"""Presentation times as containers give them, made such that a player can use them."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import tee, zip_longest
from typing import TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

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
        """Find the time for a frame that claims `pts`, and an adjective for the fault of the claim;
        None if it has none.

        `following` is the next frame's claim: it tells a single outlier from a jump after which
        times continue.
        """
        claimed = None if pts is None else pts + self._shift
        after = None if following is None else following + self._shift
        if self._last is None:
            return self._begin(claimed, after)
        if claimed is None:
            return self._fill(self._step, after), "missing"
        # Times that rise are kept, but for a single one that leapt ahead of its neighbors.
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
        # A first time far behind the second one belongs to neither side of a clip: invent one.
        fault = "missing" if claimed is None else None
        if claimed is not None and after is not None and claimed - after > self._ticks_per_second:
            claimed, fault = None, "leaping"
        if claimed is None:
            claimed = 0 if after is None else min(max(after - self._step, 0), after - 1)
        self._last = claimed
        return claimed, fault

    def _is_jump(self, claimed: int, after: int | None) -> bool:
        """Tell whether the next frame's time fits what came before better than this one's does."""
        assert self._last is not None
        if claimed - self._last > MAX_STEP_SECONDS * self._ticks_per_second:
            return True
        if after is None or not self._last < after <= claimed:
            return False
        # Two steps from the frame before to the one after is what a leaping time hides.
        return abs(after - self._last - 2 * self._step) < abs(claimed - self._last - self._step)

    def _fill(self, step: int, after: int | None) -> int:
        """Take a time a step later, yet before the next frame's where that leaves room."""
        assert self._last is not None
        room = after - self._last if after is not None and after > self._last + 1 else 2 * step
        self._last += max(1, min(step, room // 2))
        return self._last


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Pair each item with the one after it; the last with None."""
    items, following = tee(items)
    next(following, None)
    return zip_longest(items, following)


class AviTimestamps:
    """Times of an AVI's frames: it stores one for each packet, and the n-th frame shown has the
    n-th of them.

    What libavformat makes up instead jumbles the frames of H.264, whose packets are not in the
    order of showing.
    """

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._delay: int | None = None

    def add(self, dts: int | None) -> None:
        if dts is not None:
            self._times.append(dts)

    def take(self, frame: av.VideoFrame) -> int | None:
        """Take the time of the next frame shown; those of frames that the decoder left out are
        passed over."""
        # The decoder hands on with each frame the dts of the packet that released it, which runs
        # ahead of the times by the constant delay of reordering; a larger distance is a lost frame.
        if self._times and frame.dts is not None:
            if self._delay is None:
                self._delay = frame.dts - self._times[0]
            while len(self._times) > 1 and frame.dts - self._times[0] > self._delay:
                self._times.popleft()
        return self._times.popleft() if self._times else None


JOINABLE_FORMATS = ("mpegts", "mpeg")
"""Files of these may be joined by writing one after the other."""

CONTINUOUS_STREAMS = ("audio", "video")
"""The others have too few packets to tell by where a part begins."""

_MAX_BACKWARD_SECONDS = 1
"""Streams are interleaved, and dts of one stream never go back, so this much is no disorder."""


class DiscontinuityCorrector:
    """Corrects the times of packets, so that those of each stream continue where a joined recording
    starts again.

    Whoever reads the packets of the same streams in the order of the file is given the same times.
    """

    def __init__(self, container: InputContainer) -> None:
        self.can_occur = container.format.name in JOINABLE_FORMATS
        self._offsets = [Fraction(0)]
        self._part_of: dict[int, int] = {}
        self._last: dict[int, tuple[Fraction, Fraction]] = {}
        self._first = Fraction(0)
        self._end = Fraction(0)

    def correct(self, packet: "Packet[Stream]") -> Fraction | None:
        """Set the times of the next packet. Returns the end in seconds of what came before, where
        it is the first of a part."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self.can_occur or ticks is None:
            return None
        seconds, index = ticks * packet.time_base, packet.stream_index
        is_steady = packet.stream.type in CONTINUOUS_STREAMS
        discontinuity = self._detect_discontinuity(index, seconds) if is_steady else None
        # Subtitles have too few packets to tell their part by: they follow the latest one.
        offset = self._offsets[self._part_of[index] if is_steady else -1]
        moved = round(offset / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + moved
        packet.dts = None if packet.dts is None else packet.dts + moved
        if is_steady:
            self._end = max(self._end, seconds + offset + (packet.duration or 0) * packet.time_base)
        return discontinuity

    def _detect_discontinuity(self, index: int, seconds: Fraction) -> Fraction | None:
        if index not in self._last:
            # Streams begin together; one whose first packet comes late belongs to the latest part.
            self._part_of[index] = len(self._offsets) - 1
            self._first = min(self._first, seconds) if self._last else seconds
            self._last[index] = seconds, seconds
            return None
        before_last, last = self._last[index]
        self._last[index] = last, seconds
        # Back by more than disorder explains, and not back to where a single stray packet left.
        if (
            last - seconds <= _MAX_BACKWARD_SECONDS
            or 0 <= seconds - before_last <= _MAX_BACKWARD_SECONDS
        ):
            return None
        self._part_of[index] += 1
        # Another stream met this discontinuity first, and its offset holds for all.
        if self._part_of[index] < len(self._offsets):
            return None
        # The streams of a part need not begin at the same time, so the part begins where the first
        # one began.
        begin = self._first if 0 <= seconds - self._first <= _MAX_BACKWARD_SECONDS else seconds
        discontinuity = self._end
        self._offsets.append(discontinuity - begin)
        return discontinuity
