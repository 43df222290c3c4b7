"""Sources opened with PyAV: the reason why a file does not open, and the choice of its video
stream."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from vsr.errors import InputError, UsageError
from vsr.video.read.stream_starts import probe_options
from vsr.video.read.timestamps import CONTINUOUS_STREAMS, DiscontinuityCorrector

STANDARD_INPUT = "-"

PIPE_NAME = "standard input"
PIPE_HINT = "an MP4 with its index at the end cannot be piped: give the file itself"

MAX_READ_FAILURES = 8
"""Consecutive failures after which the rest of a file is given up."""

_MEBIBYTE = 1 << 20


def open_container(source: Path | BinaryIO, allow_huge: bool = False) -> InputContainer:
    """Open a media file, or a binary stream such as standard input, for reading; nothing else is
    opened on its behalf.

    Raises InputError with the reason where libavformat only says "invalid data", and for what is no
    regular file.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise InputError(
            f"{source}: not a regular file; give a pipe to standard input and name it -"
        )
    options = {"format_whitelist": _single_file_formats(), "protocol_whitelist": "file,pipe"}
    # libavformat decodes a frame to learn what is in a stream.
    options |= pixel_limit_options(allow_huge)
    try:
        if isinstance(source, Path):
            options |= probe_options(source)
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
    if container.format.name == "webp_pipe" and isinstance(source, Path) and _is_animated(source):
        container.close()
        raise InputError(
            f"{source}: an animated WebP, which this build of libav does not support; convert it "
            "first, to a GIF, a video or a folder of pictures"
        )
    return container


_WEBP_ANIMATION_FLAG = 0x02


def _is_animated(webp: Path) -> bool:
    """Tell whether a WebP holds an animation, by its extended header (RFC 9649, 2.7)."""
    with webp.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20] & _WEBP_ANIMATION_FLAG)


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


def main_video_stream(
    container: InputContainer, name: str, number: int | None = None
) -> VideoStream:
    """Choose the stream that is upscaled: `number`, else the longest moving picture.

    Of several that are as long, the first marked as default, else the first. Raises InputError
    where there is none or no decoder for it, UsageError for a number of something else.
    """
    candidates = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if number is not None:
        candidates = [stream for stream in container.streams.video if stream.index == number]
        if not candidates:
            numbers = ", ".join(str(stream.index) for stream in container.streams.video)
            raise UsageError(
                f"{name}: stream {number} is not a video stream; its video streams are: "
                f"{numbers or 'none'}"
            )
    if not candidates:
        found = sorted(
            {"cover art" if stream.type == "video" else stream.type for stream in container.streams}
        )
        raise InputError(
            f"{name}: no video in it, only {' and '.join(found) or 'empty headers'}; expected a "
            "video file"
        )
    chosen = candidates[0] if len(candidates) == 1 else _longest(container, candidates)
    if chosen.codec_context is None:
        raise InputError(
            f"{name}: this build of libav has no decoder for its video stream; convert the clip "
            "first"
        )
    return chosen


def _longest(container: InputContainer, candidates: Sequence[VideoStream]) -> VideoStream:
    """The longest of several video streams by their headers, default ones first among equals."""
    stills = still_streams(container, candidates)
    moving = [stream for stream in candidates if stream.index not in stills] or candidates
    whole = container.duration / av.time_base if container.duration else 0.0
    lengths = {stream.index: _header_seconds(stream) or whole for stream in moving}
    enough = ALMOST_AS_LONG * max(lengths.values())
    longest = [stream for stream in moving if lengths[stream.index] >= enough]
    return next(
        (stream for stream in longest if stream.disposition & Disposition.default), longest[0]
    )


ALMOST_AS_LONG = 0.9
"""Share of the longest stream's duration from which on another counts as just as long."""


def still_streams(container: InputContainer, streams: Sequence[VideoStream]) -> set[int]:
    """Numbers of the streams that hold a single picture beside moving ones: a cover that is not
    marked as one, the first picture that an animated AVIF begins with."""
    # AVI counts the empty chunks that it fills a pause with.
    trusted = container.format.name != "avi"
    stills = {stream.index for stream in streams if stream.frames == 1}
    unknown = {stream.index for stream in streams if not (trusted and stream.frames)} - stills
    if len(streams) < 2 or not unknown or not container.name.startswith("file:"):
        return stills
    # No header tells: a second container, since packets that are read here are gone.
    with open_container(Path(container.name.removeprefix("file:"))) as look:
        shown = dict.fromkeys((stream.index for stream in streams), 0)
        for packet in look.demux([look.streams[number] for number in shown]):
            if packet.size:
                shown[packet.stream.index] += 1
            move = all(shown[number] > 1 for number in unknown)
            if move or max(shown.values()) >= ENOUGH_PACKETS:
                break
    return stills | {number for number in unknown if shown[number] == 1}


ENOUGH_PACKETS = 100
"""Packets of one stream after which another that has shown a single one is taken for a still."""


def start_of_untimed(container: InputContainer, stream: VideoStream, step: int) -> int | None:
    """Time of the first picture of a Matroska film that begins before zero, of which libavformat
    tells no times: counted back from those after zero by a step for each packet.

    None for other films.
    """
    if "matroska" not in container.format.name or not container.name.startswith("file:"):
        return None
    count = 0
    # A second container, since packets that are read here are gone.
    with open_container(Path(container.name.removeprefix("file:"))) as look:
        packets = (packet for packet in look.demux(look.streams[stream.index]) if packet.size)
        for packet in packets:
            if packet.pts is not None:
                times = [packet.pts, *(p.pts for p in islice(packets, 16) if p.pts is not None)]
                return min(times) - count * step
            count += 1
    return None


PICTURE_CODECS = ("mjpeg", "png", "bmp", "gif", "tiff", "webp", "jpeg2000", "exr", "dpx", "targa")
"""Codecs of single pictures, each of which may have its own form; covers are stored in them."""


def sample_formats(
    path: Path, number: int, seconds: float | None, allow_huge: bool = False
) -> list[str]:
    """Decode single frames over the length of a stream and list their pixel formats."""
    formats: list[str] = []
    with open_container(path, allow_huge) as container:
        stream = container.streams.video[[s.index for s in container.streams.video].index(number)]
        stream.codec_context.options = pixel_limit_options(allow_huge)
        begin = (stream.start_time or 0) * (stream.time_base or Fraction(1))
        for part in range(FORMAT_SAMPLES):
            # Where the file cannot be sought in, or not decoded from there, it tells nothing.
            with suppress(av.FFmpegError, IndexError):
                at = begin + Fraction(seconds or 0) * part / FORMAT_SAMPLES
                container.seek(int(at * av.time_base))
                formats += [frame.format.name for frame in islice(container.decode(stream), 2)]
    return formats


FORMAT_SAMPLES = 8


def seek(container: InputContainer, seconds: float) -> None:
    """Go to the last keyframe before a time; where the file cannot be sought in, stay."""
    with suppress(av.FFmpegError):
        container.seek(int(seconds * av.time_base))


def _header_seconds(stream: VideoStream) -> float | None:
    """Length of a stream by its own header; None where only the file as a whole has one."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return parse_duration(stream.metadata.get("DURATION", ""))


def parse_duration(text: str) -> float | None:
    """Parse hours, minutes and seconds as Matroska's tags have them; None for other text."""
    parts = re.fullmatch(r"(\d{1,6}):(\d{1,2}):(\d{1,2}(?:\.\d{1,12})?)", text)
    if parts is None:
        return None
    hours, minutes, seconds = map(float, parts.groups())
    return 3600 * hours + 60 * minutes + seconds


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Frames a second as well as the headers tell; None where they do not.

    The average is that of the header, unless it is far above what libavformat guesses: raw DV and
    AVIs with empty chunks count the ticks of their clock in it.
    """
    average, guess = stream.average_rate, stream.guessed_rate
    if average and guess and average > MAX_RATE_RATIO * guess:
        return guess
    return average or guess or None


MAX_RATE_RATIO = Fraction(3, 2)


def is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def read_packets(
    container: InputContainer,
    streams: Sequence[Stream],
    on_failure: Callable[[str], None],
    on_discontinuity: Callable[[Fraction], None] = lambda _: None,
) -> Iterator["Packet[Stream]"]:
    """Read the packets of some streams in file order, their times moved on where those of joined
    recordings start again.

    Spots that cannot be read are passed over and given to `on_failure`; `on_discontinuity` gets the
    seconds of each discontinuity.
    """
    corrector = DiscontinuityCorrector(container)
    # All sound and video is looked at, whoever reads: see `DiscontinuityCorrector`.
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
            # A generator that raised is spent; a new one continues after the unreadable spot.
            on_failure(error.strerror or str(error))
            packets = container.demux(*looked_at)
            failures += 1
            continue
        except IndexError:
            # PyAV flushes every stream at the end, also those that appeared after it had opened the
            # file, which it does not know. The known ones have been flushed by then.
            return
        if packet is None:
            return
        # Empty packets flush decoders; they come even after the last failure.
        if packet.size:
            failures = 0
            discontinuity = corrector.correct(packet)
            if discontinuity is not None:
                on_discontinuity(discontinuity)
            if packet.stream in streams:
                yield packet


def clip_identity(path: Path) -> str:
    """Compute SHA-256 over the size and the first and last MiB of a file, in hexadecimal.

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
    """Count the bytes that a file lacks by its boxes (ISO media), chunk (AVI) or segment
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
    """End of the segment of a Matroska file by its header; 0 for other files and segments of
    unknown size."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    header_end = _end_of_element(head, 4)
    if head[header_end : header_end + 4] != b"\x18\x53\x80\x67":
        return 0
    return _end_of_element(head, header_end + 4)


def _end_of_element(data: bytes, position: int) -> int:
    """End of the EBML element whose size stands at `position`; 0 where it is unknown (RFC 8794, 4
    and 6.2)."""
    first = data[position] if position < len(data) else 0
    # The number of leading zeros of the first byte says how many bytes a size takes.
    width = 9 - first.bit_length()
    if not 1 <= width <= 8 or position + width > len(data):
        return 0
    value_bits = 7 * width
    size = int.from_bytes(data[position : position + width], "big") & ((1 << value_bits) - 1)
    # All ones means unknown: what a live recording writes.
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
    """Yield type and end of each top-level box of an ISO base media file, and the file's size in
    bytes."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            # Size 1 means a 64-bit one follows, 0 means up to the end of the file.
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            position += max(length or size - position, 8)
            yield header[4:8], position, size


MAX_FRAME_PIXELS = 64 * 2**20
"""Largest frame that is read: twice 8K."""
MAX_SECONDS = 7 * 24 * 3600

ALLOW_HUGE_HINT = "vsr run --allow-huge reads it anyway"

PIXEL_LIMIT_HINT = (
    f"frames of more than {MAX_FRAME_PIXELS // 2**20} million pixels are left out; "
    f"{ALLOW_HUGE_HINT}"
)


def pixel_limit_options(allow_huge: bool) -> dict[str, str]:
    """Option of libav's containers and decoders by which larger frames are an error before they
    take memory."""
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
