"""Containers x codecs x pixel formats x rates: each clip is enlarged into its own container, and
what happened told.

    python -m benchmarks.matrix [--containers mkv,mp4] > matrix.md

Asked of each result: every frame, every time, the pixel format, the colour tags, and the sound
packet by packet.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av

import vsr
from benchmarks.made_clips import moving_pictures, read_packets, write_clip
from vsr.errors import VsrError
from vsr.video.reader import open_clip

FRAMES = 8
QUIET = {"x265-params": "log-level=none"}
VPX = {"cpu-used": "8", "deadline": "realtime"}

CODECS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "libx264": (
        ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "gray"),
        {},
    ),
    "libx265": (
        ("yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gbrp", "gray10le"),
        QUIET,
    ),
    "libsvtav1": (("yuv420p", "yuv420p10le"), {"preset": "10"}),
    "libvpx-vp9": (("yuv420p", "yuva420p"), VPX),
    "libvpx": (("yuv420p",), VPX),
    "mpeg4": (("yuv420p",), {}),
    "mpeg2video": (("yuv420p", "yuv422p"), {}),
    "mpeg1video": (("yuv420p",), {}),
    "mjpeg": (("yuvj420p", "yuvj422p", "yuvj444p"), {}),
    "prores_ks": (("yuv422p10le", "yuv444p10le", "yuva444p10le"), {}),
    "ffv1": (
        (
            "yuv420p",
            "yuv422p10le",
            "yuv444p16le",
            "yuva420p",
            "gray16le",
            "bgr0",
            "bgra",
            "gbrp12le",
        ),
        {},
    ),
    "png": (("rgb24", "rgba", "rgb48be", "gray"), {}),
    "utvideo": (("yuv420p", "yuv422p", "gbrp"), {}),
    "huffyuv": (("yuv422p", "rgb24"), {}),
    "rawvideo": (("yuv420p", "uyvy422", "nv12", "rgb24"), {}),
    "qtrle": (("rgb24", "argb"), {}),
    "wmv2": (("yuv420p",), {}),
    "flv": (("yuv420p",), {}),
    "gif": (("rgb8",), {}),
    "wrapped_avframe": (("yuv420p", "yuv444p"), {}),
}
CONTAINERS = {
    "mkv": "aac",
    "webm": "libopus",
    "mp4": "aac",
    "mov": "pcm_s16le",
    "avi": "pcm_s16le",
    "ts": "mp2",
    "mpg": "mp2",
    "flv": None,
    "nut": "pcm_s16le",
    "wmv": None,
    "h264": None,
    "hevc": None,
    "y4m": None,
    "gif": None,
}
"""Each with the sound it is given."""
MILLISECOND = Fraction(1, 1000)
RATES: dict[str, tuple[Fraction, Sequence[int]]] = {
    "23.976": (Fraction(1001, 24000), range(FRAMES)),
    "25": (Fraction(1, 25), range(FRAMES)),
    "60": (Fraction(1, 60), range(FRAMES)),
    "irregular": (MILLISECOND, (0, 41, 83, 125, 250, 300, 341, 383)),
}
Times = list[Fraction]


@dataclass(frozen=True)
class Row:
    """One clip and what became of it."""

    container: str
    codec: str
    pixel_format: str
    rate: str
    outcome: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", default=",".join(CONTAINERS))
    containers = parser.parse_args().containers.split(",")
    os.environ.setdefault("SVT_LOG", "1")
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for container in containers for row in rows_of(container, Path(scratch))]
    print_table(rows)


def rows_of(container: str, folder: Path) -> Iterator[Row]:
    for codec, (pixel_formats, options) in CODECS.items():
        for pixel_format in pixel_formats:
            for rate, (time_base, pts) in RATES.items():
                clip = folder / f"clip.{container}"
                side = 64 if codec == "libsvtav1" else 32
                try:
                    write_clip(
                        clip,
                        moving_pictures(FRAMES, side, side),
                        codec=codec,
                        pixel_format=pixel_format,
                        codec_options=options,
                        pts=pts,
                        time_base=time_base,
                        audio_codec=CONTAINERS[container],
                    )
                    with open_clip(clip) as reader:
                        num_frames = sum(1 for _ in reader.frames())
                except (av.FFmpegError, ValueError, VsrError):
                    # No such clip: the container lacks the codec, or the codec the format.
                    continue
                if num_frames:
                    yield Row(
                        container,
                        codec,
                        pixel_format,
                        rate,
                        outcome(clip, folder / f"out.{container}"),
                    )


def outcome(clip: Path, output: Path) -> str:
    """In words, beginning with `kept` where nothing was lost."""
    try:
        manifest = vsr.run(clip, output, policy="bicubic", scale=2, metrics=(), overwrite=True)
    except VsrError as error:
        return f"refused: {str(error).replace(str(output), 'the output')}"
    before = facts(clip)
    try:
        after = facts(output)
    except VsrError as error:
        return f"written, but: {str(error).replace(str(output), 'the output')}"
    told = []
    if manifest.damage:
        told.append(f"reported as damaged ({manifest.damage[0].split(':')[0]})")
    if len(after.times) != len(before.times):
        told.append(f"{len(after.times)} of {len(before.times)} frames")
    elif (moved := moved_by(before.times, after.times)) > Fraction(1, 10**6):
        told.append(f"times shifted by {float(1000 * moved):.3g} ms")
    if after.pixel_format != before.pixel_format:
        told.append(f"as {after.pixel_format}")
    if after.sound != before.sound:
        told.append("sound changed" if after.sound else "sound dropped")
    return ", ".join(["kept", *told])


@dataclass(frozen=True)
class Facts:
    """What is asked of a clip."""

    times: Times
    pixel_format: str
    sound: list[bytes]


def facts(path: Path) -> Facts:
    with open_clip(path) as reader:
        times = [frame.pts * frame.time_base for frame in reader.frames()]
        pixel_format = reader.info.pixel_format
    with av.open(str(path)) as container:
        sounds = [stream.index for stream in container.streams if stream.type == "audio"]
    return Facts(
        times, pixel_format, [data for index in sounds for _, data in read_packets(path, index)]
    )


def moved_by(before: Times, after: Times) -> Fraction:
    """The largest change of a time; a shift that all share counts as well."""
    return max(
        (abs(one - other) for one, other in zip(before, after, strict=True)), default=Fraction(0)
    )


def print_table(rows: Sequence[Row]) -> None:
    kept = sum(row.outcome.startswith("kept") for row in rows)
    print(f"{len(rows)} clips: {kept} enlarged, {len(rows) - kept} refused.\n")
    print("| container | codec | pixel formats | result, for all rates or by rate |")
    print("|---|---|---|---|")
    for (container, codec), group in groupby(rows, key=lambda row: (row.container, row.codec)):
        by_format = {
            pixel_format: tuple((row.rate, row.outcome) for row in each)
            for pixel_format, each in groupby(group, key=lambda row: row.pixel_format)
        }
        for outcomes in dict.fromkeys(by_format.values()):
            formats = ", ".join(name for name, each in by_format.items() if each == outcomes)
            print(f"| {container} | {codec} | {formats} | {in_words(outcomes)} |")


def in_words(outcomes: Sequence[tuple[str, str]]) -> str:
    """The same outcome of several rates is told once; that of all rates without naming them."""
    told = {
        text: [rate for rate, each in outcomes if each == text]
        for text in dict.fromkeys(t for _, t in outcomes)
    }
    if len(told) == 1 and len(outcomes) == len(RATES):
        return next(iter(told))
    return "; ".join(f"{', '.join(rates)}: {text}" for text, rates in told.items())


if __name__ == "__main__":
    main()
