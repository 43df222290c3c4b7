"""Flicker control as a user meets it: in a run, in a closed loop, and for a video that was made
elsewhere."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, read_frames, read_times, write_clip
from tests.models import make_model, picture
from tests.scenes import background
from tests.steps import steps_of_pairs
from vsr.errors import InputError, OutputError, UsageError
from vsr.image.blur import gaussian_kernel, reduce_blurred, taps_from_tensor
from vsr.image.resample import resize
from vsr.pipeline import run as pipeline
from vsr.pipeline.live_metrics import LIVE_METRICS, LiveMetrics
from vsr.pipeline.options import Recipe, RunFiles, resolve_recipe
from vsr.pipeline.session import make_flicker_control
from vsr.restore.data_term import CLEAN
from vsr.temporal.deflicker import AUTO_STRENGTH, FlickerControl, fusion_options
from vsr.temporal.fusion import Enlarged
from vsr.temporal.strength_search import search_strength
from vsr.upscale import resolve_policy
from vsr.video.step import ShotRef
from vsr.video.writer import EncodeOptions

LOSSLESS = EncodeOptions("ffv1", pixel_format="bgr0")


def flickering_pairs(count=9, noise=0.06):
    """A source that moves steadily, and an enlargement with detail that changes from frame to
    frame."""
    random = torch.Generator().manual_seed(0)
    for i in range(count):
        truth = torch.from_numpy(background(i)[:96, :128]).permute(2, 0, 1).float() / 255
        large = (truth + noise * torch.randn(truth.shape, generator=random)).clamp(0, 1)
        yield resize(truth, 24, 32).clamp(0, 1), large


def test_what_was_enlarged_for_a_blur_goes_on_to_agree_with_the_source_through_that_blur():
    kernel = gaussian_kernel(13, (2.2, 0.9), 30)
    truths = [
        torch.from_numpy(background(i)[:96, :128]).permute(2, 0, 1).float() / 255 for i in range(6)
    ]
    random = torch.Generator().manual_seed(0)
    pairs = [
        (
            reduce_blurred(truth, kernel),
            (truth + 0.06 * torch.randn(truth.shape, generator=random)).clamp(0, 1),
        )
        for truth in truths
    ]

    def distance(taps):
        steadied = control_of().through(iter(steps_of_pairs(pairs, taps)))
        return sum(
            float((step.picture - truth).square().mean())
            for step, truth in zip(steadied, truths, strict=True)
        )

    assert distance(taps_from_tensor(kernel)) < 0.9 * distance(None)


def control_of(strength=AUTO_STRENGTH, target=None, notify=lambda _: None):
    return FlickerControl(strength, target, 1.0, notify)


def steadied(control, pairs):
    return list(control.through(iter(steps_of_pairs(pairs))))


def measured(control, pairs):
    """The record of the one shot that these pairs are."""
    metrics = LiveMetrics((), None, lambda _: None, is_sample=True)
    for _ in metrics.through(control.through(iter(steps_of_pairs(pairs)))):
        pass
    (shot,) = metrics.shots()
    return shot


def change_ratio(steps):
    """Change along the motion of the pictures over that of their enlarged sources, by OpenCV's own
    flow and grey."""

    def gray(picture):
        levels = (picture.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        return cv2.cvtColor(np.ascontiguousarray(levels), cv2.COLOR_RGB2GRAY)

    source = [gray(resize(step.frame.pixels, *step.picture.shape[-2:])) for step in steps]
    made = [gray(step.picture) for step in steps]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = source[0].shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)

    def change(planes, number, motion):
        before = cv2.remap(planes[number - 1], grid + motion, None, cv2.INTER_CUBIC)
        inner = (slice(8, -8), slice(8, -8))
        return np.abs(planes[number].astype(float) - before)[inner].mean()

    totals = np.zeros(2)
    for number in range(3, len(steps)):
        motion = flow.calc(source[number], source[number - 1], None)
        totals += [change(made, number, motion), change(source, number, motion)]
    return totals[0] / totals[1]


def is_same(steps, others):
    return all(
        torch.equal(one.picture, other.picture) for one, other in zip(steps, others, strict=True)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("steady")


@pytest.fixture(scope="module")
def clip(folder):
    return write_clip(
        folder / "clip.mkv",
        moving_pictures(8, 40, 48),
        codec="ffv1",
        pixel_format="bgr0",
        audio_codec="aac",
    )


@pytest.fixture(scope="module")
def bank(folder):
    make_model(folder / "bank", "a", picture(), seed=0)
    return folder / "bank"


@pytest.fixture(scope="module")
def plain(folder, clip, bank):
    """The clip upscaled without flicker control."""
    recipe = Recipe("smi", scale=2.0, steady=0.0, metrics=(), encode=LOSSLESS)
    pipeline.run(clip, recipe, RunFiles(folder / "plain.mkv", models=bank))
    return folder / "plain.mkv"


def pixels(path):
    return np.stack([frame.to_ndarray(format="rgb24").astype(int) for frame in read_frames(path)])


def test_every_step_keeps_its_place_time_and_source():
    steps = steps_of_pairs(flickering_pairs())
    made = list(control_of().through(iter(steps)))
    assert [(step.frame.index, step.result.pts) for step in made] == [(i, i) for i in range(9)]
    assert all(one.frame is given.frame for one, given in zip(made, steps, strict=True))


def test_the_record_tells_what_was_gained_and_what_it_cost():
    shot = measured(control_of(), flickering_pairs(18))
    assert shot.flicker_after < 0.7 * shot.flicker_before
    assert 0 < shot.sharpness_kept < 1
    assert f"flicker {shot.flicker_after:.2f} grey levels" in shot.summary()


@pytest.mark.parametrize("names", [LIVE_METRICS, ("lr_psnr",), ()])
def test_flicker_is_one_figure_whether_metrics_are_asked_for_or_not(names):
    metrics = LiveMetrics(names, None, lambda _: None, is_sample=names == LIVE_METRICS)
    list(metrics.through(control_of().through(iter(steps_of_pairs(flickering_pairs(18))))))
    (shot,) = metrics.shots()
    assert shot == measured(control_of(), flickering_pairs(18))
    if names == LIVE_METRICS:
        assert shot.flicker_after == metrics.board.compute()["flicker_live"].mean


def test_each_shot_begins_anew():
    first = steps_of_pairs(flickering_pairs(4))
    second = [replace(step, shot=ShotRef(1, 4)) for step in steps_of_pairs(flickering_pairs())]
    control = control_of()
    both = list(control.through(iter([*first, *second])))
    assert is_same(both[4:], steadied(control_of(), flickering_pairs()))
    assert [shot.first_frame for shot in control.shots] == [0, 4]


def test_no_strength_is_no_change():
    steps = steps_of_pairs(flickering_pairs())
    assert is_same(control_of(0.0).through(iter(steps)), steps)


def test_more_strength_is_steadier():
    flickers = [
        measured(control_of(one), flickering_pairs(10)).flicker_after for one in (0.3, 0.6, 0.9)
    ]
    assert flickers == sorted(flickers, reverse=True)


def test_the_closed_loop_takes_the_least_strength_that_reaches_the_target():
    control = control_of(target=1.6)
    made = steadied(control, flickering_pairs(20))
    (shot,) = control.shots
    assert 0 < shot.strength < 1
    assert change_ratio(made) == pytest.approx(1.6, rel=0.25)
    assert change_ratio(steps_of_pairs(flickering_pairs(20))) > 2


def test_a_target_that_is_met_already_changes_nothing():
    steps = steps_of_pairs(flickering_pairs())
    assert is_same(control_of(target=50.0).through(iter(steps)), steps)


def test_a_target_out_of_reach_is_told():
    said = []
    control = control_of(target=0.01, notify=said.append)
    steadied(control, flickering_pairs())
    assert control.shots[0].strength == 1.0
    (line,) = said
    assert "does not reach the target of 0.01" in line


def test_a_probe_of_a_still_picture_cannot_tell_the_strength():
    still = Enlarged(*next(flickering_pairs()), None)
    found = search_strength([still] * 5, 1.0, CLEAN, fusion_options, fallback=0.5)
    assert found.value == 0.5


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe("smi"), AUTO_STRENGTH),
        (Recipe(), AUTO_STRENGTH),
        (Recipe("bicubic"), 0.0),
        (Recipe("bicubic", steady="auto"), AUTO_STRENGTH),
        (Recipe("lanczos", steady=0.5), 0.5),
        (Recipe("smi", steady=0.0), 0.0),
        (Recipe("shot"), 0.0),
        (Recipe("shot", steady=0.5), 0.5),
        (Recipe("bicubic", upscaler="net.pth"), AUTO_STRENGTH),
    ],
)
def test_flicker_control_is_on_for_models_and_off_for_interpolation(recipe, expected):
    policy = resolve_policy(recipe.policy, recipe.upscaler, "bank")
    control = make_flicker_control(recipe, policy)
    assert (control.strength, control.is_on) == (expected, expected > 0)


@pytest.mark.parametrize(
    "settings", [["steady=1.5"], ["steady=-0.1"], ["target_flicker=0"], ["steady='much'"]]
)
def test_a_recipe_refuses_strengths_that_cannot_be(settings):
    with pytest.raises(UsageError):
        resolve_recipe(None, settings, {})


def test_a_strength_and_a_target_exclude_each_other():
    with pytest.raises(UsageError, match="give one"):
        resolve_recipe(None, ["steady=0.5", "target_flicker=1"], {})


def test_the_option_takes_a_number_or_auto():
    given = [resolve_recipe(None, [], {"steady": text}).steady for text in (None, "auto", "0.5")]
    assert given == [None, "auto", 0.5]
    with pytest.raises(UsageError, match="--steady is 'much'; expected a number from 0 to 1 or"):
        resolve_recipe(None, [], {"steady": "much"})


def test_a_run_steadies_each_shot_and_records_it(folder, bank):
    bright, dark = (moving_pictures(12, 40, 48, step=(0.1, 0.2), seed=seed) for seed in (1, 2))
    pictures = [*bright, *(one // 4 for one in dark)]
    cut = write_clip(folder / "cut.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    recipe = Recipe("smi", scale=2.0, metrics=(), encode=LOSSLESS)
    manifest = pipeline.run(cut, recipe, RunFiles(folder / "cut_x2.mkv", models=bank))
    assert [shot["first_frame"] for shot in manifest.steady] == [0, 12]
    assert {shot["strength"] for shot in manifest.steady} == {AUTO_STRENGTH}
    assert read_times(folder / "cut_x2.mkv") == read_times(cut)
    assert json.loads(manifest.to_json())["steady"][0]["flicker_after"] is not None


def test_a_given_video_is_steadied_as_the_run_itself_would_have(folder, clip, bank, plain):
    recipe = Recipe("smi", scale=2.0, metrics=(), encode=LOSSLESS)
    pipeline.run(clip, recipe, RunFiles(folder / "run.mkv", models=bank))
    manifest = pipeline.steady(
        plain, replace(recipe, policy=None), RunFiles(folder / "given.mkv", low_resolution=clip)
    )
    assert manifest.frames_out == 8
    assert any("audio" in stream for stream in manifest.streams_kept)
    # The given video was rounded to whole levels before.
    assert np.abs(pixels(folder / "given.mkv") - pixels(folder / "run.mkv")).max() <= 2
    assert np.abs(pixels(folder / "run.mkv") - pixels(plain)).max() > 2


def test_the_source_is_found_by_time(folder, clip, plain):
    """The result lacks its first two frames."""
    pictures = [frame.to_ndarray(format="rgb24") for frame in read_frames(plain)][2:]
    late = write_clip(
        folder / "late.mkv", pictures, codec="ffv1", pixel_format="bgr0", pts=range(2, 8)
    )
    recipe = Recipe(steady=0.5, restore=0.0, metrics=("lr_psnr",), encode=LOSSLESS)
    manifest = pipeline.steady(
        late, recipe, RunFiles(folder / "late_steady.mkv", low_resolution=clip)
    )
    assert manifest.frames_out == 6
    assert manifest.metrics["lr_psnr"]["mean"] > 40


def test_a_source_that_the_video_was_not_made_from_is_refused(folder, plain):
    other = write_clip(
        folder / "other.mkv", [np.full((40, 48, 3), 255, np.uint8)] * 8, codec="ffv1"
    )
    with pytest.raises(InputError, match="does not show"):
        pipeline.steady(plain, Recipe(), RunFiles(folder / "never.mkv", low_resolution=other))
    assert not (folder / "never.mkv").exists()


def test_a_source_larger_than_the_video_is_refused(folder, clip, plain):
    with pytest.raises(InputError, match="smaller"):
        pipeline.steady(clip, Recipe(), RunFiles(folder / "never.mkv", low_resolution=plain))


def test_no_clip_that_is_read_beside_the_input_is_ever_replaced(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(3), codec="ffv1", pixel_format="bgr0")
    large = tmp_path / "large.mkv"
    vsr.run(clip, large, policy="bicubic", scale=2, metrics=())
    before = {path: path.read_bytes() for path in (clip, large)}
    with pytest.raises(OutputError, match="clip that the command reads"):
        vsr.steady(large, clip, clip, overwrite=True)
    with pytest.raises(OutputError, match="clip that the command reads"):
        vsr.run(clip, large, policy="bicubic", scale=2, reference=large, overwrite=True)
    assert {path: path.read_bytes() for path in (clip, large)} == before
