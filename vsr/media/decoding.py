"""Packets and pictures -> decoded frames, with an account of what could not be read or decoded."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.errors import InputError
from vsr.media.pictures import PICTURES_PER_SECOND, decode_picture
from vsr.media.sources import PIPE_HINT, PIPE_NAME, read_packets


@dataclass(frozen=True)
class Damage:
    """One kind of harm found in a clip."""

    kind: str
    count: int
    detail: str
    """What happened, and where it was first seen."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" + (f" ({self.count} in all)" if self.count > 1 else "")


class DamageLog:
    """Counts harm by kind and keeps what was said of the first case."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._details: dict[str, str] = {}

    def add(self, kind: str, detail: str, count: int = 1) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._details.setdefault(kind, detail)

    def records(self) -> tuple[Damage, ...]:
        return tuple(Damage(kind, count, self._details[kind]) for kind, count in self._counts.items())


class Decoder(Protocol):
    """Decoded frames in order of presentation, once; harm goes into the log it was made with."""

    first: av.VideoFrame
    """The first of the frames, decoded on construction."""
    rate: Fraction
    """Frames per second as well as it can be guessed."""
    has_times: bool
    """Whether the source stores presentation times."""

    def __iter__(self) -> Iterator[av.VideoFrame]: ...


class StreamDecoder:
    """The frames of one stream of a container. Raises InputError where not a single one can be decoded."""

    def __init__(self, container: InputContainer, stream: VideoStream, name: str, log: DamageLog) -> None:
        self._container = container
        self._stream = stream
        self._log = log
        self._time_base = Fraction(stream.time_base or 1)
        self._num_packets = 0
        # Threads stay within a frame, PyAV's default: with threads across frames, what conceals a damaged
        # frame could differ from run to run.
        self.rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            hint = f"; {PIPE_HINT}" if name == PIPE_NAME else ""
            raise InputError(
                f"{name}: not a single frame of its {stream.codec_context.name} video can be decoded{hint}"
            )
        self.first = first
        # Only raw streams leave it out, and then for every frame: PyAV has libavformat make up single missing ones.
        self.has_times = first.pts is not None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        return chain([self.first], self._frames)

    def _decode(self) -> Iterator[av.VideoFrame]:
        last_pts: int | None = None
        longest_step = 1 / (self.rate * self._time_base)
        slots = _Slots() if self._container.format.name == "avi" else None
        for packet in chain(self._packets(), [None]):
            if slots is not None and packet is not None:
                slots.add(packet.dts)
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError as error:
                self._log.add("undecodable_packets", f"packet {self._num_packets}: {error.strerror}")
                continue
            for frame in frames:
                if slots is not None:
                    frame.pts = slots.take(frame)
                if frame.pts is not None:
                    longest_step = max(longest_step, Fraction(frame.pts - (last_pts or frame.pts)))
                    last_pts = frame.pts
                yield frame
        self._judge_end(last_pts, longest_step)

    def _packets(self) -> Iterator["Packet[Stream]"]:
        for packet in read_packets(self._container, [self._stream], self._log_read_failure):
            self._num_packets += 1
            yield packet

    def _log_read_failure(self, reason: str) -> None:
        self._log.add("unreadable_data", f"after packet {self._num_packets}: {reason}")

    def _judge_end(self, last_pts: int | None, longest_step: Fraction) -> None:
        """Report a missing tail, by what the video stream itself claims and nothing else."""
        if "mov" in self._container.format.name:
            if self._num_packets < self._stream.frames:
                missing = self._stream.frames - self._num_packets
                self._log.add("truncated", f"{missing} of {self._stream.frames} frames are missing at the end", missing)
            return
        claimed_seconds = _claimed_end_seconds(self._container, self._stream)
        if claimed_seconds is None or last_pts is None:
            return
        last_seconds = float(last_pts * self._time_base)
        # How long the last frame is shown is often not stored, so as much as three of the longest steps is believed.
        if last_seconds + float(3 * longest_step * self._time_base) < claimed_seconds:
            missing = round((claimed_seconds - last_seconds) * self.rate) - 1
            told = f"the last frame is at {last_seconds:.3f} s of the {claimed_seconds:.3f} s that the stream claims"
            self._log.add("truncated", told, max(1, missing))


class _Slots:
    """Times of an AVI's frames: it stores one for each packet, and the n-th frame shown has the n-th of them.

    What libavformat makes up instead jumbles the frames of H.264, whose packets are not in the order of showing.
    """

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._delay: int | None = None

    def add(self, dts: int | None) -> None:
        if dts is not None:
            self._times.append(dts)

    def take(self, frame: av.VideoFrame) -> int | None:
        """The time of the next frame shown; those of frames that the decoder left out are passed over."""
        if self._times and frame.dts is not None:
            if self._delay is None:
                self._delay = frame.dts - self._times[0]
            while len(self._times) > 1 and frame.dts - self._times[0] > self._delay:
                self._times.popleft()
        return self._times.popleft() if self._times else None


class PictureDecoder:
    """One frame for each picture file. Raises InputError where not a single one can be decoded."""

    def __init__(self, pictures: Sequence[Path], log: DamageLog) -> None:
        self._log = log
        self.rate = Fraction(PICTURES_PER_SECOND)
        self.has_times = False
        self._frames = self._decode(pictures)
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"{pictures[0].parent}: not a single picture of {len(pictures)} can be decoded")
        self.first = first

    def __iter__(self) -> Iterator[av.VideoFrame]:
        return chain([self.first], self._frames)

    def _decode(self, pictures: Sequence[Path]) -> Iterator[av.VideoFrame]:
        for picture in pictures:
            frame = decode_picture(picture)
            if frame is None:
                self._log.add("undecodable_pictures", f"{picture.name} cannot be decoded and is left out")
            else:
                yield frame


def _claimed_end_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """When the stream says it ends; None for formats whose figure is itself a guess from the data."""
    if "matroska" in container.format.name:
        tag = stream.metadata.get("DURATION")
        if tag is not None:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        timed = [other for other in container.streams if other.type in ("video", "audio", "subtitle")]
        return container.duration / av.time_base if len(timed) == 1 and container.duration else None
    if container.format.name == "avi" and stream.duration:
        return float(stream.duration * Fraction(stream.time_base or 1))
    return None
