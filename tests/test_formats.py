"""Files that people have: streams that begin late, clocks that wrap, forms that change."""

import gc
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image, ImageCms, ImageOps

import vsr
from tests.clips import moving_pictures, read_frames, read_times, write_clip
from vsr.errors import InputError, UsageError
from vsr.video.read.side_data import CODING, KEPT, SIDE_DATA_FATES, SOUND
from vsr.video.read.stream_starts import find_stream_starts
from vsr.video.reader import ReadOptions, open_clip

PAL = Fraction(1, 25)


def enlarge(clip, output, **options):
    return vsr.run(clip, output, policy="bicubic", scale=2, overwrite=True, **options)


def encode(codec, pictures, first_pts=0, **settings):
    """Packets of pictures at 25 a second, and the context that made them."""
    context = av.Codec(codec, "w").create("video")
    context.height, context.width = pictures[0].shape[:2]
    context.time_base, context.framerate = PAL, Fraction(25)
    context.pix_fmt = settings.pop("pixel_format", "yuv420p")
    context.options = settings.pop("options", {})
    for name, value in settings.items():
        setattr(context, name, value)
    packets = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format=context.pix_fmt)
        frame.pts, frame.time_base = first_pts + index, PAL
        packets += context.encode(frame)
    return packets + context.encode(None)


def tone(codec, seconds, start=0.0, rate=48000):
    """Packets of a tone at a time in seconds, in units of the sample rate."""
    context = av.Codec(codec, "w").create("audio")
    context.sample_rate, context.layout = rate, "stereo"
    context.format = context.codec.audio_formats[0]
    context.bit_rate = 192000
    context.open()
    size = context.frame_size or 1152
    packets = []
    for begin in range(0, int(seconds * rate), size):
        wave = np.sin(2 * np.pi * 440 * (begin + np.arange(size)) / rate)
        planar, kind = context.format.is_planar, context.format.name
        samples = (wave * 20000).astype(np.int16) if "s16" in kind else wave.astype(np.float32)
        data = np.stack([samples] * 2) if planar else np.repeat(samples, 2)[None]
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout="stereo")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + begin
        packets += context.encode(frame)
    return packets + context.encode(None)


def mux(path, container_format, streams, options=None):
    """Write (codec, packets) of each stream, interleaved by decoding time."""
    with av.open(str(path), "w", format=container_format, options=options or {}) as out:
        everything = []
        for codec, packets, settings in streams:
            if codec in ("mpeg2video", "libx264", "dvvideo", "mjpeg", "png"):
                stream = out.add_stream(codec, rate=25)
                for name, value in settings.items():
                    setattr(stream.codec_context, name, value)
            else:
                stream = out.add_stream(codec, rate=48000)
                stream.codec_context.layout = "stereo"
                stream.codec_context.bit_rate = 192000
            for packet in packets:
                packet.stream = stream
                everything.append(packet)
        order = sorted(everything, key=lambda packet: packet.dts * packet.time_base)
        for packet in order:
            out.mux(packet)
    return path


SMALL = {"width": 64, "height": 48, "pix_fmt": "yuv420p"}


def noise_pictures(count, height, width):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def late_vob(tmp_path_factory):
    """A program stream whose second sound begins behind what libavformat probes."""
    size = {"width": 352, "height": 288, "pix_fmt": "yuv420p"}
    pictures = noise_pictures(60, 288, 352)
    video = encode("mpeg2video", pictures, options={"g": "12"}, bit_rate=40_000_000)
    late = tone("mp2", 0.3, start=2.2)
    sounds = [("ac3", tone("ac3", 2.4), {}), ("mp2", late, {})]
    path = tmp_path_factory.mktemp("late") / "late.vob"
    return mux(path, "vob", [("mpeg2video", video, size), *sounds])


def test_a_stream_that_begins_late_is_found_and_copied(late_vob, tmp_path):
    assert late_vob.stat().st_size > 5_000_000
    assert len(find_stream_starts(late_vob)) == 3
    manifest = enlarge(late_vob, tmp_path / "out.mkv")
    assert manifest.frames_out == 60
    assert len(manifest.streams_kept) == 2
    assert manifest.streams_dropped == []
    with av.open(str(tmp_path / "out.mkv")) as result:
        late = result.streams[2]
        first = next(packet for packet in result.demux(late))
        assert float(first.pts * first.time_base) > 2


def test_a_stream_that_is_never_known_does_not_crash_and_is_named(late_vob, tmp_path, monkeypatch):
    monkeypatch.setattr("vsr.video.read.stream_starts.MAX_PROBE_BYTES", 1 << 20)
    manifest = enlarge(late_vob, tmp_path / "out.mkv")
    assert manifest.frames_out == 60
    assert any("MiB into the file" in line for line in manifest.streams_dropped)


def wrapped_ts(path, ticks_before):
    """A transport stream whose clock of 33 bits wraps after so many ticks of 90 kHz."""
    video = encode("libx264", moving_pictures(50, 48, 64), options={"bf": "2"})
    sound = tone("mp2", 2.0)
    for packet in [*video, *sound]:
        moved = round((2**33 - ticks_before) * Fraction(1, 90000) / packet.time_base)
        packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
    streams = [("libx264", video, SMALL), ("mp2", sound, {})]
    return mux(path, "mpegts", streams, {"muxdelay": "0", "muxpreload": "0"})


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
def test_a_clock_that_wraps_plays_every_frame_at_its_time(tmp_path, suffix):
    clip = wrapped_ts(tmp_path / "wrap.ts", 90000)
    manifest = enlarge(clip, tmp_path / f"out.{suffix}")
    assert manifest.frames_out == 50
    times = read_times(tmp_path / f"out.{suffix}")
    assert len(times) == 50
    assert min(times) >= 0
    assert max(times) < 3
    assert all(abs(b - a - PAL) < Fraction(1, 500) for a, b in pairwise(times))
    assert any("before zero" in note for note in manifest.notes)


def test_raw_dv_is_read_at_the_rate_of_its_frames(tmp_path):
    pictures = moving_pictures(5, 576, 720)
    video = encode("dvvideo", pictures)
    size = {"width": 720, "height": 576, "pix_fmt": "yuv420p"}
    clip = mux(
        tmp_path / "a.dv",
        "dv",
        [("dvvideo", video, size), ("pcm_s16le", tone("pcm_s16le", 0.2), {})],
    )
    with open_clip(clip) as reader:
        assert reader.info.average_rate == 25
        assert [frame.seconds for frame in reader.frames()] == pytest.approx(
            [0, 0.04, 0.08, 0.12, 0.16]
        )
    for suffix in ("mp4", "avi", "mkv"):
        manifest = vsr.run(clip, tmp_path / f"out.{suffix}", policy="bicubic", scale=1)
        assert manifest.frames_out == 5
        with av.open(str(tmp_path / f"out.{suffix}")) as result:
            assert result.streams.video[0].average_rate == 25
            assert len(list(result.decode(video=0))) == 5


def save_folder(folder, pictures, suffix="png", **options):
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"f{number:03d}.{suffix}", **options)
    return folder


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_folder_that_begins_gray_is_read_in_color(tmp_path, suffix):
    color = moving_pictures(4, 32, 48)
    folder = save_folder(
        tmp_path / "in", [color[0].mean(axis=2).astype(np.uint8), *color[1:]], suffix
    )
    with open_clip(folder) as reader:
        frames = list(reader.frames())
        assert reader.losses == ()
        assert any("hold more" in note for note in reader.notes)
    enlarge(folder, tmp_path / "out.mkv")
    last = read_frames(tmp_path / "out.mkv")[-1].to_ndarray(format="rgb24").astype(float)
    assert np.abs(last[..., 0] - last[..., 2]).mean() > 10
    assert frames[0].pixels.std(dim=0).max() < 0.01


@pytest.mark.parametrize(
    ("first", "later", "wanted"),
    [
        ("RGB", "RGBA", "rgba"),
        ("L", "RGBA", "rgba"),
        ("L", "LA", "ya8"),
        ("RGB", "I;16", "gbrp16le"),
    ],
)
def test_the_form_of_a_folder_holds_every_picture(tmp_path, first, later, wanted):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(moving_pictures(1, 16, 24)[0])
    picture.convert(first).save(folder / "a1.png")
    other = (
        Image.fromarray((np.arange(384).reshape(16, 24) * 170).astype(np.uint16))
        if later == "I;16"
        else picture.convert(later)
    )
    other.save(folder / "a2.png")
    with open_clip(folder) as reader:
        assert reader.info.pixel_format == wanted
        list(reader.frames())
        assert reader.losses == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_of_a_folder_are_turned_upright(tmp_path, orientation):
    stored = moving_pictures(1, 32, 48)[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, "quality": 95, "subsampling": 0}
    folder = save_folder(tmp_path / "in", [stored] * 2, "jpg", **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(folder / "f000.jpg")))
    with open_clip(folder) as reader:
        assert (reader.info.height, reader.info.width) == upright.shape[:2]
        shown = next(reader.frames()).pixels.permute(1, 2, 0).numpy() * 255
    assert np.abs(shown - upright).mean() < 1.5
    assert reader.damage == ()


def test_companions_and_odd_digits_in_names_are_no_trouble(tmp_path):
    folder = save_folder(tmp_path / "in", moving_pictures(2, 16, 24))
    for picture in list(folder.iterdir()):
        (folder / f"._{picture.name}").write_bytes(b"\x00\x05\x16\x07 companion")
        picture.rename(folder / f"\u00b2{picture.name}")
    with open_clip(folder) as reader:
        assert len(list(reader.frames())) == 2
        assert reader.damage == ()


def test_an_animated_webp_is_told_to_be_unsupported_and_a_still_one_is_read(tmp_path):
    pictures = [Image.fromarray(picture) for picture in moving_pictures(3, 16, 24)]
    pictures[0].save(tmp_path / "still.webp", lossless=True)
    with open_clip(tmp_path / "still.webp") as reader:
        assert len(list(reader.frames())) == 1
    clip = tmp_path / "moving.webp"
    pictures[0].save(clip, save_all=True, append_images=pictures[1:], lossless=True)
    with pytest.raises(InputError, match=r"animated WebP.*does not support; convert it first"):
        open_clip(clip)


def test_a_still_that_is_stored_as_a_stream_is_not_the_film(tmp_path):
    cover = encode("mjpeg", moving_pictures(1, 60, 40), pixel_format="yuvj420p", color_range=2)
    video = encode("libx264", moving_pictures(10, 48, 64))
    size = {"width": 40, "height": 60, "pix_fmt": "yuvj420p"}
    clip = mux(tmp_path / "a.mkv", "matroska", [("mjpeg", cover, size), ("libx264", video, SMALL)])
    manifest = enlarge(clip, tmp_path / "out.mkv")
    assert manifest.frames_out == 10
    assert any("mjpeg" in line for line in manifest.streams_kept)
    assert any("--stream" in note for note in manifest.notes)
    with open_clip(clip, ReadOptions(stream=0)) as reader:
        assert (reader.info.height, reader.info.width) == (60, 40)
    with pytest.raises(
        UsageError, match="stream 7 is not a video stream; its video streams are: 0, 1"
    ):
        open_clip(clip, ReadOptions(stream=7))


def test_every_kind_of_side_data_has_a_fate():
    from av.sidedata.sidedata import Type

    assert {kind.value for kind in Type} <= set(SIDE_DATA_FATES)
    named = [fate for fate in SIDE_DATA_FATES.values() if fate not in (KEPT, CODING, SOUND)]
    assert all(len(fate) > 10 for fate in named)


def test_pictures_with_a_color_profile_are_read_and_the_profile_is_named(tmp_path):

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures = moving_pictures(3, 16, 24)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png", icc_profile=profile)
    with open_clip(tmp_path) as reader:
        frames = list(reader.frames())
        assert reader.losses == ("the ICC color profile (from frame 0 on)",)
    gc.collect()  # PyAV's crash came here
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(np.rint(frame.pixels.numpy() * 255).transpose(1, 2, 0), picture)


def insert_box(data, path, box):
    """An MP4 with a box added at the end of the one at `path`; its media must lie before them."""
    data = bytearray(data)
    begin, end, parents = 0, len(data), []
    for kind in path:
        place = begin
        while data[place + 4 : place + 8] != kind:
            place += int.from_bytes(data[place : place + 4], "big")
            assert place < end
        end = place + int.from_bytes(data[place : place + 4], "big")
        parents.append(place)
        begin = place + {b"stsd": 16, b"avc1": 86}.get(kind, 8)
    data[end:end] = box
    for place in parents:
        size = int.from_bytes(data[place : place + 4], "big") + len(box)
        data[place : place + 4] = size.to_bytes(4, "big")
    return bytes(data)


def test_a_stereo_mark_is_named_as_a_loss(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(5, 48, 64))
    path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    mark = b"\x00\x00\x00\x0dst3d\x00\x00\x00\x00\x02"
    clip.write_bytes(insert_box(clip.read_bytes(), path, mark))
    with open_clip(clip) as reader:
        list(reader.frames())
        assert reader.losses == ("the stereoscopic layout (3D) (from frame 0 on)",)
        assert any("stereoscopic" in note for note in reader.notes)


def test_closed_captions_are_named_as_a_loss(tmp_path):
    clip = write_clip(tmp_path / "plain.mkv", moving_pictures(5, 48, 64))
    captions = b"\xb5\x00\x31GA94\x03\x41\xff\xfc\x94\x20\xff"
    sei = b"\x06\x04" + bytes([len(captions)]) + captions + b"\x80"
    with av.open(str(clip)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                data = len(sei).to_bytes(4, "big") + sei + bytes(packet)
                more = av.Packet(data)
                more.pts, more.dts, more.time_base = packet.pts, packet.dts, packet.time_base
                more.is_keyframe, more.stream = packet.is_keyframe, copy
                out.mux(more)
    with open_clip(tmp_path / "a.mkv") as reader:
        assert len(list(reader.frames())) == 5
        assert "closed captions" in reader.losses[0]


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_sound_that_a_later_table_of_a_transport_stream_announces_is_kept(tmp_path):
    first = encode("libx264", moving_pictures(30, 48, 64), options={"bf": "0"})
    later = encode("libx264", moving_pictures(30, 48, 64), first_pts=30, options={"bf": "0"})
    silent = mux(tmp_path / "a.ts", "mpegts", [("libx264", first, SMALL)])
    sound = ("mp2", tone("mp2", 1.2, start=1.2), {})
    sounding = mux(tmp_path / "b.ts", "mpegts", [("libx264", later, SMALL), sound])
    clip = joined(tmp_path / "c.ts", silent, sounding)
    for suffix in ("ts", "mkv"):
        manifest = enlarge(clip, tmp_path / f"out.{suffix}")
        assert (manifest.frames_out, manifest.streams_dropped) == (60, [])
        with av.open(str(tmp_path / f"out.{suffix}")) as result:
            frames = list(result.decode(audio=0))
        assert sum(frame.samples for frame in frames) >= 1.15 * 48000
        assert frames[0].time > 1


def test_a_matroska_film_that_begins_before_zero_stays_with_its_sound(tmp_path):
    video = encode("libx264", moving_pictures(25, 48, 64), options={"bf": "0"})
    sound = tone("aac", 1.0)
    for packet in [*video, *sound]:
        moved = round(Fraction(2, 5) / packet.time_base)
        packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
    options = {"avoid_negative_ts": "disabled"}
    streams = [("libx264", video, SMALL), ("aac", sound, {})]
    clip = mux(tmp_path / "a.mkv", "matroska", streams, options)
    with open_clip(clip) as reader:
        assert reader.info.shift_seconds == Fraction(2, 5)
        assert [frame.seconds for frame in reader.frames()] == [
            pytest.approx(number / 25, abs=0.002) for number in range(25)
        ]
    manifest = enlarge(clip, tmp_path / "out.mp4")
    assert (manifest.frames_out, manifest.damage) == (25, [])
    with av.open(str(tmp_path / "out.mp4")) as result:
        heard = sum(frame.samples for frame in result.decode(audio=0))
    assert heard >= 47000


def test_a_hint_on_huge_frames_is_given_for_huge_frames_alone(tmp_path):
    clip = write_clip(
        tmp_path / "a.mov", moving_pictures(3, 48, 64), codec="png", pixel_format="rgb24"
    )
    clip.write_bytes(clip.read_bytes().replace(b"\x89PNG", bytes(4)))
    with pytest.raises(InputError, match="not a single frame") as caught:
        open_clip(clip)
    assert "million pixels" not in str(caught.value)


@pytest.mark.parametrize(
    ("later", "told"),
    [
        ({"sample_aspect_ratio": Fraction(16, 11)}, "the shape of pixels 16/11"),
        ({"color_trc": 16, "color_primaries": 9}, "the color transfer 16"),
    ],
)
def test_pixels_and_colors_that_change_midway_are_named(tmp_path, later, told):
    pictures = moving_pictures(10, 48, 64)
    options = {"bf": "0"}
    first = mux(
        tmp_path / "a.ts",
        "mpegts",
        [("libx264", encode("libx264", pictures, options=options), SMALL)],
    )
    changed = encode("libx264", pictures, first_pts=10, options=dict(options), **later)
    other = mux(tmp_path / "b.ts", "mpegts", [("libx264", changed, SMALL)])
    manifest = enlarge(joined(tmp_path / "c.ts", first, other), tmp_path / "out.mkv")
    assert manifest.frames_out == 20
    assert any(told in loss for loss in manifest.losses), manifest.losses


def test_sounds_that_together_abort_a_muxer_are_refused_one_by_one(tmp_path):
    """In a process of its own: beside PCM, MXF's muxer aborts on ADPCM, which it refuses alone."""
    video = encode("mpeg2video", moving_pictures(5, 48, 64))
    sounds = [(codec, tone(codec, 0.2), {}) for codec in ("pcm_s16le", "adpcm_ms")]
    clip = mux(tmp_path / "a.avi", "avi", [("mpeg2video", video, SMALL), *sounds])
    command = ["run", clip, "--policy", "bicubic", "--scale", "2", "-o", tmp_path / "out.mxf"]
    done = subprocess.run(
        [sys.executable, "-m", "vsr", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "audio (adpcm_ms): mxf does not take it" in done.stderr + done.stdout
    with av.open(str(tmp_path / "out.mxf")) as result:
        assert [stream.codec_context.name for stream in result.streams.audio] == ["pcm_s16le"]


def test_a_late_still_beside_a_film_is_not_taken_for_the_film_of_an_avi(tmp_path):
    """The pause before it is filled with empty chunks, which the header counts as frames."""
    film = moving_pictures(5, 48, 64)
    late = encode("mjpeg", moving_pictures(1, 60, 40), pixel_format="yuvj420p", first_pts=60)
    clip = mux(
        tmp_path / "a.nut",
        "nut",
        [
            ("mjpeg", late, {"width": 40, "height": 60, "pix_fmt": "yuvj420p"}),
            ("mpeg2video", encode("mpeg2video", film), SMALL),
        ],
    )
    manifest = enlarge(clip, tmp_path / "out.avi")
    assert manifest.frames_out == 5
    with open_clip(tmp_path / "out.avi") as reader:
        assert len(list(reader.frames())) == 5


def test_the_still_before_an_animation_is_not_what_players_show_first(tmp_path):
    pictures = moving_pictures(6, 64, 64)
    write_clip(tmp_path / "a.avif", pictures, codec="libsvtav1", codec_options={"preset": "12"})
    manifest = enlarge(tmp_path / "a.avif", tmp_path / "out.mkv")
    assert manifest.frames_out == 6
    with av.open(str(tmp_path / "out.mkv")) as result:
        defaults = [bool(each.disposition & Disposition.default) for each in result.streams]
    assert defaults == [True, False]
    with open_clip(tmp_path / "out.mkv") as reader:
        assert len(list(reader.frames())) == 6


def test_a_picture_is_cropped_as_its_header_tells_to_the_last_column(tmp_path):
    video = encode("libx264", moving_pictures(5, 48, 96), options={"bf": "0"})
    size = {**SMALL, "width": 96}
    whole = mux(tmp_path / "whole.ts", "mpegts", [("libx264", video, size)])
    crop = "h264_metadata=crop_left=6:crop_right=26"
    with av.open(str(whole)) as source, av.open(str(tmp_path / "a.ts"), "w") as out:
        cut = BitStreamFilterContext(crop, source.streams.video[0])
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            for changed in cut.filter(packet) if packet.size else ():
                changed.stream = copy
                out.mux(changed)
    with open_clip(whole) as before, open_clip(tmp_path / "a.ts") as after:
        assert (after.info.height, after.info.width) == (48, 64)
        pairs = list(zip(before.frames(), after.frames(), strict=True))
        assert len(pairs) == 5
        for one, other in pairs:
            assert np.allclose(one.pixels[:, :, 8:-28], other.pixels[:, :, 2:-2], atol=1e-6)
            assert other.quantizer_step > 0
