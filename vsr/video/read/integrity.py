"""Container integrity: checksums, ends and chains that libav does not check, or does not report."""

import mmap
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from vsr.video.read.picture_header import PNG_SIGNATURE

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_FOOTER_BYTES = 8
_BIT_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_PACKETS_TO_TRY = 8


class Checksums(Protocol):
    """Looks at the packets of one stream, in order."""

    def count_broken(self, packet: bytes) -> int:
        """Count the packets, up to this one, that are now known to be broken and were not
        before."""
        ...


class ChunkChecksums:
    """PNG's: each chunk ends with a CRC (ISO/IEC 15948, 5.3)."""

    def count_broken(self, packet: bytes) -> int:
        return int(not is_intact_png(packet))


class OptionalChecksums:
    """Checksums that some streams of a codec have and others do not: that is learned from the first
    packet that passes."""

    def __init__(self, is_whole: Callable[[bytes], bool]) -> None:
        self._is_whole = is_whole
        self._is_proven = False
        self._num_unproven = 0

    def count_broken(self, packet: bytes) -> int:
        if not self._is_proven and self._num_unproven > _PACKETS_TO_TRY:
            return 0
        if self._is_whole(packet):
            # All that failed before the first success lacked a checksum that the stream does have.
            self._is_proven = True
            broken, self._num_unproven = self._num_unproven, 0
            return broken
        self._num_unproven += not self._is_proven
        return int(self._is_proven)


def is_intact_png(png: bytes) -> bool:
    """Tell whether a PNG file is complete and its checksums are right."""
    position = len(PNG_SIGNATURE)
    if not png.startswith(PNG_SIGNATURE):
        return False
    while position + 12 <= len(png):
        # Length, type, data, CRC; the length is of the data alone, the CRC also of the type.
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        if end + 4 > len(png) or zlib.crc32(png[position + 4 : end]) != int.from_bytes(
            png[end : end + 4], "big"
        ):
            return False
        if png[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def is_complete_jpeg(jpeg: bytes) -> bool:
    """Tell whether a JPEG reaches the end of its last scan (ITU-T T.81, B.1.1.3): libav makes up
    what is missing.

    A thumbnail in its head may have an end of its own. Within a scan no such bytes occur.
    """
    return jpeg.rfind(_END_OF_IMAGE) > jpeg.rfind(_START_OF_SCAN)


def is_intact_ffv1(packet: bytes) -> bool:
    """Tell whether a packet of FFV1 is a chain of slices, each of which ends with its size, a
    status and a right CRC.

    RFC 9043, 4.10. Whether a stream has them stands in a coded header.
    """
    # Slices are chained from the end: only there stands the size of each.
    end = len(packet)
    while end > 0:
        start = end - _FOOTER_BYTES - int.from_bytes(packet[end - 8 : end - 5], "big")
        # Over data that end with their own CRC, a right one comes to 0.
        if end < _FOOTER_BYTES or start < 0 or _crc(packet[start:end]) != 0:
            return False
        end = start
    return bool(packet)


def _crc(data: bytes) -> int:
    """CRC-32 with the most significant bit first, from 0: zlib's mirrored, without its
    inversions."""
    return zlib.crc32(data.translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF


CHECKSUMS: dict[str, Callable[[], Checksums]] = {
    "ffv1": partial(OptionalChecksums, is_intact_ffv1),
    "mjpeg": partial(OptionalChecksums, is_complete_jpeg),
    "png": ChunkChecksums,
}
"""By codec."""
INTEGRITY_CHECKS: dict[str, Callable[[bytes], bool]] = {
    ".png": is_intact_png,
    ".jpg": is_complete_jpeg,
    ".jpeg": is_complete_jpeg,
}
"""Whether a file is whole, by its suffix."""


def find_structure_break(path: Path) -> int | None:
    """Find the byte at which the chain of an FLV, a GIF or a fragmented MP4 first breaks; None
    where it holds.

    None for other files, too.

    Raises OSError.
    """
    with (
        path.open("rb") as file,
        suppress(ValueError),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for (place, signature), walk in _WALKERS.items():
            if data[place : place + len(signature)] == signature:
                return walk(data)
    # An empty file cannot be mapped, and has no chain.
    return None


def _walk_flv(data: mmap.mmap) -> int | None:
    """Walk FLV: each tag is followed by its own size (Adobe Flash Video File Format 10.1, E.3)."""
    # The header states its own length; four bytes of "previous tag size" follow it.
    position = int.from_bytes(data[5:9], "big") + 4
    while position < len(data):
        # The length in a tag's header leaves out the header's eleven bytes.
        size = 11 + int.from_bytes(data[position + 1 : position + 4], "big")
        end = position + size
        if end + 4 > len(data) or int.from_bytes(data[end : end + 4], "big") != size:
            return position
        position = end + 4
    return None


def _walk_gif(data: mmap.mmap) -> int | None:
    """Walk GIF: extensions and images made of sub-blocks, up to a mark at the very end (GIF89a,
    appendix B)."""
    # Signature and screen descriptor, then perhaps a palette for all images.
    position = 13 + _palette_bytes(data, 10)
    while position < len(data):
        begin, kind = position, data[position : position + 1]
        if kind == b";":
            return None if position == len(data) - 1 else position
        if kind == b"!":
            position += 2
        elif kind == b",":
            # A descriptor of ten bytes, perhaps a palette, and a byte before the sub-blocks.
            position += 11 + _palette_bytes(data, position + 9)
        else:
            return begin
        # Sub-blocks begin with their length; one of none ends the chain.
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return len(data)


def _palette_bytes(data: mmap.mmap, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _walk_mp4(data: mmap.mmap) -> int | None:
    """Walk MP4: fragments of a track follow one another in time (ISO 14496-12, 8.8.12): of one out
    of order frames get lost."""
    latest: dict[bytes, int] = {}
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind != b"moof":
            continue
        for track, start in _fragment_starts(data, begin, end):
            # Decoders drop what lies before what they have shown.
            if start < latest.get(track, 0):
                return begin
            latest[track] = start
    return None


def _fragment_starts(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield track and decoding time, in units of its own, of the parts of a fragment that tell
    both."""
    for kind, part_begin, part_end in _boxes(data, begin, end):
        if kind == b"traf":
            found = {
                kind: data[first:last] for kind, first, last in _boxes(data, part_begin, part_end)
            }
            if b"tfhd" in found and b"tfdt" in found:
                # Version 1 of the box holds 64 bits.
                is_long = found[b"tfdt"][:1] == b"\x01"
                yield (
                    found[b"tfhd"][4:8],
                    int.from_bytes(found[b"tfdt"][4 : 12 if is_long else 8], "big"),
                )


def _boxes(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the content of boxes side by side, as far as they make sense
    (ISO 14496-12, 4.2)."""
    while begin + 8 <= end:
        size, kind, head = (
            int.from_bytes(data[begin : begin + 4], "big"),
            data[begin + 4 : begin + 8],
            8,
        )
        # Size 1 means that a 64-bit one follows.
        if size == 1:
            size, head = int.from_bytes(data[begin + 8 : begin + 16], "big"), 16
        # Size 0 means up to the end of the file: nothing can follow that box.
        if size < head:
            return
        yield kind, begin + head, min(begin + size, end)
        begin += size


_WALKERS: dict[tuple[int, bytes], Callable[[mmap.mmap], int | None]] = {
    (0, b"FLV\x01"): _walk_flv,
    (0, b"GIF89a"): _walk_gif,
    (0, b"GIF87a"): _walk_gif,
    (4, b"ftyp"): _walk_mp4,
}
"""Walkers by position and signature in the file."""
