"""Degrades the frames of a sequence as films are: by encoders, and by noise before these. With what
a run would know of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import av
import numpy as np
import torch
from av.video.stream import VideoStream

from vsr.records import option
from vsr.restore.degradation import step_to_qp
from vsr.video.read.quantizers import decoded_with_steps
from vsr.video.step import Degradation
from vsr.video.write.encoders import ENCODERS

RATE = 25
BLACK, RANGE, GRAY = 16, 219, 128
"""Luma's lowest level and range in video, and chroma without color."""
X264, MPEG2, MPEG4 = "libx264", "mpeg2video", "mpeg4"


@dataclass(frozen=True)
class DegradationOptions:
    """Degradation of the sequences that changes of weights are trained on."""

    noisy: float = option(0.15, "Share with noise before it is encoded.", at_least=0, at_most=1)
    max_noise: float = option(
        8.0, "Its largest standard deviation of luma in gray levels.", at_least=0
    )
    h264: float = option(
        0.8, "Share of H.264; the rest is MPEG-2 and MPEG-4 part 2.", at_least=0, at_most=1
    )
    min_crf: float = option(15.0, "Best quality of H.264.", at_least=0, at_most=51)
    max_crf: float = option(38.0, "Worst.", at_least=0, at_most=51)


class DegradedFrames(NamedTuple):
    """Luma (1, h, w) of 8 bits, in [0, 1], and the estimates that a run would make of it."""

    frames: list[torch.Tensor]
    degradation: Degradation


def degrade(
    lows: Sequence[torch.Tensor], options: DegradationOptions, random: np.random.Generator
) -> DegradedFrames:
    """Degrade consecutive frames (1, h, w), of even sides, in a way that is drawn at random."""
    sigma = random.uniform(0, options.max_noise) if random.random() < options.noisy else 0.0
    source = [_quantized(low + _noise(low, sigma, random)) for low in lows]
    # Going back before going forth: in the middle of a film errors have traveled for longer.
    lead = source[1 : 1 + int(random.integers(0, len(source)))][::-1]
    decoded, quantizer = encode_and_decode([*lead, *source], *_draw_encoding(options, random))
    return DegradedFrames(decoded[len(lead) :], Degradation(qp=quantizer))


def encode_and_decode(
    frames: Sequence[torch.Tensor], codec: str, settings: dict[str, str]
) -> tuple[list[torch.Tensor], float | None]:
    """Send luma (1, h, w) in [0, 1] through an encoder; also the mean quantizer on H.264's scale,
    as vsr reads it."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        height, width = frames[0].shape[-2:]
        stream = out.add_stream(codec, rate=RATE, width=width, height=height, pix_fmt="yuv420p")
        assert isinstance(stream, VideoStream)
        stream.options = dict(settings)
        stream.codec_context.thread_count = 1
        for luma in frames:
            planes = np.full((height * 3 // 2, width), GRAY, np.uint8)
            planes[:height] = np.rint(BLACK + RANGE * luma[0].numpy())
            out.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        out.mux(stream.encode(None))
    file.seek(0)
    decoded, steps = [], []
    for frame, step in decoded_with_steps(file):
        levels = frame.to_ndarray(format="yuv420p")[:height].astype(np.float32)
        luma = torch.from_numpy((levels - BLACK) / RANGE)[None]
        # As a frame of a clip comes: of 8 bits over the full range.
        decoded.append(_quantized(luma))
        steps.append(step)
    told = [step for step in steps if step is not None]
    return decoded, step_to_qp(fmean(told)) if told else None


def _draw_encoding(
    options: DegradationOptions, random: np.random.Generator
) -> tuple[str, dict[str, str]]:
    """Draw an encoder and its settings."""
    if random.random() < options.h264:
        preset = str(random.choice(["veryfast", "medium", "medium", "slow"]))
        crf = random.uniform(options.min_crf, options.max_crf)
        settings = {"crf": f"{crf:.1f}", "preset": preset, "threads": "1"}
        return X264, settings | ENCODERS[X264].fixed
    # Not x265: what it makes of the same frames differs now and then, even on one thread.
    code = str(int(random.integers(2, 15)))
    codec = MPEG2 if random.random() < 0.5 else MPEG4
    return codec, {"qmin": code, "qmax": code}


def _noise(low: torch.Tensor, sigma: float, random: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(random.normal(0, sigma / 255, low.shape).astype(np.float32))


def _quantized(luma: torch.Tensor) -> torch.Tensor:
    """Round to 8 bits, in [0, 1]."""
    return (luma.clamp(0, 1) * 255).round() / 255
