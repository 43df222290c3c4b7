"""Places in a file at which its streams first appear, for containers that do not list them at the
beginning.

libavformat looks for streams in the first five megabytes or seconds. One that appears later is
unknown when copying begins, and one that is announced but silent until then has no parameters that
a muxer could write. What is found here tells libavformat how far to look.
"""

import mmap
from contextlib import suppress
from pathlib import Path

import numpy as np

MAX_PROBE_BYTES = 128 << 20
"""Bytes of a file that are looked through at most: libavformat keeps in memory what it probes."""
PROBE_MARGIN_BYTES = 1 << 20
"""Bytes to read after the first packet of the last stream, for its parameters."""
USUAL_PROBE_BYTES = 5_000_000
"""Bytes that libavformat looks through by itself."""
MAX_PROBE_MICROSECONDS = 24 * 3600 * 10**6

_TS_PACKET_BYTES = ((188, 0), (192, 4), (204, 0))
"""Size of a packet and place of its sync byte: transport stream, Blu-ray, with error correction."""
_TS_PROOF_PACKETS = 8
_TS_CHUNK_PACKETS = 1 << 15
_PES_PREFIX = b"\x00\x00\x01"
_PACK, _END = 0xBA, 0xB9
_PRIVATE_STREAM_1, _PADDING, _PRIVATE_STREAM_2 = 0xBD, 0xBE, 0xBF


def probe_options(path: Path) -> dict[str, str]:
    """Options by which libavformat finds every stream that begins in the first `MAX_PROBE_BYTES`;
    none where its own suffice. Raises OSError."""
    starts = find_stream_starts(path)
    if len(starts) < 2:
        return {}
    return {
        "probesize": str(max(max(starts) + PROBE_MARGIN_BYTES, USUAL_PROBE_BYTES)),
        "analyzeduration": str(MAX_PROBE_MICROSECONDS),
        # Or it stops at the first table of a transport stream, though a later one may hold more.
        "scan_all_pmts": "1",
    }


def find_stream_starts(path: Path, limit: int | None = None) -> list[int]:
    """The byte at which each stream of an MPEG program or transport stream or an FLV first appears;
    none for other files.

    Looks through `limit` bytes, by default `MAX_PROBE_BYTES`. Raises OSError.
    """
    with (
        path.open("rb") as file,
        suppress(ValueError),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        end = min(len(data), MAX_PROBE_BYTES if limit is None else limit)
        if data[:3] == b"FLV":
            return _flv_starts(data, end)
        if data[:4] == _PES_PREFIX + bytes([_PACK]):
            return _program_stream_starts(data, end)
        for size, sync in _TS_PACKET_BYTES:
            synced = data[sync : sync + _TS_PROOF_PACKETS * size : size]
            if len(synced) == _TS_PROOF_PACKETS and set(synced) == {0x47}:
                return _transport_stream_starts(data, end, size, sync)
    # An empty file cannot be mapped, and has no streams.
    return []


def _transport_stream_starts(data: mmap.mmap, end: int, size: int, sync: int) -> list[int]:
    """Packets with a PID that begin a PES packet (ISO 13818-1, 2.4.3.2)."""
    starts: dict[int, int] = {}
    tables: set[int] = set()
    for begin in range(0, end - size + 1, size * _TS_CHUNK_PACKETS):
        count = min(_TS_CHUNK_PACKETS, (end - begin) // size)
        packets = np.frombuffer(data[begin : begin + count * size], np.uint8).reshape(count, size)
        heads = packets[:, sync : sync + 4]
        pids = ((heads[:, 1] & 0x1F).astype(np.int32) << 8) | heads[:, 2]
        # Only packets with the start indicator; those of a table do not begin with a PES prefix.
        begins = np.flatnonzero((heads[:, 1] & 0x40) & ((heads[:, 0] == 0x47) * 0xFF))
        unique, first = np.unique(pids[begins], return_index=True)
        for pid, position in zip(unique.tolist(), begins[first].tolist(), strict=True):
            if pid in starts or pid in tables:
                continue
            packet = packets[position, sync:].tobytes()
            payload = 5 + packet[4] if packet[3] & 0x20 else 4
            if packet[payload : payload + 3] == _PES_PREFIX:
                starts[pid] = begin + position * size
            else:
                tables.add(pid)
    return list(starts.values())


def _program_stream_starts(data: mmap.mmap, end: int) -> list[int]:
    """PES packets by stream and, within private stream 1, by DVD's substream (ISO 13818-1,
    2.5.3)."""
    starts: dict[tuple[int, int], int] = {}
    position = 0
    while 0 <= position < end - 9:
        if data[position : position + 3] != _PES_PREFIX:
            # Damage, or padding between packs: on to the next start code.
            position = data.find(_PES_PREFIX, position + 1, end)
            continue
        code = data[position + 3]
        if code == _PACK:
            is_mpeg2 = data[position + 4] & 0xC0 == 0x40
            position += 14 + (data[position + 13] & 7) if is_mpeg2 else 12
        elif code <= _END:
            position += 4
        else:
            if code >= _PRIVATE_STREAM_1 and code not in (_PADDING, _PRIVATE_STREAM_2):
                # The first byte behind the header tells DVD's sounds and subtitles apart.
                payload = position + 9 + data[position + 8]
                is_private = code == _PRIVATE_STREAM_1 and payload < end
                starts.setdefault((code, data[payload] if is_private else 0), position)
            position += 6 + int.from_bytes(data[position + 4 : position + 6], "big")
    return list(starts.values())


def _flv_starts(data: mmap.mmap, end: int) -> list[int]:
    """Tags of sound (8), picture (9) and data (18)."""
    starts: dict[int, int] = {}
    position = int.from_bytes(data[5:9], "big") + 4
    while position + 11 < end:
        starts.setdefault(data[position] & 0x1F, position)
        position += 15 + int.from_bytes(data[position + 1 : position + 4], "big")
    return [place for kind, place in starts.items() if kind in (8, 9)]
