"""Files that are a chain of blocks, of which libav passes over broken links without a word."""

import mmap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def break_in(path: Path) -> int | None:
    """Where, in bytes, the chain of an FLV or a GIF first breaks; None where it holds, and for other files.

    Raises OSError.
    """
    with path.open("rb") as file, suppress(ValueError), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for signature, walk in _WALKS.items():
            if data[: len(signature)] == signature:
                return walk(data)
    # An empty file cannot be mapped, and has no chain.
    return None


def _walk_flv(data: mmap.mmap) -> int | None:
    """Each tag is followed by its own size (Adobe Flash Video File Format 10.1, E.3)."""
    position = int.from_bytes(data[5:9], "big") + 4
    while position < len(data):
        size = 11 + int.from_bytes(data[position + 1 : position + 4], "big")
        end = position + size
        if end + 4 > len(data) or int.from_bytes(data[end : end + 4], "big") != size:
            return position
        position = end + 4
    return None


def _walk_gif(data: mmap.mmap) -> int | None:
    """Extensions and images made of sub-blocks, up to a mark at the very end (GIF89a, appendix B)."""
    position = 13 + _palette_bytes(data, 10)
    while position < len(data):
        begin, kind = position, data[position : position + 1]
        if kind == b";":
            return None if position == len(data) - 1 else position
        if kind == b"!":
            position += 2
        elif kind == b",":
            position += 11 + _palette_bytes(data, position + 9)
        else:
            return begin
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return len(data)


def _palette_bytes(data: mmap.mmap, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


_WALKS: dict[bytes, Callable[[mmap.mmap], int | None]] = {
    b"FLV\x01": _walk_flv,
    b"GIF89a": _walk_gif,
    b"GIF87a": _walk_gif,
}
