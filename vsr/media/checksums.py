"""Checksums and ends that a stream carries, and that libav does not tell of when they are wrong or missing."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_FOOTER_BYTES = 8
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_PACKETS_TO_TRY = 8


class Checksums(Protocol):
    """Looks at the packets of one stream, in order."""

    def count_broken(self, packet: bytes) -> int:
        """How many packets, up to this one, are now known to be broken and were not known to be before."""
        ...


class ChunkChecksums:
    """PNG's: each chunk ends with a CRC (ISO/IEC 15948, 5.3)."""

    def count_broken(self, packet: bytes) -> int:
        return int(not chunks_are_whole(packet))


class LearnedChecksums:
    """Those that some streams of a codec have and others do not: that is learned from the first packet that passes."""

    def __init__(self, is_whole: Callable[[bytes], bool]) -> None:
        self._is_whole = is_whole
        self._is_proven = False
        self._num_unproven = 0

    def count_broken(self, packet: bytes) -> int:
        if not self._is_proven and self._num_unproven > _PACKETS_TO_TRY:
            return 0
        if self._is_whole(packet):
            self._is_proven = True
            broken, self._num_unproven = self._num_unproven, 0
            return broken
        self._num_unproven += not self._is_proven
        return int(self._is_proven)


def chunks_are_whole(png: bytes) -> bool:
    """Whether a PNG file is complete and its checksums are right."""
    position = len(_PNG_SIGNATURE)
    if not png.startswith(_PNG_SIGNATURE):
        return False
    while position + 12 <= len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        if end + 4 > len(png) or zlib.crc32(png[position + 4 : end]) != int.from_bytes(png[end : end + 4], "big"):
            return False
        if png[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def scans_have_ended(jpeg: bytes) -> bool:
    """Whether a JPEG goes on to the end of its last scan (ITU-T T.81, B.1.1.3): libav makes up what is missing.

    A thumbnail in its head may have an end of its own. Within a scan no such bytes occur.
    """
    return jpeg.rfind(_END_OF_IMAGE) > jpeg.rfind(_START_OF_SCAN)


def slices_are_whole(packet: bytes) -> bool:
    """Whether a packet of FFV1 is a chain of slices, each of which ends with its size, a status and a right CRC.

    RFC 9043, 4.10. Whether a stream has them stands in a coded header.
    """
    end = len(packet)
    while end > 0:
        start = end - _FOOTER_BYTES - int.from_bytes(packet[end - 8 : end - 5], "big")
        if end < _FOOTER_BYTES or start < 0 or _crc(packet[start:end]) != 0:
            return False
        end = start
    return bool(packet)


def _crc(data: bytes) -> int:
    """CRC-32 with the most significant bit first, from 0: zlib's mirrored, without its inversions."""
    return zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF


CHECKSUMS: dict[str, Callable[[], Checksums]] = {
    "ffv1": partial(LearnedChecksums, slices_are_whole),
    "mjpeg": partial(LearnedChecksums, scans_have_ended),
    "png": ChunkChecksums,
}
"""By codec."""
WHOLE_PICTURES: dict[str, Callable[[bytes], bool]] = {
    ".png": chunks_are_whole,
    ".jpg": scans_have_ended,
    ".jpeg": scans_have_ended,
}
"""Whether a file is whole, by its suffix."""
