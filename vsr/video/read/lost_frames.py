"""Which pictures ought to come out of a decoder, and when."""

from collections import deque
from heapq import heappop, heappush

import av
from av.packet import Packet
from av.stream import Stream


class LostFrameTracker:
    """Which of the pictures that were sent to the decoder have come out of it.

    Those stored before the first keyframe, or to be shown before it, belong to what is not in the
    file.
    """

    def __init__(self, one_a_packet: bool, by_time: bool) -> None:
        self._one_a_packet = one_a_packet
        self._by_time = by_time
        self._due: list[int] = []
        self._failed: set[int] = set()
        self._num_due_without_time = 0
        self._first_time: int | None = None
        self._has_begun = False
        self.num_leading = 0
        """Packets before the first keyframe."""

    def add_packet(self, packet: "Packet[Stream]") -> None:
        if not self._has_begun and packet.is_keyframe:
            self._has_begun, self._first_time = True, packet.pts
        elif not self._has_begun:
            self.num_leading += 1
        if not self._one_a_packet or not self._has_begun or packet.is_discard:
            return
        if packet.pts is None or not self._by_time:
            self._num_due_without_time += 1
        elif self._first_time is None or packet.pts >= self._first_time:
            heappush(self._due, packet.pts)

    def add_failure(self, packet: "Packet[Stream]") -> None:
        """Note that an error was raised for this packet."""
        if packet.pts is None or not self._by_time:
            self._num_due_without_time -= 1
            return
        self._failed.add(packet.pts)
        if packet.pts not in self._due:
            heappush(self._due, packet.pts)

    def match_frame(self, frame: av.VideoFrame, time: int | None) -> tuple[list[int], int]:
        """Times of what should have come before this frame; and of how many of them no failure was
        known."""
        if frame.interlaced_frame and self._one_a_packet:
            # A packet may hold one of its two fields.
            self._one_a_packet, self._due = False, sorted(self._failed.intersection(self._due))
        lost: list[int] = []
        while self._due and time is not None and self._due[0] < time:
            lost.append(heappop(self._due))
        if self._due and self._due[0] == time:
            heappop(self._due)
        else:
            self._num_due_without_time -= 1
        return lost, sum(time not in self._failed for time in lost)

    def close(self) -> tuple[list[int], int]:
        """The same of what never came out."""
        lost, self._due = sorted(self._due), []
        num_silent = sum(time not in self._failed for time in lost)
        return lost, num_silent if lost else max(0, self._num_due_without_time)


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
        """The time of the next frame shown; those of frames that the decoder left out are passed
        over."""
        if self._times and frame.dts is not None:
            if self._delay is None:
                self._delay = frame.dts - self._times[0]
            while len(self._times) > 1 and frame.dts - self._times[0] > self._delay:
                self._times.popleft()
        return self._times.popleft() if self._times else None
