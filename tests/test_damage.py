"""Damaged clips: nothing is lost without a word, and sound and pictures stay together by the
sound's own clock."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

import vsr
from tests.clips import MILLISECOND, moving_pictures, read_frames, read_packets, write_clip
from vsr import cli
from vsr.errors import InputError
from vsr.video.read.integrity import OptionalChecksums, is_intact_ffv1
from vsr.video.read.timestamps import TimestampRepairer
from vsr.video.reader import ReadOptions, open_clip

KEEP, REPEAT, STOP = ReadOptions("keep"), ReadOptions("repeat"), ReadOptions("stop")
X265 = {"x265-params": "log-level=none"}


def read_all(source, options=KEEP):
    with open_clip(source, options) as reader:
        return list(reader.frames()), {damage.kind: damage.count for damage in reader.damage}


def damage_packets(clip, numbers, begin=1 / 3, end=1.0):
    """Zero a part of some packets, where they lie in the file."""
    data = bytearray(clip.read_bytes())
    packets = [payload for _, payload in read_packets(clip, 0)]
    for number in numbers:
        start, length = bytes(data).index(packets[number]), len(packets[number])
        first, last = start + int(begin * length), start + int(end * length)
        data[first:last] = bytes(last - first)
    clip.write_bytes(data)
    return clip


@pytest.fixture
def lossy(tmp_path):
    """24 frames of which two cannot be decoded and none depends on another."""
    clip = write_clip(
        tmp_path / "a.mp4",
        moving_pictures(24, 64, 96),
        codec="mjpeg",
        pixel_format="yuvj420p",
        time_base=MILLISECOND,
    )
    return damage_packets(clip, [5, 6], begin=0)


def test_frames_that_cannot_be_decoded_are_counted_and_the_others_keep_their_times(lossy):
    frames, damage = read_all(lossy)
    assert [frame.pts * frame.time_base for frame in frames] == [
        Fraction(i, 1000) for i in range(24) if i not in (5, 6)
    ]
    assert damage == {"undecodable_packets": 2}


def test_repeat_shows_the_last_whole_frame_in_place_of_each_lost_one(lossy):
    frames, damage = read_all(lossy, REPEAT)
    assert [frame.pts * frame.time_base for frame in frames] == [
        Fraction(i, 1000) for i in range(24)
    ]
    assert damage == {"undecodable_packets": 2}
    for number in (5, 6):
        assert torch.equal(frames[number].pixels, frames[4].pixels)
    assert not torch.equal(frames[7].pixels, frames[4].pixels)


def test_lost_frames_at_the_end_are_repeated_too(tmp_path):
    clip = write_clip(tmp_path / "a.mov", moving_pictures(12), codec="png", pixel_format="rgb24")
    frames, damage = read_all(damage_packets(clip, [11], begin=0), REPEAT)
    assert len(frames) == 12
    assert torch.equal(frames[11].pixels, frames[10].pixels)
    assert damage == {"undecodable_packets": 1}


def test_stop_stops_at_the_first_damage_and_says_how_to_go_on(lossy):
    with pytest.raises(InputError, match=r"undecodable_packets.*--on-damage keep continues"):
        read_all(lossy, STOP)


def test_stop_stops_at_an_end_that_comes_too_early(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(75, 64, 96))
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut_off"):
        read_all(clip, STOP)


def test_a_frame_that_the_decoder_makes_up_is_counted_and_can_be_replaced(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(24, 64, 96), codec_options={"bf": "0"})
    damage_packets(clip, [9])
    kept, damage = read_all(clip)
    assert (len(kept), damage) == (24, {"corrupt_frames": 1})
    repeated, _ = read_all(clip, REPEAT)
    assert torch.equal(repeated[9].pixels, repeated[8].pixels)
    assert not torch.equal(kept[9].pixels, kept[8].pixels)


def test_a_frame_that_hevc_leaves_out_without_an_error_is_counted_and_filled_in(tmp_path):
    clip = write_clip(
        tmp_path / "a.mp4", moving_pictures(24, 64, 96), codec="libx265", codec_options=X265
    )
    damage_packets(clip, [5])
    frames, damage = read_all(clip)
    assert (len(frames), damage) == (23, {"lost_frames": 1})
    frames, _ = read_all(clip, REPEAT)
    assert [frame.seconds for frame in frames] == pytest.approx([i / 25 for i in range(24)])


def test_checksums_of_ffv1_show_damage_that_libav_passes_over(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv",
        moving_pictures(12, 64, 96),
        codec="ffv1",
        pixel_format="yuv420p",
        codec_options={"level": "3", "slicecrc": "1", "g": "1"},
    )
    assert read_all(clip)[1] == {}
    damage_packets(clip, [3, 7], begin=0.5, end=0.6)
    assert not any(frame.is_corrupt for frame in read_frames(clip))
    assert read_all(clip)[1] == {"corrupt_frames": 2}


@pytest.mark.parametrize("as_folder", [True, False])
def test_checksums_of_png_show_damage_that_libav_passes_over(tmp_path, as_folder):
    film = write_clip(tmp_path / "a.mov", moving_pictures(4), codec="png", pixel_format="rgb24")
    damage_packets(film, [2])
    for number, (_, picture) in enumerate(read_packets(film, 0)):
        (tmp_path / f"{number}.png").write_bytes(picture)
    frames, damage = read_all(tmp_path if as_folder else film, REPEAT)
    assert (len(frames), damage) == (4, {"corrupt_frames": 1})
    assert torch.equal(frames[2].pixels, frames[1].pixels)


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_jpeg_that_ends_early_is_told(tmp_path, as_folder):
    film = write_clip(
        tmp_path / "a.mkv", moving_pictures(4), codec="mjpeg", pixel_format="yuvj420p"
    )
    assert read_all(film)[1] == {}
    cut_film = tmp_path / "cut.mkv"
    with av.open(str(film)) as source, av.open(str(cut_film), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux() if packet.size):
            picture = bytes(packet)[: packet.size // 2 if number == 2 else None]
            (tmp_path / f"{number}.jpg").write_bytes(picture)
            cut = av.Packet(picture)
            cut.pts, cut.dts, cut.time_base, cut.stream = (
                packet.pts,
                packet.dts,
                packet.time_base,
                stream,
            )
            out.mux(cut)
    frames, damage = read_all(tmp_path if as_folder else cut_film, REPEAT)
    assert (len(frames), damage) == (4, {"corrupt_frames": 1})
    assert torch.equal(frames[2].pixels, frames[1].pixels)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"), [("flv", "libx264", "yuv420p"), ("gif", "gif", "rgb8")]
)
def test_a_break_in_a_chain_that_libav_passes_over_is_told(tmp_path, suffix, codec, pixel_format):
    clip = write_clip(
        tmp_path / f"a.{suffix}", moving_pictures(12), codec=codec, pixel_format=pixel_format
    )
    assert read_all(clip)[1] == {}
    data = clip.read_bytes()
    third = len(data) // 3
    clip.write_bytes(data[:third] + data[third + 40 :])
    assert read_all(clip)[1]["broken_structure"] == 1


def test_fragments_of_an_mp4_that_changed_places_are_told(tmp_path):
    fragmented = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(12), container_options=fragmented)
    assert read_all(clip)[1] == {}
    data = clip.read_bytes()
    starts = [place - 4 for place in range(len(data)) if data[place : place + 4] == b"moof"]
    first, second, third = starts[4], starts[7], starts[9]
    clip.write_bytes(data[:first] + data[second:third] + data[first:second] + data[third:])
    assert read_all(clip)[1]["broken_structure"] == 1


def test_a_header_that_claims_more_frames_than_the_file_has_bytes_is_not_believed(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(2), pts=[0, 1_000_000])
    with open_clip(clip) as reader:
        assert reader.info.average_rate == 25
        assert reader.info.duration_seconds_from_header is None


def test_a_broken_first_packet_is_counted_once_another_shows_that_there_are_checksums():
    good = b"picture"
    crc = 0
    for byte in good + len(good).to_bytes(3, "big") + b"\0":
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    whole = good + len(good).to_bytes(3, "big") + b"\0" + crc.to_bytes(4, "big")
    assert is_intact_ffv1(whole)
    assert is_intact_ffv1(whole + whole)
    assert not is_intact_ffv1(b"q" + whole[1:])
    checksums = OptionalChecksums(is_intact_ffv1)
    assert [
        checksums.count_broken(packet) for packet in (b"broken first", whole, whole[:-1], whole)
    ] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("claims", "times", "faults"),
    [
        ([0, 40, 10**9, 120, 160], [0, 40, 80, 120, 160], [None, None, "leaping", None, None]),
        ([0, 40, 800, 120], [0, 40, 80, 120], [None, None, "leaping", None]),
        ([10**9, 40, 80], [0, 40, 80], ["leaping", None, None]),
        ([0, 40, 80, 10**12], [0, 40, 80, 120], [None, None, None, "leaping"]),
        ([0, 40, 900, 940, 980], [0, 40, 900, 940, 980], [None] * 5),
        ([3000, 3040, 0, 3120], [3000, 3040, 3060, 3120], [None, None, "backward", None]),
        ([None, 40, 80], [0, 40, 80], ["missing", None, None]),
    ],
)
def test_one_wrong_time_moves_no_other_frame(claims, times, faults):
    repairer = TimestampRepairer(usual_step=40, ticks_per_second=1000)
    assert [repairer.repair(*pair) for pair in pairwise([*claims, None])] == list(
        zip(times, faults, strict=True)
    )


def test_duplicate_times_are_mended_and_counted(tmp_path):
    """Matroska stores times of blocks relative to their cluster in two bytes, which are easily made
    equal."""
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(12), codec="mjpeg", pixel_format="yuvj420p"
    )
    data = bytearray(clip.read_bytes())
    starts = [data.index(payload) for _, payload in read_packets(clip, 0)]
    claims = [int.from_bytes(data[start - 3 : start - 1], "big") for start in starts]
    # Of one cluster: where the next begins depends on the encoder's threads.
    number = next(number for number in range(4, 11) if claims[number + 1] == claims[number] + 40)
    first, second = starts[number : number + 2]
    data[second - 3 : second - 1] = data[first - 3 : first - 1]
    clip.write_bytes(data)
    frames, damage = read_all(clip)
    assert damage == {"repaired_timestamps": 1}
    times = [40 * index for index in range(12)]
    times[number + 1] -= 20
    assert [frame.pts for frame in frames] == times


def grey_pictures(count, height, width):
    return [
        picture[:, :, :1].repeat(3, axis=2) for picture in moving_pictures(count, height, width)
    ]


def two_halves(tmp_path, second_height, second_width, second_format):
    paths = []
    sizes = [(32, 48, "yuv420p"), (second_height, second_width, second_format)]
    for name, (height, width, pixel_format) in zip("ab", sizes, strict=True):
        pictures = grey_pictures(10, height, width)
        options = {
            "pixel_format": pixel_format,
            "container_format": "h264",
            "codec_options": {"crf": "4"},
        }
        paths.append(write_clip(tmp_path / f"{name}.h264", pictures, **options))
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(path.read_bytes() for path in paths))
    return both


def test_frames_of_another_size_are_resized_to_the_first_and_counted(tmp_path):
    both = two_halves(tmp_path, 64, 96, "yuv420p")
    frames, damage = read_all(both)
    assert damage == {"changed_size": 10}
    assert {tuple(frame.pixels.shape) for frame in frames} == {(3, 32, 48)}
    large = grey_pictures(10, 64, 96)[5]
    shrunk = large.reshape(32, 2, 48, 2, 3).mean(axis=(1, 3)) / 255
    shown = frames[15].pixels.permute(1, 2, 0).numpy()
    assert np.abs(shown - shrunk)[2:-2, 2:-2].mean() < 0.03
    with pytest.raises(InputError, match="changed_size: frames are 96x64 from frame 10 on"):
        read_all(both, STOP)


def test_a_change_of_the_pixel_format_is_named_as_a_loss_and_the_colors_are_right(tmp_path):
    both = two_halves(tmp_path, 32, 48, "yuv444p")
    with open_clip(both) as reader:
        frames = list(reader.frames())
        # The input is whole: the second half only holds more than the first one's form.
        assert reader.damage == ()
        assert reader.losses == ("detail of color of yuv444p in yuv420p (from frame 10 on)",)
    picture = grey_pictures(10, 32, 48)[3] / 255
    for frame in (frames[3], frames[13]):
        assert np.abs(frame.pixels.permute(1, 2, 0).numpy() - picture).mean() < 0.04


def flashes_and_beeps(path, codec="libx264", audio_codec="pcm_s16le", seconds=4, options=None):
    """Black video that flashes white for one frame each half second, where the sound has a click of
    10 ms."""
    rate = 48000
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = (
            64,
            64,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        video.time_base = video.codec_context.time_base = MILLISECOND
        audio = out.add_stream(audio_codec, rate=rate, layout="mono")
        packets = []
        for number in range(25 * seconds):
            level = 235 if number % 12 == 6 else 16
            picture = np.full((64, 64, 3), level, np.uint8)
            picture[::2, number % 60] = 128
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 40 * number, MILLISECOND
            packets += video.encode(frame.reformat(format=video.pix_fmt))
        packets += video.encode(None)
        wave = np.zeros(rate * seconds, np.int16)
        for number in range(6, 25 * seconds, 12):
            start = number * rate // 25
            wave[start : start + rate // 100] = (
                20000 * np.sin(np.arange(rate // 100) * 0.6)
            ).astype(np.int16)
        planar = audio.codec_context.format.name
        for start in range(0, len(wave), 1152):
            samples = wave[None, start : start + 1152]
            samples = samples if planar.startswith("s16") else (samples / 32768).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format=planar, layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
            packets += audio.encode(frame)
        packets += audio.encode(None)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def flash_times(path):
    frames = read_frames(path)
    return [
        float(f.pts * f.time_base)
        for f in frames
        if f.reformat(format="gray").to_ndarray().mean() > 120
    ]


def click_times(path):
    """By the time stamps of the decoded sound: where each burst begins."""
    times: list[float] = []
    with av.open(str(path)) as clip:
        for frame in clip.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(float)[0])
            loud = samples > (5000 if samples.max() > 2 else 0.15)
            start = float(frame.pts * frame.time_base)
            times += [start + index / frame.sample_rate for index in np.flatnonzero(loud)]
    return [
        time for number, time in enumerate(times) if number == 0 or time - times[number - 1] > 0.2
    ]


@pytest.mark.parametrize("on_damage", ["keep", "repeat"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_sound_and_pictures_stay_together_where_frames_are_lost(tmp_path, suffix, on_damage):
    clip = flashes_and_beeps(
        tmp_path / f"a.{suffix}", "mjpeg", "pcm_s16le" if suffix == "mkv" else "aac"
    )
    damage_packets(clip, [2, 15, 16, 40, 71])
    manifest = vsr.run(
        clip, tmp_path / "out.mkv", policy="bicubic", scale=1, metrics=(), on_damage=on_damage
    )
    clicks = click_times(tmp_path / "out.mkv")
    assert len(clicks) == 8
    # The compressed sound begins a little before zero, and a click of 10 ms is found somewhere
    # within it.
    assert flash_times(tmp_path / "out.mkv") == pytest.approx(clicks, abs=0.012)
    assert manifest.damage


def test_recordings_that_were_joined_go_on_with_their_sound(tmp_path):
    part = flashes_and_beeps(tmp_path / "a.ts", "libx264", "mp2", options={"g": "25"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * part.read_bytes())
    manifest = vsr.run(joined, tmp_path / "out.mkv", policy="bicubic", scale=1, metrics=())
    assert manifest.frames_out == 200
    assert "restarted_times" in [line.split(":")[0] for line in manifest.damage]
    flashes, clicks = flash_times(tmp_path / "out.mkv"), click_times(tmp_path / "out.mkv")
    assert len(flashes) == len(clicks) == 16
    offsets = np.array(flashes) - np.array(clicks)
    before = flash_times(part)[0] - click_times(part)[0]
    assert np.abs(offsets - before).max() < 0.012


def test_a_damaged_clip_is_finished_and_leaves_with_6_unless_it_is_told_to_stop(
    tmp_path, lossy, monkeypatch, capsys
):
    def call(*options):
        monkeypatch.setattr(
            "sys.argv", ["vsr", "run", str(lossy), "--policy", "bicubic", "--scale", "1", *options]
        )
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    out = tmp_path / "out.mkv"
    code, errors = call("-o", str(out), "--on-damage", "stop")
    assert (code, out.exists()) == (3, False)
    code, errors = call("-o", str(out), "--on-damage", "repeat")
    assert (code, len(read_frames(out))) == (6, 24)
    assert "damaged input: undecodable_packets" in errors
    code, errors = call("-o", str(tmp_path / "other.mkv"), "--on-damage", "replace")
    assert code == 2
    assert "expected 'keep', 'repeat' or 'stop'" in errors


def test_a_stream_without_times_by_nature_leaves_with_0(tmp_path, monkeypatch):
    clip = write_clip(
        tmp_path / "a.h264", moving_pictures(24), container_format="h264", time_base=Fraction(1, 24)
    )
    manifest = vsr.run(clip, tmp_path / "out.mkv", policy="bicubic", scale=1, metrics=())
    assert manifest.damage == []
    assert [note for note in manifest.notes if "24 frames a second" in note]
    assert len(read_frames(tmp_path / "out.mkv")) == 24


def test_a_fragmented_mp4_with_its_index_at_the_end_is_no_damage(tmp_path):
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    clip = write_clip(
        tmp_path / "a.mp4",
        moving_pictures(12),
        codec_options={"g": "4"},
        container_options=fragments,
    )
    assert b"mfra" in clip.read_bytes()
    assert read_all(clip)[1] == {}


def test_sound_that_outlasts_or_undercuts_the_pictures_is_no_damage(tmp_path):
    long_sound = write_clip(
        tmp_path / "a.mp4", moving_pictures(12), audio_codec="aac", audio_start_seconds=3.0
    )
    assert read_all(long_sound)[1] == {}
