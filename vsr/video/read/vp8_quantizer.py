"""VP8 quantizers, read out of frame headers, since libavcodec does not tell them.

Section numbers are those of RFC 6386. Segments of a picture may have others; the picture's own
index stands for it.
"""

KEY_FRAME_MARK = b"\x9d\x01\x2a"
FRAME_TAG_BYTES, KEY_FRAME_BYTES = 3, 10
"""Bytes before the coded part of a header (9.1)."""
SEGMENTS, LOOP_FILTER_CHANGES = 4, 8


class _BoolDecoder:
    """Numbers out of arithmetic coding in which 0 and 1 are equally likely (7.3); zeros behind the
    end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self._rest = iter(data[2:])
        self._range, self._num_shifts = 255, 0

    def flag(self) -> bool:
        """One bit."""
        split = 1 + ((self._range - 1) >> 1)
        is_set = self._value >= split << 8
        if is_set:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._num_shifts += 1
            if self._num_shifts == 8:
                self._num_shifts = 0
                self._value |= next(self._rest, 0)
        return is_set

    def u(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        value = 0
        for _ in range(count):
            value = 2 * value + self.flag()
        return value

    def skip_changes(self, number: int, count: int) -> None:
        """Read over `number` changes that may be left out, of `count` bits and a sign each."""
        for _ in range(number):
            if self.flag():
                self.u(count + 1)


def vp8_index(packet: bytes) -> int | None:
    """Read the quantizer index, 0 to 127, of the picture that a packet shows; None for a packet
    that shows none, or is no VP8."""
    if len(packet) < KEY_FRAME_BYTES:
        return None
    # The tag's lowest bits: whether it needs other frames, three of a version, whether it is shown.
    is_key, is_shown = not packet[0] & 1, bool(packet[0] & 16)
    if not is_shown or (is_key and packet[FRAME_TAG_BYTES:][:3] != KEY_FRAME_MARK):
        return None
    bits = _BoolDecoder(packet[KEY_FRAME_BYTES if is_key else FRAME_TAG_BYTES :])
    if is_key:
        # The kind of color, and whether sums may leave the range (9.2).
        bits.u(2)
    if bits.flag():
        _skip_segments(bits)
    # The loop filter: kind, level and sharpness, then changes for kinds of blocks (9.6).
    bits.u(1 + 6 + 3)
    if bits.flag() and bits.flag():
        bits.skip_changes(LOOP_FILTER_CHANGES, 6)
    # The number of partitions (9.5).
    bits.u(2)
    return bits.u(7)


def _skip_segments(bits: _BoolDecoder) -> None:
    """Read over what is told of segments (9.3)."""
    has_map, has_values = bits.flag(), bits.flag()
    if has_values:
        bits.flag()
        # Quantizers, then levels of the loop filter.
        bits.skip_changes(SEGMENTS, 7)
        bits.skip_changes(SEGMENTS, 6)
    if has_map:
        # Three probabilities, without signs.
        bits.skip_changes(SEGMENTS - 1, 7)
