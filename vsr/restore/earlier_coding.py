"""Earlier compression, told by a picture that is stored finely now.

What an encoder has quantized lies on a lattice. Coded again in the same blocks and no coarser, it
loses less than another picture would; coarser than that, it loses as much at once (Bestagini et
al., "Codec and GOP identification in double compressed videos", 2016). The other picture is the
same one, cut two pixels further down and right: its content is alike, and its blocks are not those
of the lattice. So noise, blur and content make no difference, and blocks do.

The first frame of a shot is mostly coded by itself, and libx264 codes it again by itself. Found are
H.264, MPEG-1, MPEG-2, MPEG-4 and motion JPEG, at their own size and cut by multiples of 16 pixels
at most. Blocks of HEVC, VP9 and AV1 are too unlike.
"""

from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from vsr.video.write.encoders import ENCODERS

QUANTIZERS = tuple(range(10, 52, 2))
BLOCK_PX = 16
"""Side of a macroblock: pictures are cut to whole ones."""
SHIFT_PX = 2
"""Within all blocks of four pixels and more."""
MIN_BLOCKS = 15
MAX_PIXELS = 480 * 272
"""Larger pictures are looked at in their middle only."""
SOUGHT = (18, 44)
"""Quantizers between which the gap must be widest."""
MIN_GAP, MAX_GAP = 0.4, 1.6
"""Natural logarithms of how many times less is lost on the lattice. Clean, noisy, blurred and
resized pictures have up to .2, coded ones .45 to 1.2; more is drawn in squares."""
MIN_SHARE_BEFORE, MAX_SHARE_AFTER = 0.2, 0.3
"""Shares of the widest gap that must be left at all finer quantizers, and may be left at coarser
ones: what is drawn in squares keeps a gap there."""
BEFORE, AFTER = (2, 10), 4
"""Quantizers below and above the end of the gap that these are taken at."""
OVER_MEAN = 2.0
"""The end of the gap over the mean quantizer: with x264 -4 to 3, with encoders that code all frames
alike 2 to 10. An error of 3 either way costs up to .13 dB."""
MIN_END = 24
"""Least quantizer that the gap may end at: what is drawn in squares, with noise, has a gap at finer
ones, where there is little to restore."""
MIN_SHARE_OF_MOST = 0.65
"""The gap that the middle half of all blocks has, over that of the whole error: .8 to 1.3 where a
picture was coded, .4 to .6 where single strong edges happen to lie between blocks, as the edge of
black bars may."""
LEAST_ERROR = 0.05
"""Mean square error of a block below which nothing is told apart."""


def earlier_quantizer(luma: np.ndarray) -> float | None:
    """Estimate the mean quantizer, on H.264's scale, of the shot that a picture is the first of.

    `luma` is (H, W) in gray levels of 255. None where no earlier compression is seen: where there
    is none, it is too fine, its blocks are others, or the picture is too small.
    """
    height, width = ((side - SHIFT_PX) // BLOCK_PX * BLOCK_PX for side in luma.shape)
    shrink = max(1.0, (height * width / MAX_PIXELS) ** 0.5)
    kept = [int(side / shrink) // BLOCK_PX * BLOCK_PX for side in (height, width)]
    if kept[0] * kept[1] < MIN_BLOCKS * BLOCK_PX**2 or "libx264" not in av.codecs_available:
        return None
    # Video has 219 levels, which is the scale of quantizers.
    levels = np.rint(16 + 219 / 255 * luma).clip(0, 255).astype(np.uint8)
    top, left = (
        (side - keep) // 2 // BLOCK_PX * BLOCK_PX
        for side, keep in zip((height, width), kept, strict=True)
    )
    own, other = (
        _coding_errors(levels[top + by :, left + by :][: kept[0], : kept[1]])
        for by in (0, SHIFT_PX)
    )
    gap = np.log(other.mean(1) / own.mean(1))
    return _end_of_gap(gap, _middle_log(other) - _middle_log(own))


def _middle_log(errors: np.ndarray) -> np.ndarray:
    """(N, blocks) to (N,): the mean logarithm of the middle half of all blocks."""
    logs = np.sort(np.log(errors), axis=1)
    quarter = logs.shape[1] // 4
    middle: np.ndarray = logs[:, quarter : logs.shape[1] - quarter].mean(1)
    return middle


def _end_of_gap(gap: np.ndarray, gap_of_most: np.ndarray) -> float | None:
    """Find the mean quantizer by how much less is lost on the lattice, as a logarithm for each of
    `QUANTIZERS`: of the whole error, and of most blocks."""
    tried = np.array(QUANTIZERS)
    smooth = np.convolve(np.pad(gap, 1, mode="edge"), np.full(3, 1 / 3), "valid")
    is_sought = (tried >= SOUGHT[0]) & (tried <= SOUGHT[1])
    peak = int(np.argmax(np.where(is_sought, smooth, -np.inf)))
    widest = smooth[peak]
    if not MIN_GAP <= widest <= MAX_GAP:
        return None
    halved = np.flatnonzero(smooth[peak:] <= widest / 2)
    end = float(tried[-1])
    if len(halved):
        # Between the last quantizer with more than half of the gap and the first with less.
        places = peak + halved[0] - np.arange(2)
        end = float(np.interp(widest / 2, smooth[places], tried[places]))
    is_before = (tried >= end - BEFORE[1]) & (tried <= end - BEFORE[0])
    is_after = tried >= end + AFTER
    if end < MIN_END or gap[is_before].min() < MIN_SHARE_BEFORE * widest:
        return None
    if gap_of_most[is_before].mean() < MIN_SHARE_OF_MOST * gap[is_before].mean():
        return None
    if np.abs(gap[is_after]).max(initial=0) > MAX_SHARE_AFTER * widest:
        return None
    return round(end - OVER_MEAN, 2)


def _coding_errors(levels: np.ndarray) -> np.ndarray:
    """Mean square errors of the blocks of a picture, uint8 (H, W), coded by itself at each of
    `QUANTIZERS`: (quantizers, blocks)."""
    height, width = levels.shape
    encoder = av.Codec("libx264", "w").create("video")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "gray"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    # The first frame's quantizer is the encoder's choice, so it is no part of the row.
    zones = [f"{at},{at},q={quantizer}" for at, quantizer in enumerate(QUANTIZERS, start=1)]
    settings = [
        "keyint=1:aq-mode=0:mbtree=0:rc-lookahead=0:qpmin=0:qpmax=51:qpstep=51",
        "zones=" + "/".join(zones),
        *ENCODERS["libx264"].fixed.values(),
    ]
    encoder.options = {"preset": "medium", "crf": "20", "x264-params": ":".join(settings)}
    decoder = av.Codec("h264", "r").create("video")
    errors: list[np.ndarray] = []
    for at in range(len(zones) + 1):
        frame = av.VideoFrame.from_ndarray(levels, format="gray")
        frame.pts = at
        for packet in encoder.encode(frame):
            errors += _errors(decoder, packet, levels)
    for last in (*encoder.encode(None), None):
        errors += _errors(decoder, last, levels)
    kept: np.ndarray = np.maximum(errors[1:], LEAST_ERROR)
    return kept


def _errors(
    decoder: VideoCodecContext, packet: "Packet[Stream] | None", levels: np.ndarray
) -> list[np.ndarray]:
    """Mean square errors of the blocks of each picture that comes out of the decoder."""
    height, width = levels.shape
    found = []
    for frame in decoder.decode(packet):
        # The decoder adds gray chroma below, and to convert it would stretch the range.
        luma = frame.to_ndarray()[:height, :width].astype(np.float32)
        squares = np.square(luma - levels).reshape(
            height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX
        )
        found.append(squares.mean((1, 3)).ravel())
    return found
