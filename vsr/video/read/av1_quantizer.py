"""AV1 quantizers, read out of frame headers, since libavcodec does not tell them.

The base index of a frame stands for it: blocks differ from it by what segments and adaptive
quantization add. Section numbers are those of the AV1 bitstream specification. Whatever a header
holds that is rare in practice (decoder models, frame numbers, frames of a size of their own, tiles
of uneven sizes) ends the reading: no quantizer is better than a wrong one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vsr.video.read.header_bits import HeaderBits, UnreadableHeaderError

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6
"""Types of OBUs (6.2.2)."""
KEY_FRAME, INTRA_ONLY_FRAME, SWITCH_FRAME = 0, 2, 3
SELECTED = 2
"""Value of a choice that a sequence leaves to each frame."""
NUM_SLOTS, NUM_REFERENCES = 8, 7
ALL_SLOTS = 255
MAX_HEADER_BYTES = 256
"""Bytes of a unit that are looked at; its header is at the start."""
CONFIGURATION_MARK, CONFIGURATION_BYTES = 0x81, 4
"""First byte and size of what stands before the units of an `av1C` box."""
MAX_TILE_WIDTH, MAX_TILE_AREA, MAX_TILES = 4096, 4096 * 2304, 64
"""In pixels, and tiles of a row or column (3)."""


@dataclass(frozen=True)
class _Sequence:
    """Part of a sequence header that frame headers need (5.5.1)."""

    is_still: bool
    """One picture with a reduced header."""
    size: tuple[int, int]
    """Width and height in pixels."""
    has_large_blocks: bool
    has_reference_motion: bool
    order_bits: int
    """0 where frames tell no order."""
    screen_tools: int
    integer_motion: int
    has_superres: bool


class Av1Quantizers:
    """Reads the base quantizer index of each shown picture, as its packets come by."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata` is the stream's: an `av1C` box, or units as in a packet."""
        self._sequence: _Sequence | None = None
        self._slots: list[int | None] = [None] * NUM_SLOTS
        """Indices of the frames that later ones may refer to, or show."""
        if extradata:
            is_boxed = extradata[0] == CONFIGURATION_MARK
            self.index(extradata[CONFIGURATION_BYTES if is_boxed else 0 :])

    def index(self, packet: bytes) -> int | None:
        """Read the index, 0 to 255, of the frame that a packet shows; None where it cannot be
        read."""
        shown = None
        try:
            for kind, content in _units(packet):
                bits = HeaderBits(content[:MAX_HEADER_BYTES])
                if kind == SEQUENCE_HEADER:
                    self._sequence = _sequence(bits)
                elif kind in (FRAME_HEADER, FRAME):
                    # Frames that are only referred to stand beside the one that is shown.
                    index = self._frame_index(bits)
                    shown = index if shown is None else shown
        except UnreadableHeaderError:
            # Which slots the frame would have taken is unknown as well.
            self._slots = [None] * NUM_SLOTS
            return None
        return shown

    def _frame_index(self, bits: HeaderBits) -> int | None:
        """Read a frame header (5.9.2) as far as its quantizer."""
        sequence = self._sequence
        if sequence is None:
            raise UnreadableHeaderError("no sequence")
        kind, is_shown, is_resilient = KEY_FRAME, True, True
        if not sequence.is_still:
            if bits.flag():
                # show_existing_frame: nothing is coded but the slot.
                return self._slots[bits.u(3)]
            kind, is_shown = bits.u(2), bits.flag()
            if not is_shown:
                # Whether it may be shown later.
                bits.flag()
            is_whole_start = kind == KEY_FRAME and is_shown
            is_resilient = kind == SWITCH_FRAME or is_whole_start or bits.flag()
        is_intra = kind in (KEY_FRAME, INTRA_ONLY_FRAME)
        has_fixed_contexts = bits.flag()
        screen_tools = bits.u(1) if sequence.screen_tools == SELECTED else sequence.screen_tools
        integer_motion = 0
        if screen_tools:
            selects = sequence.integer_motion == SELECTED
            integer_motion = bits.u(1) if selects else sequence.integer_motion
        # frame_size_override_flag
        if kind == SWITCH_FRAME or (not sequence.is_still and bits.flag()):
            raise UnreadableHeaderError("a size of its own")
        bits.u(sequence.order_bits)
        if not is_intra and not is_resilient:
            # The frame whose contexts it begins with.
            bits.u(3)
        slots = ALL_SLOTS if kind == KEY_FRAME and is_shown else bits.u(8)
        if (not is_intra or slots != ALL_SLOTS) and is_resilient:
            bits.u(NUM_SLOTS * sequence.order_bits)
        width, height = sequence.size
        if is_intra:
            coded_width = _coded_width(bits, sequence)
            if screen_tools and coded_width == width:
                # Blocks that are copied from within the frame.
                bits.flag()
        else:
            coded_width = _skip_prediction(bits, sequence, integer_motion, is_resilient)
        if not sequence.is_still and not has_fixed_contexts:
            bits.flag()
        _skip_tiles(bits, coded_width, height, sequence.has_large_blocks)
        index = bits.u(8)
        self._slots = [
            index if slots >> slot & 1 else held for slot, held in enumerate(self._slots)
        ]
        return index if is_shown else None


def _skip_prediction(
    bits: HeaderBits, sequence: _Sequence, integer_motion: int, is_resilient: bool
) -> int:
    """Read over what a frame header says of prediction from other frames; the coded width."""
    # Short signaling names two references, from which the others follow.
    is_short = sequence.order_bits > 0 and bits.flag()
    bits.u(3 * (2 if is_short else NUM_REFERENCES))
    coded_width = _coded_width(bits, sequence)
    if not integer_motion:
        bits.flag()
    # The interpolation filter, unless each block has its own, and whether motion modes change.
    if not bits.flag():
        bits.u(2)
    bits.flag()
    if not is_resilient and sequence.has_reference_motion:
        bits.flag()
    return coded_width


def _coded_width(bits: HeaderBits, sequence: _Sequence) -> int:
    """Read sizes of a frame (5.9.5 to 5.9.8) that has its sequence's."""
    width, _ = sequence.size
    if sequence.has_superres and bits.flag():
        # Coded narrower, by eighths of 9 and more.
        denominator = 9 + bits.u(3)
        width = (8 * width + denominator // 2) // denominator
    if bits.flag():
        # The size that players show.
        bits.u(32)
    return width


def _skip_tiles(bits: HeaderBits, width: int, height: int, has_large_blocks: bool) -> None:
    """Read over the layout of tiles (5.9.15)."""
    block = 128 if has_large_blocks else 64
    # The size counts in pairs of units of 4 pixels.
    columns, rows = (-(-(-(-side // 8) * 8) // block) for side in (width, height))
    if not bits.flag():
        raise UnreadableHeaderError("tiles of uneven sizes")
    fewest_columns = _log2_up(columns, MAX_TILE_WIDTH // block)
    fewest = max(fewest_columns, _log2_up(columns * rows, MAX_TILE_AREA // block**2))
    column_bits = _count_up(bits, fewest_columns, _log2_up(min(columns, MAX_TILES), 1))
    fewest_rows = max(fewest - column_bits, 0)
    row_bits = _count_up(bits, fewest_rows, _log2_up(min(rows, MAX_TILES), 1))
    if column_bits or row_bits:
        # The tile whose contexts are kept, and the bytes of tiles' sizes.
        bits.u(column_bits + row_bits + 2)


def _count_up(bits: HeaderBits, start: int, end: int) -> int:
    """Read a number of `start` to `end` that is told by a bit for each step."""
    while start < end and bits.flag():
        start += 1
    return start


def _log2_up(target: int, unit: int) -> int:
    """Least k so that `unit` times 2 to the k is `target` at least."""
    return max(0, (-(-target // unit) - 1).bit_length())


def _sequence(bits: HeaderBits) -> _Sequence:
    # Profile, and whether it is a picture.
    bits.u(4)
    is_still = bits.flag()
    if is_still:
        bits.u(5)
    else:
        _skip_operating_points(bits)
    # The sizes of two numbers stand before both.
    width_bits, height_bits = 1 + bits.u(4), 1 + bits.u(4)
    width, height = 1 + bits.u(width_bits), 1 + bits.u(height_bits)
    if not is_still and bits.flag():
        raise UnreadableHeaderError("frame numbers")
    has_large_blocks = bits.flag()
    # Two tools of intra prediction.
    bits.u(2)
    has_reference_motion, order_bits = False, 0
    screen_tools = integer_motion = SELECTED
    if not is_still:
        # Four tools of inter prediction.
        bits.u(4)
        has_order = bits.flag()
        if has_order:
            bits.flag()
            has_reference_motion = bits.flag()
        screen_tools = SELECTED if bits.flag() else bits.u(1)
        if screen_tools:
            integer_motion = SELECTED if bits.flag() else bits.u(1)
        if has_order:
            order_bits = 1 + bits.u(3)
    return _Sequence(
        is_still,
        (width, height),
        has_large_blocks,
        has_reference_motion,
        order_bits,
        screen_tools,
        integer_motion,
        has_superres=bits.flag(),
    )


def _skip_operating_points(bits: HeaderBits) -> None:
    """Read over timing and operating points."""
    if bits.flag():
        # Units of time, and how many a picture has where all are alike.
        bits.u(64)
        if bits.flag():
            bits.ue()
        if bits.flag():
            raise UnreadableHeaderError("a model of the decoder")
    has_delay = bits.flag()
    for _ in range(1 + bits.u(5)):
        bits.u(12)
        level = bits.u(5)
        if level > 7:
            # The tier: lower levels have one.
            bits.flag()
        if has_delay and bits.flag():
            bits.u(4)


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and contents of OBUs (5.3)."""
    at = 0
    while at < len(data):
        head = data[at]
        # A second byte tells the layer, where there are several.
        at += 1 + (head >> 2 & 1)
        size = len(data) - at
        if head & 2:
            size, at = _leb128(data, at)
        yield head >> 3 & 15, data[at : at + size]
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number in bytes of seven bits, the lowest first (4.10.5), and the place behind it."""
    value = 0
    for count in range(8):
        if at >= len(data):
            break
        value |= (data[at] & 127) << 7 * count
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise UnreadableHeaderError("no such size")
