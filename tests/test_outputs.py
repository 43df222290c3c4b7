"""What a container takes is tried before the work, and what it holds is read back after it."""

import json
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import vsr
from tests.clips import moving_pictures, read_frames, read_packets, write_clip
from tests.test_formats import SMALL, encode, enlarge, mux, tone
from vsr.errors import OutputError, UsageError
from vsr.video.reader import open_clip
from vsr.video.write import muxer_safety
from vsr.video.write.read_back import StreamTally, read_back


def sounding(path, container_format, codec, seconds=1.0, start=0.0):
    """A clip of small pictures with a tone by some codec."""
    video = encode("libx264", moving_pictures(round(seconds * 25), 48, 64), options={"bf": "0"})
    sound = tone(codec, seconds, start)
    return mux(path, container_format, [("libx264", video, SMALL), (codec, sound, {})])


def decoded(path):
    """All samples of the first sound of a file."""
    with av.open(str(path)) as clip:
        return np.concatenate([frame.to_ndarray() for frame in clip.decode(audio=0)], axis=-1)


@pytest.mark.parametrize(
    ("codec", "container_format", "source", "output"),
    [
        ("wmav2", "asf", "wmv", "mkv"),
        ("adpcm_ms", "avi", "avi", "mkv"),
        ("adpcm_ms", "avi", "avi", "avi"),
        ("adpcm_ima_wav", "avi", "avi", "mkv"),
        ("adpcm_ima_wav", "avi", "avi", "avi"),
        ("pcm_mulaw", "mov", "mov", "mkv"),
        ("pcm_alaw", "mov", "mov", "mkv"),
        ("pcm_s16le", "avi", "avi", "mov"),
        ("pcm_bluray", "mpegts", "m2ts", "m2ts"),
    ],
)
def test_sound_that_a_list_would_refuse_or_break_is_copied_whole(
    tmp_path, codec, container_format, source, output
):
    clip = sounding(tmp_path / f"a.{source}", container_format, codec)
    if source == "m2ts":
        video = encode("libx264", moving_pictures(25, 48, 64), options={"bf": "0"})
        streams = [("libx264", video, SMALL), (codec, tone(codec, 1.0), {})]
        mux(clip, container_format, streams, {"mpegts_m2ts_mode": "1"})
    manifest = enlarge(clip, tmp_path / f"out.{output}")
    assert manifest.streams_dropped == []
    assert manifest.damage == []
    assert np.array_equal(decoded(tmp_path / f"out.{output}"), decoded(clip))
    # A transport stream has no times before zero, where decoding begins.
    assert manifest.max_pts_error_seconds < (0.1 if output == "m2ts" else 0.001)
    if output == "m2ts":
        assert (tmp_path / "out.m2ts").read_bytes()[4::192][:20] == b"G" * 20


def test_sound_that_cannot_be_read_back_is_named_before_the_work(tmp_path):
    clip = tmp_path / "a.m2ts"
    video = encode("libx264", moving_pictures(10, 48, 64), options={"bf": "0"})
    streams = [("libx264", video, SMALL), ("pcm_bluray", tone("pcm_bluray", 0.4), {})]
    mux(clip, "mpegts", streams, {"mpegts_m2ts_mode": "1"})
    (dropped,) = enlarge(clip, tmp_path / "out.ts").streams_dropped
    assert "cannot be read back" in dropped


def test_a_muxer_that_crashes_is_found_in_a_child_process(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    clip = sounding(tmp_path / "a.mkv", "matroska", "aac")
    (tmp_path / "crash.py").write_text("import os; os.abort()")
    monkeypatch.setattr(muxer_safety, "_shipped", dict)
    monkeypatch.setattr(muxer_safety.mux_child, "__file__", str(tmp_path / "crash.py"))
    (dropped,) = enlarge(clip, tmp_path / "out.mp4").streams_dropped
    assert "crashes" in dropped
    answers = json.loads((tmp_path / "cache" / "muxer-safety.json").read_bytes())
    assert list(answers.values()) == [False]
    # The answer is kept: a child that would live now is not asked again.
    (tmp_path / "crash.py").write_text("")
    assert enlarge(clip, tmp_path / "out.mp4").streams_dropped == [dropped]


def test_the_child_process_survives_what_muxers_refuse(tmp_path):
    clip = sounding(tmp_path / "a.mkv", "matroska", "flac")
    child = muxer_safety.mux_child.__file__
    for container_format in ("matroska", "webm", "flv"):
        command = [sys.executable, "-I", child, container_format, str(clip), "1"]
        assert subprocess.run(command, check=False, capture_output=True).returncode in (0, 1)


def with_timecode(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = "01:02:03:04"
        for packet in encode("libx264", moving_pictures(10, 48, 64)):
            packet.stream = stream
            out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv"])
def test_a_timecode_track_is_kept(tmp_path, suffix):
    clip = with_timecode(tmp_path / "a.mov")
    with av.open(str(clip)) as source:
        assert [stream.type for stream in source.streams] == ["video", "data"]
    manifest = enlarge(clip, tmp_path / f"out.{suffix}")
    assert manifest.streams_dropped == []
    with av.open(str(tmp_path / f"out.{suffix}")) as result:
        tags = {name.lower(): value for name, value in result.streams.video[0].metadata.items()}
        assert tags["timecode"] == "01:02:03:04"


def test_a_timecode_that_a_container_cannot_hold_is_named(tmp_path):
    manifest = enlarge(with_timecode(tmp_path / "a.mov"), tmp_path / "out.avi")
    assert len(manifest.streams_dropped) == 1
    assert manifest.frames_out == 10


def test_trimmed_sound_does_not_come_back(tmp_path):
    clip = sounding(tmp_path / "a.mp4", "mp4", "aac", seconds=3.0)
    with av.open(str(clip)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as out:
        copies = [out.add_stream_from_template(each, opaque=True) for each in source.streams]
        for packet in source.demux():
            if packet.size:
                moved = round(Fraction(1) / packet.time_base)
                packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    enlarge(tmp_path / "cut.mp4", tmp_path / "out.mkv")
    times = [time for time, _ in read_packets(tmp_path / "out.mkv", 1) if time is not None]
    # Two packets of AAC prime its decoder.
    assert Fraction(-2 * 1024 - 1, 48000) - Fraction(1, 1000) <= min(times) <= 0


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "wanted"),
    [
        ("a.gif", "gif", "rgb8", "a_x2.mkv"),
        ("a.ogv", "libtheora", "yuv420p", "a_x2.mkv"),
        ("a.vob", "mpeg2video", "yuv420p", "a_x2.mkv"),
        ("a.mpg", "mpeg1video", "yuv420p", "a_x2.mkv"),
        ("a.wmv", "wmv2", "yuv420p", "a_x2.mkv"),
        ("a.mp4", "libx264", "yuv420p", "a_x2.mp4"),
        ("a.mov", "libx264", "yuv420p", "a_x2.mov"),
        ("a.mkv", "libx264", "yuv420p", "a_x2.mkv"),
        ("a.ts", "libx264", "yuv420p", "a_x2.ts"),
        ("a.flv", "libx264", "yuv420p", "a_x2.flv"),
        ("a.avi", "mpeg4", "yuv420p", "a_x2.avi"),
    ],
)
def test_every_container_has_a_default_output(tmp_path, name, codec, pixel_format, wanted):
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec}")
    clip = write_clip(
        tmp_path / name, moving_pictures(5, 48, 64), codec=codec, pixel_format=pixel_format
    )
    manifest = vsr.run(clip, policy="bicubic", scale=2)
    assert os.path.basename(manifest.output) == wanted
    assert manifest.frames_out == len(read_frames(tmp_path / wanted)) == 5
    is_own = wanted.endswith(name[1:])
    assert any("Matroska" in note for note in manifest.notes) == (not is_own)


def photograph(path, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(moving_pictures(1, 32, 48)[0]).save(path, exif=exif)
    return path


def test_a_photograph_becomes_an_upright_picture(tmp_path):
    photo = photograph(tmp_path / "a.jpg", 6)
    manifest = vsr.run(photo, policy="bicubic", scale=2)
    assert os.path.basename(manifest.output) == "a_x2.png"
    assert Image.open(tmp_path / "a_x2.png").size == (64, 96)
    with pytest.raises(OutputError, match="give -y to replace"):
        vsr.run(photo, policy="bicubic", scale=2)
    vsr.run(photo, tmp_path / "other.png", policy="bicubic", scale=2)
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a_x2.png", "other.png"}


def test_a_clip_does_not_fit_into_one_picture(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(3, 48, 64))
    with pytest.raises(UsageError, match="a clip has many: name a folder"):
        enlarge(clip, tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("suffix", ["avi", "ts", ""])
def test_pixels_are_turned_where_the_output_has_no_tag_for_it(tmp_path, suffix):
    gray = [
        picture.mean(axis=2, keepdims=True).repeat(3, 2) for picture in moving_pictures(3, 48, 64)
    ]
    pictures = [picture.astype(np.uint8) for picture in gray]
    clip = write_clip(tmp_path / "a.mp4", pictures, rotation_degrees=90)
    output = tmp_path / f"out.{suffix}" if suffix else tmp_path / "out" / "%03d.png"
    if not suffix:
        output.parent.mkdir()
    vsr.run(clip, output, policy="bicubic", scale=1)
    upright = np.rot90(read_frames(clip)[0].to_ndarray(format="rgb24"), 1)
    shown = (
        read_frames(output)[0].to_ndarray(format="rgb24")
        if suffix
        else np.asarray(Image.open(output.parent / "001.png"))
    )
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 8


def test_the_manifest_tells_what_was_read_back(tmp_path):
    clip = sounding(tmp_path / "a.mkv", "matroska", "aac")
    manifest = enlarge(clip, tmp_path / "out.mp4", verify=True)
    assert manifest.verified["frames"] == 25
    assert manifest.verified["streams"] == 2
    assert manifest.verified["max_pts_error_seconds"] == manifest.max_pts_error_seconds
    assert manifest.losses == []


def test_a_result_that_plays_fewer_frames_is_refused(tmp_path):
    clip = sounding(tmp_path / "a.mkv", "matroska", "aac")
    times = [Fraction(number, 25) for number in range(25)]
    assert read_back(clip, 0, times, {}).frames == 25
    assert read_back(clip, 0, times, {}, decode=True).frames == 25
    with pytest.raises(OutputError, match="plays 25 of 26 frames"):
        read_back(clip, 0, [*times, Fraction(1)], {})
    late = read_back(clip, 0, [time + Fraction(1, 2) for time in times], {})
    assert late.max_pts_error_seconds == pytest.approx(0.5)
    lost = read_back(clip, 0, times, {1: StreamTally(1000, 10**6, Fraction(30))})
    assert "incomplete_copy" in lost.damage[0]


def test_a_muxer_that_loses_frames_ends_the_run_and_leaves_no_file(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(10, 48, 64))
    from vsr.video.write.mux import VideoMuxer

    whole = VideoMuxer.mux
    monkeypatch.setattr(
        VideoMuxer, "mux", lambda self, packets: whole(self, (p for p in packets if p.pts != 200))
    )
    with pytest.raises(OutputError, match="plays 9 of 10 frames"):
        enlarge(clip, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


FINISHING = {
    "after the last segment": "vsr.video.write.video_output.SegmentedVideoOutput.finish",
    "while joining": "vsr.video.write.mux.VideoMuxer.finish",
    "before the rename": "vsr.video.write.segment_store.SegmentStore.record_commit",
    "after the rename": "vsr.video.write.destination.sync_folder",
    "before tidying": "vsr.video.write.segment_store.SegmentStore.mark_finished",
    "while tidying": "vsr.video.write.segment_store.shutil.rmtree",
}
KILLS = [
    *(("out.mkv", moment) for moment in FINISHING),
    *(("out", moment) for moment in ("before the rename", "before tidying", "while tidying")),
]
RUN_AND_KILL = """
import os, sys
import pytest
import vsr.pipeline.run

clip = sys.argv[1]
for place in sys.argv[2:]:
    target, codec, function = place.split("|")
    # Forked while this process has no threads yet, which would not live on in the child.
    child = os.fork()
    if child == 0:
        pytest.MonkeyPatch().setattr(function, lambda *_, **__: os._exit(9))
        vsr.run(clip, target, policy="bicubic", scale=2, codec=codec or None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, place
"""


def options_of(output):
    return {} if output.endswith("mkv") else {"codec": "png"}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with a clip, its whole results, and a folder for each run that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    clip = write_clip(folder / "a.mkv", moving_pictures(10, 48, 64))
    for output in ("out.mkv", "out"):
        (folder / f"whole {output}").mkdir()
        vsr.run(
            clip,
            folder / f"whole {output}" / output,
            policy="bicubic",
            scale=2,
            **options_of(output),
        )
    places = []
    for output, moment in KILLS:
        (folder / f"{moment} {output}").mkdir()
        codec = options_of(output).get("codec", "")
        places.append(f"{folder / f'{moment} {output}' / output}|{codec}|{FINISHING[moment]}")
    subprocess.run([sys.executable, "-c", RUN_AND_KILL, clip, *places], check=True, timeout=120)
    return folder


@pytest.mark.parametrize(("output", "moment"), KILLS)
def test_a_run_that_is_killed_while_finishing_is_finished_by_the_same_command(
    killed, output, moment
):
    clip, whole = killed / "a.mkv", killed / f"whole {output}" / output
    target, codec = killed / f"{moment} {output}" / output, options_of(output)
    manifest = vsr.run(clip, target, policy="bicubic", scale=2, **codec)
    assert manifest.frames_out == 10
    assert manifest.resumed_at_frame == (0 if moment == "while tidying" else 10)
    assert [path.name for path in target.parent.iterdir()] == [output]
    if output == "out.mkv":
        assert read_packets(target, 0) == read_packets(whole, 0)
    else:
        names = sorted(path.name for path in whole.iterdir())
        assert sorted(path.name for path in target.iterdir()) == names
        assert all((whole / name).read_bytes() == (target / name).read_bytes() for name in names)


def test_a_last_packet_of_sound_that_claims_no_length_is_played(tmp_path):
    clip = sounding(tmp_path / "a.mkv", "matroska", "aac", start=2.0)
    manifest = enlarge(clip, tmp_path / "out.mp4")
    assert manifest.damage == []
    assert len(read_packets(tmp_path / "out.mp4", 1)) == len(read_packets(clip, 1))


def test_an_animated_avif_is_written_and_read_back(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", moving_pictures(5, 64, 64))
    assert enlarge(clip, tmp_path / "out.avif").frames_out == 5
    with open_clip(tmp_path / "out.avif") as reader:
        assert len(list(reader.frames())) == 5


def test_an_avi_begins_at_zero_with_its_streams_together(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv",
        moving_pictures(10),
        pts=range(10**5, 10**5 + 10),
        audio_codec="mp2",
        audio_start_seconds=4000.0,
    )
    manifest = enlarge(clip, tmp_path / "out.avi")
    assert (manifest.frames_out, manifest.damage) == (10, [])
    assert any("all streams start 3999." in note for note in manifest.notes)
    assert not any("beside the pictures" in note for note in manifest.notes)


def test_sound_whose_offset_a_container_cannot_keep_is_told(tmp_path):
    clip = sounding(tmp_path / "a.mkv", "matroska", "mp2", start=2.0)
    manifest = enlarge(clip, tmp_path / "out.avi")
    assert any("begins 1.990 s too early beside" in note for note in manifest.notes)
    manifest = enlarge(clip, tmp_path / "out.mp4")
    assert not any("beside the pictures" in note for note in manifest.notes)


def test_chapters_that_a_container_has_no_place_for_are_named(tmp_path):
    chapters = [(0.0, 0.2, "one"), (0.2, 0.4, "two")]
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(10), chapters=chapters)
    assert enlarge(clip, tmp_path / "out.mp4").streams_dropped == []
    assert enlarge(clip, tmp_path / "out.avi").streams_dropped == [
        "2 chapters: .avi does not keep them"
    ]


def test_sound_that_a_container_cuts_off_with_the_pictures_is_told(tmp_path):
    video = encode("libx264", moving_pictures(10, 48, 64), options={"bf": "0"})
    sound = ("pcm_s16le", tone("pcm_s16le", 0.55), {})
    clip = mux(tmp_path / "a.mkv", "matroska", [("libx264", video, SMALL), sound])
    manifest = enlarge(clip, tmp_path / "out.mxf")
    assert any("incomplete_copy" in line for line in manifest.damage)
    assert enlarge(clip, tmp_path / "out.mov").damage == []


def test_sound_that_could_not_be_decoded_from_the_result_is_named_before_the_work(tmp_path):
    # NUT does not store the size of a block, without which Matroska's ADPCM is mute.
    clip = sounding(tmp_path / "a.nut", "nut", "adpcm_ms")
    assert decoded(clip).size > 0
    manifest = enlarge(clip, tmp_path / "out.mkv")
    assert "cannot be decoded" in manifest.streams_dropped[0]
    assert enlarge(clip, tmp_path / "out.nut").streams_dropped == []


@pytest.mark.parametrize("first", [0, 90_000 * 95_443])
def test_pauses_that_an_avi_would_fill_with_too_many_chunks_are_kept(tmp_path, first):
    clip = write_clip(
        tmp_path / "a.mp4",
        moving_pictures(6),
        pts=[first + each for each in (0, 3700, 7000, 7000 + 90_000 * 100, 9_100_000, 9_105_000)],
        time_base=Fraction(1, 90_000),
    )
    manifest = enlarge(clip, tmp_path / "out.avi")
    assert (manifest.frames_out, manifest.damage) == (6, [])
    with av.open(str(tmp_path / "out.avi")) as result:
        times = [packet.dts * packet.time_base for packet in result.demux(video=0) if packet.size]
    assert float(times[3] - times[2]) == pytest.approx(100, abs=0.01)
