"""Properties that hold for any timestamps, any layout of streams and any folder of pictures."""

import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

import vsr
from tests.clips import moving_pictures, read_times
from tests.test_formats import SMALL, encode, mux, tone
from vsr.video.pixel_layouts import LAYOUTS, common_format, lost_by, nearest_format
from vsr.video.read.timestamps import TimestampRepairer
from vsr.video.reader import open_clip

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)
MANY = settings(max_examples=400, deadline=None, derandomize=True)

claims = st.one_of(st.none(), st.integers(-(2**34), 2**34))


def repaired(times, step=40, ticks_per_second=1000):
    repairer = TimestampRepairer(step, ticks_per_second)
    following = [*times[1:], None][: len(times)]
    return [repairer.repair(*pair) for pair in zip(times, following, strict=True)]


@MANY
@given(st.lists(claims, max_size=30))
def test_repaired_times_strictly_increase_whatever_is_claimed(times):
    assert all(b > a for (a, _), (b, _) in pairwise(repaired(times)))


@MANY
@given(st.integers(-(2**33), 2**33), st.lists(st.integers(30, 60), max_size=30))
def test_times_that_increase_evenly_are_kept(start, steps):
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    assert repaired(times) == [(time, None) for time in times]


@MANY
@given(st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=1, max_size=5))
def test_a_common_format_loses_nothing_of_any_picture(formats):
    common = common_format(formats)
    sources = [LAYOUTS[nearest_format(name)] for name in formats]
    kinds = {layout.is_rgb for layout in sources if layout.num_channels > 1}
    if len(kinds) < 2:
        assert not any(lost_by(name, common) for name in formats)


modes = st.lists(st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "I;16"]), min_size=1, max_size=4)


@FEW
@given(modes, st.sampled_from(["f%03d.png", "shot %d.png", "\u00b2%d.PNG", "10x%d.png"]))
def test_every_picture_of_a_folder_is_a_frame_and_none_loses_anything(modes, pattern):
    with tempfile.TemporaryDirectory() as folder:
        for number, mode in enumerate(modes):
            picture = Image.fromarray(moving_pictures(1, 16, 24, seed=number)[0])
            if mode == "I;16":
                picture = picture.convert("L").convert("I;16")
            picture.convert(mode).save(Path(folder) / (pattern % number))
            (Path(folder) / f"._{pattern % number}").write_bytes(b"no picture")
        with open_clip(folder) as reader:
            frames = list(reader.frames())
            assert (len(frames), reader.damage, reader.losses) == (len(modes), (), ())


sounds = st.lists(
    st.tuples(
        st.sampled_from(["aac", "mp2", "ac3", "flac", "pcm_s16le", "adpcm_ms", "wmav2"]),
        st.sampled_from([0.0, 0.3, 1.0]),
    ),
    max_size=3,
)


@FEW
@given(sounds, st.sampled_from([0, 5, 90]), st.sampled_from(["mkv", "mp4", "mov", "ts", "avi"]))
def test_every_stream_is_kept_or_named_and_every_frame_is_shown(sounds, first, suffix):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = encode("libx264", moving_pictures(8, 48, 64), first_pts=first)
        begin = float(Fraction(first, 25))
        tracks = [(codec, tone(codec, 0.3, begin + late), {}) for codec, late in sounds]
        clip = mux(folder / "a.nut", "nut", [("libx264", video, SMALL), *tracks])
        result = folder / f"out.{suffix}"
        manifest = vsr.run(clip, result, policy="bicubic", scale=1, metrics=())
        assert manifest.verified["frames"] == 8
        assert len(manifest.streams_kept) + len(manifest.streams_dropped) == len(sounds)
        assert manifest.damage == []
        times = read_times(result)
        assert len(times) == 8
        assert all(abs(b - a - Fraction(1, 25)) < Fraction(1, 500) for a, b in pairwise(times))
