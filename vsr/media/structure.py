"""Files that are a chain of blocks, of which libav passes over broken links without a word."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def break_in(path: Path) -> int | None:
    """Where, in bytes, the chain of an FLV, a GIF or a fragmented MP4 first breaks; None where it holds.

    None for other files, too.

    Raises OSError.
    """
    with path.open("rb") as file, suppress(ValueError), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for (place, signature), walk in _WALKS.items():
            if data[place : place + len(signature)] == signature:
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


def _walk_mp4(data: mmap.mmap) -> int | None:
    """Fragments of a track follow one another in time (ISO 14496-12, 8.8.12): of one out of order frames get lost."""
    latest: dict[bytes, int] = {}
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind != b"moof":
            continue
        for track, start in _fragment_starts(data, begin, end):
            if start < latest.get(track, 0):
                return begin
            latest[track] = start
    return None


def _fragment_starts(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Track and decoding time, in units of its own, of the parts of a fragment that tell both."""
    for kind, part_begin, part_end in _boxes(data, begin, end):
        if kind == b"traf":
            found = {kind: data[first:last] for kind, first, last in _boxes(data, part_begin, part_end)}
            if b"tfhd" in found and b"tfdt" in found:
                is_long = found[b"tfdt"][:1] == b"\x01"
                yield found[b"tfhd"][4:8], int.from_bytes(found[b"tfdt"][4 : 12 if is_long else 8], "big")


def _boxes(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind and content, from where to where, of boxes side by side, as far as they make sense (ISO 14496-12, 4.2)."""
    while begin + 8 <= end:
        size, kind, head = int.from_bytes(data[begin : begin + 4], "big"), data[begin + 4 : begin + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[begin + 8 : begin + 16], "big"), 16
        if size < head:
            return
        yield kind, begin + head, min(begin + size, end)
        begin += size


_WALKS: dict[tuple[int, bytes], Callable[[mmap.mmap], int | None]] = {
    (0, b"FLV\x01"): _walk_flv,
    (0, b"GIF89a"): _walk_gif,
    (0, b"GIF87a"): _walk_gif,
    (4, b"ftyp"): _walk_mp4,
}
"""By what the file has where."""
