"""Colors of coded shots come nearer to the truth, stay where they are, and nothing else changes."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from vsr import run
from vsr.engine.color_network import FastColorNetwork
from vsr.errors import InterruptedRunError, ModelError
from vsr.models import color
from vsr.models.color import load_color_network, load_shipped_color_network
from vsr.models.networks.color_network import to_planes, to_rgb
from vsr.pipeline.inspection import inspect_clip
from vsr.progress import Listener
from vsr.restore.color_restoration import ColorRestoration
from vsr.restore.degradation import estimate_degradation
from vsr.video.frames import Frame
from vsr.video.reader import open_clip
from vsr.video.step import Degradation, ShotRef, Step

CPU = torch.device("cpu")
HEIGHT, WIDTH = 96, 128


def scene(count, seed=0):
    """Flat shapes of many colors that move over each other, (H, W, 3) uint8 each."""
    random = np.random.default_rng(seed)
    shapes = [
        (random.uniform(0, (WIDTH, HEIGHT)), random.uniform(-2, 2, 2), random.integers(6, 20))
        for _ in range(25)
    ]
    colors = random.integers(30, 220, (25, 3)).tolist()
    frames = []
    for time in range(count):
        large = np.full((4 * HEIGHT, 4 * WIDTH, 3), 120, np.uint8)
        for (place, speed, radius), shade in zip(shapes, colors, strict=True):
            center = np.rint(4 * (place + speed * time)).astype(int).tolist()
            cv2.circle(large, center, int(4 * radius), shade, -1, cv2.LINE_AA)
        frames.append(cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    return frames


def coded(path, pictures, crf=28):
    return write_clip(path, pictures, codec_options={"crf": str(crf)})


def to_tensor(array):
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255


def steps_of(clip):
    with open_clip(clip) as reader:
        frames = list(reader.frames())
    shot = ShotRef(0, 0, degradation=estimate_degradation(frames))
    return [Step(frame, shot) for frame in frames]


def restored(steps, strength=1.0):
    return list(ColorRestoration(strength, CPU).through(iter(steps)))


def color_error(step, truth):
    """Squared error of the color differences, (H, W) in gray levels."""
    one, other = (255 * to_planes(each)[1:] for each in (step.frame.pixels, truth))
    return (one - other).square().mean(dim=0)


@pytest.mark.parametrize("crf", [23, 28, 33])
def test_colors_of_coded_shapes_come_nearer_to_the_truth(tmp_path, crf):
    truth = scene(6)
    steps = steps_of(coded(tmp_path / "a.mkv", truth, crf))
    before, after = (
        np.mean(
            [float(color_error(s, to_tensor(t)).mean()) for s, t in zip(made, truth, strict=True)]
        )
        for made in (steps, restored(steps))
    )
    assert after < 0.9 * before


def test_luma_stays_where_nothing_is_clipped(tmp_path):
    steps = steps_of(coded(tmp_path / "a.mkv", scene(3)))
    for one, other in zip(restored(steps), steps, strict=True):
        changed, own = (to_planes(step.frame.pixels) for step in (one, other))
        inside = ((one.frame.pixels > 0) & (one.frame.pixels < 1)).all(dim=0)
        assert inside.float().mean() > 0.9
        torch.testing.assert_close(changed[0][inside], own[0][inside], atol=1e-5, rtol=0)
        assert not torch.equal(changed[1:], own[1:])


def test_a_moved_square_neither_bleeds_nor_leaves_a_trail(tmp_path):
    """Red over green, then a flash, then a cut to blue over yellow."""
    truth = []
    for time in range(12):
        square, ground = (
            ((200, 40, 40), (50, 150, 60)) if time < 8 else ((40, 60, 200), (190, 180, 50))
        )
        frame = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
        frame[32:64, 8 + 6 * time : 40 + 6 * time] = square
        truth.append(np.full_like(frame, 235) if time == 4 else frame)
    steps = steps_of(coded(tmp_path / "a.mkv", truth))
    for time, (one, other) in enumerate(zip(restored(steps), steps, strict=True)):
        after, before = (color_error(step, to_tensor(truth[time])) for step in (one, other))
        assert float(after.mean()) < float(before.mean()) + 0.5
        # Farther than a network sees from where the square is: where it was, nothing is left.
        far = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        far[8:88, max(0, 6 * time - 16) : 6 * time + 64] = False
        assert float(after[far].mean()) < float(before[far].mean()) + 0.5
        # Each frame is restored by itself: what comes before and after makes no difference.
        (alone,) = restored([other])
        assert torch.equal(alone.frame.pixels, one.frame.pixels)


@pytest.mark.parametrize("quantizer", [None, 15.0])
def test_clean_shots_pass_as_they_are(quantizer):
    frame = Frame(to_tensor(scene(1)[0]), 0, 0, Fraction(1, 25))
    step = Step(frame, ShotRef(0, 0, degradation=Degradation(qp=quantizer)))
    (made,) = restored([step])
    assert made is step
    (made,) = restored([replace(step, shot=ShotRef(0, 0))])
    assert made.frame is frame


def test_color_of_full_size_is_left_unless_an_earlier_encoder_halved_it():
    frame = Frame(to_tensor(scene(1)[0]), 0, 0, Fraction(1, 25))
    stage = ColorRestoration(1.0, CPU, has_full_color=True)
    for earlier, is_left in ((None, True), (33.0, False)):
        degradation = Degradation(qp=30.0, earlier_qp=earlier)
        step = Step(frame, ShotRef(0, 0, degradation=degradation))
        (made,) = stage.through(iter([step]))
        assert (made is step) == is_left


@pytest.mark.parametrize(("pixel_format", "is_told"), [("yuv420p", True), ("yuv444p", False)])
def test_inspection_tells_whether_colors_are_restored(tmp_path, pixel_format, is_told):
    clip = write_clip(
        tmp_path / "a.mkv", scene(6), pixel_format=pixel_format, codec_options={"crf": "33"}
    )
    (shot,), _ = inspect_clip(clip)
    assert any("color network" in remedy for remedy in shot.remedies) == is_told


def test_a_gray_film_stays_gray(tmp_path):
    gray = [np.repeat(frame[..., :1], 3, axis=2) for frame in scene(3)]
    steps = steps_of(coded(tmp_path / "a.mkv", gray))
    for one, other in zip(restored(steps), steps, strict=True):
        assert torch.equal(one.frame.pixels, other.frame.pixels)


def test_the_strength_scales_the_change_and_zero_makes_none(tmp_path):
    (step, *_) = steps_of(coded(tmp_path / "a.mkv", scene(1)))
    (none,), (half,), (whole,) = (restored([step], strength) for strength in (0.0, 0.5, 1.0))
    assert none is step
    middle = (step.frame.pixels + whole.frame.pixels) / 2
    inside = ((whole.frame.pixels > 0) & (whole.frame.pixels < 1)).all(dim=0)
    torch.testing.assert_close(half.frame.pixels[:, inside], middle[:, inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 80), (33, 47), (2, 3)])
def test_the_fast_network_is_the_plain_one(size):
    network = load_shipped_color_network()
    planes = to_planes(torch.rand(3, *size, generator=torch.Generator().manual_seed(0)))
    found = FastColorNetwork(network, CPU).missing_color(planes, 33.0)
    even = F.pad(planes[None], (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    padded = F.pad(even, (network.spec.halo,) * 4, mode="replicate")
    with torch.inference_mode():
        plain = network(padded, torch.tensor([33.0]))[0, :, : size[0], : size[1]]
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)


def test_planes_are_put_together_again():
    rgb = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_rgb(to_planes(rgb)), rgb)


def test_the_shipped_network_is_small_and_tells_its_origin():
    assert color.SHIPPED_COLOR_NETWORK.stat().st_size < 200_000
    card, _ = load_color_network(color.SHIPPED_COLOR_NETWORK)
    assert card.training["pictures"] > 100


def test_a_broken_network_is_told_of(tmp_path, monkeypatch):
    broken = tmp_path / "color.safetensors"
    broken.write_bytes(color.SHIPPED_COLOR_NETWORK.read_bytes()[:-10])
    monkeypatch.setattr(color, "SHIPPED_COLOR_NETWORK", broken)
    load_shipped_color_network.cache_clear()
    with pytest.raises(ModelError, match="Install vsr again"):
        load_shipped_color_network()
    load_shipped_color_network.cache_clear()


@pytest.fixture(scope="module")
def coded_clip(tmp_path_factory):
    return coded(tmp_path_factory.mktemp("clip") / "clip.mkv", moving_pictures(12, 64, 80), 30)


def pixels_of(path):
    return [frame.to_ndarray(format="rgb24") for frame in read_frames(path)]


def test_a_run_that_stops_goes_on_with_equal_frames(coded_clip, tmp_path):
    make_model(tmp_path / "bank", "a", picture(), seed=0)
    options = {
        "policy": "smi",
        "scale": 2,
        "codec": "ffv1",
        "dtype": "fp32",
        "threads": 1,
        "steady": 0.8,
        "metrics": (),
        "settings": ["encode.segment_frames=5"],
        "models": tmp_path / "bank",
    }
    run(coded_clip, tmp_path / "whole.mkv", **options)
    done = []
    listener = Listener(on_progress=lambda n, _: done.append(n), should_stop=lambda: len(done) >= 7)
    with pytest.raises(InterruptedRunError):
        run(coded_clip, tmp_path / "out.mkv", listener=listener, **options)
    assert run(coded_clip, tmp_path / "out.mkv", **options).resumed_at_frame == 5
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "out.mkv"), pixels_of(tmp_path / "whole.mkv")
    )


def test_interpolation_stays_what_it_is(coded_clip, tmp_path):
    made = []
    for strength in (0, 1):
        out = tmp_path / f"{strength}.mkv"
        run(coded_clip, out, policy="bicubic", scale=2, codec="ffv1", metrics=(), restore=strength)
        made.append(pixels_of(out))
    np.testing.assert_array_equal(*made)
