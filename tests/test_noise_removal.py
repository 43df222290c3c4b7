"""Camera noise is removed where it is found, detail stays, and a run goes on with equal frames."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import denoise_nl_means

from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from vsr import run, train_shot
from vsr.errors import InterruptedRunError
from vsr.progress import Listener
from vsr.restore.noise_removal import REACH, NoiseRemoval, remove_noise
from vsr.video.frames import Frame
from vsr.video.step import Degradation, ShotRef, Step

HEIGHT, WIDTH = 96, 128


def panned(count, speed=1):
    """A pan over smooth surfaces with some edges and texture, (H, W, 3) uint8 each."""
    random = np.random.default_rng(2)
    coarse = random.uniform(60, 190, (HEIGHT // 16, WIDTH // 16, 3)).astype(np.float32)
    whole = cv2.resize(coarse, (WIDTH + speed * count, HEIGHT), interpolation=cv2.INTER_CUBIC)
    whole[20:40, 40:80] += 50
    texture = random.uniform(-60, 60, (24, 20, 3)).astype(np.float32)
    whole[60:84, 60:80] += texture
    whole = whole.clip(0, 255).round().astype(np.uint8)
    return [whole[:, speed * i : speed * i + WIDTH] for i in range(count)]


def noisy(pictures, sigma, seed=0):
    random = np.random.default_rng(seed)
    return [
        (each + random.normal(0, sigma, each.shape)).clip(0, 255).round().astype(np.uint8)
        for each in pictures
    ]


def to_tensor(array):
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255


def to_array(tensor):
    return (255 * tensor).round().byte().permute(1, 2, 0).numpy()


def known_noise(sigma):
    """What an estimate says of equal noise of red, green and blue."""
    return Degradation(
        noise_sigma=sigma, luma_noise_sigma=0.668 * sigma, chroma_noise_sigma=1.016 * sigma
    )


def cleaned(pictures, degradation):
    return [to_array(each) for each in remove_noise(map(to_tensor, pictures), degradation)]


def mean_psnr(made, truth):
    return np.mean([peak_signal_noise_ratio(t, m) for m, t in zip(made, truth, strict=True)])


@pytest.mark.parametrize("sigma", [3, 6, 12])
def test_more_noise_goes_than_by_non_local_means(sigma):
    """Scikit-image's, on single frames, is the oracle."""
    truth = panned(7)
    given = noisy(truth, sigma)
    theirs = [
        255 * denoise_nl_means(each / 255, h=0.8 * sigma / 255, sigma=sigma / 255, channel_axis=2)
        for each in given
    ]
    theirs = [each.clip(0, 255).round().astype(np.uint8) for each in theirs]
    ours = cleaned(given, known_noise(sigma))
    assert mean_psnr(ours, truth) > mean_psnr(theirs, truth) + 1
    assert mean_psnr(ours, truth) > mean_psnr(given, truth) + 4


def test_without_noise_nearly_nothing_changes():
    truth = panned(6)
    assert mean_psnr(cleaned(truth, known_noise(0.3)), truth) > 50


def test_what_is_on_one_frame_alone_stays():
    """Neighbors that differ by more than noise are left out of the average."""
    truth = panned(5)
    truth[2] = truth[2].copy()
    cv2.circle(truth[2], (30, 70), 6, (250, 240, 30), -1)
    made = cleaned(noisy(truth, 6), known_noise(6))
    spot = (slice(67, 74), slice(27, 34))
    assert np.abs(made[2][spot].astype(int) - truth[2][spot]).mean() < 6
    for other in (1, 3):
        assert np.abs(made[other][spot].astype(int) - truth[other][spot]).mean() < 6


def test_noise_of_luma_alone_leaves_colors():
    truth = panned(5)
    random = np.random.default_rng(0)
    given = [
        (each + random.normal(0, 6, (*each.shape[:2], 1))).clip(0, 255).round().astype(np.uint8)
        for each in truth
    ]
    made = cleaned(given, Degradation(noise_sigma=6, luma_noise_sigma=6, chroma_noise_sigma=0.1))
    assert mean_psnr(made, truth) > mean_psnr(given, truth) + 4


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_as_many_frames_come_out_in_order_and_few_are_held(count):
    taken = []

    def steps():
        for index, each in enumerate(noisy(panned(count), 6)):
            taken.append(index)
            frame = Frame(to_tensor(each), index, index, Fraction(1, 25))
            yield Step(frame, ShotRef(0, 0, degradation=known_noise(6)))

    told = []
    for index, step in enumerate(NoiseRemoval(1.0, told.append).through(steps())):
        assert step.frame.index == index
        assert len(taken) == min(count, index + 1 + REACH)
        assert step.shot.trust.is_full
    assert index == count - 1
    assert told == ["shot from frame 0: noise of 6.0 levels is removed"]


def test_a_frame_depends_on_the_frames_within_reach_alone():
    """So a run that was stopped anywhere goes on with equal frames."""
    given, degradation = noisy(panned(9), 6), known_noise(6)
    whole = cleaned(given, degradation)
    for index in range(len(given)):
        first = max(0, index - REACH)
        part = cleaned(given[first : index + REACH + 1], degradation)
        np.testing.assert_array_equal(part[index - first], whole[index])


def test_frames_too_small_for_motion_are_cleaned_by_themselves():
    made = cleaned(noisy([each[:9, :10] for each in panned(3)], 8), known_noise(8))
    assert [each.shape for each in made] == [(9, 10, 3)] * 3


@pytest.fixture(scope="module")
def noisy_clip(tmp_path_factory):
    """Two shots: the first noisy, the second not."""
    first = noisy(moving_pictures(12, 64, 80, (0.3, 0.6), seed=1), 7)
    second = [each // 4 for each in moving_pictures(8, 64, 80, (0.3, 0.6), seed=2)]
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_clip(path, first + second, codec="ffv1", pixel_format="bgr0")


RUN = {
    "policy": "smi",
    "scale": 2,
    "dtype": "fp32",
    "codec": "ffv1",
    "threads": 1,
    "steady": 0.8,
    "metrics": (),
    "settings": ["encode.segment_frames=5"],
}


def frames_of(path):
    return [frame.to_ndarray(format="rgb24") for frame in read_frames(path)]


def test_a_run_that_stops_within_a_noisy_shot_goes_on_with_equal_frames(noisy_clip, tmp_path):
    make_model(tmp_path / "bank", "a", picture(), seed=0)
    options = {**RUN, "models": tmp_path / "bank"}
    whole = run(noisy_clip, tmp_path / "whole.mkv", **options)
    assert whole.degradation[0]["noise_sigma"] > 5
    done = []
    listener = Listener(on_progress=lambda n, _: done.append(n), should_stop=lambda: len(done) >= 7)
    with pytest.raises(InterruptedRunError):
        run(noisy_clip, tmp_path / "out.mkv", listener=listener, **options)
    again = run(noisy_clip, tmp_path / "out.mkv", **options)
    assert again.resumed_at_frame == 5
    np.testing.assert_array_equal(
        frames_of(tmp_path / "out.mkv"), frames_of(tmp_path / "whole.mkv")
    )


def test_the_switch_leaves_noise_and_interpolation_leaves_it_by_itself(noisy_clip, tmp_path):
    made = {}
    for name, options in {
        "plain": {"restore": 0},
        "auto": {},
        "on": {"remove_noise": "on"},
        "off": {"remove_noise": "off"},
    }.items():
        out = tmp_path / f"{name}.mkv"
        run(noisy_clip, out, policy="bicubic", scale=2, codec="ffv1", metrics=(), **options)
        made[name] = np.stack(frames_of(out)).astype(float)
    np.testing.assert_array_equal(made["auto"], made["off"])
    np.testing.assert_array_equal(made["auto"], made["plain"])
    # The first shot alone is noisy.
    change = np.abs(made["on"] - made["auto"]).mean(axis=(1, 2, 3))
    assert change[:12].min() > 2
    assert change[12:].max() < 1


@pytest.mark.parametrize(
    ("pixel_format", "count"),
    [
        ("gray", 6),
        ("gray10le", 6),
        ("yuva420p", 6),
        ("yuv420p10le", 6),
        ("yuv420p", 4),
        ("yuv444p", 1),
    ],
)
def test_noisy_clips_of_any_kind_go_through(tmp_path, pixel_format, count):
    pictures = noisy(panned(count), 8)
    clip = write_clip(tmp_path / "in.mkv", pictures, codec="ffv1", pixel_format=pixel_format)
    options = {"policy": "lanczos", "scale": 2, "codec": "ffv1", "metrics": ()}
    done = run(clip, tmp_path / "out.mkv", remove_noise="on", **options)
    assert done.frames_out == count
    sigma = done.degradation[0]["noise_sigma"]
    # One frame alone shows no noise.
    assert sigma > 3 if count > 1 else sigma == 0
    if pixel_format == "yuva420p":
        assert read_frames(tmp_path / "out.mkv")[0].format.name == pixel_format


def test_a_shot_model_learns_from_cleaned_frames(noisy_clip, tmp_path, monkeypatch):
    seen = {}

    def note(frames, *_, **__):
        seen["frames"] = [frame for run in frames for frame in run]
        raise KeyboardInterrupt

    monkeypatch.setattr("vsr.train.shot.train_shot_model", note)
    truth = [to_tensor(each) for each in moving_pictures(12, 64, 80, (0.3, 0.6), seed=1)]
    errors = {}
    for restore in (1.0, 0.0):
        with pytest.raises(KeyboardInterrupt):
            train_shot(noisy_clip, tmp_path / str(restore), restore=restore)
        pairs = zip(seen["frames"], truth, strict=False)
        errors[restore] = np.mean([float((one - true).abs().mean()) for one, true in pairs])
    assert errors[1.0] < 0.6 * errors[0.0]


def test_inspect_tells_that_noise_is_removed(noisy_clip, tmp_path):
    from typer.testing import CliRunner

    from vsr.cli import app

    record = tmp_path / "found.json"
    assert (
        CliRunner().invoke(app, ["inspect", str(noisy_clip), "--json", str(record)]).exit_code == 0
    )
    first, second = json.loads(record.read_text())["shots"]
    assert any("noise is removed" in each for each in first["remedies"])
    assert not second["remedies"]
