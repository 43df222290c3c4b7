"""Interlaced and telecined clips, woven here from progressive frames that are known."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from tests.clips import write_clip
from vsr.video.read.deinterlace import split_fields
from vsr.video.read.fields import field_statistics
from vsr.video.reader import ReadOptions, open_clip

HEIGHT, WIDTH = 64, 96


def moments(count, speed=3):
    """Progressive frames of a texture that moves `speed` pixels a frame, (H, W, 3) of uint8."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(40, 215, (HEIGHT // 4, 2 * WIDTH // 4 + speed * count, 3))
    wide = coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    return [wide[:, speed * i : speed * i + WIDTH].copy() for i in range(count)]


def weave(top, bottom):
    woven = top.copy()
    woven[1::2] = bottom[1::2]
    return woven


def telecine(film):
    """Five frames of each four: 2:3 pulldown."""
    frames = []
    for a, b, c, d in zip(*(film[i::4] for i in range(4)), strict=True):
        frames += [a, b, weave(b, c), weave(c, d), d]
    return frames


def write_lossless(path, pictures, **options):
    return write_clip(path, pictures, codec="ffv1", pixel_format="yuv444p", **options)


def read(path, mode):
    with open_clip(path, ReadOptions(deinterlace=mode)) as reader:
        frames = list(reader.frames())
        return reader, frames, [round(float(f.pts * f.time_base), 6) for f in frames]


def levels(frame):
    return 255 * frame.pixels.numpy()


def test_film_restores_the_frames_of_3_2_pulldown_exactly(tmp_path):
    film = moments(24)
    source = write_lossless(tmp_path / "film.mkv", film)
    clip = write_lossless(tmp_path / "tele.mkv", telecine(film))
    _, truth, _ = read(source, "off")
    reader, restored, times = read(clip, "film")
    assert len(restored) == len(truth) == reader.info.num_frames_from_header or len(truth) == 24
    assert len(restored) == 24
    for one, other in zip(restored, truth, strict=True):
        np.testing.assert_array_equal(one.pixels.numpy(), other.pixels.numpy())
    _, _, woven_times = read(clip, "off")
    step = (woven_times[-1] - woven_times[0]) / (len(woven_times) - 1)
    np.testing.assert_allclose(times, np.arange(24) * 1.25 * step, atol=2e-3)


def test_telecine_is_seen_and_auto_keeps_the_number_of_frames(tmp_path):
    clip = write_lossless(tmp_path / "tele.mkv", telecine(moments(16)))
    reader, frames, _ = read(clip, "auto")
    assert len(frames) == 20
    assert any("--deinterlace film" in note for note in reader.notes)


@pytest.mark.parametrize("top_first", [True, False])
def test_field_makes_two_frames_at_exact_times(tmp_path, top_first):
    truth = moments(24)
    pairs = zip(truth[::2], truth[1::2], strict=True)
    woven = [weave(a, b) if top_first else weave(b, a) for a, b in pairs]
    clip = write_lossless(tmp_path / "a.mkv", woven)
    _, _, frame_times = read(clip, "off")
    reader, frames, times = read(clip, "field")
    assert len(frames) == 24
    assert times[::2] == frame_times
    halfway = (np.array(frame_times[:-1]) + frame_times[1:]) / 2
    np.testing.assert_allclose(times[1:-1:2], halfway, atol=1e-9)
    assert reader.info.average_rate == 50
    # Each is nearer to its own moment than to its neighbors'.
    for index in range(4, 20):
        errors = [
            np.abs(levels(frames[index]).transpose(1, 2, 0) - truth[index + k]).mean()
            for k in (-1, 0, 1)
        ]
        assert errors[1] < min(errors[0], errors[2]), index


def errors_of_both_ways(path, truth):
    """Mean squared error of bwdif's frames and of those of `field`, and the latter."""
    woven = [weave(a, b) for a, b in zip(truth[::2], truth[1::2], strict=True)]
    clip = write_lossless(path, woven)
    with open_clip(clip, ReadOptions(deinterlace="off")) as reader:
        timed = ((picture, i, 1) for i, picture in enumerate(reader._source.pictures))
        plain = [one[0].frame.to_ndarray(format="rgb24") for one in split_fields(timed, True)]
    _, frames, _ = read(clip, "field")
    made = [levels(frame).transpose(1, 2, 0) for frame in frames]
    by_filter, along_motion = (
        np.mean([(np.float64(a) - b)[8:-8, 8:-8] ** 2 for a, b in zip(one, truth, strict=True)])
        for one in (plain, made)
    )
    return by_filter, along_motion, made


def textures(count, blur, contrast=45):
    """Wide pictures of as many scenes."""
    random = np.random.default_rng(2)
    shape = 2 * HEIGHT, 3 * WIDTH, 3
    scenes = [cv2.GaussianBlur(random.normal(0, 1, shape), (0, 0), blur) for _ in range(count)]
    return [(128 + contrast * scene / scene.std()).clip(0, 255) for scene in scenes]


def test_fields_take_their_missing_lines_from_their_neighbors(tmp_path):
    """A texture as fine as a frame's lines, which no deinterlacer makes up, that moves sideways."""
    (fine,) = textures(1, 0.9)
    truth = [fine[:HEIGHT, i : i + WIDTH].round().astype(np.uint8).copy() for i in range(16)]
    by_filter, along_motion, made = errors_of_both_ways(tmp_path / "a.mkv", truth)
    assert along_motion < 0.5 * by_filter
    for index in (4, 5):
        own = slice(index % 2, None, 2)
        assert np.abs(made[index][own] - truth[index][own]).max() < 3


def test_fields_two_away_have_the_lines_of_what_moves_by_half_a_line(tmp_path):
    (fine,) = textures(1, 1.6)
    truth = []
    for i in range(16):
        # Lines of the texture in pairs: each field is one of them farther.
        shown = fine[i : i + 2 * (HEIGHT - 8)]
        shown = (shown[::2, :WIDTH] + shown[1::2, :WIDTH]) / 2
        truth.append(shown.round().astype(np.uint8))
    by_filter, along_motion, _ = errors_of_both_ways(tmp_path / "a.mkv", truth)
    assert along_motion < 0.2 * by_filter


def test_fields_whose_motion_is_unknown_stay_as_the_filter_makes_them(tmp_path):
    """Scenes of low contrast that change with every field: motion is wrong, and fits a little."""
    scenes = textures(16, 2.5, contrast=10)
    truth = [scene[:HEIGHT, :WIDTH].round().astype(np.uint8).copy() for scene in scenes]
    by_filter, along_motion, _ = errors_of_both_ways(tmp_path / "a.mkv", truth)
    assert along_motion < 1.01 * by_filter


def test_reading_may_begin_with_a_second_field(tmp_path):
    truth = moments(16)
    clip = write_lossless(
        tmp_path / "a.mkv", [weave(a, b) for a, b in zip(truth[::2], truth[1::2], strict=True)]
    )
    _, whole, times = read(clip, "field")
    with open_clip(clip, ReadOptions(deinterlace="field")) as reader:
        part = list(reader.frames(times[5] - 1e-6))
    assert len(part) == 11
    for frame in part:
        own = slice(frame.index % 2, None, 2)
        np.testing.assert_array_equal(
            frame.pixels[:, own].numpy(), whole[frame.index].pixels[:, own].numpy()
        )


def test_auto_believes_what_it_sees_and_not_the_flags(tmp_path):
    truth = moments(24)
    woven = [weave(a, b) for a, b in zip(truth[::2], truth[1::2], strict=True)]
    unflagged = write_lossless(tmp_path / "woven.mkv", woven)
    lying = write_clip(
        tmp_path / "lying.mkv",
        truth,
        codec_options={"flags": "+ildct", "x264-params": "tff=1", "crf": "4"},
    )
    seen, frames, _ = read(unflagged, "auto")
    assert len(frames) == 12
    assert any("deinterlaced" in note and "field" in note for note in seen.notes)
    told, frames, _ = read(lying, "auto")
    assert len(frames) == 24
    assert any("does not look it" in note for note in told.notes)
    _, plain, _ = read(lying, "off")
    np.testing.assert_array_equal(frames[9].pixels.numpy(), plain[9].pixels.numpy())


def test_still_noisy_and_short_clips_are_not_interlaced():
    rng = np.random.default_rng(0)
    still = rng.uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    assert not field_statistics([still] * 8).interlaced
    noisy = [rng.uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32) for _ in range(12)]
    assert not field_statistics(noisy).interlaced
    assert not field_statistics(noisy[:2]).interlaced


def test_variable_rate_is_halved_frame_by_frame(tmp_path):
    pictures = moments(4)
    clip = write_clip(
        tmp_path / "a.mkv", pictures, pts=[0, 40, 120, 160], time_base=Fraction(1, 1000)
    )
    _, _, times = read(clip, "field")
    assert times[:6] == [0.0, 0.02, 0.04, 0.08, 0.12, 0.14]


def test_av_has_the_filters():
    for name in ("bwdif", "fieldmatch", "decimate"):
        assert av.filter.Filter(name)
