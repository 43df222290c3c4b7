"""Clips whose structure is unusual, by the thousand: nothing may crash, nothing may be lost
silently.

    python -m benchmarks.structure --count 2000 --state structure.json [--seconds 500] [--only N]

Each case is sound, and made by its number alone: streams that begin late or only at the end, clocks
that wrap or begin before zero, gaps, pictures shown for odd times, first frames of another form or
missing, sizes that change, recordings that were joined, stills beside films, sounds of odd codecs,
chapters, attachments, turned pictures, folders of mixed pictures. It is run through `vsr run` in a
process apart, into a container drawn as well; what is in the result is compared with what is in the
case. The counts go on where they stopped."""

import argparse
import io
import json
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from benchmarks.made_clips import moving_pictures
from benchmarks.pairs import add_sound, count_frames, encode_tone, in_children
from vsr.errors import VsrError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run as run_pipeline
from vsr.progress import Listener

CASES_AT_ONCE = 20
SECONDS_ALLOWED = 240
MUXERS = {"mkv": "matroska", "mp4": "mp4", "mov": "mov", "ts": "mpegts", "avi": "avi", "nut": "nut"}
MUXERS |= {"vob": "vob", "flv": "flv"}
OUTPUTS = ("mkv", "mp4", "mov", "ts", "avi", "flv", "webm", "ogv", "mxf", None)
CODECS = ("libx264", "mpeg4", "mjpeg", "mpeg2video")
SOUNDS = ("aac", "mp2", "ac3", "flac", "pcm_s16le", "adpcm_ms", "libopus", "pcm_mulaw", "eac3")
SOUNDS_TAKEN = {
    "mp4": ("aac", "mp2", "ac3", "flac", "libopus"),
    "mov": ("aac", "ac3", "pcm_s16le", "adpcm_ima_qt", "pcm_mulaw"),
    "ts": ("aac", "mp2", "ac3", "libopus"),
    "avi": ("mp2", "ac3", "pcm_s16le", "adpcm_ms", "pcm_mulaw"),
    "vob": ("mp2", "ac3"),
    "flv": ("aac", "libmp3lame"),
    "mkv": ("aac", "mp2", "ac3", "flac", "pcm_s16le", "libopus"),
}
"""Sounds that a muxer takes; those of a NUT are all."""
TEXTS = {"mkv": "subrip", "mp4": "mov_text", "mov": "mov_text"}
SHIFTS = (0.0, 0.04, 1.4, 9.0, -0.5, -2.7, 95442.0, 95443.5)
"""Seconds by which a clip begins late, early, or just before its clock of 33 bits wraps."""
CLOCKS = ("even", "even", "even", "irregular", "gap", "slow")
MILLISECOND = Fraction(1, 1000)
JPEG_FORMS = {"gray": ("L", {}), "4:4:4": ("RGB", {"subsampling": 0})}
JPEG_FORMS |= {"4:2:2": ("RGB", {"subsampling": 1}), "4:2:0": ("RGB", {"subsampling": 2})}
PICTURE_MODES = ("L", "LA", "RGB", "RGBA", "P", "I;16", "1")


@dataclass
class Case:
    """A made clip and what is in it."""

    path: Path
    kind: str
    num_frames: int = 0
    num_streams: int = 0
    """Streams beside the film."""
    num_chapters: int = 0
    counts: list[tuple[str, int]] = field(default_factory=list)
    """Kind and samples or packets of each sound and text."""


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
    wanted = [number for number in range(arguments.count) if str(number) not in done]
    if arguments.only is not None:
        wanted = [arguments.only]
    for first in range(0, len(wanted), CASES_AT_ONCE):
        if time.monotonic() - begin > arguments.seconds:
            break
        numbers = wanted[first : first + CASES_AT_ONCE]
        with tempfile.TemporaryDirectory() as folder:
            works = [partial(run_case, number, Path(folder)) for number in numbers]
            answers = in_children(works, Path(folder), SECONDS_ALLOWED)
            done |= {str(number): told for number, told in zip(numbers, answers, strict=True)}
        if arguments.only is None:
            arguments.state.write_text(json.dumps(done, indent=1))
    counts = Counter(outcome_of(each) for each in done.values())
    print(f"{len(done)} cases: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    for number, each in done.items():
        if outcome_of(each) in ("FAULT", "aborted", "crashed") or str(arguments.only) == number:
            print(number, each)


def outcome_of(told: str) -> str:
    """The word of an answer that tells what came of a case."""
    return told.rpartition(" => ")[2].partition(":")[0]


def run_case(number: int, folder: Path) -> str:
    """Make a case and run it; what it was, and what came of it."""
    rng = random.Random(number)
    place = folder / f"case{number}"
    place.mkdir()
    try:
        case = make_case(rng, place)
    except (av.FFmpegError, ValueError, KeyError) as error:
        return f"case => not made: {type(error).__name__}: {error}"
    suffix = rng.choice(OUTPUTS)
    output = None if suffix is None else place / f"out.{suffix}"
    try:
        told = outcome(case, output)
    except Exception as error:
        told = f"crashed: {type(error).__name__}: {error}"
    return f"{case.kind} -> {suffix} => {told}"


def make_case(rng: random.Random, place: Path) -> Case:
    """Draw a folder of pictures, a film, or films that were joined."""
    if rng.random() < 0.2:
        return folder_of_pictures(rng, place / "in")
    suffix = rng.choice(list(MUXERS))
    case = write_film(rng, place / f"in.{suffix}")
    if suffix in ("ts", "vob") and rng.random() < 0.2:
        other = write_film(rng, place / f"more.{suffix}", rng.choice(("same", "other")))
        with case.path.open("ab") as file:
            file.write(other.path.read_bytes())
        # Films of two codecs are two streams, of which one is enlarged.
        same = case.kind.split()[1] == other.kind.split()[1]
        both = (case.num_frames, other.num_frames)
        case.num_frames = sum(both) if same else min(both)
        case.kind += f", joined with {other.kind}"
        # Parts of under a second are told from disorder by nothing, and named as damage.
        case.counts = []
    return case


def write_film(rng: random.Random, path: Path, size: str = "same") -> Case:
    """Write a film with up to three sounds, texts, chapters and a cover."""
    suffix = path.suffix[1:]
    codec = "mpeg2video" if suffix == "vob" else rng.choice(CODECS)
    if suffix == "flv":
        codec = "libx264"
    if suffix == "ts" and codec == "mjpeg":
        codec = "mpeg4"
    shift = rng.choice(SHIFTS)
    if shift < 0 and suffix in ("flv", "vob", "avi"):
        shift = 0.0
    if suffix == "avi":
        # Its muxer fills no more than 60,000 ticks before a picture.
        shift = min(shift, 9.0)
    taken = SOUNDS_TAKEN.get(suffix, SOUNDS)
    most = {"flv": 1}.get(suffix, 3)
    sounds = rng.sample(taken, min(rng.randrange(most + 1), len(taken)))
    lates = [rng.choice((0.0, 0.0, 0.2, 1.0, 3.0)) for _ in sounds]
    count, clock = rng.randrange(2, 12), rng.choice(CLOCKS)
    if codec == "mpeg2video" or suffix == "avi":
        clock = "even"
    has_text = suffix in TEXTS and rng.random() < 0.3
    has_cover = rng.random() < 0.15 and suffix in ("mkv", "nut")
    has_chapters = rng.random() < 0.2 and suffix in ("mkv", "mp4", "mov")
    has_font = rng.random() < 0.15 and suffix == "mkv"
    turn = rng.choice((0, 0, 90, 180, 270)) if suffix in ("mp4", "mov", "mkv") else 0
    height, width = (48, 64) if size == "same" else (64, 80)
    with av.open(str(path), "w", format=MUXERS[suffix]) as out:
        packets = []
        if has_cover:
            cover = out.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 40, 60, "yuvj420p"
            packets += encode_pictures(cover, moving_pictures(1, 60, 40), [Fraction(0)])
        video = out.add_stream(codec, rate=25)
        video.width, video.height = width, height
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec != "mpeg2video":
            video.codec_context.time_base = MILLISECOND
        if codec == "libx264":
            video.options = {"bf": str(rng.choice((0, 2)))}
        if turn:
            video.set_display_rotation(turn)
        streams = [add_sound(out, sound) for sound in sounds]
        text = out.add_mux_stream(TEXTS[suffix], time_base=MILLISECOND) if has_text else None
        if has_font:
            out.add_attachment("font.ttf", "application/x-truetype-font", b"a font" * 20)
        if has_chapters:
            out.set_chapters([chapter(number) for number in range(2)])
        times = [
            Fraction(shift).limit_denominator(1000) + time for time in seconds(rng, count, clock)
        ]
        pictures = moving_pictures(count, height, width)
        if codec == "mjpeg" and rng.random() < 0.5:
            packets += encode_forms(video, pictures, times, rng)
            clock += ", forms that change"
        else:
            packets += encode_pictures(video, pictures, times)
        counts = []
        for stream, late in zip(streams, lates, strict=True):
            tone = encode_tone(stream)
            for packet in tone:
                moved = round((Fraction(shift) + Fraction(late)) / packet.time_base)
                packet.pts, packet.dts = packet.pts + moved, (packet.dts or 0) + moved
            packets += tone
        if text is not None:
            packets.append(last_words(text, suffix, times[-1]))
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * each.time_base):
            out.mux(packet)
    counts = contents(path)
    kind = f"{path.suffix} {codec} {count} frames from {shift} s, {clock}"
    kind += f", {'+'.join(f'{s}@{late}' for s, late in zip(sounds, lates, strict=True))}"
    told = {"text": has_text, "cover": has_cover, "chapters": has_chapters, "font": has_font}
    kind += "".join(f", {name}" for name, is_there in told.items() if is_there)
    kind += f", turned {turn}" * bool(turn)
    others = len(sounds) + has_text + has_cover + has_font
    if suffix in ("mp4", "mov"):
        # An edit list hides what comes before zero.
        count = sum(time >= 0 for time in times)
    return Case(path, kind, count, others, 2 * has_chapters, counts)


def seconds(rng: random.Random, count: int, clock: str) -> list[Fraction]:
    """Times of pictures from zero on."""
    if clock == "irregular":
        steps = [Fraction(rng.choice((17, 33, 40, 41, 100)), 1000) for _ in range(count)]
    elif clock == "slow":
        steps = [Fraction(2)] * count
    else:
        steps = [Fraction(1, 25)] * count
        if clock == "gap":
            steps[rng.randrange(count)] = Fraction(12)
    return [sum(steps[:number], Fraction(0)) for number in range(count)]


def chapter(number: int) -> dict[str, object]:
    """A chapter of .2 s, as PyAV takes it."""
    base = {
        "id": number + 1,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": f"part {number}"},
    }
    return base | {"start": 200 * number, "end": 200 * (number + 1)}


def last_words(stream, suffix: str, at: Fraction):
    """A single text at the very end."""
    data = b"late words"
    if suffix != "mkv":
        data = len(data).to_bytes(2, "big") + data
    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, MILLISECOND
    packet.pts = packet.dts = round(1000 * at)
    packet.duration = 40
    return packet


def encode_pictures(stream, pictures, times):
    """Packets of pictures at times in seconds."""
    packets = []
    for picture, time_seconds in zip(pictures, times, strict=True):
        packets += stream.encode(shown(picture, time_seconds, stream.pix_fmt))
    return packets + stream.encode(None)


def encode_forms(stream, pictures, times, rng: random.Random):
    """Packets of single pictures, the first ones of another form than the later ones."""
    first, later = rng.sample(list(JPEG_FORMS), 2)
    turn = rng.randrange(1, len(pictures))
    packets = []
    for number, (picture, time_seconds) in enumerate(zip(pictures, times, strict=True)):
        mode, options = JPEG_FORMS[first if number < turn else later]
        file = io.BytesIO()
        Image.fromarray(picture).convert(mode).save(file, "JPEG", **options)
        packet = av.Packet(file.getvalue())
        packet.stream, packet.time_base = stream, MILLISECOND
        packet.pts = packet.dts = round(1000 * time_seconds)
        packet.is_keyframe = True
        packets.append(packet)
    return packets


def shown(picture, time_seconds: Fraction, pixel_format: str) -> av.VideoFrame:
    """A picture as a frame at a time, to the millisecond."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format=pixel_format)
    frame.pts, frame.time_base = round(1000 * time_seconds), Fraction(1, 1000)
    return frame


def contents(path: Path) -> list[tuple[str, int]]:
    """Kind, and decoded samples or packets, of each sound and text of a file."""
    with av.open(str(path)) as container:
        streams = [each for each in container.streams if each.type in ("audio", "subtitle")]
        counts = {stream.index: 0 for stream in streams}
        if not streams:
            return []
        for packet in container.demux(*streams):
            # A decoder may need a few packets before it tells of a picture of sound.
            if packet.stream.type == "subtitle":
                counts[packet.stream.index] += packet.size > 2
                continue
            try:
                counts[packet.stream.index] += sum(frame.samples for frame in packet.decode())
            except av.FFmpegError:
                continue
        return [(stream.type, counts[stream.index]) for stream in streams]


def folder_of_pictures(rng: random.Random, folder: Path) -> Case:
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
    count = sum(not path.name.startswith("._") for path in folder.iterdir())
    return Case(folder, f"folder of {count}", count)


def outcome(case: Case, output: Path | None) -> str:
    """Run, and compare the result with the case."""
    made: list[int] = []
    listener = Listener(on_progress=lambda frame, _: made.append(frame))
    recipe = Recipe(policy="bicubic", scale=1.0, metrics=())
    try:
        manifest = run_pipeline(case.path, recipe, RunFiles(output), listener)
    except VsrError as error:
        if made:
            return f"FAULT: failed late: {error}"
        return f"refused: {str(error)[-120:]}"
    named = [*manifest.streams_dropped, *manifest.losses, *manifest.damage]
    result = Path(manifest.output)
    is_folder = result.is_dir()
    shown_frames = len(list(result.iterdir())) if is_folder else count_frames(result)
    if shown_frames != manifest.frames_out or (shown_frames < case.num_frames and not named):
        return f"FAULT: {shown_frames} of {case.num_frames} frames, told {manifest.frames_out}"
    told = len(manifest.streams_kept) + len(manifest.streams_dropped)
    if case.path.is_file() and told < case.num_streams:
        return f"FAULT: {case.num_streams} streams, {told} accounted for"
    if result.is_file() and case.path.is_file():
        lost = lost_silently(case, result, bool(manifest.streams_dropped or manifest.damage))
        if lost:
            return f"FAULT: {lost}"
    return f"named: {named[0]}" if named else "kept"


def lost_silently(case: Case, result: Path, is_named: bool) -> str | None:
    """What of the sounds, texts and chapters is not in a result that names no loss."""
    if is_named:
        return None
    after = contents(result)
    if len(after) != len(case.counts) and case.counts:
        return f"{len(after)} of {len(case.counts)} sounds and texts"
    for (kind, before), (_, now) in zip(case.counts, after, strict=False):
        slack = 2048 + 0.05 * before if kind == "audio" else 0
        if now < before - slack:
            return f"{now} of {before} of {kind}"
    with av.open(str(result)) as container:
        is_kept = container.format.name.startswith(("matroska", "mov"))
        if is_kept and len(container.chapters()) < case.num_chapters:
            return "chapters"
    return None


if __name__ == "__main__":
    main()
