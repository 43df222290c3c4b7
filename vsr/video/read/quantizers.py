"""Quantizers: how coarsely the encoder rounded, as the decoder tells it.

libavcodec tells it for H.264, VP9, MPEG-1, MPEG-2, MPEG-4 part 2, H.263 and their relatives. It
tells nothing for HEVC, AV1, VP8 and MJPEG.
"""

import av
import numpy as np
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.sidedata.sidedata import Type

EXPORT_QUANTIZERS = {"export_side_data": "venc_params"}
"""Options of a decoder that make it tell."""
VP9_INDICES = (0, 1, 64, 95, 120, 144, 160, 176, 192, 208, 224, 240, 255)
VP9_AC_STEPS = (4, 8, 71, 102, 152, 231, 305, 408, 550, 743, 1007, 1369, 1828)
"""Some entries of VP9's table of steps for 8-bit video, in eighths of a grey level; the table is
nearly straight in between."""
VP9_EIGHTHS = 8


def quantizer_step(frame: av.VideoFrame) -> float | None:
    """Mean quantizer step of a frame's luma in grey levels of 255, for transforms of unit norm.

    None where the decoder tells nothing, or nothing that makes sense.
    """
    # PyAV looks it up by its type, which its stubs do not know of.
    side_data = frame.side_data.get(Type.VIDEO_ENC_PARAMS)  # type: ignore[call-overload]
    if not isinstance(side_data, VideoEncParams):
        return None
    quantizer = float(side_data.qp)
    if side_data.nb_blocks:
        quantizer = float(np.mean(side_data.qp_map()))
    if quantizer < 0:
        return None
    if side_data.codec_type == VideoEncParamsType.H264:
        # ITU-T H.264, 8.5.9: the step doubles every 6, and is 0.625 at 0. Deeper samples have
        # quantizers up to 6 lower for each bit, so that the step stays one of 8-bit levels.
        return float(0.625 * 2 ** (quantizer / 6))
    if side_data.codec_type == VideoEncParamsType.MPEG2:
        # Told as twice the code that is stored, which is the step of a flat matrix of 16.
        return quantizer
    if side_data.codec_type == VideoEncParamsType.VP9:
        return float(np.interp(quantizer, VP9_INDICES, VP9_AC_STEPS)) / VP9_EIGHTHS
    return None
