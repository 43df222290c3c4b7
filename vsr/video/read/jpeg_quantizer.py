"""Quantizers of JPEG pictures and motion JPEG, read out of their tables.

Section numbers are those of ITU-T T.81. The transform is 8x8 and of unit norm, so that the numbers
of a table are steps in gray levels.
"""

from vsr.video.read.header_bits import HeaderBits, UnreadableHeaderError

START, END, SCAN = 0xD8, 0xD9, 0xDA
TABLES = 0xDB
"""Markers (table B.1)."""
FRAMES = (0xC0, 0xC1, 0xC2)
"""Markers of frames in Huffman codes: baseline, extended and progressive."""
COEFFICIENTS = 64


def jpeg_table(picture: bytes) -> list[int] | None:
    """Read the 64 quantizer steps of the first component, luma, in zigzag order; None where they
    are not told before the picture's first scan."""
    tables: dict[int, list[int]] = {}
    number: int | None = None
    at = 0
    try:
        while at + 4 <= len(picture):
            if picture[at] != 0xFF or picture[at + 1] in (0xFF, START):
                # Bytes that fill, or a marker that stands alone.
                at += 1 if picture[at + 1] == 0xFF else 2
                continue
            kind = picture[at + 1]
            if kind in (SCAN, END):
                break
            size = int.from_bytes(picture[at + 2 : at + 4], "big")
            segment = picture[at + 4 : at + 2 + size]
            if kind == TABLES:
                tables |= _tables(segment)
            elif kind in FRAMES:
                # Behind depth, size and number of components: the first one's name, its sampling
                # and its table (B.2.2).
                number = segment[8]
            at += 2 + size
    except (IndexError, UnreadableHeaderError):
        return None
    return tables.get(number) if number is not None else None


def _tables(segment: bytes) -> dict[int, list[int]]:
    """The tables of a segment (B.2.4.1) by their number."""
    found: dict[int, list[int]] = {}
    at = 0
    while at < len(segment):
        element_bytes = 1 + (segment[at] >> 4)
        size = COEFFICIENTS * element_bytes
        bits = HeaderBits(segment[at + 1 : at + 1 + size])
        found[segment[at] & 15] = [bits.u(8 * element_bytes) for _ in range(COEFFICIENTS)]
        at += 1 + size
    return found
