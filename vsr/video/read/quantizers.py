"""Quantizers: how coarsely the encoder rounded, as the decoder tells it.

libavcodec tells it for H.264, VP9, MPEG-1, MPEG-2, MPEG-4 part 2, H.263 and their relatives. HEVC's
is read out of its slice headers. For AV1, VP8 and MJPEG nothing is known.
"""

import av
import numpy as np
from av.buffer import Buffer
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.sidedata.sidedata import Type

from vsr.video.read.hevc_quantizer import HevcQuantizers
from vsr.video.read.icc_profile import without_profile

EXPORT_QUANTIZERS = {"export_side_data": "venc_params"}
"""Options of a decoder that make it tell."""
VP9_INDICES = (0, 1, 64, 95, 120, 144, 160, 176, 192, 208, 224, 240, 255)
VP9_AC_STEPS = (4, 8, 71, 102, 152, 231, 305, 408, 550, 743, 1007, 1369, 1828)
"""Some entries of VP9's table of steps for 8-bit video, in eighths of a grey level; the table is
nearly straight in between."""
VP9_EIGHTHS = 8


MAX_WAITING = 64
"""Packets whose picture has not come out: no codec holds back as many."""


class QuantizerReader:
    """Finds the quantizer of each picture, in the packets or beside the decoded frames."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._headers = HevcQuantizers(extradata) if codec == "hevc" else None
        self._waiting: dict[int, float] = {}
        """Steps by time of the picture."""

    def add_packet(self, pts: int | None, packet: Buffer) -> None:
        """Look at a packet on its way into the decoder."""
        if self._headers is None or pts is None:
            return
        quantizer = self._headers.quantizer(bytes(packet))
        if quantizer is not None:
            self._waiting[pts] = h264_step(quantizer)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))

    def take_step(self, frame: av.VideoFrame) -> float | None:
        """Mean quantizer step of a decoded frame's luma; None where it is not known."""
        if self._headers is None:
            return quantizer_step(frame)
        return None if frame.pts is None else self._waiting.pop(frame.pts, None)


MAX_BLOCKS = 1000
"""Blocks that are looked at one by one, spread over a picture."""


def h264_step(quantizer: float) -> float:
    """Step of a quantizer of H.264 or HEVC, in gray levels, for transforms of unit norm.

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
        return quantizer
    if side_data.codec_type == VideoEncParamsType.VP9:
        return float(np.interp(quantizer, VP9_INDICES, VP9_AC_STEPS)) / VP9_EIGHTHS
    return None
