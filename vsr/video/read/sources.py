"""Opening a source with PyAV: what is wrong with a file that does not open, and which of its
streams is the clip."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from vsr.errors import InputError

STANDARD_INPUT = "-"

PIPE_NAME = "standard input"
PIPE_HINT = "an MP4 with its index at the end cannot be piped: give the file itself"

MAX_READ_FAILURES = 8
"""After so many the rest of a file is given up."""

_MEBIBYTE = 1 << 20


def open_container(source: Path | BinaryIO, allow_huge: bool = False) -> InputContainer:
    """Open a media file, or a binary stream such as standard input, for reading; nothing else is
    opened on its behalf.

    Raises InputError with the reason where libavformat only says "invalid data", and for what is no
    ordinary file.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise InputError(
            f"{source}: not an ordinary file; give a pipe to standard input and name it -"
        )
    options = {"format_whitelist": _single_file_formats(), "protocol_whitelist": "file,pipe"}
    # libavformat decodes a frame to learn what is in a stream.
    options |= pixel_limit_options(allow_huge)
    try:
        # The prefix keeps a name with a colon from being taken for a protocol; tags need not be
        # UTF-8.
        name = f"file:{source}" if isinstance(source, Path) else source
        container = av.open(name, "r", options=options, metadata_errors="surrogateescape")
    except (av.FFmpegError, OSError) as error:
        raise InputError(_describe_open_failure(source, error)) from error
    if container.format.name == "tty":
        # libavformat would show any .txt file as a scrolling terminal.
        container.close()
        raise InputError(f"{source}: this is a text file, not a video")
    return container


_PLAYLIST_FORMATS = {
    "concat",
    "hls",
    "imf",
    "lavfi",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "webm_dash_manifest",
}
"""Playlists and the like: a file of this kind could have any file read, or a server asked."""


@cache
def _single_file_formats() -> str:
    names = (name for name in av.formats_available if av.ContainerFormat(name).is_input)
    return ",".join(sorted(set(names) - _PLAYLIST_FORMATS))


def main_video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream that is upscaled: of those that are not cover art the first marked as default,
    else the first.

    Raises InputError where there is none or no decoder for it.
    """
    candidates = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if not candidates:
        found = sorted(
            {"cover art" if stream.type == "video" else stream.type for stream in container.streams}
        )
        raise InputError(
            f"{name}: no video in it, only {' and '.join(found) or 'empty headers'}; expected a "
            "video file"
        )
    chosen = next(
        (stream for stream in candidates if stream.disposition & Disposition.default), candidates[0]
    )
    if chosen.codec_context is None:
        raise InputError(
            f"{name}: this build of libav has no decoder for its video stream; convert the clip "
            "first"
        )
    return chosen


def is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def read_packets(
    container: InputContainer,
    streams: Sequence[Stream],
    on_failure: Callable[[str], None],
    on_discontinuity: Callable[[Fraction], None] = lambda _: None,
) -> Iterator["Packet[Stream]"]:
    """The packets of some streams in file order, their times moved on where those of joined
    recordings start again.

    Spots that cannot be read are told to `on_failure` and passed over; `on_discontinuity` is told
    the seconds of each joint.
    """
    corrector = DiscontinuityCorrector(container)
    # All sound and video is looked at, whoever reads: see `Joints`.
    looked_at = [
        s
        for s in container.streams
        if s in streams or (corrector.can_occur and s.type in CONTINUOUS_STREAMS)
    ]
    for stream in container.streams:
        stream.discard = Discard.default if stream in looked_at else Discard.all
    failures = 0
    packets = container.demux(*looked_at)
    while failures < MAX_READ_FAILURES:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            # A generator that raised is spent; a new one goes on behind the spot that could not be
            # read.
            on_failure(error.strerror or str(error))
            packets = container.demux(*looked_at)
            failures += 1
            continue
        if packet is None:
            return
        if packet.size:
            failures = 0
            discontinuity = corrector.correct(packet)
            if discontinuity is not None:
                on_discontinuity(discontinuity)
            if packet.stream in streams:
                yield packet


def clip_identity(path: Path) -> str:
    """SHA-256 over the size and the first and last MiB of a file, in hexadecimal.

    Raises InputError where it cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(size.to_bytes(8, "little") + file.read(_MEBIBYTE))
            file.seek(max(size - _MEBIBYTE, 0))
            digest.update(file.read(_MEBIBYTE))
    except OSError as error:
        reason = (
            error.strerror or "it is a pipe, not a file; give it to standard input and name it -"
        )
        raise InputError(f"{path}: cannot be read: {reason}") from error
    return digest.hexdigest()


def missing_bytes(path: Path) -> int:
    """How much shorter a file is than it says: by its boxes (ISO media), chunk (AVI) or segment
    (Matroska).

    0 where nothing tells. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[4:8] == b"ftyp":
        return max(
            (0, *(end - size for kind, end, size in _boxes(path) if kind in _ESSENTIAL_BOXES))
        )
    end = (
        8 + int.from_bytes(head[4:8], "little") if head.startswith(b"RIFF") else _matroska_end(head)
    )
    return max(0, end - path.stat().st_size)


_ESSENTIAL_BOXES = (b"moov", b"mdat", b"moof")


def _matroska_end(head: bytes) -> int:
    """Where the segment of a Matroska file ends by its header; 0 for other files and segments of
    unknown size."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    header_end = _end_of_element(head, 4)
    if head[header_end : header_end + 4] != b"\x18\x53\x80\x67":
        return 0
    return _end_of_element(head, header_end + 4)


def _end_of_element(data: bytes, position: int) -> int:
    """Where an EBML element ends whose size stands at `position`; 0 where it is not told (RFC 8794,
    4 and 6.2)."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    if not 1 <= width <= 8 or position + width > len(data):
        return 0
    value_bits = 7 * width
    size = int.from_bytes(data[position : position + width], "big") & ((1 << value_bits) - 1)
    return 0 if size == (1 << value_bits) - 1 else position + width + size


def _describe_open_failure(source: Path | BinaryIO, error: OSError | av.FFmpegError) -> str:
    if not isinstance(source, Path):
        return f"{PIPE_NAME}: no video that can be read from a pipe; {PIPE_HINT}"
    try:
        with source.open("rb") as file:
            head = file.read(4096)
        has_index = head[4:8] != b"ftyp" or any(
            kind == b"moov" and end <= size for kind, end, size in _boxes(source)
        )
    except FileNotFoundError:
        return f"{source}: no such file"
    except OSError as failure:
        return f"{source}: cannot be read: {failure.strerror}"
    if not head:
        reason = "the file is empty"
    elif head.startswith((b"#EXTM3U", b"ffconcat", b"v=0")):
        reason = "a list of other files, not a video; give the video itself"
    elif not has_index:
        reason = (
            "the MP4 has no index (moov): it was cut off while being written; nothing in it "
            "can be played"
        )
    else:
        reason = f"not a media file that can be read ({error.strerror or error})"
    return f"{source}: {reason}"


def _boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Type and end of each top-level box of an ISO base media file, beside the file's size in
    bytes."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            position += max(length or size - position, 8)
            yield header[4:8], position, size


MAX_FRAME_PIXELS = 64 * 2**20
"""Of a frame that is read: twice 8K."""
MAX_SECONDS = 7 * 24 * 3600

ALLOW_HUGE_HINT = "vsr run --allow-huge reads it anyway"

PIXEL_LIMIT_HINT = (
    f"frames of more than {MAX_FRAME_PIXELS // 2**20} million pixels are left out; "
    f"{ALLOW_HUGE_HINT}"
)


def pixel_limit_options(allow_huge: bool) -> dict[str, str]:
    """For libav, as an option of a container or of a decoder: larger frames are an error before
    they take memory."""
    return {} if allow_huge else {"max_pixels": str(MAX_FRAME_PIXELS)}


def check_size(name: str, width: int, height: int) -> None:
    """Raises InputError for frames of more pixels than are expected of a video."""
    if width * height > MAX_FRAME_PIXELS:
        raise InputError(
            f"{name}: its frames are {width}x{height}; expected at most "
            f"{MAX_FRAME_PIXELS // 2**20} million pixels; {ALLOW_HUGE_HINT}"
        )


def check_duration(name: str, seconds: float | None) -> None:
    """Raises InputError for a clip that lasts longer than any film."""
    if seconds is not None and seconds > MAX_SECONDS:
        raise InputError(
            f"{name}: it lasts {seconds / 3600:.0f} hours; expected at most {MAX_SECONDS // 3600}; "
            f"{ALLOW_HUGE_HINT}"
        )


_FORMATS = ("mpegts", "mpeg")
"""Files of these may be joined by writing one after the other."""

CONTINUOUS_STREAMS = ("audio", "video")
"""The others have too few packets to tell by where a part begins."""

_MAX_BACKWARD_SECONDS = 1
"""Streams are interleaved, and dts of one stream never go back, so this much is no disorder."""


class DiscontinuityCorrector:
    """Moves the times of packets on, so that those of each stream go on where a joined recording
    starts again.

    Whoever reads the packets of the same streams in the order of the file is given the same times.
    """

    def __init__(self, container: InputContainer) -> None:
        self.can_occur = container.format.name in _FORMATS
        self._offsets = [Fraction(0)]
        self._part_of: dict[int, int] = {}
        self._last: dict[int, tuple[Fraction, Fraction]] = {}
        self._first = Fraction(0)
        self._end = Fraction(0)

    def correct(self, packet: "Packet[Stream]") -> Fraction | None:
        """Set the times of the next packet; the end in seconds of what came before, where it is the
        first of a part."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self.can_occur or ticks is None:
            return None
        seconds, index = ticks * packet.time_base, packet.stream_index
        is_steady = packet.stream.type in CONTINUOUS_STREAMS
        discontinuity = self._detect_discontinuity(index, seconds) if is_steady else None
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
        if (
            last - seconds <= _MAX_BACKWARD_SECONDS
            or 0 <= seconds - before_last <= _MAX_BACKWARD_SECONDS
        ):
            return None
        self._part_of[index] += 1
        if self._part_of[index] < len(self._offsets):
            return None
        # The streams of a part need not begin at the same time, so the part begins where the first
        # one began.
        begin = self._first if 0 <= seconds - self._first <= _MAX_BACKWARD_SECONDS else seconds
        discontinuity = self._end
        self._offsets.append(discontinuity - begin)
        return discontinuity
