"""HEVC quantizers, read out of slice headers, since libavcodec does not tell them.

The quantizer of a picture's first slice stands for the picture: by how much blocks differ from it,
as adaptive quantization makes them, is not read. Section numbers are those of ITU-T H.265. Whatever
a header holds that is rare in practice (scaling lists, modified lists, long-term pictures in the
slice) ends the reading: no quantizer is better than a wrong one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2

from vsr.video.read.header_bits import HeaderBits, UnreadableHeaderError

SPS, PPS = 33, 34
"""Types of NAL units (table 7-1)."""
LAST_SLICE_TYPE, FIRST_RANDOM_ACCESS, LAST_RANDOM_ACCESS = 31, 16, 23
IDR_TYPES = (19, 20)
B_SLICE, P_SLICE, I_SLICE = range(3)
MAX_QP = 51
MAX_HEADER_BYTES = 256
"""Bytes of a slice that are looked at; its header is at the start."""
MAX_SETS = 64


@dataclass(frozen=True)
class _SequenceSet:
    """Part of a sequence parameter set that slice headers need (7.3.2.2)."""

    has_color: bool
    has_separate_planes: bool
    order_bits: int
    has_offset_filter: bool
    reference_sets: tuple[int, ...]
    """Number of pictures in each short-term reference picture set."""
    has_long_term: bool
    has_temporal_motion: bool


@dataclass(frozen=True)
class _PictureSet:
    """Part of a picture parameter set that slice headers need (7.3.2.3)."""

    sequence: int
    has_output_flag: bool
    num_extra_bits: int
    has_cabac_init: bool
    default_references: tuple[int, int]
    qp: int
    weights_p: bool
    weights_b: bool
    has_list_changes: bool


class HevcQuantizers:
    """Reads the quantizer of each picture, as its packets come by."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata` is the stream's: `hvcC` of MP4 and Matroska, or NAL units as in a packet."""
        self._sequences: dict[int, _SequenceSet] = {}
        self._pictures: dict[int, _PictureSet] = {}
        # ISO/IEC 14496-15, 8.3.3.1: the size of lengths stands in byte 21.
        is_boxed = extradata is not None and len(extradata) > 22 and extradata[0] == 1
        self._length_bytes = 1 + (extradata[21] & 3) if extradata and is_boxed else 0
        if extradata:
            for unit in _boxed_units(extradata) if is_boxed else _marked_units(extradata):
                self._take_set(unit)

    def quantizer(self, packet: bytes) -> int | None:
        """Read the quantizer of a packet's picture; None where it cannot be read."""
        units = (
            _sized_units(packet, self._length_bytes)
            if self._length_bytes
            else _marked_units(packet)
        )
        for unit in units:
            # The first of two bytes of header: a zero bit, six of the type (7.3.1.2).
            kind = unit[0] >> 1 & 63 if len(unit) > 2 else -1
            self._take_set(unit)
            if 0 <= kind <= LAST_SLICE_TYPE:
                try:
                    return self._slice_quantizer(kind, _bits(unit[2:MAX_HEADER_BYTES]))
                except UnreadableHeaderError:
                    return None
        return None

    def _take_set(self, unit: bytes) -> None:
        kind = unit[0] >> 1 & 63 if len(unit) > 2 else -1
        try:
            if kind == SPS:
                number, sequence = _sequence_set(_bits(unit[2:]))
                self._sequences[number] = sequence
            elif kind == PPS:
                number, picture = _picture_set(_bits(unit[2:]))
                self._pictures[number] = picture
        except UnreadableHeaderError:
            # Slices that name it are then unreadable as well.
            return

    def _slice_quantizer(self, kind: int, bits: HeaderBits) -> int:
        """Read a slice header (7.3.6.1) as far as its quantizer."""
        # Later slices tell their place first, in as many bits as the picture's size asks for.
        if not bits.flag():
            raise UnreadableHeaderError("not the first slice")
        if FIRST_RANDOM_ACCESS <= kind <= LAST_RANDOM_ACCESS:
            # no_output_of_prior_pics_flag: only pictures that decoding may begin at have it.
            bits.flag()
        picture = self._pictures.get(bits.ue())
        sequence = None if picture is None else self._sequences.get(picture.sequence)
        if picture is None or sequence is None:
            raise UnreadableHeaderError("no such parameter set")
        # Reserved for later versions of the standard.
        bits.u(picture.num_extra_bits)
        slice_type = bits.ue()
        # pic_output_flag and colour_plane_id, where the parameter sets announce them.
        bits.u(picture.has_output_flag + 2 * sequence.has_separate_planes)
        has_temporal_motion = False
        if kind not in IDR_TYPES:
            # Low bits of the picture's place in the output; an IDR picture's is 0, and not told.
            bits.u(sequence.order_bits)
            num_sets = len(sequence.reference_sets)
            if not bits.flag():
                _reference_set(bits, num_sets, list(sequence.reference_sets), in_slice=True)
            elif num_sets > 1:
                # Which set it is; of a single one there is nothing to tell.
                bits.u(ceil(log2(num_sets)))
            if sequence.has_long_term:
                raise UnreadableHeaderError("long-term pictures")
            has_temporal_motion = sequence.has_temporal_motion and bits.flag()
        if sequence.has_offset_filter:
            # Whether sample adaptive offset is on: for luma, and for both chromas together.
            bits.u(1 + sequence.has_color)
        if slice_type != I_SLICE:
            _skip_prediction(bits, slice_type, sequence, picture, has_temporal_motion)
        # slice_qp_delta counts from the picture's own quantizer (7.4.7.1).
        qp = picture.qp + bits.se()
        if not 0 <= qp <= MAX_QP:
            raise UnreadableHeaderError("no such quantizer")
        return qp


def _skip_prediction(
    bits: HeaderBits,
    slice_type: int,
    sequence: _SequenceSet,
    picture: _PictureSet,
    has_temporal_motion: bool,
) -> None:
    """Read over what a slice header says of prediction from other pictures."""
    references = list(picture.default_references)
    # A slice may replace the numbers of references that its picture set gives.
    if bits.flag():
        references[0] = 1 + bits.ue()
        if slice_type == B_SLICE:
            references[1] = 1 + bits.ue()
    if picture.has_list_changes:
        # Their length depends on which pictures are in use, which is not followed here.
        raise UnreadableHeaderError("modified lists")
    if slice_type == B_SLICE:
        # mvd_l1_zero_flag: only slices of two lists have it.
        bits.flag()
    if picture.has_cabac_init:
        bits.flag()
    if has_temporal_motion:
        # Where motion vectors are taken over from; a list of one picture needs no index.
        from_first = slice_type != B_SLICE or bits.flag()
        if references[0 if from_first else 1] > 1:
            bits.ue()
    is_weighted = picture.weights_b if slice_type == B_SLICE else picture.weights_p
    if is_weighted:
        _skip_weights(bits, references[: 2 if slice_type == B_SLICE else 1], sequence.has_color)
    # five_minus_max_num_merge_cand, the last field before the quantizer.
    bits.ue()


def _skip_weights(bits: HeaderBits, references: list[int], has_color: bool) -> None:
    """Read over a table of prediction weights (7.3.6.3)."""
    # Denominators as logarithms: of luma, then that of chroma by its difference.
    bits.ue()
    if has_color:
        bits.se()
    for count in references:
        # All flags stand before all weights.
        lumas = [bits.flag() for _ in range(count)]
        colors = [bits.flag() for _ in range(count)] if has_color else [False] * count
        for luma, color in zip(lumas, colors, strict=True):
            # A weight and an offset each; color has two chromas.
            for _ in range(2 * luma + 4 * color):
                bits.se()


def _sequence_set(bits: HeaderBits) -> tuple[int, _SequenceSet]:
    # The video parameter set holds nothing that slice headers depend on.
    bits.u(4)
    num_sub_layers = bits.u(3)
    bits.flag()
    _skip_profile(bits, num_sub_layers)
    number, chroma = bits.ue(), bits.ue()
    separate = chroma == 3 and bits.flag()
    # Width and height, then the cropping of what is shown.
    bits.ue(), bits.ue()
    if bits.flag():
        for _ in range(4):
            bits.ue()
    # Bit depths of luma and chroma.
    bits.ue(), bits.ue()
    order_bits = 4 + bits.ue()
    # Sizes of the decoder's buffer: for each sub-layer, or for the highest alone.
    for _ in range(1 + num_sub_layers if bits.flag() else 1):
        bits.ue(), bits.ue(), bits.ue()
    # Sizes of coding and transform blocks, and depths of their trees.
    for _ in range(6):
        bits.ue()
    # Lists that are on at their defaults need no reading.
    if bits.flag() and bits.flag():
        raise UnreadableHeaderError("scaling lists")
    bits.flag()
    has_offset_filter = bits.flag()
    # Blocks of raw samples: their depths, their sizes, and whether they are filtered.
    if bits.flag():
        bits.u(8)
        bits.ue(), bits.ue()
        bits.flag()
    count = bits.ue()
    if count > MAX_SETS:
        raise UnreadableHeaderError("no such number of sets")
    # Sets may be told by those before them, so all are read in order.
    sizes: list[int] = []
    for index in range(count):
        sizes.append(_reference_set(bits, index, sizes))
    has_long_term = bits.flag()
    if has_long_term:
        # A place in the order of output, and whether it is used.
        for _ in range(bits.ue()):
            bits.u(order_bits + 1)
    return number, _SequenceSet(
        has_color=chroma != 0 and not separate,
        has_separate_planes=separate,
        order_bits=order_bits,
        has_offset_filter=has_offset_filter,
        reference_sets=tuple(sizes),
        has_long_term=has_long_term,
        has_temporal_motion=bits.flag(),
    )


def _skip_profile(bits: HeaderBits, num_sub_layers: int) -> None:
    """Read over profile, tier and level (7.3.3)."""
    # 88 bits of profile and tier, a byte of level.
    bits.u(88 + 8)
    present = [(bits.flag(), bits.flag()) for _ in range(num_sub_layers)]
    # Filled up to eight sub-layers, but only where there is any.
    if num_sub_layers:
        bits.u(2 * (8 - num_sub_layers))
    for has_profile, has_level in present:
        bits.u(88 * has_profile + 8 * has_level)


def _reference_set(
    bits: HeaderBits, index: int, sizes: list[int], *, in_slice: bool = False
) -> int:
    """Read a short-term reference picture set (7.3.7) and return its number of pictures."""
    if index and bits.flag():
        # Told by its difference from an earlier set.
        behind = 1 + bits.ue() if in_slice else 1
        if behind > index:
            raise UnreadableHeaderError("no such set")
        # Sign and size of the difference: the number of pictures does not depend on them.
        bits.flag()
        bits.ue()
        count = 0
        # An entry for each picture of the other set, and one for that set's own picture.
        for _ in range(1 + sizes[index - behind]):
            is_used = bits.flag()
            # use_delta_flag stands only where the picture before it is not used.
            count += is_used or bits.flag()
        return count
    negative, positive = bits.ue(), bits.ue()
    if negative + positive > MAX_SETS:
        raise UnreadableHeaderError("no such set")
    for _ in range(negative + positive):
        bits.ue()
        bits.flag()
    return negative + positive


def _picture_set(bits: HeaderBits) -> tuple[int, _PictureSet]:
    number, sequence = bits.ue(), bits.ue()
    # Dependent slices, which the first of a picture never is.
    bits.flag()
    has_output_flag = bits.flag()
    num_extra_bits = bits.u(3)
    bits.flag()
    has_cabac_init = bits.flag()
    references = (1 + bits.ue(), 1 + bits.ue())
    qp = 26 + bits.se()
    # Two tools of coding, which slice headers do not depend on.
    bits.u(2)
    # Quantizers that change within a slice: down to which block.
    if bits.flag():
        bits.ue()
    # Chroma's quantizers count from luma's, which is the one that is wanted.
    bits.se(), bits.se()
    # Chroma's offsets in slices, which stand behind the quantizer.
    bits.flag()
    weights_p, weights_b = bits.flag(), bits.flag()
    bits.flag()
    has_tiles = bits.flag()
    bits.flag()
    if has_tiles:
        raise UnreadableHeaderError("tiles")
    bits.flag()
    # Settings of the deblocking filter.
    if bits.flag():
        bits.flag()
        if not bits.flag():
            bits.se(), bits.se()
    if bits.flag():
        raise UnreadableHeaderError("scaling lists")
    return number, _PictureSet(
        sequence,
        has_output_flag,
        num_extra_bits,
        has_cabac_init,
        references,
        qp,
        weights_p,
        weights_b,
        has_list_changes=bits.flag(),
    )


def _bits(unit: bytes) -> HeaderBits:
    """The bits of a NAL unit, without emulation prevention (7.3.1.1)."""
    # Encoders add a 3 behind two zero bytes, lest a unit contain a start code.
    return HeaderBits(unit.replace(b"\x00\x00\x03", b"\x00\x00"))


def _marked_units(data: bytes) -> Iterator[bytes]:
    """NAL units behind start codes (annex B)."""
    for part in data.split(b"\x00\x00\x01")[1:]:
        # Start codes may have four bytes: the first zero would else end the unit before.
        yield part.rstrip(b"\x00")


def _sized_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """NAL units behind their lengths."""
    at = 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        yield data[at : at + size]
        at += size


def _boxed_units(extradata: bytes) -> Iterator[bytes]:
    """NAL units of an `hvcC` box: arrays of units with two bytes of length each."""
    # Behind the part of fixed size.
    at = 23
    for _ in range(extradata[22]):
        # A byte of type stands before the number of units.
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size
