"""What is read is what is in the clip: times, pixels, tags; and every nasty input has its own clear
answer."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from tests.clips import MILLISECOND, add_cover_art, moving_pictures, write_clip
from vsr.errors import InputError
from vsr.video.read.timestamps import TimestampRepairer
from vsr.video.reader import clip_identity, open_clip

IRREGULAR = [0, 41, 83, 125, 250, 300, 341, 383, 425, 550, 600, 641]
HEVC_10_BIT = {"x265-params": "log-level=none"}


def read_all(source):
    with open_clip(source) as reader:
        frames = list(reader.frames())
        return reader, frames


def kinds(reader):
    return {damage.kind: damage.count for damage in reader.damage}


@pytest.fixture
def pictures():
    return moving_pictures(12)


def test_lossless_rgb_frames_come_back_exactly(tmp_path, pictures):
    reader, frames = read_all(
        write_clip(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    )
    assert [frame.index for frame in frames] == list(range(12))
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(np.rint(frame.pixels.permute(1, 2, 0).numpy() * 255), picture)
    assert reader.notes == []
    assert reader.damage == ()


@pytest.mark.parametrize(
    ("suffix", "time_base"), [("mkv", MILLISECOND), ("mp4", Fraction(1, 90000))]
)
def test_irregular_times_are_exact(tmp_path, pictures, suffix, time_base):
    pts = [int(Fraction(when, 1000) / time_base) for when in IRREGULAR]
    clip = write_clip(tmp_path / f"a.{suffix}", pictures, pts=pts, time_base=time_base)
    _, frames = read_all(clip)
    assert [frame.pts * frame.time_base for frame in frames] == [
        Fraction(when, 1000) for when in IRREGULAR
    ]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(
    ("orientation", "turned"), [(2, [[-1, 0], [0, 1]]), (6, [[0, 1], [-1, 0]])]
)
def test_a_photograph_with_exif_is_read_and_knows_how_it_is_turned(
    tmp_path, suffix, orientation, turned
):
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Orientation] = "Camera", orientation
    Image.fromarray(moving_pictures(1)[0]).save(tmp_path / f"photo.{suffix}", exif=exif)
    reader, frames = read_all(tmp_path / f"photo.{suffix}")
    assert len(frames) == 1
    assert (
        np.reshape(reader.info.display_matrix, (3, 3))[:2, :2] == np.array(turned) * 2**16
    ).all()


def test_a_start_offset_is_kept(tmp_path, pictures):
    clip = write_clip(
        tmp_path / "a.ts", pictures, pts=range(37, 49), audio_codec="aac", audio_start_seconds=1.0
    )
    _, frames = read_all(clip)
    assert [frame.seconds for frame in frames] == pytest.approx(
        [(37 + i) / 25 for i in range(12)], abs=1e-9
    )


def test_b_frames_lose_no_tail(tmp_path):
    clip = write_clip(
        tmp_path / "a.mp4", moving_pictures(50), codec_options={"bf": "3", "b-pyramid": "normal"}
    )
    _, frames = read_all(clip)
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 25) for i in range(50)]


def test_the_description_is_that_of_the_stream(tmp_path, pictures):
    clip = write_clip(
        tmp_path / "a.mp4",
        pictures,
        pixel_format="yuv422p10le",
        color=(9, 9, 16, True),
        sample_aspect_ratio=Fraction(4, 3),
        rotation_degrees=90,
    )
    reader, _ = read_all(clip)
    info = reader.info
    assert (info.width, info.height, info.codec, info.pixel_format) == (
        48,
        32,
        "h264",
        "yuv422p10le",
    )
    assert (
        info.color.matrix,
        info.color.primaries,
        info.color.transfer,
        info.color.full_range,
    ) == (9, 9, 16, True)
    assert info.sample_aspect_ratio == Fraction(4, 3)
    assert info.rotation_degrees == 90
    assert info.num_frames_from_header == 12
    assert info.average_rate == 25
    assert info.duration_seconds_from_header == pytest.approx(0.48)


def test_the_identity_covers_size_and_both_ends(tmp_path):
    path = tmp_path / "a.bin"
    content = bytes(range(256)) * 8192 + b"tail"
    path.write_bytes(content)
    expected = hashlib.sha256(
        len(content).to_bytes(8, "little") + content[: 1 << 20] + content[-(1 << 20) :]
    )
    assert clip_identity(path) == expected.hexdigest()


def test_cover_art_is_never_the_video(tmp_path, pictures):
    film = write_clip(tmp_path / "a.mp4", pictures, audio_codec="aac")
    reader, frames = read_all(add_cover_art(film, tmp_path / "with_cover.mp4"))
    assert (reader.info.width, len(frames)) == (48, 12)


def test_sound_with_cover_art_only_is_refused(tmp_path, pictures):
    film = write_clip(tmp_path / "a.mp4", pictures, audio_codec="aac")
    clip = add_cover_art(film, tmp_path / "song.mp4", keep_video=False)
    with pytest.raises(InputError, match="no video in it, only audio and cover art"):
        open_clip(clip)


def test_of_two_videos_the_default_one_is_read_and_that_is_said(shared_data):
    with open_clip(shared_data / "clips/cuts/nasa_13013.mp4") as reader:
        assert reader.info.width == 320
        assert any("2 video streams: stream 0" in note for note in reader.notes)


def test_a_raw_stream_gets_times_from_its_rate_and_that_is_no_damage(tmp_path):
    clip = write_clip(
        tmp_path / "a.h264", moving_pictures(24), container_format="h264", time_base=Fraction(1, 24)
    )
    reader, frames = read_all(clip)
    steps = {
        frames[i + 1].pts * frames[i].time_base - frames[i].pts * frames[i].time_base
        for i in range(23)
    }
    assert len(frames) == 24
    assert steps == {Fraction(1, 24)}
    assert reader.damage == ()
    assert any("24 frames a second" in note for note in reader.notes)


@pytest.mark.parametrize(
    ("suffix", "pixel_format", "tolerance"),
    [("png", "rgb24", 0.01), ("png", "rgb48be", 0.01), ("jpg", "yuvj444p", 16)],
)
def test_a_folder_of_pictures_is_a_clip_in_natural_order(tmp_path, suffix, pixel_format, tolerance):
    pictures = moving_pictures(11)
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a picture")
    for number, picture in enumerate(pictures):
        save_picture(folder / f"shot{number}.{suffix}", picture, pixel_format)
    reader, frames = read_all(folder)
    assert [frame.pts for frame in frames] == list(range(11))
    assert reader.info.time_base == Fraction(1, 25)
    assert reader.info.container == "images"
    assert any("25 a second" in note for note in reader.notes)
    for frame, picture in zip(frames, pictures, strict=True):
        shown = frame.pixels.permute(1, 2, 0).numpy() * 255
        assert np.abs(shown - picture).max() <= tolerance


def save_picture(path, picture, pixel_format):
    codec = av.Codec("png" if path.suffix == ".png" else "mjpeg", "w").create("video")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = (
        *picture.shape[:2],
        pixel_format,
        Fraction(1, 25),
    )
    codec.options = {} if path.suffix == ".png" else {"qmin": "1", "qmax": "1"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    if pixel_format == "rgb48be":
        frame = av.VideoFrame.from_ndarray(picture.astype(np.uint16) * 257, format="rgb48be")
    elif pixel_format != "rgb24":
        frame = frame.reformat(format=pixel_format, dst_colorspace="ITU601", dst_color_range="JPEG")
    (packet,) = codec.encode(frame)
    path.write_bytes(bytes(packet))


def test_a_numbered_pattern_takes_its_numbers_only(tmp_path):
    for number, picture in enumerate(moving_pictures(4), start=98):
        save_picture(tmp_path / f"{number:03d}.png", picture, "rgb24")
    save_picture(tmp_path / "thumb.png", moving_pictures(1)[0], "rgb24")
    reader, frames = read_all(tmp_path / "%03d.png")
    assert len(frames) == reader.info.num_frames_from_header == 4


def test_a_single_picture_is_a_clip_of_one_frame(tmp_path):
    save_picture(tmp_path / "one.png", moving_pictures(1)[0], "rgb24")
    _, frames = read_all(tmp_path / "one.png")
    assert len(frames) == 1


def test_a_palette_picture_is_read_in_its_colours(tmp_path):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = (255, 0, 0)
    codec = av.Codec("png", "w").create("video")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = 16, 16, "pal8", Fraction(1, 25)
    indices = np.repeat(np.array([[0] * 8 + [1] * 8], np.uint8), 16, axis=0)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[1, 1] = 255, 255  # ARGB
    frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")
    (packet,) = codec.encode(frame)
    (tmp_path / "p.png").write_bytes(bytes(packet))
    _, (only,) = read_all(tmp_path / "p.png")
    assert np.array_equal(np.rint(only.pixels.permute(1, 2, 0).numpy() * 255), picture)


def test_names_that_are_not_utf8_or_hold_colons_work(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(3))
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/a:b \xff.mkv")
    shutil.copy(clip, odd)
    _, frames = read_all(odd)
    assert len(frames) == 3


def test_a_clip_is_read_from_standard_input(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(5))
    with clip.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        reader, frames = read_all("-")
    assert len(frames) == 5
    assert reader.info.identity == ""


def test_an_mp4_that_cannot_be_piped_is_told_so(tmp_path, monkeypatch):
    noise = list(np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), dtype=np.uint8))
    clip = write_clip(tmp_path / "a.mp4", noise, codec_options={"crf": "1"})
    with subprocess.Popen(["cat", str(clip)], stdout=subprocess.PIPE) as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe.stdout))
        with pytest.raises(InputError, match="cannot be piped"):
            open_clip("-")


def without_index(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", moving_pictures(12)).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    return path


def text_file(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("this is not a film\n" * 100)
    return path


def empty_file(tmp_path):
    path = tmp_path / "empty.mkv"
    path.touch()
    return path


def empty_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def plain_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\n" * 100)
    return path


def sound_only(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    return path


def nothing_decodable(tmp_path):
    path = write_clip(tmp_path / "noise.mp4", moving_pictures(6), codec_options={"g": "1"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "missing.mp4", "no such file"),
        (lambda folder: folder / "%03d.png", "no pictures there"),
        (empty_file, "the file is empty"),
        (empty_folder, "no pictures there"),
        (text_file, "not a media file"),
        (plain_text, "text file"),
        (without_index, "no index"),
        (sound_only, "no video in it, only audio"),
        (nothing_decodable, "not a single frame"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(tmp_path, make, told):
    with pytest.raises(InputError, match=told) as refusal:
        open_clip(make(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_truncated_mp4_yields_what_is_there_and_counts_what_is_not(tmp_path):
    clip = write_clip(
        tmp_path / "a.mp4", moving_pictures(48, 64, 96), container_options={"movflags": "faststart"}
    )
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    reader, frames = read_all(clip)
    assert 5 < len(frames) < 48
    assert abs(kinds(reader)["truncated"] + len(frames) - 48) <= 1


@pytest.mark.parametrize("audio", [None, "aac"])
def test_a_truncated_mkv_is_noticed(tmp_path, audio):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(75, 64, 96), audio_codec=audio)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    reader, frames = read_all(clip)
    assert len(frames) < 60
    assert "truncated" in kinds(reader)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
def test_a_file_that_lost_its_last_bytes_is_damaged_even_if_every_frame_is_there(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    clip = write_clip(
        tmp_path / f"a.{suffix}", moving_pictures(12), audio_codec="aac", container_options=options
    )
    assert read_all(clip)[0].damage == ()
    clip.write_bytes(clip.read_bytes()[:-6])
    reader, frames = read_all(clip)
    assert (len(frames), kinds(reader)) == (12, {"cut_off": 1})
    assert "6 bytes" in reader.damage[0].detail


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"bf": "2"}), ("libx264", {"bf": "0"}), ("mpeg4", {}), ("mjpeg", {})],
)
def test_frames_of_an_avi_come_in_order_at_its_own_times(tmp_path, codec, options):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clip = write_clip(
        tmp_path / "a.avi",
        moving_pictures(12),
        codec=codec,
        codec_options=options,
        pixel_format=pixel_format,
    )
    reader, frames = read_all(clip)
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 25) for i in range(12)]
    assert reader.damage == ()


def test_a_recording_of_unknown_length_is_not_damaged(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(12), container_options={"live": "1"})
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in clip.read_bytes()
    assert read_all(clip)[0].damage == ()


def test_what_may_not_even_be_looked_for_is_an_input_error():
    with pytest.raises(InputError, match="File name too long"):
        open_clip("x" * 300 + ".mp4")


def test_a_pipe_with_a_name_is_refused_with_what_to_do(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(3))
    reading, writing = os.pipe()
    os.write(writing, clip.read_bytes())
    os.close(writing)
    with pytest.raises(InputError, match="give a pipe to standard input and name it -"):
        open_clip(f"/dev/fd/{reading}")
    os.close(reading)


def test_sound_that_outlasts_the_video_is_no_truncation(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(12), audio_codec="aac", audio_start_seconds=3.0
    )
    reader, _ = read_all(clip)
    assert reader.damage == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_corrupt_bytes_are_counted_and_times_still_rise(tmp_path, suffix):
    clip = write_clip(tmp_path / f"a.{suffix}", moving_pictures(48, 96, 128))
    data = bytearray(clip.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(len(data) // 4, 3 * len(data) // 4, 40):
        data[position] ^= 0xFF
    clip.write_bytes(data)
    reader, frames = read_all(clip)
    assert len(frames) > 24
    assert reader.damage
    assert all(earlier.pts < later.pts for earlier, later in pairwise(frames))


def test_interlacing_is_mentioned_with_what_to_do(tmp_path, pictures):
    combed = write_clip(
        tmp_path / "b.mp4", pictures, codec_options={"flags": "+ildct", "x264-params": "tff=1"}
    )
    assert any("--deinterlace" in note for note in read_all(combed)[0].notes)


@pytest.mark.parametrize(
    ("claims", "times", "faults"),
    [
        ([0, 40, 80, 120], [0, 40, 80, 120], [None] * 4),
        ([0, 40, None, 120], [0, 40, 80, 120], [None, None, "missing", None]),
        ([0, 40, 40, 80], [0, 40, 60, 80], [None, None, "duplicate", None]),
        ([0, 40, 80, 50, 120], [0, 40, 80, 100, 120], [None, None, None, "backward", None]),
        (
            [5000, 5040, 0, 40, 80],
            [5000, 5040, 5080, 5120, 5160],
            [None, None, "restarted", None, None],
        ),
    ],
)
def test_the_clock_mends_only_what_is_wrong(claims, times, faults):
    repairer = TimestampRepairer(usual_step=40, ticks_per_second=1000)
    assert [repairer.repair(claim) for claim in claims] == list(zip(times, faults, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "natural/carphone_pristine.mp4",
        "format/vfr_flower.mp4",
        "cuts/sintel_150.mkv",
        "format/rotated_real_270.mov",
    ],
)
def test_real_clips_read_without_damage_and_with_the_times_of_ffprobe(shared_data, name):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    path = shared_data / "clips" / name
    query = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        "frame=pts",
        "-of",
        "csv=p=0",
        path,
    ]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    reader, frames = read_all(path)
    assert [frame.pts for frame in frames] == [int(line.rstrip(",")) for line in listed]
    assert reader.damage == ()


def test_a_clip_is_closed_between_two_frames_and_never_while_one_is_read(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(6, 48, 40))
    reads, goes_on = threading.Event(), threading.Event()
    read = []

    def wait(frame, samples):
        reads.set()
        goes_on.wait()

    reader = open_clip(clip)
    reading = threading.Thread(target=lambda: read.extend(reader.frames(seen=wait)))
    reading.start()
    reads.wait()
    closing = threading.Thread(target=reader.__exit__, args=(None, None, None))
    closing.start()
    closing.join(0.3)
    # libav would be reading from memory that is gone.
    assert closing.is_alive()
    goes_on.set()
    closing.join()
    reading.join()
    assert len(read) == 1
