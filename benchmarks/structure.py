"""Clips whose structure is unusual, by the thousand: nothing may crash, nothing may be lost
silently.

    python -m benchmarks.structure --count 2000 --state structure.json [--seconds 500] [--only N]

Each case is sound, and made by its number alone: streams that begin late, clocks that wrap or begin
before zero, first frames of another form, stills beside films, sounds of odd codecs, turned
pictures, folders of mixed pictures. It is run through `vsr run` in a process of its own, into a
container drawn as well; what is in the result is compared with what is in the case. The counts go
on where they stopped."""

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from benchmarks.made_clips import moving_pictures
from benchmarks.pairs import add_sound, count_frames, encode_tone, in_child, samples
from vsr.errors import VsrError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run as run_pipeline
from vsr.progress import Listener

SECONDS_ALLOWED = 90
MUXERS = {"mkv": "matroska", "mp4": "mp4", "mov": "mov", "ts": "mpegts", "avi": "avi", "nut": "nut"}
MUXERS |= {"vob": "vob", "flv": "flv"}
OUTPUTS = ("mkv", "mp4", "mov", "ts", "avi", "flv", "webm", "ogv", "mxf", None)
SOUNDS = ("aac", "mp2", "ac3", "flac", "pcm_s16le", "adpcm_ms", "wmav2", "libopus", "pcm_mulaw")
SHIFTS = (0.0, 0.04, 1.4, 9.0, -0.5, -2.7, 95442.0, 95443.5)
"""Seconds by which a clip begins late, early, or just before its clock of 33 bits wraps."""
FORMS = ("gray", "yuvj420p", "yuvj444p", "yuvj422p")
PICTURE_MODES = ("L", "LA", "RGB", "RGBA", "P", "I;16", "1")


def main() -> None:
    """Run cases until the count or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--state", type=Path, default=Path("structure.json"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("SVT_LOG", "1")
    av.logging.set_level(None)
    done: dict[str, str] = {}
    if arguments.state.exists():
        done = json.loads(arguments.state.read_text())
    begin = time.monotonic()
    numbers = range(len(done), arguments.count) if arguments.only is None else [arguments.only]
    for number in numbers:
        if time.monotonic() - begin > arguments.seconds:
            break
        with tempfile.TemporaryDirectory() as folder:
            done[str(number)] = case_in_child(number, Path(folder))
        if arguments.only is None:
            arguments.state.write_text(json.dumps(done, indent=1))
    counts = Counter(each.partition(": ")[2].partition(":")[0] for each in done.values())
    print(f"{len(done)} cases: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    for number, each in done.items():
        if each.partition(": ")[2].startswith(("FAULT", "aborted", "crashed")):
            print(number, each)


def case_in_child(number: int, folder: Path) -> str:
    """Make and run a case in a process of its own; what it was, and what came of it."""
    told = in_child(lambda: run_case(random.Random(number), folder), folder, SECONDS_ALLOWED)
    return f"case: {told}" if told.startswith(("aborted", "crashed")) else told


def run_case(rng: random.Random, folder: Path) -> str:
    """Make a case and run it."""
    if rng.random() < 0.2:
        case, kind = folder_of_pictures(rng, folder / "in"), "folder"
        num_streams, num_frames = 0, sum(not p.name.startswith("._") for p in case.iterdir())
    else:
        suffix = rng.choice(list(MUXERS))
        case = folder / f"in.{suffix}"
        try:
            kind, num_frames, num_streams = write_case(rng, case, MUXERS[suffix])
        except (av.FFmpegError, ValueError, KeyError) as error:
            return f"{suffix}: not made: {type(error).__name__}"
    suffix = rng.choice(OUTPUTS)
    output = None if suffix is None else folder / f"out.{suffix}"
    return f"{kind} -> {suffix}: {outcome(case, output, num_frames, num_streams)}"


def write_case(rng: random.Random, path: Path, muxer: str) -> tuple[str, int, int]:
    """Write a film with up to three sounds; its description, frames and other streams."""
    shift, sounds = rng.choice(SHIFTS), rng.sample(SOUNDS, rng.randrange(4))
    lates = [rng.choice((0.0, 0.0, 0.2, 1.0, 3.0)) for _ in sounds]
    count, has_cover = rng.randrange(2, 12), rng.random() < 0.15 and muxer in ("matroska", "nut")
    codec = rng.choice(("libx264", "mpeg4", "mjpeg", "mpeg2video"))
    codec = "mpeg2video" if muxer == "vob" else codec
    turn = rng.choice((0, 0, 90, 180, 270)) if muxer in ("mp4", "mov", "matroska") else 0
    with av.open(str(path), "w", format=muxer) as out:
        packets = []
        if has_cover:
            cover = out.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 40, 60, "yuvj420p"
            packets += encode_pictures(cover, moving_pictures(1, 60, 40), ["yuvj420p"], 0)
        video = out.add_stream(codec, rate=25)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            video.options = {"bf": str(rng.choice((0, 2)))}
        if turn:
            video.set_display_rotation(turn)
        streams = [add_sound(out, sound) for sound in sounds]
        begin = round(shift * 25)
        packets += encode_pictures(video, moving_pictures(count, 48, 64), [video.pix_fmt], begin)
        for stream, late in zip(streams, lates, strict=True):
            for packet in encode_tone(stream):
                moved = round((Fraction(shift) + Fraction(late)) / packet.time_base)
                packet.pts, packet.dts = packet.pts + moved, (packet.dts or 0) + moved
                packets.append(packet)
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * each.time_base):
            out.mux(packet)
    kind = f"{path.suffix} {codec} {count} frames from {shift} s"
    kind += f", {'+'.join(f'{s}@{late}' for s, late in zip(sounds, lates, strict=True))}"
    kind += ", cover" * has_cover + f", turned {turn}" * bool(turn)
    return kind.replace(": ", " "), count, len(sounds) + has_cover


def encode_pictures(stream, pictures, forms, first):
    """Packets of pictures at 25 a second."""
    packets = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format=forms[index % len(forms)])
        frame.pts, frame.time_base = first + index, Fraction(1, 25)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def folder_of_pictures(rng: random.Random, folder: Path) -> Path:
    """Pictures of several forms, names and orientations, with companions beside some."""
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(1, 9)
    for number in range(rng.randrange(1, 6)):
        picture = Image.fromarray(moving_pictures(1, 24, 32, seed=number)[0])
        mode, name = rng.choice(PICTURE_MODES), rng.choice(("f", "\u00b2", "a b ", "10x"))
        if rng.random() < 0.3:
            photograph = picture.convert(rng.choice(("L", "RGB")))
            photograph.save(folder / f"{name}{number}.jpg", exif=exif)
            continue
        picture = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
        picture.save(folder / f"{name}{number}.png")
        if rng.random() < 0.2:
            (folder / f"._{name}{number}.png").write_bytes(b"\x00\x05\x16\x07")
    return folder


def outcome(case: Path, output: Path | None, num_frames: int, num_streams: int) -> str:
    """Run, and compare the result with the case."""
    made: list[int] = []
    listener = Listener(on_progress=lambda frame, _: made.append(frame))
    recipe = Recipe(policy="bicubic", scale=1.0, metrics=())
    try:
        manifest = run_pipeline(case, recipe, RunFiles(output), listener)
    except VsrError as error:
        if made:
            return f"FAULT: failed late: {error}"
        return f"refused: {str(error)[-120:]}"
    named = [*manifest.streams_dropped, *manifest.losses, *manifest.damage]
    result = Path(manifest.output)
    shown = len(list(result.iterdir())) if result.is_dir() else count_frames(result)
    if shown != manifest.frames_out or (shown < num_frames and not named):
        return f"FAULT: {shown} of {num_frames} frames, told {manifest.frames_out}"
    told = len(manifest.streams_kept) + len(manifest.streams_dropped)
    if case.is_file() and told < num_streams:
        return f"FAULT: {num_streams} streams, {told} accounted for"
    if result.is_file() and case.is_file() and not named and num_streams:
        before, after = samples(case), samples(result)
        if before and after < 0.95 * before - 2048:
            return f"FAULT: {after} of {before} samples"
    return f"named: {named[0]}" if named else "kept"


if __name__ == "__main__":
    main()
