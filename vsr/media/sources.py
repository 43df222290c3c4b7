"""Opening a source with PyAV: what is wrong with a file that does not open, and which of its streams is the clip."""

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
from vsr.media.joints import STEADY_STREAMS, Joints
from vsr.media.limits import limit_of_pixels

STANDARD_INPUT = "-"

PIPE_NAME = "standard input"
PIPE_HINT = "an MP4 with its index at the end cannot be piped: give the file itself"

READ_FAILURES_IN_A_ROW = 8
"""After so many the rest of a file is given up."""

_MEBIBYTE = 1 << 20


def open_container(source: Path | BinaryIO, allow_huge: bool = False) -> InputContainer:
    """Open a media file, or a binary stream such as standard input, for reading; nothing else is opened on its behalf.

    Raises InputError with the reason where libavformat only says "invalid data", and for what is no ordinary file.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise InputError(f"{source}: not an ordinary file; give a pipe to standard input and name it -")
    options = {"format_whitelist": _formats_of_one_file(), "protocol_whitelist": "file,pipe"}
    # libavformat decodes a frame to learn what is in a stream.
    options |= limit_of_pixels(allow_huge)
    try:
        # The prefix keeps a name with a colon from being taken for a protocol; tags need not be UTF-8.
        name = f"file:{source}" if isinstance(source, Path) else source
        container = av.open(name, "r", options=options, metadata_errors="surrogateescape")
    except (av.FFmpegError, OSError) as error:
        raise InputError(_why_unreadable(source, error)) from error
    if container.format.name == "tty":
        # libavformat would show any .txt file as a scrolling terminal.
        container.close()
        raise InputError(f"{source}: this is a text file, not a video")
    return container


_FORMATS_THAT_OPEN_OTHERS = {"concat", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "webm_dash_manifest"}
"""Playlists and the like: a file of this kind could have any file read, or a server asked."""


@cache
def _formats_of_one_file() -> str:
    names = (name for name in av.formats_available if av.ContainerFormat(name).is_input)
    return ",".join(sorted(set(names) - _FORMATS_THAT_OPEN_OTHERS))


def main_video(container: InputContainer, name: str) -> VideoStream:
    """The stream that is upscaled: of those that are not cover art the first marked as default, else the first.

    Raises InputError where there is none or no decoder for it.
    """
    candidates = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if not candidates:
        found = sorted({"cover art" if stream.type == "video" else stream.type for stream in container.streams})
        raise InputError(
            f"{name}: no video in it, only {' and '.join(found) or 'empty headers'}; expected a video file"
        )
    chosen = next((stream for stream in candidates if stream.disposition & Disposition.default), candidates[0])
    if chosen.codec_context is None:
        raise InputError(f"{name}: this build of libav has no decoder for its video stream; convert the clip first")
    return chosen


def is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def read_packets(
    container: InputContainer,
    streams: Sequence[Stream],
    on_failure: Callable[[str], None],
    on_joint: Callable[[Fraction], None] = lambda _: None,
) -> Iterator["Packet[Stream]"]:
    """The packets of some streams in file order, their times moved on where those of joined recordings start again.

    Spots that cannot be read are told to `on_failure` and passed over; `on_joint` is told the seconds of each joint.
    """
    joints = Joints(container)
    # All sound and video is looked at, whoever reads: see `Joints`.
    looked_at = [s for s in container.streams if s in streams or (joints.can_occur and s.type in STEADY_STREAMS)]
    for stream in container.streams:
        stream.discard = Discard.default if stream in looked_at else Discard.all
    failures = 0
    packets = container.demux(*looked_at)
    while failures < READ_FAILURES_IN_A_ROW:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            # A generator that raised is spent; a new one goes on behind the spot that could not be read.
            on_failure(error.strerror or str(error))
            packets = container.demux(*looked_at)
            failures += 1
            continue
        if packet is None:
            return
        if packet.size:
            failures = 0
            joint = joints.mend(packet)
            if joint is not None:
                on_joint(joint)
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
        reason = error.strerror or "it is a pipe, not a file; give it to standard input and name it -"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    return digest.hexdigest()


def missing_bytes(path: Path) -> int:
    """How much shorter a file is than it says: by its boxes (ISO media), chunk (AVI) or segment (Matroska).

    0 where nothing tells. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[4:8] == b"ftyp":
        return max((0, *(end - size for kind, end, size in _boxes(path) if kind in _BOXES_THAT_MATTER)))
    end = 8 + int.from_bytes(head[4:8], "little") if head.startswith(b"RIFF") else _matroska_end(head)
    return max(0, end - path.stat().st_size)


_BOXES_THAT_MATTER = (b"moov", b"mdat", b"moof")


def _matroska_end(head: bytes) -> int:
    """Where the segment of a Matroska file ends by its header; 0 for other files and segments of unknown size."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    header_end = _end_of_element(head, 4)
    if head[header_end : header_end + 4] != b"\x18\x53\x80\x67":
        return 0
    return _end_of_element(head, header_end + 4)


def _end_of_element(data: bytes, position: int) -> int:
    """Where an EBML element ends whose size stands at `position`; 0 where it is not told (RFC 8794, 4 and 6.2)."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    if not 1 <= width <= 8 or position + width > len(data):
        return 0
    value_bits = 7 * width
    size = int.from_bytes(data[position : position + width], "big") & ((1 << value_bits) - 1)
    return 0 if size == (1 << value_bits) - 1 else position + width + size


def _why_unreadable(source: Path | BinaryIO, error: OSError | av.FFmpegError) -> str:
    if not isinstance(source, Path):
        return f"{PIPE_NAME}: no video that can be read from a pipe; {PIPE_HINT}"
    try:
        with source.open("rb") as file:
            head = file.read(4096)
        has_index = head[4:8] != b"ftyp" or any(kind == b"moov" and end <= size for kind, end, size in _boxes(source))
    except FileNotFoundError:
        return f"{source}: no such file"
    except OSError as failure:
        return f"{source}: cannot be read: {failure.strerror}"
    if not head:
        reason = "the file is empty"
    elif head.startswith((b"#EXTM3U", b"ffconcat", b"v=0")):
        reason = "a list of other files, not a video; give the video itself"
    elif not has_index:
        reason = "the MP4 has no index (moov): it was cut off while being written; nothing in it can be played"
    else:
        reason = f"not a media file that can be read ({error.strerror or error})"
    return f"{source}: {reason}"


def _boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Type and end of each top-level box of an ISO base media file, beside the file's size in bytes."""
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
