"""Ways to damage a file: bytes, chunks, and the boxes of MP4 and elements of Matroska."""

import random
from collections.abc import Callable

EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
MATROSKA_PARENTS = {
    0x18538067,
    0x1F43B675,
    0x1654AE6B,
    0xAE,
    0xE0,
    0x1C53BB6B,
    0xBB,
    0x1254C367,
    0xA0,
}
MP4_PARENTS = {
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"edts",
    b"udta",
    b"moof",
    b"traf",
    b"mvex",
    b"dinf",
}
Span = tuple[int, int]


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A damaged copy and the name of what was done to it."""
    name = rng.choice(tuple(MUTATIONS))
    mutated = bytearray(data)
    MUTATIONS[name](mutated, rng)
    return name, bytes(mutated)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, but every other time near one of the ends, where the headers are."""
    length = len(data)
    if rng.random() < 0.5:
        return rng.randrange(length)
    near = rng.randrange(min(2048, length))
    return near if rng.random() < 0.6 else length - 1 - near


def _flip_bytes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        data[_place(data, rng)] = rng.randrange(256)


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _cut_end(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _chunk(data: bytearray, rng: random.Random) -> Span:
    start = _place(data, rng)
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 256, 1024)))


def _remove_chunk(data: bytearray, rng: random.Random) -> None:
    start, end = _chunk(data, rng)
    del data[start:end]


def _repeat_chunk(data: bytearray, rng: random.Random) -> None:
    start, end = _chunk(data, rng)
    data[end:end] = data[start:end]


def _zero_chunk(data: bytearray, rng: random.Random) -> None:
    start, end = _chunk(data, rng)
    data[start:end] = bytes(end - start)


def _swap_chunks(data: bytearray, rng: random.Random) -> None:
    first, second = sorted((_chunk(data, rng), _chunk(data, rng)))
    _swap(data, first, second)


def _write_extreme(data: bytearray, rng: random.Random) -> None:
    start = min(_place(data, rng), max(0, len(data) - 4))
    data[start : start + 4] = rng.choice(EXTREMES).to_bytes(4, rng.choice(("big", "little")))


def _swap_boxes(data: bytearray, rng: random.Random) -> None:
    spans = boxes(bytes(data))
    if len(spans) >= 2:
        _swap(data, *sorted(rng.sample(spans, 2)))


def _remove_box(data: bytearray, rng: random.Random) -> None:
    spans = boxes(bytes(data))
    if spans:
        start, end = rng.choice(spans)
        del data[start:end]


def _repeat_box(data: bytearray, rng: random.Random) -> None:
    spans = boxes(bytes(data))
    if spans:
        start, end = rng.choice(spans)
        data[end:end] = data[start:end]


def _resize_box(data: bytearray, rng: random.Random) -> None:
    spans = boxes(bytes(data))
    if spans:
        start, _ = rng.choice(spans)
        data[start : start + 4] = rng.choice((*EXTREMES, rng.randrange(2**16))).to_bytes(4, "big")


def _swap(data: bytearray, first: Span, second: Span) -> None:
    if first[1] <= second[0]:
        one, between, other = data[slice(*first)], data[first[1] : second[0]], data[slice(*second)]
        data[first[0] : second[1]] = other + between + one


MUTATIONS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "bytes": _flip_bytes,
    "bits": _flip_bits,
    "cut": _cut_end,
    "chunk removed": _remove_chunk,
    "chunk repeated": _repeat_chunk,
    "chunk zeroed": _zero_chunk,
    "chunks swapped": _swap_chunks,
    "extreme number": _write_extreme,
    "boxes swapped": _swap_boxes,
    "box removed": _remove_box,
    "box repeated": _repeat_box,
    "box resized": _resize_box,
}


def boxes(data: bytes) -> list[Span]:
    """Where the boxes of an MP4 or the elements of a Matroska file lie, nested ones too; empty for
    other files."""
    spans: list[Span] = []
    if data[4:8] in (b"ftyp", b"moov"):
        _walk_mp4(data, 0, len(data), spans)
    elif data.startswith(b"\x1a\x45\xdf\xa3"):
        _walk_matroska(data, 0, len(data), spans)
    return spans


def _walk_mp4(data: bytes, position: int, end: int, spans: list[Span]) -> None:
    while position + 8 <= end:
        length = int.from_bytes(data[position : position + 4], "big")
        if not 8 <= length <= end - position:
            return
        spans.append((position, position + length))
        if data[position + 4 : position + 8] in MP4_PARENTS:
            _walk_mp4(data, position + 8, position + length, spans)
        position += length


def _walk_matroska(data: bytes, position: int, end: int, spans: list[Span]) -> None:
    while position < end and data[position]:
        id_width = 9 - data[position].bit_length()
        size_at = position + id_width
        if size_at >= end or not data[size_at]:
            return
        size_width = 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at : size_at + size_width], "big") & (
            (1 << 7 * size_width) - 1
        )
        body = size_at + size_width
        if body + size > end:
            size = end - body
        spans.append((position, body + size))
        if int.from_bytes(data[position:size_at], "big") in MATROSKA_PARENTS:
            _walk_matroska(data, body, body + size, spans)
        position = body + size
