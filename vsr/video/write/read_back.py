"""Check of a finished file by reading it back: frames, their times, and what was copied."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.video.read.sources import is_cover_art
from vsr.video.read.timestamps import JOINABLE_FORMATS

CLOCK_WRAP_SECONDS = Fraction(2**33, 90000)
"""Length after which the clock of an MPEG stream begins anew."""
LENGTH_TOLERANCE = 0.01
"""Share of a stream's length by which packets may be cut otherwise."""
LENGTH_SLACK_SECONDS = Fraction(3, 20)
LENGTH_SLACK_PACKETS = 2
"""Packets at the end whose length some containers do not tell, up to so many seconds."""

MOVE_TOLERANCE_SECONDS = 0.15
"""Difference of the beginnings of sound and pictures that nobody notices, and that containers make
by rounding to packets."""


@dataclass
class StreamTally:
    """Packets of one stream, added up."""

    packets: int = 0
    num_bytes: int = 0
    seconds: Fraction = Fraction(0)
    start: Fraction | None = None
    """Time of the first packet, in seconds."""

    @property
    def packet_seconds(self) -> Fraction:
        """Mean length of a packet."""
        return self.seconds / max(self.packets, 1)

    def add(self, packet: "Packet[Stream]") -> None:
        """Count one packet."""
        self.packets += 1
        self.num_bytes += packet.size
        self.seconds += (packet.duration or 0) * packet.time_base
        ticks = packet.dts if packet.pts is None else packet.pts
        if self.start is None and ticks is not None:
            self.start = ticks * packet.time_base


@dataclass(frozen=True)
class Verified:
    """Findings in a finished result."""

    frames: int
    max_pts_error_seconds: float
    streams: int
    """Streams of the file, the video among them."""
    damage: tuple[str, ...] = ()
    """Copied streams that came out shorter."""
    notes: tuple[str, ...] = ()
    """Copied sound that came out earlier or later beside the pictures."""
    chapters: int = 0

    def to_json(self) -> dict[str, int | float]:
        """Plain values for the manifest, which has damage elsewhere."""
        return {
            "frames": self.frames,
            "max_pts_error_seconds": self.max_pts_error_seconds,
            "streams": self.streams,
        }


def read_back(
    file: Path,
    video_number: int,
    times: Iterable[Fraction],
    copied: Mapping[int, StreamTally],
    decode: bool = False,
) -> Verified:
    """Read a finished file and compare it with what was muxed.

    `times` are those of the frames, in seconds; `copied` are the tallies by number of the stream.
    `decode` decodes every frame as well. Raises OutputError where the file plays fewer frames than
    were made, or cannot be read or decoded.
    """
    expected = sorted(times)
    tallies: dict[int, StreamTally] = {}
    shown: list[Fraction] = []
    try:
        with av.open(f"file:{file}", "r", metadata_errors="surrogateescape") as container:
            video = _video_stream(container, video_number, len(expected))
            num_decoded = 0
            for packet in container.demux():
                if packet.stream is video and decode:
                    num_decoded += len(video.decode(packet))
                if not packet.size:
                    continue
                tally = tallies.setdefault(packet.stream_index, StreamTally())
                tally.add(packet)
                # What an edit list hides is in the file, and is not played.
                if packet.stream is video and not packet.is_discard:
                    # AVI stores one time a packet; what libavformat makes up beside it is wrong.
                    times_are_dts = packet.pts is None or container.format.name == "avi"
                    ticks = packet.dts if times_are_dts else packet.pts
                    shown.append(Fraction(ticks or 0) * packet.time_base)
            wraps = container.format.name in JOINABLE_FORMATS
            sounds = {stream.index for stream in container.streams.audio}
            num_streams = len(container.streams)
            num_chapters = len(container.chapters())
    except (av.FFmpegError, IndexError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"the finished file cannot be read back ({reason}): use .mkv, or another encoder"
        ) from error
    found = num_decoded if decode else len(shown)
    if found < len(expected) or len(shown) < len(expected):
        raise OutputError(
            f"the finished file plays {min(found, len(shown))} of {len(expected)} frames: use "
            ".mkv, or another encoder"
        )
    errors = _errors(sorted(shown), expected, wraps)
    heard = {number: tallies[number] for number in sounds & set(tallies)}
    return Verified(
        found,
        float(np.abs(errors).max(initial=0.0)),
        num_streams,
        tuple(_shortened(tallies, copied)),
        # The median: a first picture that is held since the beginning counts for little.
        tuple(_moved(heard, copied, float(np.median(errors)), wraps)),
        num_chapters,
    )


def _video_stream(container: InputContainer, number: int, num_frames: int) -> VideoStream:
    """The upscaled stream: by its number, unless the container numbers its streams anew."""
    videos = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if num_frames > 1:
        # An animated AVIF begins with a still of its first picture.
        videos = [stream for stream in videos if stream.frames != 1] or videos
    return next((stream for stream in videos if stream.index == number), videos[0])


def _errors(shown: list[Fraction], expected: list[Fraction], wraps: bool) -> np.ndarray:
    """Differences of times in seconds, frame by frame."""
    # As floats, which hold a nanosecond at any length of a clip.
    errors = np.array([float(a - b) for a, b in zip(shown, expected, strict=False)])
    return _unwrapped(errors) if wraps else errors


def _unwrapped(seconds: np.ndarray) -> np.ndarray:
    """Differences of times on a clock that begins anew."""
    turn = float(CLOCK_WRAP_SECONDS)
    return (seconds + turn / 2) % turn - turn / 2


def _moved(
    found: Mapping[int, StreamTally],
    copied: Mapping[int, StreamTally],
    pictures_moved: float,
    wraps: bool,
) -> Iterable[str]:
    """Sentences on sound that does not begin where it did beside the pictures, which have been
    moved themselves."""
    for number, read in found.items():
        start = copied.get(number, StreamTally()).start
        if start is None or read.start is None:
            continue
        moved = np.array(float(read.start - start) - pictures_moved)
        seconds = float(_unwrapped(moved) if wraps else moved)
        if abs(seconds) > MOVE_TOLERANCE_SECONDS:
            yield (
                f"stream {number}, sound, begins {abs(seconds):.3f} s too "
                f"{'late' if seconds > 0 else 'early'} beside the pictures: this container keeps "
                "no offset between streams; use .mkv or .mp4"
            )


def _shortened(
    found: Mapping[int, StreamTally], copied: Mapping[int, StreamTally]
) -> Iterable[str]:
    """Sentences on copied streams of which less can be read than was written."""
    for number, written in copied.items():
        read = found.get(number, StreamTally())
        # Containers cut packets as they like: equal bytes or an equal length are as good.
        packet = max(written.packet_seconds, read.packet_seconds)
        slack = min(LENGTH_SLACK_PACKETS * packet, LENGTH_SLACK_SECONDS)
        enough = written.seconds * Fraction(1 - LENGTH_TOLERANCE) - slack
        is_whole = (
            read.packets >= written.packets
            or read.num_bytes >= written.num_bytes
            or (written.seconds > 0 and read.seconds >= enough)
        )
        if not is_whole:
            yield (
                f"incomplete_copy: {read.packets} of {written.packets} packets of stream {number} "
                "can be read back"
            )
