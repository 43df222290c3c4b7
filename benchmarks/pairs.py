"""Tries twenty containers with every codec: is each stream kept, named, or refused before the work?

    python -m benchmarks.pairs --state pairs.json [--seconds 500] [--containers mkv,mp4]

Each container gets each video codec beside one sound, and each audio codec beside one picture
codec, as far as libavformat can make such a file; the clip is enlarged into its own container and
into its default output, in a process of its own. What was done stays in the state file, so that a
run goes on where the last one stopped."""

import argparse
import gc
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch

from benchmarks.made_clips import moving_pictures
from vsr.errors import VsrError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run as run_pipeline
from vsr.progress import Listener
from vsr.video.reader import open_clip

FRAMES = 10
SECONDS_ALLOWED = 180
PAIRS_AT_ONCE = 16
NONE = {"none": "libavformat makes no such file"}
VIDEO_CODECS = {
    "libx264": "yuv420p",
    "libx265": "yuv420p",
    "libsvtav1": "yuv420p",
    "libvpx-vp9": "yuv420p",
    "libvpx": "yuv420p",
    "mpeg4": "yuv420p",
    "msmpeg4": "yuv420p",
    "mpeg2video": "yuv420p",
    "mpeg1video": "yuv420p",
    "dvvideo": "yuv420p",
    "mjpeg": "yuvj420p",
    "prores_ks": "yuv422p10le",
    "dnxhd": "yuv422p",
    "ffv1": "yuv420p",
    "png": "rgb24",
    "utvideo": "yuv420p",
    "huffyuv": "yuv422p",
    "rawvideo": "yuv420p",
    "qtrle": "rgb24",
    "wmv1": "yuv420p",
    "wmv2": "yuv420p",
    "flv": "yuv420p",
    "h263": "yuv420p",
    "libtheora": "yuv420p",
    "gif": "rgb8",
    "libwebp_anim": "bgra",
    "v210": "yuv422p10le",
    "cinepak": "rgb24",
}
AUDIO_CODECS = (
    *("aac", "libmp3lame", "mp2", "ac3", "eac3", "flac", "alac", "libopus", "libvorbis", "dca"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_u8", "pcm_f32le", "pcm_mulaw", "pcm_alaw"),
    *("pcm_bluray", "pcm_dvd", "adpcm_ms", "adpcm_ima_wav", "adpcm_swf", "adpcm_yamaha"),
    *("wmav1", "wmav2", "libspeex", "truehd", "mlp", "nellymoser", "libgsm", "amr_nb", "g722"),
    *("adpcm_ima_qt", "libopencore_amrnb", "wavpack", "tta"),
)
CONTAINERS = {
    "vob": ("vob", "mpeg2video", "ac3"),
    "ts": ("mpegts", "libx264", "aac"),
    "m2ts": ("mpegts", "libx264", "ac3"),
    "mpg": ("mpeg", "mpeg1video", "mp2"),
    "dv": ("dv", "dvvideo", "pcm_s16le"),
    "avi": ("avi", "mpeg4", "pcm_s16le"),
    "wmv": ("asf", "wmv2", "wmav2"),
    "flv": ("flv", "libx264", "aac"),
    "3gp": ("3gp", "libx264", "aac"),
    "mov": ("mov", "libx264", "pcm_s16le"),
    "mp4": ("mp4", "libx264", "aac"),
    "m4v": ("ipod", "libx264", "aac"),
    "mkv": ("matroska", "libx264", "aac"),
    "webm": ("webm", "libvpx-vp9", "libopus"),
    "ogv": ("ogg", "libvpx", "libopus"),
    "mxf": ("mxf", "mpeg2video", "pcm_s16le"),
    "nut": ("nut", "libx264", "pcm_s16le"),
    "gif": ("gif", "gif", None),
    "avif": ("avif", "libsvtav1", None),
    "webp": ("webp", "libwebp_anim", None),
    "y4m": ("yuv4mpegpipe", "rawvideo", None),
    "folder": ("image2", "png", None),
}
"""Muxer, and the usual picture and sound."""
PICTURES = {
    "png": ("png", "rgb24"),
    "mjpeg": ("jpg", "yuvj420p"),
    "tiff": ("tif", "rgb24"),
    "bmp": ("bmp", "bgr24"),
    "libwebp": ("webp", "yuv420p"),
    "ppm": ("ppm", "rgb24"),
    "pgm": ("pgm", "gray"),
    "pam": ("pam", "rgb48be"),
    "jpeg2000": ("jp2", "rgb24"),
    "exr": ("exr", "gbrpf32le"),
    "dpx": ("dpx", "gbrp10be"),
    "targa": ("tga", "bgra"),
    "libjxl": ("jxl", "rgb24"),
}
"""Suffix and pixel format by codec of the pictures of a folder."""
OUTCOMES = ("kept", "named", "refused", "failed late", "aborted", "lost silently", "crashed")
SIZES = {"dvvideo": (576, 720), "dnxhd": (120, 256), "h263": (144, 176), "cinepak": (48, 64)}


@dataclass(frozen=True)
class Pair:
    """A clip to be made."""

    suffix: str
    video: str
    sound: str | None

    def __str__(self) -> str:
        return f"{self.suffix} {self.video} {self.sound}"


def main() -> None:
    """Run the pairs that are not in the state file, and print what came of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("pairs.json"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--containers", default=",".join(CONTAINERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("SVT_LOG", "1")
    av.logging.set_level(None)
    done: dict[str, dict[str, str]] = {}
    if arguments.state.exists():
        done = json.loads(arguments.state.read_text())
    begin = time.monotonic()
    each = pairs(arguments.containers.split(","))
    while group := list(islice(each, PAIRS_AT_ONCE)):
        if time.monotonic() - begin > arguments.seconds:
            break
        wanted = [pair for pair in group if str(pair) not in done]
        done |= {str(pair): NONE for pair in wanted if not is_listed(pair)}
        listed = [pair for pair in wanted if is_listed(pair)]
        with tempfile.TemporaryDirectory() as folder:
            for pair, outcome in outcomes(listed, Path(folder)):
                done[str(pair)] = outcome
        arguments.state.write_text(json.dumps(done, indent=1))
    print_table(done)


def pairs(suffixes: list[str]) -> Iterator[Pair]:
    """Each video codec with the usual sound, then each sound with the usual video."""
    for suffix in suffixes:
        _, usual_video, usual_sound = CONTAINERS[suffix]
        for video in PICTURES if suffix == "folder" else VIDEO_CODECS:
            yield Pair(suffix, video, usual_sound)
        for sound in AUDIO_CODECS if usual_sound else ():
            if sound != usual_sound:
                yield Pair(suffix, usual_video, sound)


def outcomes(pairs: Sequence[Pair], folder: Path) -> Iterator[tuple[Pair, dict[str, str]]]:
    """What becomes of each clip in its own container and in its default output."""
    works: list[Callable[[], str]] = []
    for number, pair in enumerate(pairs):
        suffix = "" if pair.suffix == "folder" else f".{pair.suffix}"
        place = folder / f"pair{number}"
        place.mkdir()
        clip, own = place / f"clip{suffix}", place / f"out{suffix}"
        works += [partial(make, clip, pair), partial(enlarge, clip, own), partial(enlarge, clip)]
    answers = in_children(works, folder)
    for pair in pairs:
        made, own, default = (next(answers) for _ in range(3))
        yield pair, {"own": own, "default": default} if made == "made" else NONE


def is_listed(pair: Pair) -> bool:
    """Tell whether libavformat's muxer has both codecs on its list; any picture has a file."""
    if pair.suffix == "folder":
        return pair.video in av.codecs_available
    with suppress(av.FFmpegError, ValueError):
        out = av.open(io.BytesIO(), "w", format=CONTAINERS[pair.suffix][0])
        for codec in filter(None, (pair.video, pair.sound)):
            out.add_stream(codec, rate=48000 if codec == pair.sound else 25)
        return True
    return False


def make(clip: Path, pair: Pair) -> str:
    """Write a clip; `made` where its pictures can be read, else something else."""
    with suppress(av.FFmpegError, ValueError, VsrError, StopIteration):
        (write_folder if pair.suffix == "folder" else write)(clip, pair)
        if count_frames(clip):
            return "made"
    clip.unlink(missing_ok=True)
    return "none"


def write(clip: Path, pair: Pair) -> None:
    """Write a clip of moving pictures with a tone; raises where that cannot be."""
    height, width = SIZES.get(pair.video, (48, 64))
    pictures = moving_pictures(FRAMES, height, width)
    m2ts = {"mpegts_m2ts_mode": "1"} if pair.suffix == "m2ts" else {}
    with av.open(str(clip), "w", format=CONTAINERS[pair.suffix][0], options=m2ts) as out:
        video = out.add_stream(pair.video, rate=25)
        video.width, video.height, video.pix_fmt = width, height, VIDEO_CODECS[pair.video]
        if pair.video == "libx265":
            video.options = {"x265-params": "log-level=none"}
        if pair.video == "dnxhd":
            video.options = {"profile": "dnxhr_sq"}
        sound = None if pair.sound is None else add_sound(out, pair.sound)
        packets = []
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=VIDEO_CODECS[pair.video])
            frame.pts, frame.time_base = index, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound is not None:
            packets += encode_tone(sound)
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * each.time_base):
            out.mux(packet)


def write_folder(folder: Path, pair: Pair) -> None:
    """Write numbered pictures of a codec."""
    suffix, pixel_format = PICTURES[pair.video]
    folder.mkdir()
    for number, picture in enumerate(moving_pictures(FRAMES, 48, 64)):
        context = av.Codec(pair.video, "w").create("video")
        context.width, context.height, context.pix_fmt = 64, 48, pixel_format
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
        frame.pts = 0
        packets = context.encode(frame) + context.encode(None)
        (folder / f"f{number:03d}.{suffix}").write_bytes(b"".join(map(bytes, packets)))


def add_sound(out, codec):
    """Add a sound at the first rate that its encoder opens with."""
    rates = {"libgsm": 8000, "amr_nb": 8000, "libopencore_amrnb": 8000, "libspeex": 16000}
    rates |= {"nellymoser": 22050, "adpcm_swf": 44100, "g722": 16000}
    layout = "mono" if codec in rates else "stereo"
    sound = out.add_stream(codec, rate=rates.get(codec, 48000), layout=layout)
    sound.codec_context.format = sound.codec_context.codec.audio_formats[0]
    return sound


def encode_tone(sound):
    """Packets of FRAMES / 25 seconds of a tone."""
    context = sound.codec_context
    context.open()
    rate, channels = context.sample_rate, context.layout.nb_channels
    size = context.frame_size or 1024
    kind = context.format
    types = {"s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64, "u8": np.uint8}
    dtype = types[kind.name.removesuffix("p")]
    scale = {np.uint8: 100, np.int16: 20000, np.int32: 2**30}.get(dtype, 0.5)
    packets = []
    for begin in range(0, rate * FRAMES // 25, size):
        wave = scale * np.sin(2 * np.pi * 440 * (begin + np.arange(size)) / rate)
        wave = wave.astype(dtype)
        data = np.stack([wave] * channels) if kind.is_planar else wave.repeat(channels)[None]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data), format=kind.name, layout=context.layout
        )
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), begin
        packets += sound.encode(frame)
    return packets + sound.encode(None)


def in_children(
    works: Sequence[Callable[[], str]], folder: Path, seconds: float = SECONDS_ALLOWED
) -> Iterator[str]:
    """Yield what each work says, done in a process apart, where its crash, end or hang is told.

    One process does them all, for as long as it lives. The caller must not have worked on clips
    itself: a fork of a process with threads may hang.
    """
    number = 0
    while number < len(works):
        child = _fork(works, number, folder)
        ended, deadline = False, time.monotonic() + seconds
        while number < len(works):
            answer = folder / f"{number}.answer"
            if answer.exists():
                yield answer.read_text()
            elif ended:
                yield "aborted: the process ended"
            elif time.monotonic() > deadline:
                os.kill(child, 9)
                yield "aborted: it hangs"
            else:
                time.sleep(0.02)
                ended = os.waitpid(child, os.WNOHANG) != (0, 0)
                continue
            number += 1
            deadline = time.monotonic() + seconds
            if not answer.exists():
                break
        if not ended:
            os.waitpid(child, 0)


def _fork(works: Sequence[Callable[[], str]], first: int, folder: Path) -> int:
    """Start a process that does the works from the first one on; its number."""
    gc.freeze()
    child = os.fork()
    if child:
        return child
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    with suppress(BaseException):
        for number in range(first, len(works)):
            try:
                told = works[number]()
            except Exception as error:
                told = f"crashed: {type(error).__name__}: {error}"
            part = folder / f"{number}.part"
            part.write_text(told)
            part.rename(folder / f"{number}.answer")
    os._exit(0)


def enlarge(clip: Path, output: Path | None = None) -> str:
    """Run and compare: every frame, and every sample of the sound."""
    if not clip.exists():
        return "none"
    made = []
    listener = Listener(on_progress=lambda frame, _: made.append(frame))
    recipe = Recipe(policy="bicubic", scale=1.0, metrics=())
    try:
        manifest = run_pipeline(clip, recipe, RunFiles(output), listener)
    except VsrError as error:
        kind = "failed late" if made else "refused"
        return f"{kind}: {str(error).replace(str(output), 'the output')}"
    if manifest.frames_out != count_frames(Path(manifest.output)):
        return f"lost silently: {manifest.frames_out} frames were written"
    before, after = samples(clip), samples(Path(manifest.output))
    named = [*manifest.streams_dropped, *manifest.losses, *manifest.damage]
    if named:
        return f"named: {named[0]}"
    if abs(before - after) > 0.02 * before + 1024:
        return f"lost silently: {after} of {before} samples"
    return "kept"


def count_frames(path: Path) -> int:
    with open_clip(path) as reader:
        return sum(1 for _ in reader.frames())


def samples(path: Path) -> int:
    """Samples of the first sound; 0 without one."""
    if path.is_dir():
        return 0
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return 0
        total = 0
        for packet in container.demux(audio=0):
            with suppress(av.FFmpegError):
                total += sum(frame.samples for frame in packet.decode())
        return total


def print_table(done: dict[str, dict[str, str]]) -> None:
    """Counts, then every pair that was not kept."""
    made = {key: each for key, each in done.items() if "none" not in each}
    counts = {
        name: Counter(each[name].split(":")[0] for each in made.values())
        for name in ("own", "default")
    }
    print(f"{len(made)} clips of {len(done)} pairs.\n")
    print("| output | " + " | ".join(OUTCOMES) + " |")
    print("|---" * (len(OUTCOMES) + 1) + "|")
    for name, count in counts.items():
        print(f"| {name} | " + " | ".join(str(count[each]) for each in OUTCOMES) + " |")
    print()
    for key, each in made.items():
        for name, outcome in each.items():
            if outcome != "kept":
                print(f"- {key}, {name}: {outcome}")


if __name__ == "__main__":
    main()
