"""Quantizers that are read out of packets, against libavcodec's own reading and known tables."""

from statistics import fmean

import av
import av.logging
import cv2
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.packet import Packet

from tests.clips import moving_pictures, write_clip
from vsr.pipeline.inspection import inspect_clip
from vsr.restore.degradation import step_to_qp
from vsr.video.read.av1_quantizer import Av1Quantizers
from vsr.video.read.jpeg_quantizer import jpeg_table
from vsr.video.read.quantizers import av1_step, jpeg_step, vp8_step
from vsr.video.read.vp8_quantizer import vp8_index
from vsr.video.reader import ReadOptions, open_clip

FRAMES = 20
ANNEX_K = (16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24)
"""First numbers of JPEG's example table for luma (ITU-T T.81, K.1), in zigzag order: what libjpeg
takes for a quality of 50."""
MPEG_INTRA = (8, 16, 16, 19, 16, 19, 22, 22, 22, 22, 22, 22, 26, 24, 26)
"""The same of MPEG's default matrix, which libavcodec scales by an eighth of its quantizer."""


def stored(clip):
    """Extradata and packets of a clip."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return stream.codec_context.extradata, packets


def traced(clip, element):
    """Read the last value of a header's element in each packet, out of libavcodec's log; None where
    there is none."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    found = []
    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            trace = BitStreamFilterContext("trace_headers", stream)
            for packet in container.demux(stream):
                if packet.size:
                    with av.logging.Capture() as log:
                        trace.filter(Packet(bytes(packet)))
                    values = [
                        line.rsplit("=", 1)[1] for _, _, line in log if f" {element} " in line
                    ]
                    found.append(int(values[-1]) if values else None)
    finally:
        av.logging.set_level(before)
    return found


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ("", (96, 128)),
        ("pred-struct=1", (96, 128)),
        ("film-grain=20", (98, 130)),
        ("superres-mode=1:superres-denom=13", (96, 128)),
        ("scm=1", (96, 128)),
        ("tile-columns=1:tile-rows=1", (256, 512)),
    ],
)
def test_indices_of_av1_are_those_that_libavcodec_reads(tmp_path, settings, size):
    options = {"crf": "35", "preset": "12", "svtav1-params": settings}
    clip = write_clip(
        tmp_path / "a.mp4",
        moving_pictures(FRAMES, *size),
        codec="libsvtav1",
        codec_options={name: value for name, value in options.items() if value},
    )
    extradata, packets = stored(clip)
    reader = Av1Quantizers(extradata)
    found = [reader.index(packet) for packet in packets]
    known = traced(clip, "base_q_idx")
    assert len(found) == FRAMES
    assert len(set(found)) > 1
    for mine, theirs in zip(found, known, strict=True):
        # A packet that shows an earlier frame has no index of its own.
        assert mine == theirs or (theirs is None and mine is not None)


def test_av1_frames_of_their_own_size_tell_nothing(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv",
        moving_pictures(FRAMES, 96, 128),
        codec="libsvtav1",
        codec_options={"preset": "12", "svtav1-params": "resize-mode=1:resize-denom=12"},
    )
    extradata, packets = stored(clip)
    reader = Av1Quantizers(extradata)
    found = [reader.index(packet) for packet in packets]
    assert found[0] is not None
    assert found[1:] == [None] * (FRAMES - 1)


def test_indices_of_vp8_are_those_that_libavcodec_reads(tmp_path):
    clip = write_clip(
        tmp_path / "a.webm",
        moving_pictures(FRAMES, 96, 128),
        codec="libvpx",
        codec_options={"crf": "20", "b": "200k", "auto-alt-ref": "1", "lag-in-frames": "16"},
    )
    _, packets = stored(clip)
    shown = traced(clip, "show_frame")
    known = [
        index if is_shown else None
        for index, is_shown in zip(traced(clip, "base_qindex"), shown, strict=True)
    ]
    found = [vp8_index(packet) for packet in packets]
    assert found == known
    assert len(set(found)) > 2


@pytest.mark.parametrize("container", ["avi", "mov", "mkv"])
def test_steps_of_motion_jpeg_are_those_of_its_low_frequencies(tmp_path, container):
    clip = write_clip(
        tmp_path / f"a.{container}",
        moving_pictures(4, 48, 64),
        codec="mjpeg",
        codec_options={"qmin": "8", "qmax": "8", "strict": "unofficial"},
    )
    with open_clip(clip, ReadOptions()) as reader:
        steps = [frame.quantizer_step for frame in reader.frames()]
    assert steps == [pytest.approx(fmean(MPEG_INTRA))] * 4


def test_steps_of_jpeg_pictures_follow_their_quality(tmp_path):
    for number, picture in enumerate(moving_pictures(3, 48, 64)):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 50])
    with open_clip(tmp_path, ReadOptions()) as reader:
        steps = [frame.quantizer_step for frame in reader.frames()]
    assert steps == [pytest.approx(fmean(ANNEX_K))] * 3
    # libjpeg's scale is 2 - .02 of the quality, of which 75 makes a half.
    _, coded = cv2.imencode(".jpg", moving_pictures(1, 48, 64)[0], [cv2.IMWRITE_JPEG_QUALITY, 75])
    assert jpeg_step(coded.tobytes()) == pytest.approx(fmean(ANNEX_K) / 2, rel=0.03)
    assert len(jpeg_table(coded.tobytes())) == 64


@pytest.mark.parametrize(
    ("codec", "coarse", "fine"),
    [
        ("libsvtav1", {"crf": "55", "preset": "12"}, {"crf": "25", "preset": "12"}),
        (
            "libvpx",
            {"qmin": "45", "qmax": "45", "crf": "45"},
            {"qmin": "10", "qmax": "10", "crf": "10"},
        ),
    ],
)
def test_coarser_clips_are_told_coarser(tmp_path, codec, coarse, fine):
    found = []
    for name, options in (("coarse", coarse), ("fine", fine)):
        clip = tmp_path / f"{name}.mkv"
        write_clip(clip, moving_pictures(12, 96, 128), codec=codec, codec_options=options)
        (shot,), _ = inspect_clip(clip)
        found.append(shot.degradation.qp)
    assert 28 < found[0] < 48
    assert found[1] < found[0] - 6


def test_scales_are_that_of_h264():
    # Each beside the QP at which x264 errs as much on eight clips.
    assert step_to_qp(av1_step(140)) == pytest.approx(29, abs=2)
    assert step_to_qp(vp8_step(39)) == pytest.approx(31, abs=2)
    assert vp8_step(127) == 142


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libsvtav1", {"preset": "12"}),
        ("libvpx", {"crf": "20"}),
        ("mjpeg", {"strict": "unofficial"}),
    ],
)
def test_broken_headers_tell_nothing_or_something_possible(tmp_path, codec, options):
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(6, 48, 64), codec=codec, codec_options=options
    )
    extradata, packets = stored(clip)
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = [bytearray(extradata or b""), bytearray(packets[random.integers(len(packets))])]
        for data in damaged:
            for at in random.integers(0, max(1, min(len(data), 120)), 4 * bool(data)):
                data[at] = random.integers(256)
            del data[random.integers(1, 400) :]
        packet = bytes(damaged[1])
        av1 = Av1Quantizers(bytes(damaged[0])).index(packet) if codec == "libsvtav1" else None
        assert av1 is None or 0 <= av1 <= 255
        vp8 = vp8_index(packet)
        assert vp8 is None or 0 <= vp8 <= 127
        table = jpeg_table(packet)
        assert table is None or len(table) == 64
    assert Av1Quantizers(None).index(b"") is None
    assert vp8_index(b"") is None
    assert jpeg_step(b"") is None


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_steps_of_mpeg_count_as_much_as_they_err(tmp_path, codec):
    pictures = moving_pictures(6, 96, 128)
    clip = write_clip(
        tmp_path / "a.mkv", pictures, codec=codec, codec_options={"qmin": "8", "qmax": "8"}
    )
    (shot,), _ = inspect_clip(clip)
    assert shot.degradation.qp == pytest.approx(step_to_qp(1.4 * 16), abs=0.01)
