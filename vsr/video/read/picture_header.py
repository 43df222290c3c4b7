"""Headers of picture files, read without decoding: what a folder holds is known before its first
frame."""

import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 1 << 16
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLORS = {0: "gray", 2: "rgb24", 3: "rgb24", 4: "ya8", 6: "rgba"}
"""Format by color type (ISO/IEC 15948, 11.2.2) at eight bits; a palette holds RGB."""
_PNG_DEEP_COLORS = {0: "gray16be", 2: "rgb48be", 4: "ya16be", 6: "rgba64be"}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header (ITU-T T.81, table B.1)."""
_JPEG_FORMATS = {1: "gray", 3: "yuvj420p", 4: "gbrp"}
"""Formats by number of components; those of chroma are told by the first one's sampling."""
_JPEG_CHROMA = {(2, 2): "yuvj420p", (2, 1): "yuvj422p", (1, 2): "yuvj440p", (1, 1): "yuvj444p"}


@dataclass(frozen=True)
class PictureHeader:
    """Size and format of a picture as it is stored."""

    width: int
    height: int
    pixel_format: str
    """libav's name; the nearest where the header does not tell more."""


def read_picture_header(picture: Path) -> PictureHeader | None:
    """Read the header of a PNG or a JPEG; None for other files and broken headers. Raises
    OSError."""
    with picture.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"\xff\xd8") and b"\xff\xda" not in head:
            # A camera's thumbnail and color profile may fill more than the first part.
            head += file.read()
    try:
        if head.startswith(PNG_SIGNATURE):
            return _png_header(head)
        return _jpeg_header(head) if head.startswith(b"\xff\xd8") else None
    except (IndexError, KeyError, struct.error):
        return None


def _png_header(head: bytes) -> PictureHeader:
    width, height, bits, color = struct.unpack(">2I2B", head[16:26])
    # Transparency of a palette or a single color stands in a chunk before the pixels; libav gives
    # such pictures an alpha plane.
    has_key = b"tRNS" in head[: head.find(b"IDAT")]
    if bits == 16:
        name = _PNG_DEEP_COLORS[color]
        return PictureHeader(
            width, height, {"rgb48be": "rgba64be"}.get(name, name) if has_key else name
        )
    name = _PNG_COLORS[color]
    return PictureHeader(width, height, {"rgb24": "rgba"}.get(name, name) if has_key else name)


def _jpeg_header(head: bytes) -> PictureHeader | None:
    position = 2
    while head[position] == 0xFF:
        marker = head[position + 1]
        if marker in _JPEG_FRAMES:
            height, width, count = struct.unpack(">2HB", head[position + 5 : position + 10])
            sampling = head[position + 11]
            name = _JPEG_CHROMA.get((sampling >> 4, sampling & 15), _JPEG_FORMATS[count])
            return PictureHeader(width, height, name if count == 3 else _JPEG_FORMATS[count])
        position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return None
