"""What is told of the quantizers of codecs, beside that of x264 at the same error.

    python -m benchmarks.quantizers

Eight clips, reduced four times, 12 frames each, in 4:2:0, go through each codec at some settings.
*Told* is the mean quantizer on H.264's scale that a run would find; *equal* is the quantizer at
which x264 has the same mean square error of luma, with the range over clips.
"""

import io
import math
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from benchmarks.clips import EXCERPTS, RATE, VID4, make_pair, use_shared_data
from benchmarks.measure import print_table
from vsr.restore.degradation import step_to_qp
from vsr.video.read.quantizers import decoded_with_steps
from vsr.video.reader import open_clip

CLIPS = (*VID4, "street", "swan", "bunny", "friday")
FRAMES = 12
X264_QUANTIZERS = (12, 16, 20, 24, 28, 32, 36, 40, 44, 48)
FIXED = {"preset": "medium", "i_qfactor": "1", "b_qfactor": "1"}
"""Settings of x264 that quantize all kinds of frames alike."""
SETTINGS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "libx264": [(f"crf {crf}", {"crf": str(crf)}) for crf in (18, 23, 28, 33)],
    "libx265": [
        (f"crf {crf}", {"crf": str(crf), "x265-params": "log-level=none"}) for crf in (20, 28, 36)
    ]
    + [
        (f"fixed {qp}", {"x265-params": f"qp={qp}:aq-mode=0:log-level=none"})
        for qp in (22, 27, 32, 37)
    ],
    "libvpx-vp9": [
        (f"{q}", {"qmin": str(q), "qmax": str(q), "crf": str(q), "b": "0", "cpu-used": "4"})
        for q in (20, 40, 55)
    ],
    "libsvtav1": [(f"crf {crf}", {"crf": str(crf), "preset": "8"}) for crf in (20, 32, 44, 56)],
    "libvpx": [
        (f"{q}", {"qmin": str(q), "qmax": str(q), "crf": str(q), "b": "50M"})
        for q in (8, 20, 35, 50, 63)
    ],
    **{
        codec: [(f"{q}", {"qmin": str(q), "qmax": str(q)}) for q in (2, 4, 8, 16)]
        for codec in ("mpeg2video", "mpeg4")
    },
    "mjpeg": [
        (f"{q}", {"qmin": str(q), "qmax": str(q), "strict": "unofficial"})
        for q in (2, 4, 8, 16, 31)
    ],
}
Pictures = Sequence[np.ndarray]
"""Planes of 4:2:0, one below the other, as PyAV has them."""


class Coded(NamedTuple):
    """What a codec makes of a clip."""

    error: float
    """Mean square error of luma, in levels."""
    quantizer: float | None
    """As a run would find it."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(CLIPS))
    given = parser.parse_args()
    use_shared_data()
    told: dict[tuple[str, str], list[float]] = {}
    equal: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.clips:
            pictures = read_pictures(name, Path(folder))
            curve = [
                math.log(code(pictures, "libx264", FIXED | {"qp": str(qp)}).error)
                for qp in X264_QUANTIZERS
            ]
            for codec, settings in SETTINGS.items():
                for label, options in settings:
                    coded = code(pictures, codec, options)
                    like = float(np.interp(math.log(coded.error), curve, X264_QUANTIZERS))
                    equal.setdefault((codec, label), []).append(like)
                    if coded.quantizer is not None:
                        told.setdefault((codec, label), []).append(coded.quantizer)
    rows = [
        [
            *key,
            f"{fmean(told[key]):.1f}" if key in told else "-",
            f"{fmean(found):.1f}",
            f"{min(found):.1f} to {max(found):.1f}",
        ]
        for key, found in equal.items()
    ]
    print_table("Quantizers", ["encoder", "setting", "told", "equal", "range"], rows)


def read_pictures(name: str, folder: Path) -> list[np.ndarray]:
    """The first frames of the low resolution, of even sides."""
    with open_clip(make_pair(name, folder).low) as reader:
        made = []
        for frame in islice(reader.frames(), FRAMES):
            height, width = (side // 2 * 2 for side in frame.pixels.shape[-2:])
            levels = (frame.pixels[:, :height, :width].clamp(0, 1) * 255).round().byte()
            rgb = av.VideoFrame.from_ndarray(
                levels.permute(1, 2, 0).contiguous().numpy(), format="rgb24"
            )
            made.append(rgb.reformat(format="yuv420p").to_ndarray())
    return made


def code(pictures: Pictures, codec: str, options: dict[str, str]) -> Coded:
    """Encode and decode pictures."""
    file = io.BytesIO()
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=RATE, width=width, height=height, pix_fmt="yuv420p")
        assert isinstance(stream, VideoStream)
        stream.options = dict(options)
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        out.mux(stream.encode(None))
    file.seek(0)
    errors, steps = [], []
    for frame, step in decoded_with_steps(file):
        # Motion JPEG calls its range full: levels are compared as they are stored.
        luma = frame.to_ndarray(format=frame.format.name)[:height, :width]
        truth = pictures[len(errors)][:height]
        errors.append(float(np.square(luma.astype(float) - truth).mean()))
        steps.append(step)
    known = [step for step in steps if step is not None]
    return Coded(fmean(errors), step_to_qp(fmean(known)) if known else None)


if __name__ == "__main__":
    main()
