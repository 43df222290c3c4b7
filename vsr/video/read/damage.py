"""Damage of a clip: a log by kind, and the pictures that should have been decoded and were not."""

from dataclasses import dataclass
from heapq import heappop, heappush

import av
from av.packet import Packet
from av.stream import Stream

from vsr.errors import InputError


@dataclass(frozen=True)
class Damage:
    """One kind of damage found in a clip."""

    kind: str
    count: int
    detail: str
    """Description of the first case."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" + (f" ({self.count} in all)" if self.count > 1 else "")


class DamageLog:
    """Counts damage by kind and keeps the description of the first case; one that `stops` raises
    InputError instead."""

    def __init__(self, name: str = "", stops: bool = False) -> None:
        self._name = name
        self._stops = stops
        self._counts: dict[str, int] = {}
        self._details: dict[str, str] = {}

    def add(self, kind: str, detail: str, count: int = 1) -> None:
        if self._stops:
            raise InputError(
                f"{self._name}: damaged, {kind}: {detail}; --on-damage keep continues where it can"
            )
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._details.setdefault(kind, detail)

    def records(self) -> tuple[Damage, ...]:
        return tuple(
            Damage(kind, count, self._details[kind]) for kind, count in self._counts.items()
        )


class LostFrameTracker:
    """Matches pictures that came out of a decoder with the packets sent into it.

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
        # Open groups show some pictures before their keyframe, which need a group that is missing.
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
        """Take a decoded frame. Returns the times of pictures that should have come before it, and
        the number of those for which no failure was known."""
        if frame.interlaced_frame and self._one_a_packet:
            # A packet may hold one of its two fields.
            self._one_a_packet, self._due = False, sorted(self._failed.intersection(self._due))
        # Pictures come out in order of their times: whatever is due earlier will not come any more.
        lost: list[int] = []
        while self._due and time is not None and self._due[0] < time:
            lost.append(heappop(self._due))
        if self._due and self._due[0] == time:
            heappop(self._due)
        else:
            self._num_due_without_time -= 1
        return lost, sum(time not in self._failed for time in lost)

    def close(self) -> tuple[list[int], int]:
        """Return what `match_frame` does, for pictures that never came out."""
        lost, self._due = sorted(self._due), []
        num_silent = sum(time not in self._failed for time in lost)
        return lost, num_silent if lost else max(0, self._num_due_without_time)
