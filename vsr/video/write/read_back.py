"""Check of a finished file by reading it back: frames, their times, and what was copied."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.video.read.sources import is_cover_art
from vsr.video.read.timestamps import JOINABLE_FORMATS

CLOCK_WRAP_SECONDS = Fraction(2**33, 90000)
"""Length after which the clock of an MPEG stream begins anew."""
LENGTH_TOLERANCE = 0.01
"""Share of a stream's length by which packets may be cut otherwise."""
LENGTH_SLACK_SECONDS = 0.15
"""Length of a packet or two, which some containers do not tell of the last ones."""


@dataclass
class StreamTally:
    """Packets of one stream, added up."""

    packets: int = 0
    num_bytes: int = 0
    seconds: Fraction = Fraction(0)

    def add(self, size: int, seconds: Fraction) -> None:
        """Count one packet."""
        self.packets += 1
        self.num_bytes += size
        self.seconds += seconds


@dataclass(frozen=True)
class Verified:
    """Findings in a finished result."""

    frames: int
    max_pts_error_seconds: float
    streams: int
    """Streams of the file, the video among them."""
    damage: tuple[str, ...] = ()
    """Copied streams that came out shorter."""

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
            video = _video_stream(container, video_number)
            num_decoded = 0
            for packet in container.demux():
                if packet.stream is video and decode:
                    num_decoded += len(video.decode(packet))
                if not packet.size:
                    continue
                tally = tallies.setdefault(packet.stream_index, StreamTally())
                tally.add(packet.size, (packet.duration or 0) * packet.time_base)
                # What an edit list hides is in the file, and is not played.
                if packet.stream is video and not packet.is_discard:
                    # AVI stores one time a packet; what libavformat makes up beside it is wrong.
                    times_are_dts = packet.pts is None or container.format.name == "avi"
                    ticks = packet.dts if times_are_dts else packet.pts
                    shown.append(Fraction(ticks or 0) * packet.time_base)
            wraps = container.format.name in JOINABLE_FORMATS
            num_streams = len(container.streams)
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
    return Verified(
        found,
        _largest_error(sorted(shown), expected, wraps),
        num_streams,
        tuple(_shortened(tallies, copied)),
    )


def _video_stream(container: InputContainer, number: int) -> VideoStream:
    """The upscaled stream: by its number, unless the container numbers its streams anew."""
    videos = [stream for stream in container.streams.video if not is_cover_art(stream)]
    return next((stream for stream in videos if stream.index == number), videos[0])


def _largest_error(shown: list[Fraction], expected: list[Fraction], wraps: bool) -> float:
    """Largest difference of times in seconds, frame by frame."""
    # As floats, which hold a nanosecond at any length of a clip.
    errors = np.array([float(a - b) for a, b in zip(shown, expected, strict=False)])
    if wraps:
        turn = float(CLOCK_WRAP_SECONDS)
        errors = (errors + turn / 2) % turn - turn / 2
    return float(np.abs(errors).max(initial=0.0))


def _shortened(
    found: Mapping[int, StreamTally], copied: Mapping[int, StreamTally]
) -> Iterable[str]:
    """Sentences on copied streams of which less can be read than was written."""
    for number, written in copied.items():
        read = found.get(number, StreamTally())
        # Containers cut packets as they like: equal bytes or an equal length are as good.
        enough = written.seconds * Fraction(1 - LENGTH_TOLERANCE) - Fraction(LENGTH_SLACK_SECONDS)
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
