"""Blurred footage: its blur is told by the first frames of a shot, and undone without training."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vsr
from benchmarks.clips import CLIPS, EXCERPTS, reduce
from tests.clips import moving_pictures, read_frames, write_clip
from vsr.engine.resampling import back_project_in_place
from vsr.errors import InterruptedRunError
from vsr.image.degradation import CLEAN_SHOT, GaussianBlur, KnownDegradation
from vsr.image.gaussian_blur import spread
from vsr.image.resample import resize
from vsr.models.prior import load_prior_for, load_shipped_prior
from vsr.models.shot_model import load_shot_models
from vsr.pipeline.estimate import training_cost
from vsr.pipeline.inspection import inspect_clip
from vsr.pipeline.need import find_need
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run
from vsr.progress import Listener
from vsr.records import from_table, to_table
from vsr.restore.data_term import CLEAN, MIN_UNDONE_BLUR_PX, known_degradation
from vsr.restore.degradation import estimate_blur
from vsr.train.fit import TrainingListener
from vsr.train.shot import train_shot
from vsr.video.step import Degradation, Steadying
from vsr.video.writer import EncodeOptions

SKEWED = GaussianBlur(1.3, 0.6, 30.0)
ROUND = GaussianBlur(1.1, 1.1, 0.0)
SCALE = 4


def nature(height, width, seed=0):
    """A picture whose power falls with the square of the frequency, as nature's does, (1, H, W)."""
    random = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.randn(height, width, generator=random))
    cycles = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    picture = torch.fft.irfft2(spectrum / cycles.clamp_min(1 / 512), s=(height, width))
    return (0.5 + 0.14 * picture / picture.std()).clamp(0, 1)[None]


def reduced_through(blur, picture, factor):
    """Reduce (C, H, W) by sampling the Gaussian at the middle of each low-resolution pixel."""
    reach = 5 * factor
    at = torch.arange(-reach, reach) + 0.5
    angle = torch.deg2rad(torch.tensor(blur.degrees))
    down, right = at[:, None], at[None, :]
    along = right * angle.cos() - down * angle.sin()
    across = right * angle.sin() + down * angle.cos()
    sigmas = blur.wide_px * factor, blur.narrow_px * factor
    kernel = torch.exp(-((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2) / 2)
    margin = reach - factor // 2
    padded = F.pad(picture[:, None], (margin,) * 4, mode="replicate")
    return F.conv2d(padded, (kernel / kernel.sum())[None, None], stride=factor)[:, 0]


def levels_apart(one, other):
    """Root mean square difference in gray levels, rims left off."""
    inner = (slice(None), slice(8, -8), slice(8, -8))
    return 255 * float((one[inner] - other[inner]).square().mean().sqrt())


def truth_pictures(count, low_height=72, low_width=96):
    """Pictures (3, H, W) over which a natural texture moves."""
    texture = nature(SCALE * low_height + 64, SCALE * low_width + 64)
    size = SCALE * low_height, SCALE * low_width
    return [
        texture[:, 2 * n : 2 * n + size[0], 3 * n : 3 * n + size[1]].repeat(3, 1, 1)
        for n in range(count)
    ]


def write_reduced(path, blur=None, count=6, **encoding):
    """Write a clip of those pictures, reduced by `SCALE`, through a blur or bicubically."""
    lows = []
    for picture in truth_pictures(count):
        if blur is None:
            low = resize(picture, picture.shape[-2] // SCALE, picture.shape[-1] // SCALE)
        else:
            low = reduced_through(blur, picture, SCALE)
        lows.append((255 * low.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy())
    return write_clip(path, lows, **(encoding or {"codec": "ffv1", "pixel_format": "bgr0"}))


def decoded(path):
    """Pictures of a result, (H, W, 3) of uint8."""
    return [frame.to_ndarray(format="rgb24") for frame in read_frames(path)]


def psnr_of(path):
    """PSNR in dB of a result against the truth, rims left off."""
    made = decoded(path)
    truth = truth_pictures(len(made))
    inner = slice(16, -16)
    errors = [
        np.square(one[inner, inner] - 255 * other.permute(1, 2, 0).numpy()[inner, inner]).mean()
        for one, other in zip(made, truth, strict=True)
    ]
    return 10 * np.log10(255**2 / np.mean(errors))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("blur", [ROUND, SKEWED, GaussianBlur(2.0, 1.0, 120.0)])
def test_a_bicubic_reduction_that_is_spread_is_one_through_the_blur(blur, factor):
    picture = nature(64 * factor, 96 * factor)
    bicubic = resize(picture, 64, 96)
    exact = reduced_through(blur, picture, factor)
    assert levels_apart(spread(bicubic, blur), exact) < 0.1 * levels_apart(bicubic, exact)


def test_a_blur_leaves_plain_surfaces_and_slopes_as_they_are():
    slope = torch.linspace(0, 1, 64).expand(3, 48, 64)
    assert torch.allclose(spread(slope, SKEWED)[:, :, 12:-12], slope[:, :, 12:-12], atol=1e-5)
    assert torch.allclose(spread(torch.full((1, 20, 20), 0.4), SKEWED), torch.tensor(0.4))


@pytest.mark.parametrize("size", [(128, 192), (96, 144), (112, 160)])
def test_back_projection_through_a_blur_comes_to_agree_with_the_input_at_any_scale(size):
    low = spread(nature(64, 96), ROUND).clamp(0, 1)
    image = resize(low, *size)
    before = levels_apart(spread(resize(image, 64, 96), ROUND), low)
    for _ in range(4):
        back_project_in_place(image, low, 1.0, ROUND, twice=True)
    after = levels_apart(spread(resize(image, 64, 96), ROUND), low)
    assert after < 0.4 * before
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_a_weight_of_0_and_a_filter_that_keeps_nothing_change_nothing():
    low = nature(32, 48)
    image = resize(nature(32, 48, seed=1), 64, 96).clamp(0, 1)
    for weight, keep in ((0.0, None), (1.0, torch.zeros_like)):
        made = back_project_in_place(image.clone(), low, weight, ROUND, keep=keep)
        assert torch.equal(made, image)


def test_a_blurred_frame_is_brought_nearer_to_what_it_was():
    sharp = nature(72, 96)
    blurred = spread(sharp, SKEWED)
    sharpened = CLEAN.sharpened(blurred, SKEWED)
    assert levels_apart(sharpened, sharp) < 0.75 * levels_apart(blurred, sharp)


def test_width_and_direction_of_a_blur_are_estimated():
    pictures = [
        reduced_through(SKEWED, nature(576, 768, seed), 4).repeat(3, 1, 1) for seed in (1, 2)
    ]
    found = estimate_blur([(255 * picture).round() / 255 for picture in pictures])
    assert found.wide_px == pytest.approx(SKEWED.wide_px, rel=0.2)
    assert found.narrow_px == pytest.approx(SKEWED.narrow_px, rel=0.25)
    assert abs(found.degrees - SKEWED.degrees) < 8


def test_networks_are_told_of_a_blur_from_a_width_on_and_never_where_a_shot_is_coded_coarsely():
    blurred = Degradation(blur=1.2, narrow_blur=0.5, blur_degrees=30.0)
    assert known_degradation(blurred) == KnownDegradation(blur=GaussianBlur(1.2, 0.5, 30.0))
    assert known_degradation(blurred, 0.5).blur == GaussianBlur(0.6, 0.25, 30.0)
    assert known_degradation(blurred, 0) == CLEAN_SHOT
    # Compression looks like a blur of up to .7 pixels.
    assert known_degradation(replace(blurred, blur=0.7)) == CLEAN_SHOT
    assert known_degradation(replace(blurred, qp=20.0)).blur is not None
    assert known_degradation(replace(blurred, blur=0.9)).blur is not None
    assert known_degradation(replace(blurred, blur=0.9, qp=20.0)) == CLEAN_SHOT
    assert known_degradation(replace(blurred, qp=29.0)) == CLEAN_SHOT
    for coded in (replace(blurred, qp=36.0), replace(blurred, earlier_qp=36.0)):
        assert known_degradation(coded) == KnownDegradation(36)


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_blurred_shots_have_the_networks_of_clean_ones_of_each_quality(quality):
    known = KnownDegradation(blur=ROUND)
    prior = load_prior_for(quality, known)
    assert prior.name == load_shipped_prior(quality).name
    model = prior.as_shot_model(known)
    assert model.card.blur == ROUND
    for made, clean in zip(model.networks, prior.networks, strict=True):
        assert all(map(torch.equal, made.state_dict().values(), clean.state_dict().values()))


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the real clips of ../shared/data")
@pytest.mark.parametrize("name", EXCERPTS)
def test_no_clean_clip_is_taken_for_blurred(name):
    frames = [
        (255 * reduce(picture).clamp(0, 1)).round() / 255
        for picture in islice(EXCERPTS[name].pictures(), 16)
    ]
    found = estimate_blur(frames)
    assert found is None or found.wide_px < MIN_UNDONE_BLUR_PX - 0.1


def test_flicker_control_keeps_the_blur_in_its_record():
    for kernel in (ROUND, ((0.25, 0.25), (0.25, 0.25)), None):
        steadying = Steadying(0, 0.5, 1.0, kernel=kernel)
        assert from_table(Steadying, to_table(steadying)) == steadying


def test_a_run_undoes_the_blur_of_a_soft_clip_without_training(tmp_path):
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED)
    results = {}
    for restore in ("auto", 0):
        output = tmp_path / f"{restore}.mkv"
        made = vsr.run(clip, train="never", restore=restore, output=output, codec="ffv1")
        results[restore] = made, psnr_of(output)
    undone, gained = results["auto"]
    left, least = results[0]
    assert gained > least + 1
    assert undone.degradation[0]["blur"] == pytest.approx(SKEWED.wide_px, rel=0.2)
    assert undone.degradation[0]["narrow_blur"] == pytest.approx(SKEWED.narrow_px, rel=0.25)
    assert undone.decisions[0]["reason"].startswith("no model was trained for blur of 1.")
    assert left.decisions[0]["reason"] == "no model was trained"


def test_a_soft_clip_is_undone_at_any_scale_and_quality(tmp_path):
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED, count=6)
    for scale, quality in ((3, "balanced"), (1.5, "fast"), (2, "best")):
        made = vsr.run(
            clip, train="never", scale=scale, quality=quality, output=tmp_path / f"{scale}.mkv"
        )
        assert "for blur of" in made.decisions[0]["reason"]
        assert made.models == [f"prior {load_shipped_prior(quality).name}"]


def test_a_sharp_clip_is_the_same_to_the_byte_with_and_without_restoration(tmp_path):
    pictures = moving_pictures(4, 96, 128)
    clip = write_clip(tmp_path / "sharp.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    outputs = []
    for restore in ("auto", 0):
        output = tmp_path / f"{restore}.mkv"
        made = vsr.run(clip, train="never", restore=restore, output=output)
        assert made.decisions[0]["reason"] == "no model was trained"
        outputs.append(decoded(output))
    np.testing.assert_array_equal(*outputs)


def test_a_model_of_a_blurred_shot_is_the_prior_with_its_blur(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED, count=12)
    heard = []
    train_shot(clip, tmp_path / "bank", listener=TrainingListener(heard.append))
    (model,) = load_shot_models(tmp_path / "bank")
    assert model.card.degradation.blur.wide_px == pytest.approx(SKEWED.wide_px, rel=0.2)
    assert model.card.iterations == (0, 0)
    assert any("blur of 1." in line and "without training" in line for line in heard)
    made = vsr.run(clip, policy="shot", models=tmp_path / "bank", output=tmp_path / "o.mkv")
    alone = vsr.run(clip, train="never", output=tmp_path / "alone.mkv")
    assert "for blur of" in made.decisions[0]["reason"]
    np.testing.assert_array_equal(decoded(tmp_path / "o.mkv"), decoded(tmp_path / "alone.mkv"))
    assert alone.frames_out == 12
    # Nothing is trained, so a run of it takes little time.
    assert training_cost(find_need(clip, Recipe(), RunFiles())).models == (0.0,)


def test_a_training_that_keeps_out_the_prior_or_restores_nothing_knows_of_no_blur(tmp_path):
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED)
    for options in ({"prior": "none"}, {"restore": 0}):
        bank = tmp_path / str(len(list(tmp_path.iterdir())))
        train_shot(clip, bank, budget_seconds=0.1, **options)
        (model,) = load_shot_models(bank)
        assert model.card.degradation == CLEAN_SHOT
        assert model.card.blur is None


def test_coding_errors_do_not_hide_a_blur(tmp_path):
    coded = {"codec": "libx264", "codec_options": {"qp": "22", "preset": "veryfast"}}
    (soft,), _ = inspect_clip(write_reduced(tmp_path / "soft.mkv", SKEWED, **coded))
    assert soft.degradation.blur == pytest.approx(SKEWED.wide_px, rel=0.25)
    assert any("is undone" in remedy for remedy in soft.remedies)
    (sharp,), _ = inspect_clip(write_reduced(tmp_path / "sharp.mkv", **coded))
    assert not any("undone" in remedy for remedy in sharp.remedies)


def test_a_compressed_soft_clip_is_left_to_the_networks_for_its_quantizer(tmp_path):
    coded = {"codec": "libx264", "codec_options": {"qp": "36", "preset": "veryfast"}}
    clip = write_reduced(tmp_path / "coded.mkv", ROUND, **coded)
    made = vsr.run(clip, train="never", scale=2, output=tmp_path / "o.mkv")
    assert made.decisions[0]["reason"].startswith("no model was trained for quantizer 3")


def test_inspect_tells_what_is_done_about_a_blur(tmp_path):
    (soft,), _ = inspect_clip(write_reduced(tmp_path / "soft.mkv", SKEWED))
    assert soft.remedies[0].startswith("the blur of 1.")
    assert "undone" in soft.remedies[0]
    (left,), _ = inspect_clip(tmp_path / "soft.mkv", restore=0)
    assert left.remedies == ("the blur is left; train with --kernel auto to undo it",)
    (sharp,), _ = inspect_clip(write_reduced(tmp_path / "sharp.mkv"))
    assert sharp.remedies == ()


def test_a_stopped_run_of_a_soft_clip_goes_on_as_if_it_had_not_been(tmp_path):
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED, count=14)
    recipe = Recipe(
        "shot",
        scale=2.0,
        steady=0.5,
        train="never",
        metrics=(),
        encode=EncodeOptions(codec="ffv1", segment_frames=4),
    )
    run(clip, recipe, RunFiles(tmp_path / "whole.mkv"))
    asked = iter(range(100))
    stopping = Listener(should_stop=lambda: next(asked) == 9)
    with pytest.raises(InterruptedRunError):
        run(clip, recipe, RunFiles(tmp_path / "parts.mkv"), listener=stopping)
    resumed = run(clip, recipe, RunFiles(tmp_path / "parts.mkv"))
    assert resumed.resumed_at_frame > 0
    np.testing.assert_array_equal(decoded(tmp_path / "whole.mkv"), decoded(tmp_path / "parts.mkv"))


def test_results_do_not_depend_on_the_number_of_threads(tmp_path):
    clip = write_reduced(tmp_path / "soft.mkv", SKEWED, count=4)
    for threads in (1, 2):
        vsr.run(clip, train="never", scale=2, threads=threads, output=tmp_path / f"{threads}.mkv")
    np.testing.assert_array_equal(decoded(tmp_path / "1.mkv"), decoded(tmp_path / "2.mkv"))
