"""VapourSynth, with its own core and `vspipe`.

python -m tools.vapoursynth_environment FOLDER --test
"""

import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

vs = pytest.importorskip(
    "vapoursynth",
    reason="VapourSynth needs Python 3.12 or newer: python -m tools.vapoursynth_environment",
)

import vsr  # noqa: E402
import vsr.vapoursynth  # noqa: E402
from tests.clips import moving_pictures, write_clip  # noqa: E402
from tests.models import make_model, picture  # noqa: E402
from vsr.image.resample import resize  # noqa: E402
from vsr.video.reader import open_clip  # noqa: E402

core = vs.core
AS_IT_IS = {"policy": "bicubic", "scale": 1, "steady": 0, "settings": ("restore=0",)}
PLAIN = {"policy": "bicubic", "scale": 2}


def clip_of(pictures, format=vs.RGB24, **options):
    """A clip of uint8 RGB pictures (H, W, 3), converted by VapourSynth."""
    height, width, _ = pictures[0].shape
    blank = core.std.BlankClip(
        format=vs.RGB24, width=width, height=height, length=len(pictures), fpsnum=25, fpsden=1
    )

    def fill(n, f):
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), pictures[n][..., plane])
        return frame

    clip = blank.std.ModifyFrame(blank, fill)
    return clip if format == vs.RGB24 else clip.resize.Bicubic(format=format, **options)


def planes(frame):
    return [np.array(frame[number]) for number in range(frame.format.num_planes)]


def largest_difference(one, other):
    """In code values, over all planes of two frames."""
    pairs = zip(planes(one), planes(other), strict=True)
    return max(np.abs(a.astype(float) - b.astype(float)).max() for a, b in pairs)


def gentle_pictures(count=12, height=32, width=48):
    """Pictures without colors that lie outside of what 4:2:0 keeps."""
    return [
        np.repeat(each.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
        for each in moving_pictures(count, height, width)
    ]


def write_flickering(path, source, scale, count):
    """Write the first frames of a clip, enlarged bicubically, with noise that is another each
    time."""
    noise = np.random.default_rng(0)
    with open_clip(source) as reader:
        pictures = [frame.pixels for frame in islice(reader.frames(), count)]
    height, width = pictures[0].shape[1:]
    large = []
    for each in pictures:
        pixels = 255 * resize(each, scale * height, scale * width).permute(1, 2, 0).numpy()
        pixels = pixels + noise.normal(0, 5, (*pixels.shape[:2], 1))
        large.append(pixels.round().clip(0, 255).astype(np.uint8))
    return write_clip(path, large, codec="ffv1")


def read_by_host(path):
    return core.bs.VideoSource(str(path), cachemode=0)


FORMATS = (
    *("YUV420P8", "YUV422P8", "YUV440P8", "YUV444P8", "YUV420P10", "YUV422P12", "YUV444P14"),
    *("YUV420P16", "YUV444PH", "YUV420PS", "YUV444PS", "RGB24", "RGB30", "RGB48", "RGBH", "RGBS"),
    *("GRAY8", "GRAY16", "GRAYS"),
)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("full_range", [False, True])
def test_every_format_comes_back_as_it_went_in(name, full_range):
    options = {} if name.startswith("RGB") else {"matrix": 1, "range": int(full_range)}
    clip = clip_of(gentle_pictures(3), getattr(vs, name), **options)
    same = vsr.vapoursynth.upscale(clip, **AS_IT_IS)
    assert same.format.id == clip.format.id
    step = 1e-3 if name.endswith("H") else 2e-6 if name.endswith("S") else 1
    for before, after in zip(clip.frames(), same.frames(), strict=True):
        assert largest_difference(before, after) <= step
        kept = ("_Matrix", "_Range", "_Primaries", "_Transfer", "_DurationNum", "_DurationDen")
        for prop in kept:
            if prop in before.props:
                assert after.props[prop] == before.props[prop]


def test_properties_are_read_and_written():
    plain = clip_of(gentle_pictures(), vs.YUV420P8, matrix=1, range=1)
    plain = plain.std.SetFrameProps(_Matrix=9, _Primaries=9, _Field=1)
    clip = plain.std.FrameEval(
        lambda n: plain.std.SetFrameProps(_SceneChangePrev=int(n in (0, 5)), of=n)
    )
    frames = list(vsr.vapoursynth.upscale(clip, **PLAIN).frames())
    assert [n for n, frame in enumerate(frames) if frame.props["_SceneChangePrev"]] == [0, 5]
    assert [n for n, frame in enumerate(frames) if frame.props["_SceneChangeNext"]] == [4, 11]
    for n, frame in enumerate(frames):
        props = frame.props
        assert (props["_Matrix"], props["_Range"], props["_Primaries"]) == (9, 1, 9)
        assert props["_FieldBased"] == 0
        assert "_Field" not in props
        assert props["of"] == n


def test_what_says_nothing_of_its_matrix_keeps_the_one_that_was_taken():
    clip = clip_of(gentle_pictures(2, 300, 64), vs.YUV444P8, matrix=6)
    clip = clip.std.RemoveFrameProps(["_Matrix", "_Range", "_Primaries", "_Transfer"])
    large = vsr.vapoursynth.upscale(clip, **PLAIN)
    # Above 576 lines a reader would take BT.709.
    assert large.height == 600
    assert large.get_frame(0).props["_Matrix"] == 6
    assert large.get_frame(0).props["_Range"] == 0


def test_cuts_are_found_where_no_filter_has_marked_them():
    dark, bright = gentle_pictures(10), [255 - each // 4 for each in gentle_pictures(10)]
    large = vsr.vapoursynth.upscale(clip_of([each // 4 for each in dark] + bright), **PLAIN)
    assert [n for n, f in enumerate(large.frames()) if f.props["_SceneChangePrev"]] == [0, 10]


def test_sides_are_made_whole_where_chroma_needs_it():
    large = vsr.vapoursynth.upscale(
        clip_of(gentle_pictures(1), vs.YUV420P8, matrix=6), policy="bicubic", scale=1.35
    )
    assert (large.width, large.height) == (66, 44)
    large.get_frame(0)


def test_upscaling_agrees_with_the_command(tmp_path):
    make_model(tmp_path / "bank", "one", picture(32, 48))
    source = write_clip(tmp_path / "a.mkv", moving_pictures(8), codec="ffv1")
    options = {"policy": "smi", "models": tmp_path / "bank", "scale": 2}
    vsr.run(source, tmp_path / "run.mkv", codec="ffv1", metrics=(), **options)
    large = vsr.vapoursynth.upscale(read_by_host(source), **options)
    expected = read_by_host(tmp_path / "run.mkv")
    assert large.num_frames == expected.num_frames == 8
    for mine, true in zip(large.frames(), expected.frames(), strict=True):
        assert largest_difference(mine, true) <= 1


MADE = ("a still camera", "a cut", "ten bits")
REAL = ("vid4/walk_lrx4.mkv", "vid4/foliage_lrx4.mkv", "format/10bit_juggle_180p_lossless.mkv")


@pytest.fixture(params=[*MADE, *(pytest.param(each, marks=pytest.mark.slow) for each in REAL)])
def source(request, tmp_path):
    """A clip, cut to 12 frames, without loss: a source filter tells no quantizers."""
    name = request.param
    if name == "a still camera":
        pictures = moving_pictures(12, step=(0, 0))
    elif name == "a cut":
        pictures = [each // 4 for each in moving_pictures(6)]
        pictures += [255 - each // 4 for each in moving_pictures(6, seed=1)]
    elif name == "ten bits":
        pictures = moving_pictures(12)
    else:
        path = request.getfixturevalue("shared_data") / "clips" / name
        with open_clip(path) as reader:
            frames = [frame.pixels for frame in islice(reader.frames(), 12)]
        pictures = [(255 * each).round().byte().permute(1, 2, 0).numpy() for each in frames]
        pictures = [each[:80, :112] for each in pictures]
    deep = {"pixel_format": "yuv420p10le"} if name == "ten bits" else {}
    return write_clip(tmp_path / "low.mkv", pictures, codec="ffv1", **deep)


def test_steadying_agrees_with_the_command_also_after_seeks(source, tmp_path):
    enlarged = write_flickering(tmp_path / "large.mkv", source, 2, 12)
    vsr.steady(enlarged, source, tmp_path / "calm.mkv", codec="ffv1", metrics=())
    expected = list(read_by_host(tmp_path / "calm.mkv").frames())
    assert len(expected) == 12
    # With little room: most seeks make frames again.
    calm = vsr.vapoursynth.steady(
        read_by_host(enlarged), low_resolution=read_by_host(source), cache_mb=1
    )
    straight = list(calm.frames())
    for mine, true in zip(straight, expected, strict=True):
        assert largest_difference(mine, true) <= 1
    changed = largest_difference(straight[8], read_by_host(enlarged).get_frame(8))
    assert changed > 2
    places = random.Random(0)
    calm.clear_cache()
    for _ in range(200):
        index = places.randrange(12)
        assert largest_difference(calm.get_frame(index), straight[index]) == 0


def test_many_frames_asked_for_at_once_are_the_same():
    clip = clip_of(gentle_pictures(12), vs.YUV420P8, matrix=6)
    large = vsr.vapoursynth.upscale(clip, policy="bicubic", scale=2, steady="auto")
    straight = [planes(large.get_frame(n)) for n in range(12)]
    again = vsr.vapoursynth.upscale(clip, policy="bicubic", scale=2, steady="auto", cache_mb=0)
    waiting = {n: again.get_frame_async(n) for n in reversed(range(12))}
    for n, future in waiting.items():
        for mine, true in zip(planes(future.result()), straight[n], strict=True):
            assert np.array_equal(mine, true)


def small():
    return clip_of(gentle_pictures(4), vs.YUV420P8, matrix=6)


def mixed_sizes():
    return core.std.Splice([small(), small().resize.Bicubic(96, 64)], mismatch=True)


def mixed_formats():
    return core.std.Splice([small(), clip_of(gentle_pictures(2))], mismatch=True)


def large():
    return small().resize.Bicubic(96, 64)


MISTAKES = {
    "RGB and YUV": (
        lambda: vsr.vapoursynth.steady(large().resize.Bicubic(format=vs.RGB24), small()),
        "RGB24 and low_resolution YUV420P8: convert one",
    ),
    "another length": (lambda: vsr.vapoursynth.steady(large()[:3], small()), "3 frames .* 4"),
    "the wrong way round": (lambda: vsr.vapoursynth.steady(small(), large()), "smaller than"),
    "another clip": (
        lambda: vsr.vapoursynth.steady(large().std.Invert(), small()).get_frame(0),
        "does not show what",
    ),
    "sizes that change": (lambda: vsr.vapoursynth.upscale(mixed_sizes()), "midway"),
    "formats that change": (lambda: vsr.vapoursynth.upscale(mixed_formats()), "midway"),
    "formats that change, in a source": (
        lambda: vsr.vapoursynth.steady(large(), mixed_formats()),
        "midway",
    ),
    "4:1:1": (
        lambda: vsr.vapoursynth.upscale(small().resize.Bicubic(format=vs.YUV411P8)),
        "YUV411P8; expected",
    ),
    "no models": (
        lambda: vsr.vapoursynth.upscale(small(), models="nowhere"),
        "no folder of models",
    ),
    "no bank": (lambda: vsr.vapoursynth.upscale(small(), policy="smi"), "needs a bank"),
    "an unknown policy": (lambda: vsr.vapoursynth.upscale(small(), policy="smee"), "did you mean"),
    "an unknown setting": (
        lambda: vsr.vapoursynth.upscale(small(), settings=("gain=1",)),
        "unknown",
    ),
    "a scale out of range": (lambda: vsr.vapoursynth.upscale(small(), scale=40), "from 1 to 16"),
    "fields": (
        lambda: vsr.vapoursynth.upscale(small().std.SetFieldBased(2), **PLAIN).get_frame(0),
        "interlaced",
    ),
    "a matrix that is not converted": (
        lambda: vsr.vapoursynth.upscale(small().std.SetFrameProps(_Matrix=14)),
        "matrix 14",
    ),
    "RGB of limited range": (
        lambda: vsr.vapoursynth.upscale(clip_of(gentle_pictures(1)).std.SetFrameProps(_Range=0)),
        "limited range",
    ),
    "no clip": (lambda: vsr.vapoursynth.upscale("a.mkv"), "expected a vs.VideoNode"),
    "a training": (
        lambda: vsr.vapoursynth.upscale(small(), settings=("train=auto",)),
        "vsr train-shot",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_raise_the_error_of_the_host(call, message):
    with pytest.raises(vs.Error, match=message):
        call()


def test_a_frame_that_fails_leaves_the_clip_usable():
    clip = small()
    broken = {2}

    def fail(n, f):
        if n in broken:
            raise vs.Error("the tape is torn")
        return f.copy()

    large = vsr.vapoursynth.upscale(clip.std.ModifyFrame(clip, fail), **PLAIN)
    with pytest.raises(vs.Error, match="torn"):
        large.get_frame(2)
    broken.clear()
    assert (
        largest_difference(large.get_frame(2), vsr.vapoursynth.upscale(clip, **PLAIN).get_frame(2))
        == 0
    )


def test_vspipe_streams_a_script(tmp_path):
    source = write_clip(tmp_path / "a.mkv", moving_pictures(6), codec="ffv1")
    script = tmp_path / "script.py"
    script.write_text(
        "import vapoursynth as vs\n"
        "import vsr.vapoursynth\n"
        f"clip = vs.core.bs.VideoSource({str(source)!r}, cachemode=0)\n"
        "vsr.vapoursynth.upscale(clip, policy='bicubic', scale=2, steady='auto').set_output()\n"
    )
    piped = tmp_path / "out.y4m"
    vspipe = Path(sys.executable).with_name("vspipe")
    done = subprocess.run(
        [vspipe, "-c", "y4m", script, piped],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(vsr.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    options = {"policy": "bicubic", "scale": 2, "steady": "auto", "metrics": ()}
    vsr.run(source, tmp_path / "run.mkv", codec="ffv1", **options)
    expected = list(read_by_host(tmp_path / "run.mkv").frames())
    got = list(read_by_host(piped).frames())
    assert len(got) == len(expected) == 6
    for mine, true in zip(got, expected, strict=True):
        assert largest_difference(mine, true) <= 1
