"""What a clip holds besides its pictures comes out again: transparency, HDR data, mirroring,
fields, every stream."""

import shutil
import struct
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

import vsr
from tests.clips import moving_pictures, read_frames, read_packets, read_times, write_clip
from vsr.errors import OutputError
from vsr.video.read.side_data import scale_display_matrix
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.write.encoders import choose_pixel_format

HDR10 = (
    "log-level=none:hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    ":max-cll=1000,400"
)
BT2020_PQ = (9, 9, 16, False)


def enlarge(clip, output, scale=2, **options):
    return vsr.run(clip, output, policy="bicubic", scale=scale, metrics=(), **options)


def info_of(path):
    with open_clip(path) as reader:
        return reader.info


def alphas(path):
    with open_clip(path) as reader:
        return [None if frame.alpha is None else frame.alpha.numpy() for frame in reader.frames()]


def write_transparent(path, codec, pixel_format, count=4):
    """The left half has opacity 20, 60, 100 ... of 255, the right half is opaque."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        for number, picture in enumerate(moving_pictures(count, 64, 96)):
            opacity = np.full((64, 96, 1), 255, np.uint8)
            opacity[:, :48] = 40 * number + 20
            pixels = np.ascontiguousarray(np.concatenate([picture, opacity], axis=2))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("source", "codec", "pixel_format", "output", "encoder"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p", "out.webm", "auto"),
        ("a.webm", "libvpx-vp9", "yuva420p", "out.mkv", "ffv1"),
        ("a.mov", "prores_ks", "yuva444p10le", "out.mkv", "ffv1"),
        ("a.mkv", "ffv1", "bgra", "out", "png"),
    ],
)
def test_transparency_is_enlarged_apart(tmp_path, source, codec, pixel_format, output, encoder):
    clip = write_transparent(tmp_path / source, codec, pixel_format)
    enlarge(clip, tmp_path / output, codec=encoder)
    large = alphas(tmp_path / output)
    assert len(large) == 4
    for number, alpha in enumerate(large):
        assert alpha.shape == (128, 192)
        assert alpha[10:-10, 10:80] == pytest.approx((40 * number + 20) / 255, abs=1.5 / 255)
        assert alpha[10:-10, 110:-10] == pytest.approx(1, abs=1.5 / 255)


def test_transparency_never_changes_the_colours(tmp_path):
    clear = write_transparent(tmp_path / "a.mkv", "ffv1", "bgra")
    solid = write_clip(
        tmp_path / "b.mkv", moving_pictures(4, 64, 96), codec="ffv1", pixel_format="bgr0"
    )
    for clip in (clear, solid):
        enlarge(clip, clip.with_suffix(".out.mkv"), codec="ffv1")
    pairs = zip(
        read_frames(clear.with_suffix(".out.mkv")),
        read_frames(solid.with_suffix(".out.mkv")),
        strict=True,
    )
    for one, other in pairs:
        assert np.array_equal(one.to_ndarray(format="rgb24"), other.to_ndarray(format="rgb24"))


def test_transparency_that_is_dropped_is_told_with_what_keeps_it(tmp_path):
    clip = write_transparent(tmp_path / "a.mov", "prores_ks", "yuva444p10le")
    manifest = enlarge(clip, tmp_path / "out.mp4")
    assert [
        note
        for note in manifest.notes
        if "transparency (alpha) is dropped: libx264" in note and "ffv1" in note
    ]


@pytest.mark.parametrize(
    ("source", "offered", "expected"),
    [
        ("yuva420p", ("yuv420p", "yuva420p"), "yuva420p"),
        ("yuv420p", ("yuva420p", "yuv420p"), "yuv420p"),
        ("yuva444p12le", ("yuv444p12le", "yuva444p"), "yuva444p"),
        ("bgr0", ("bgra", "bgr0"), "bgr0"),
    ],
)
def test_a_format_with_alpha_is_chosen_for_a_clip_with_alpha_and_for_no_other(
    source, offered, expected
):
    assert choose_pixel_format(source, offered, None, "any") == expected


@pytest.fixture(scope="module")
def hdr_clip(tmp_path_factory):
    return write_clip(
        tmp_path_factory.mktemp("hdr") / "hdr.mp4",
        moving_pictures(4, 64, 96),
        codec="libx265",
        pixel_format="yuv420p10le",
        codec_options={"x265-params": HDR10},
        color=BT2020_PQ,
    )


def test_hdr_metadata_is_read_in_its_units(hdr_clip):
    info = info_of(hdr_clip)
    display = info.mastering_display
    assert [float(value) for point in display.primaries for value in point] == [
        0.68,
        0.32,
        0.265,
        0.69,
        0.15,
        0.06,
    ]
    assert [float(value) for value in display.white_point] == [0.3127, 0.329]
    assert (float(display.max_luminance), float(display.min_luminance)) == (1000, 0.0001)
    assert (info.light_level.max_content, info.light_level.max_frame_average) == (1000, 400)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx265"), ("mp4", "libx264"), ("mp4", "libsvtav1")]
)
def test_hdr10_stays_hdr10(tmp_path, hdr_clip, suffix, codec):
    out = tmp_path / f"out.{suffix}"
    enlarge(hdr_clip, out, codec=codec)
    before, after = info_of(hdr_clip), info_of(out)
    assert (after.color, after.light_level) == (before.color, before.light_level)
    assert after.pixel_format == "yuv420p10le"
    for old, new in zip(
        numbers_of(before.mastering_display), numbers_of(after.mastering_display), strict=True
    ):
        assert new == pytest.approx(old, abs=3e-5, rel=1e-4)


def numbers_of(display):
    points = [value for point in (*display.primaries, display.white_point) for value in point]
    return [float(value) for value in (*points, display.min_luminance, display.max_luminance)]


def test_ffprobe_finds_the_mastering_display_in_the_result(tmp_path, hdr_clip):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    enlarge(hdr_clip, tmp_path / "out.mkv", codec="libx265")
    query = [
        "ffprobe",
        "-v",
        "error",
        "-read_intervals",
        "%+#1",
        "-show_frames",
        str(tmp_path / "out.mkv"),
    ]
    told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    assert "red_x=34000/50000" in told
    assert "max_luminance=10000000/10000" in told
    assert "max_content=1000" in told


def test_hdr_metadata_that_is_dropped_is_told(tmp_path, hdr_clip):
    manifest = enlarge(hdr_clip, tmp_path / "out.mkv", codec="ffv1")
    assert [
        note
        for note in manifest.notes
        if "HDR mastering and light-level data are dropped: ffv1" in note
    ]
    assert info_of(tmp_path / "out.mkv").color == info_of(hdr_clip).color


@pytest.mark.parametrize(
    ("degrees", "hflip", "vflip"),
    [(90, False, False), (0, True, False), (0, False, True), (270, True, False)],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_turned_and_mirrored_clips_stay_so(tmp_path, degrees, hflip, vflip, suffix):
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        for picture in moving_pictures(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    enlarge(clip, tmp_path / f"out.{suffix}")
    assert info_of(clip).display_matrix is not None
    assert info_of(tmp_path / f"out.{suffix}").display_matrix == info_of(clip).display_matrix


def test_where_the_display_matrix_moves_the_picture_it_moves_the_enlarged_one_as_far_in_its_pixels(
    tmp_path,
):
    one = 1 << 16
    turned = (0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)
    assert scale_display_matrix(turned, Fraction(4)) == (
        0,
        one,
        0,
        -one,
        0,
        0,
        128 * one,
        0,
        1 << 30,
    )
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_matrix(turned)
        for picture in moving_pictures(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    enlarge(clip, tmp_path / "out.mp4", scale=4)
    assert info_of(tmp_path / "out.mp4").display_matrix == scale_display_matrix(turned, Fraction(4))


def combed_pictures(count):
    """A bright bar that moves 4 pixels from field to field, as an interlaced camera sees it."""
    pictures = []
    for number in range(count):
        picture = np.full((64, 96, 3), 40, np.uint8)
        for field in (0, 1):
            left = 8 + 8 * number + 4 * field
            picture[field::2, left : left + 12] = 220
        pictures.append(picture)
    return pictures


def combing(frame):
    """How much each line differs from the mean of its neighbours."""
    gray = frame.reformat(format="gray").to_ndarray().astype(float)
    return np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean()


@pytest.mark.parametrize("flagged", [True, False])
def test_deinterlacing_removes_the_combs_and_keeps_every_frame_and_time(tmp_path, flagged):
    options = {"flags": "+ildct", "x264-params": "tff=1"} if flagged else {}
    clip = write_clip(
        tmp_path / "a.mkv",
        combed_pictures(8),
        codec_options={"crf": "4", **options},
        pts=range(5, 13),
    )
    enlarge(clip, tmp_path / "combed.mkv", scale=1, deinterlace="off")
    manifest = enlarge(clip, tmp_path / "out.mkv", scale=1, deinterlace="frame")
    assert read_times(tmp_path / "out.mkv") == read_times(clip)
    combed = np.mean([combing(frame) for frame in read_frames(tmp_path / "combed.mkv")])
    clean = np.mean([combing(frame) for frame in read_frames(tmp_path / "out.mkv")[1:-1]])
    assert clean < 0.2 * combed
    assert any("deinterlaced" in note for note in manifest.notes)


def test_deinterlaced_frames_are_those_of_ffmpeg(tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    clip = write_clip(
        tmp_path / "a.mkv",
        combed_pictures(8),
        codec_options={"flags": "+ildct", "x264-params": "tff=1", "crf": "4"},
    )
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(clip),
        "-vf",
        "bwdif=mode=send_frame:parity=tff",
        "-pix_fmt",
        "gray",
    ]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(8, 64, 96)
    with open_clip(clip, ReadOptions(deinterlace="frame")) as reader:
        ours = [frame.pixels.numpy().mean(axis=0) for frame in reader.frames()]
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one * 255 - (other.astype(float))).mean() < 1.5


def two_videos(tmp_path):
    """A main film, a second video, two sounds of which one is a commentary, and forced
    subtitles."""
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as out:
        videos = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for video, (width, height) in zip(videos, ((48, 32), (64, 48)), strict=True):
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sounds = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2)]
        videos[0].disposition = Disposition.default
        sounds[1].disposition = Disposition.comment
        sounds[0].metadata["language"], sounds[1].metadata["language"] = "jpn", "ger"
        sounds[1].metadata["title"] = "director"
        packets = []
        for video, (height, width) in zip(videos, ((32, 48), (48, 64)), strict=True):
            for number, picture in enumerate(moving_pictures(6, height, width)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += video.encode(frame)
            packets += video.encode(None)
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1920), np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
            packets += sound.encode(frame) + sound.encode(None)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def test_every_stream_keeps_its_place_language_title_and_disposition(tmp_path):
    clip = two_videos(tmp_path)
    manifest = enlarge(clip, tmp_path / "out.mkv")
    with av.open(str(clip)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        assert [stream.type for stream in after.streams] == [
            stream.type for stream in before.streams
        ]
        for old, new in zip(before.streams, after.streams, strict=True):
            assert new.disposition == old.disposition
            assert new.language == old.language
            assert new.metadata.get("title") == old.metadata.get("title")
        assert (after.streams[0].width, after.streams[1].width) == (96, 64)
    assert read_packets(tmp_path / "out.mkv", 1) == read_packets(clip, 1)
    assert manifest.streams_dropped == []
    assert len(manifest.streams_kept) == 3


def trim_by_edit_list(clip, first_ms, last_ms):
    """Rewrite the edit list of an MP4's video so that it shows only a part, as phones do when a
    clip is trimmed."""
    data = bytearray(clip.read_bytes())
    position = data.index(b"elst")
    mvhd = data.index(b"mvhd")
    movie_scale = struct.unpack(">I", data[mvhd + 16 : mvhd + 20])[0]
    mdhd = data.index(b"mdhd")
    media_scale = struct.unpack(">I", data[mdhd + 16 : mdhd + 20])[0]
    duration = (last_ms - first_ms) * movie_scale // 1000
    struct.pack_into(">II", data, position + 12, duration, first_ms * media_scale // 1000)
    clip.write_bytes(data)


def test_an_edit_list_shows_what_a_player_shows_and_is_no_damage(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(50), codec_options={"bf": "0"})
    trim_by_edit_list(clip, 400, 1200)
    shown = read_times(clip)
    manifest = enlarge(clip, tmp_path / "out.mp4", scale=1)
    assert manifest.damage == []
    assert read_times(tmp_path / "out.mp4") == shown
    assert len(shown) < 50


@pytest.mark.parametrize("suffix", ["mpg", "y4m", "wmv"])
def test_containers_that_could_not_be_read_back_are_refused_before_any_work(tmp_path, suffix):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(6))
    for codec in ("auto", "libx264"):
        with pytest.raises(OutputError, match=r"use \.mkv"):
            enlarge(clip, tmp_path / f"out.{suffix}", codec=codec)


@pytest.mark.parametrize("first", [0, 5])
def test_what_an_avi_cannot_time_is_told(tmp_path, first):
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(6), pts=[first, *(first + i for i in (1, 2, 4, 5, 9))]
    )
    manifest = enlarge(clip, tmp_path / "out.avi", scale=1)
    with open_clip(tmp_path / "out.avi") as after, open_clip(clip) as before:
        pairs = zip(after.frames(), before.frames(), strict=True)
        errors = [abs(one.seconds - other.seconds) for one, other in pairs]
    assert manifest.max_pts_error_seconds == pytest.approx(max(errors), abs=1e-6)
    assert any("avi stores no timestamps" in note for note in manifest.notes)
    assert any("0.200 s earlier" in note for note in manifest.notes) == (first > 0)


def test_a_clip_of_one_frame_goes_through_with_its_metrics(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(1))
    manifest = vsr.run(clip, tmp_path / "out.mp4", policy="bicubic", scale=2, steady=0.5)
    assert (manifest.frames_out, manifest.damage) == (1, [])
    assert manifest.metrics["flicker_live"]["mean"] is None
    assert manifest.metrics["sharpness_live"]["mean"] > 0
