"""Tries on which codecs libavformat's muxers end the process, for the table that is shipped.

    python -m benchmarks.muxers [-o vsr/video/write/muxer_safety.json]

Each pair runs in a process of its own on a clip of its codec, made here.
"""

import argparse
import json
import tempfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vsr.video.write import muxer_safety

CONTAINERS = (
    *("matroska", "webm", "mp4", "mov", "ipod", "3gp", "3g2", "avi", "mpegts", "flv", "ogg"),
    *("mxf", "nut", "asf", "f4v", "psp"),
)
RATES = (48000, 44100, 32000, 16000, 8000)
SOUNDS_ALONE = ("wavpack", "tta")
"""Encoders that are not fed as others are, and are left out."""


def write_sound(path: Path, codec: str) -> None:
    """Write a second of a tone into a NUT, which takes any codec."""
    encoder = av.Codec(codec, "w")
    for rate in RATES:
        for layout in ("stereo", "mono"):
            with suppress(av.FFmpegError, ValueError), av.open(str(path), "w", format="nut") as out:
                stream = out.add_stream(codec, rate=rate, layout=layout)
                stream.codec_context.format = encoder.audio_formats[0]
                kind, channels = stream.codec_context.format, 2 if layout == "stereo" else 1
                stream.codec_context.open()
                size = stream.codec_context.frame_size or 1024
                shape = (channels, size) if kind.is_planar else (1, size * channels)
                types = {"s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}
                dtype = types.get(kind.name.removesuffix("p"), np.uint8)
                for begin in range(0, rate // 2, size):
                    frame = av.AudioFrame.from_ndarray(
                        np.zeros(shape, dtype), format=kind.name, layout=layout
                    )
                    frame.sample_rate, frame.pts = rate, begin
                    frame.time_base = Fraction(1, rate)
                    out.mux(stream.encode(frame))
                out.mux(stream.encode(None))
                return
    raise ValueError(codec)


def main() -> None:
    """Try every pair and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=muxer_safety._SHIPPED)
    arguments = parser.parse_args()
    answers: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        for codec in sorted(av.codecs_available):
            with suppress(ValueError, av.FFmpegError):
                encoder = av.Codec(codec, "w")
                if encoder.type != "audio" or encoder.experimental or codec in SOUNDS_ALONE:
                    continue
                clip = Path(folder) / f"{codec}.nut"
                write_sound(clip, codec)
                for container_format in CONTAINERS:
                    key = f"{container_format}:{encoder.canonical_name}"
                    answers[key] = muxer_safety._try_in_child(container_format, clip, 0)
                    arguments.output.write_text(json.dumps(answers, indent=1, sort_keys=True))
                print(codec, [key for key in answers if not answers[key]], flush=True)


if __name__ == "__main__":
    main()
