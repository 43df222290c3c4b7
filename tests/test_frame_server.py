"""Frames that another program asks for in any order: equal to those of a run."""

import random

import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import make_model, make_shot_model, picture
from vsr.errors import InputError, ModelError, UsageError
from vsr.image.resample import resize
from vsr.models.shot_model import save_shot_model
from vsr.video.reader import open_clip

HALF_LEVEL_OF_16_BITS = 0.6 / 65535


def three_shots():
    """Thirty frames in shots of 11, 9 and 10."""
    shots = [
        [each // 6 + level for each in moving_pictures(count, 24, 32, seed=level)]
        for count, level in ((11, 20), (9, 190), (10, 100))
    ]
    return [each for shot in shots for each in shot]


def write_enlarged(path, pictures, scale=2):
    """Enlarge bicubically, with detail that flickers."""
    noise = np.random.default_rng(0)
    large = []
    for each in pictures:
        pixels = torch.from_numpy(each).permute(2, 0, 1).float()
        pixels = resize(pixels, 24 * scale, 32 * scale).permute(1, 2, 0).numpy()
        pixels = pixels + noise.normal(0, 6, pixels.shape)
        large.append(pixels.round().clip(0, 255).astype(np.uint8))
    return write_clip(path, large, codec="ffv1", pixel_format="bgr0")


def source_of(clip, enlarged=None, begins_shot=None):
    """A clip in memory, as another program's, and what was asked of it."""
    with open_clip(clip) as reader:
        info, frames = reader.info, list(reader.frames())
    large = [] if enlarged is None else read(enlarged)
    asked = []

    def frame(index):
        asked.append(index)
        return frames[index]

    return vsr.FrameSource(
        info,
        len(frames),
        frame,
        large.__getitem__ if large else None,
        tuple(large[0].shape[1:]) if large else None,
        begins_shot,
    ), asked


def read(path):
    with open_clip(path) as reader:
        return [frame.pixels for frame in reader.frames()]


def all_frames(server, count=30):
    return [server.frame(index)[0].copy() for index in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(
        tmp_path_factory.mktemp("clip") / "a.mkv", three_shots(), codec="ffv1", pixel_format="bgr0"
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    make_model(folder, "one", picture(24, 32))
    model = make_shot_model()
    save_shot_model(folder / "s.shot.safetensors", model.card, model.networks)
    return folder


RUNS = {
    "an interpolation": {"policy": "bicubic", "scale": 3.0},
    "an interpolation that is steadied": {"policy": "bicubic", "scale": 2.0, "steady": "auto"},
    "frames that were coded before": {
        "policy": "bicubic",
        "scale": 2.0,
        "steady": "auto",
        "quantizer": 40.0,
    },
    "models of a keyframe": {"policy": "smi", "scale": 2.0},
    "models of a shot": {"policy": "shot", "scale": 2.0},
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_frames_in_order_are_those_of_a_run_and_frames_in_any_order_too(
    clip, bank, tmp_path, options
):
    lossless = {"codec": "ffv1", "pix_fmt": "gbrp16le", "metrics": ()}
    vsr.run(clip, tmp_path / "run.mkv", models=bank, **options, **lossless)
    expected = read(tmp_path / "run.mkv")
    source, _ = source_of(clip)
    got = all_frames(vsr.FrameServer(source, models=bank, options=options))
    for mine, true in zip(got, expected, strict=True):
        assert np.abs(mine - true.numpy()).max() < HALF_LEVEL_OF_16_BITS
    # With room for a few frames alone, seeks go back to a checkpoint or to the shot's start.
    small = vsr.FrameServer(source, models=bank, options=options, cache_bytes=200_000)
    places = random.Random(0)
    for _ in range(40):
        index = places.randrange(30)
        assert np.array_equal(small.frame(index)[0], got[index]), index


def test_what_another_upscaler_made_is_steadied_as_by_the_command(clip, tmp_path):
    enlarged = write_enlarged(tmp_path / "large.mkv", three_shots())
    vsr.steady(enlarged, clip, tmp_path / "calm.mkv", codec="ffv1", pix_fmt="gbrp16le", metrics=())
    server = vsr.FrameServer(source_of(clip, enlarged)[0])
    for index, true in enumerate(read(tmp_path / "calm.mkv")):
        assert np.abs(server.frame(index)[0] - true.numpy()).max() < HALF_LEVEL_OF_16_BITS


def test_a_seek_into_a_shot_makes_no_other_shot(clip):
    source, asked = source_of(clip, begins_shot=(0, 11, 20).__contains__)
    server = vsr.FrameServer(source, options={"policy": "bicubic", "steady": "auto"})
    server.frame(22)
    assert set(asked) <= set(range(20, 30))
    assert [index for index in range(30) if server.begins_shot(index)] == [0, 11, 20]


def test_cuts_are_looked_for_where_nobody_knows_them(clip):
    server = vsr.FrameServer(source_of(clip)[0], options={"policy": "bicubic"})
    assert [index for index in range(30) if server.begins_shot(index)] == [0, 11, 20]


def test_frames_in_order_are_read_once(clip):
    source, asked = source_of(clip)
    all_frames(vsr.FrameServer(source, options={"policy": "bicubic", "scale": 1.0}))
    assert sorted(asked) == list(range(30))


def test_a_long_shot_goes_on_from_a_checkpoint(tmp_path):
    pictures = moving_pictures(60, 24, 32)
    clip = write_clip(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    enlarged = write_enlarged(tmp_path / "large.mkv", pictures)
    source, _ = source_of(clip, enlarged)
    made = []

    def convert(frame):
        made.append(frame.index)
        return [frame.pixels.numpy()]

    # Room for one finished frame, and for some checkpoints.
    picture_bytes = 4 * 3 * 48 * 64
    server = vsr.FrameServer(source, convert, cache_bytes=8 * picture_bytes)
    straight = [server.frame(index)[0].copy() for index in range(60)]
    made.clear()
    assert np.array_equal(server.frame(30)[0], straight[30])
    assert made == list(range(24, 31))


@pytest.mark.parametrize("begins_shot", [(0, 20).__contains__, None], ids=["known", "looked for"])
def test_a_failing_source_fails_one_call_and_not_the_next(clip, begins_shot):
    source, _ = source_of(clip)
    broken = {25}

    def read_frame(index):
        if index in broken:
            raise InputError("the disk is gone")
        return source.read(index)

    whole = vsr.FrameServer(source, options={"policy": "bicubic"}).frame(25)[0]
    server = vsr.FrameServer(
        vsr.FrameSource(source.info, 30, read_frame, begins_shot=begins_shot),
        options={"policy": "bicubic"},
    )
    with pytest.raises(InputError, match="disk"):
        server.frame(25)
    broken.clear()
    assert np.array_equal(server.frame(25)[0], whole)


def test_requests_that_cannot_be_met_are_refused_at_once(clip, tmp_path):
    source, _ = source_of(clip)
    with pytest.raises(UsageError, match="unknown policy"):
        vsr.FrameServer(source, options={"policy": "smee"})
    with pytest.raises(ModelError, match="no folder of models"):
        vsr.FrameServer(source, models=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="vsr train-shot"):
        vsr.FrameServer(source, settings=("train=auto",))
    with pytest.raises(UsageError, match="frame 30 of a clip with 30"):
        vsr.FrameServer(source, options={"policy": "bicubic"}).frame(30)
    small = write_clip(
        tmp_path / "small.mkv", moving_pictures(30, 16, 16), codec="ffv1", pixel_format="bgr0"
    )
    with pytest.raises(InputError, match="smaller than its source"):
        vsr.FrameServer(source_of(clip, small)[0])
    other = write_enlarged(tmp_path / "other.mkv", [255 - each for each in three_shots()])
    with pytest.raises(InputError, match="does not show"):
        vsr.FrameServer(source_of(clip, other)[0]).frame(0)
