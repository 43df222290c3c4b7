"""Quantizers: how coarsely the encoder rounded, as decoders and headers tell it.

libavcodec tells it for H.264, VP9, MPEG-1, MPEG-2, MPEG-4 part 2, H.263 and their relatives. That
of HEVC, AV1, VP8 and motion JPEG is read out of packets here. libavcodec's filter `trace_headers`
knows most of these headers, but speaks through its log alone, which is the whole process's: while
PyAV listens, a decoder in another thread that complains can wait for Python forever.
"""

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import IO

import av
import numpy as np
from av.buffer import Buffer
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.sidedata.sidedata import Type

from vsr.video.read.av1_quantizer import Av1Quantizers
from vsr.video.read.hevc_quantizer import HevcQuantizers
from vsr.video.read.icc_profile import without_profile
from vsr.video.read.jpeg_quantizer import jpeg_table
from vsr.video.read.vp8_quantizer import vp8_index

EXPORT_QUANTIZERS = {"export_side_data": "venc_params"}
"""Options of a decoder that make it tell."""
VP9_INDICES = (0, 1, 64, 95, 120, 144, 160, 176, 192, 208, 224, 240, 255)
VP9_AC_STEPS = (4, 8, 71, 102, 152, 231, 305, 408, 550, 743, 1007, 1369, 1828)
"""Some entries of the table of steps that VP9 and AV1 share for 8-bit video, in eighths of a gray
level; it is nearly straight in between."""
VP9_EIGHTHS = 8
VP8_INDICES = (0, 54, 83, 102, 116, 127)
VP8_AC_STEPS = (4, 58, 116, 173, 229, 284)
"""Some entries of VP8's table (RFC 6386, 14.1), in halves of a gray level."""
VP8_HALVES = 2
MPEG_FACTOR = 1.4
"""The step of H.264 at which x264 errs as much as MPEG-1 and MPEG-2, over theirs: they round more
of what is small to 0, and their matrices are coarser at high frequencies. Of MPEG-4 it is 1.6."""
HEVC_EXCESS = 3
"""Quantizers by which slices of x265 tell more than x264 does at the same error: what adaptive
quantization makes finer stands in no slice header. Without it they tell 0.3 more."""
AV1_FACTOR, AV1_POWER = 2.2, 0.61
"""The step of H.264 at which x264 errs as much as an AV1 frame of step s: `AV1_FACTOR` times s to
the power of `AV1_POWER`. Most shown frames of AV1 are the coarsest of a pyramid, made of finer ones
by long filters: at crf 56 the steps alone would tell QP 44, and the error is that of QP 35."""
JPEG_LOW_FREQUENCIES = 15
"""Coefficients whose mean step stands for a table of JPEG: the error is that of x264 at this step
within 2 QP. The mean of all of them tells 1 to 4 QP more."""
MAX_WAITING = 64
"""Packets whose picture has not come out: no codec holds back as many."""


class QuantizerReader:
    """Finds the quantizer of each picture, in the packets or beside the decoded frames."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._packet_step = _packet_reader(codec, extradata)
        self._waiting: dict[int | None, float] = {}
        """Steps by time of the picture; where none is stored, that of the latest packet."""

    def add_packet(self, pts: int | None, packet: Buffer) -> None:
        """Look at a packet on its way into the decoder."""
        step = None if self._packet_step is None else self._packet_step(bytes(packet))
        if step is not None:
            self._waiting[pts] = step
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))

    def take_step(self, frame: av.VideoFrame) -> float | None:
        """Mean quantizer step of a decoded frame's luma; None where it is not known."""
        if self._packet_step is None:
            return quantizer_step(frame)
        return self._waiting.pop(frame.pts, None)


def decoded_with_steps(file: IO[bytes]) -> Iterator[tuple[av.VideoFrame, float | None]]:
    """Decode the first video stream of a file; beside each picture its quantizer step, None where
    it is not known."""
    with av.open(file, "r") as container:
        video = container.streams.video[0]
        context = video.codec_context
        context.options = EXPORT_QUANTIZERS
        reader = QuantizerReader(context.codec.canonical_name, context.extradata)
        for packet in container.demux(video):
            reader.add_packet(packet.pts, packet)
            for frame in packet.decode():
                yield frame, reader.take_step(frame)


def _packet_reader(codec: str, extradata: bytes | None) -> Callable[[bytes], float | None] | None:
    """Find what reads the step out of a codec's packets; None where decoders tell it, or nobody."""
    if codec == "hevc":
        hevc = HevcQuantizers(extradata)
        return lambda packet: _through(hevc_step, hevc.quantizer(packet))
    if codec == "av1":
        av1 = Av1Quantizers(extradata)
        return lambda packet: _through(av1_step, av1.index(packet))
    if codec == "vp8":
        return lambda packet: _through(vp8_step, vp8_index(packet))
    return jpeg_step if codec == "mjpeg" else None


def _through(step_of: Callable[[float], float], number: float | None) -> float | None:
    return None if number is None else step_of(number)


def hevc_step(quantizer: float) -> float:
    """Step of H.264 whose error is that of an HEVC picture of a slice quantizer."""
    return h264_step(quantizer - HEVC_EXCESS)


def av1_step(index: float) -> float:
    """Step of H.264 that errs as much as an AV1 frame of a base index, 0 to 255."""
    return float(AV1_FACTOR * vp9_step(index) ** AV1_POWER)


def vp9_step(index: float) -> float:
    """Step of an index of VP9 or AV1, 0 to 255, in 8-bit gray levels at every depth."""
    return float(np.interp(index, VP9_INDICES, VP9_AC_STEPS)) / VP9_EIGHTHS


def vp8_step(index: float) -> float:
    """Step of an index of VP8, 0 to 127, in gray levels."""
    return float(np.interp(index, VP8_INDICES, VP8_AC_STEPS)) / VP8_HALVES


def jpeg_step(picture: bytes) -> float | None:
    """Step of the low frequencies of a JPEG picture's luma, in gray levels; None where its headers
    do not tell."""
    table = jpeg_table(picture)
    return None if table is None else fmean(table[:JPEG_LOW_FREQUENCIES])


MAX_QUANTIZER = 51
"""The coarsest of H.264."""
MAX_BLOCKS = 1000
"""Blocks that are looked at one by one, spread over a picture."""


def h264_step(quantizer: float) -> float:
    """Step of a quantizer of H.264, in gray levels, for transforms of unit norm.

    ITU-T H.264, 8.5.9: it doubles every 6, and is 0.625 at 0. Deeper samples have quantizers that
    reach lower by 6 for each bit, so that the step stays one of 8-bit levels.
    """
    return float(0.625 * 2 ** (quantizer / 6))


def quantizer_step(frame: av.VideoFrame) -> float | None:
    """Mean quantizer step of a frame's luma in grey levels of 255, for transforms of unit norm.

    None where the decoder tells nothing, or nothing that makes sense.
    """
    # PyAV looks it up by its type, which its stubs do not know of.
    bare, _ = without_profile(frame)
    side_data = bare.side_data.get(Type.VIDEO_ENC_PARAMS)  # type: ignore[call-overload]
    if not isinstance(side_data, VideoEncParams):
        return None
    quantizer = float(side_data.qp)
    if side_data.nb_blocks:
        try:
            quantizer = float(np.mean(side_data.qp_map()))
        except RuntimeError:
            # PyAV maps no blocks of a picture that the header crops by more than a block.
            numbers = range(0, side_data.nb_blocks, 1 + side_data.nb_blocks // MAX_BLOCKS)
            changes = [side_data.block_params(number).delta_qp for number in numbers]
            quantizer += float(np.mean(changes))
    if quantizer < 0:
        return None
    if side_data.codec_type == VideoEncParamsType.H264:
        return h264_step(quantizer)
    if side_data.codec_type == VideoEncParamsType.MPEG2:
        # Told as twice the code that is stored, which is the step of a flat matrix of 16.
        return MPEG_FACTOR * quantizer
    if side_data.codec_type == VideoEncParamsType.VP9:
        return vp9_step(quantizer)
    return None
