"""Recordings that were joined end to end: their times start again, and all streams must go on by the same amount."""

from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

_FORMATS = ("mpegts", "mpeg")
"""Files of these may be joined by writing one after the other."""

STEADY_STREAMS = ("audio", "video")
"""The others have too few packets to tell by where a part begins."""

_BACKWARD_SECONDS = 1
"""Streams are interleaved, and dts of one stream never go back, so this much is no disorder."""


class Joints:
    """Moves the times of packets on, so that those of each stream go on where a joined recording starts again.

    Whoever reads the packets of the same streams in the order of the file is given the same times.
    """

    def __init__(self, container: InputContainer) -> None:
        self.can_occur = container.format.name in _FORMATS
        self._offsets = [Fraction(0)]
        self._part_of: dict[int, int] = {}
        self._last: dict[int, tuple[Fraction, Fraction]] = {}
        self._first = Fraction(0)
        self._end = Fraction(0)

    def mend(self, packet: "Packet[Stream]") -> Fraction | None:
        """Set the times of the next packet; the end in seconds of what came before, where it is the first of a part."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self.can_occur or ticks is None:
            return None
        seconds, index = ticks * packet.time_base, packet.stream_index
        is_steady = packet.stream.type in STEADY_STREAMS
        joint = self._enter_part(index, seconds) if is_steady else None
        offset = self._offsets[self._part_of[index] if is_steady else -1]
        moved = round(offset / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + moved
        packet.dts = None if packet.dts is None else packet.dts + moved
        if is_steady:
            self._end = max(self._end, seconds + offset + (packet.duration or 0) * packet.time_base)
        return joint

    def _enter_part(self, index: int, seconds: Fraction) -> Fraction | None:
        if index not in self._last:
            # Streams begin together; one whose first packet comes late belongs to the latest part.
            self._part_of[index] = len(self._offsets) - 1
            self._first = min(self._first, seconds) if self._last else seconds
            self._last[index] = seconds, seconds
            return None
        before_last, last = self._last[index]
        self._last[index] = last, seconds
        if last - seconds <= _BACKWARD_SECONDS or 0 <= seconds - before_last <= _BACKWARD_SECONDS:
            return None
        self._part_of[index] += 1
        if self._part_of[index] < len(self._offsets):
            return None
        # The streams of a part need not begin at the same time, so the part begins where the first one began.
        begin = self._first if 0 <= seconds - self._first <= _BACKWARD_SECONDS else seconds
        joint = self._end
        self._offsets.append(joint - begin)
        return joint
