import gc
import json
import os
import weakref
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates, sobel
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.measuring import array, luma, measure, moving, noisy, value
from vsr.errors import InputError, UsageError
from vsr.image.dense_motion import flow_planes, motion_between, preset_flow, visible_mask
from vsr.image.motion import DIS_FAST, DIS_MEDIUM
from vsr.image.resample import resize
from vsr.metrics import METRICS, possible_metrics, with_sharpness
from vsr.metrics.metric import MetricUnavailableError, Needs
from vsr.metrics.scoreboard import Scoreboard
from vsr.video.frames import Frame

CLIP_METRICS = ("fid", "spectrum", "diversity")
PAIR_METRICS = [name for name, metric in METRICS.items() if metric.of_pairs]


@pytest.fixture
def weights(shared_data, monkeypatch):
    folders = [str(shared_data / name) for name in ("weights", "metric-params")]
    monkeypatch.setenv("VSR_WEIGHTS", os.pathsep.join(folders))


@pytest.fixture(params=METRICS)
def name(request):
    """Each metric in turn; those on weights where these are."""
    if METRICS[request.param].weights:
        request.getfixturevalue("weights")
        try:
            METRICS[request.param].load()
        except MetricUnavailableError as reason:
            pytest.skip(str(reason))
    return request.param


@pytest.mark.parametrize("border", [0, 7])
def test_psnr_matches_skimage(border):
    truth = moving(1)[0]
    result = noisy(truth)
    inner = np.s_[border : 64 - border, border : 96 - border]
    rgb = peak_signal_noise_ratio(array(truth)[inner], array(result)[inner], data_range=1)
    gray = peak_signal_noise_ratio(luma(truth)[inner], luma(result)[inner], data_range=255)
    assert value("psnr", result, truth, border=border) == pytest.approx(rgb, abs=1e-4)
    assert value("psnr_y", result, truth, border=border) == pytest.approx(gray, abs=1e-4)


def test_a_perfect_psnr_is_100_and_nothing_exceeds_it():
    truth = moving(1)[0] * 0.5
    almost = truth.clone()
    almost[0, 0, 0] += 1e-6
    for name in ("psnr", "psnr_y"):
        assert value(name, truth.clone(), truth) == 100
        assert value(name, almost, truth) == 100


@pytest.mark.parametrize("border", [0, 5])
@pytest.mark.parametrize("sigma", [0.003, 0.1])
def test_ssim_matches_skimage(border, sigma):
    truth = moving(1)[0]
    result = noisy(truth, sigma)
    inner = np.s_[border : 64 - border, border : 96 - border]
    as_in_paper = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    rgb = structural_similarity(
        array(truth)[inner], array(result)[inner], data_range=1, channel_axis=2, **as_in_paper
    )
    gray = structural_similarity(
        luma(truth)[inner], luma(result)[inner], data_range=255, **as_in_paper
    )
    assert value("ssim", result, truth, border=border) == pytest.approx(rgb, abs=2e-5)
    assert value("ssim_y", result, truth, border=border) == pytest.approx(gray, abs=2e-5)


def test_ssim_of_flat_bright_pictures_matches_skimage():
    truth = torch.full((3, 32, 32), 0.9)
    result = noisy(truth, 0.001)
    expected = structural_similarity(
        array(truth),
        array(result),
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    assert value("ssim", result, truth) == pytest.approx(expected, abs=1e-4)


def test_ssim_does_not_exist_below_its_window():
    truth = moving(1, 10, 40)[0]
    assert value("ssim", truth, truth) is None
    assert value("ssim_y", truth, truth) is None


@pytest.mark.parametrize("border", [0, 9])
def test_lr_psnr_compares_the_reduced_result_with_the_input(border):
    result = moving(1)[0]
    low = noisy(resize(result, 16, 24), 0.02)
    reduced = resize(result, 16, 24)
    off = -(-border // 4)
    inner = np.s_[off : 16 - off, off : 24 - off]
    expected = peak_signal_noise_ratio(array(low)[inner], array(reduced)[inner], data_range=1)
    assert value("lr_psnr", result, low_resolution=low, border=border) == pytest.approx(
        expected, abs=1e-3
    )
    assert value("lr_psnr", result, low_resolution=reduced, border=border) == 100


@pytest.mark.parametrize("border", [0, 6])
def test_sharpness_is_the_ratio_of_mean_sobel_magnitudes(border):
    truth = moving(1)[0]
    result = resize(resize(truth, 16, 24), 64, 96).clamp(0, 1)
    inner = np.s_[border : 64 - border, border : 96 - border]

    def mean_gradient(pixels):
        gray = luma(pixels)
        return np.hypot(sobel(gray, 0, mode="nearest"), sobel(gray, 1, mode="nearest"))[
            inner
        ].mean()

    expected = mean_gradient(result) / mean_gradient(truth)
    assert expected < 0.95
    assert value("sharpness", result, truth, border=border) == pytest.approx(expected, rel=1e-4)
    low = resize(truth, 16, 24)
    over_enlarged = mean_gradient(truth) / mean_gradient(resize(low, 64, 96).clamp(0, 1))
    assert value("sharpness_live", truth, low_resolution=low, border=border) == pytest.approx(
        over_enlarged, rel=1e-4
    )


def test_sharpness_over_a_flat_truth_does_not_exist():
    assert value("sharpness", moving(1)[0], torch.full((3, 64, 96), 0.5)) is None


def test_noise_on_a_still_scene_flickers_by_the_mean_difference_of_the_noises():
    truth = moving(1)[0] * 0.5 + 0.25
    results = [noisy(truth, 0.02, seed) for seed in range(3)]
    figures = measure(["warping_error", "flicker"], results, [truth] * 3)
    expected = [np.abs(luma(results[i]) - luma(results[i - 1])).mean() for i in (1, 2)]
    for name in ("warping_error", "flicker"):
        assert figures[name].per_frame[0] is None
        assert figures[name].per_frame[1:] == pytest.approx(expected, abs=1e-3)
    # Grey noise of sigma s changes luma by 2 s / sqrt(pi) on average; the channels' noises are
    # independent here.
    sigma_luma = 0.02 * np.linalg.norm([65.481, 128.553, 24.966])
    assert figures["flicker"].mean == pytest.approx(2 * sigma_luma / np.sqrt(np.pi), rel=0.03)


def test_alternating_brightness_flickers_by_its_step_whatever_moves():
    truths = [pixels * 0.6 + 0.2 for pixels in moving(4, step=(1.3, -2.1))]
    results = [pixels + (0.05 if index % 2 else -0.05) for index, pixels in enumerate(truths)]
    figures = measure(["flicker"], results, truths)
    assert figures["flicker"].per_frame[1:] == pytest.approx([0.1 * 219] * 3, abs=1e-3)


def test_the_truth_itself_does_not_flicker_but_has_a_warping_error():
    truths = moving(3, step=(1.3, -2.1))
    figures = measure(["warping_error", "flicker"], truths, truths)
    assert figures["flicker"].mean == 0
    assert 0 < figures["warping_error"].mean < 3


def expected_pair_figures(result, result_before, reference, reference_before, border):
    """Warping error and flicker by the formulas, warped with SciPy."""
    now, before = (
        np.rint(luma(pixels)).astype(np.uint8) for pixels in (reference, reference_before)
    )
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = estimator.calc(now, before, None)
    visible = visible_mask(*map(flow_planes, (flow, estimator.calc(before, now, None)))).numpy()
    rows, columns = np.indices(now.shape)
    places = [rows + flow[..., 1], columns + flow[..., 0]]

    def change(pixels, pixels_before):
        return luma(pixels) - map_coordinates(luma(pixels_before), places, order=1, mode="nearest")

    inner = np.s_[border : now.shape[0] - border, border : now.shape[1] - border]
    visible = visible[inner]
    error = change(result, result_before)
    excess = error - change(reference, reference_before)
    return np.abs(error[inner])[visible].mean(), np.abs(excess[inner])[visible].mean()


@pytest.mark.parametrize("border", [0, 8])
def test_warping_error_and_flicker_match_a_plain_implementation(border):
    truths = moving(2, step=(1.3, -2.1))
    results = [noisy(truth, 0.03, seed) for seed, truth in enumerate(truths)]
    figures = measure(["warping_error", "flicker"], results, truths, border=border)
    error, flicker = expected_pair_figures(results[1], results[0], truths[1], truths[0], border)
    assert figures["warping_error"].per_frame[1] == pytest.approx(error, abs=2e-3)
    assert figures["flicker"].per_frame[1] == pytest.approx(flicker, abs=2e-3)


def test_without_a_truth_the_enlarged_input_takes_its_place():
    truths = moving(2, step=(1.3, -2.1))
    lows = [resize(truth, 16, 24).clamp(0, 1) for truth in truths]
    enlarged = [resize(low, 64, 96).clamp(0, 1) for low in lows]
    results = [noisy(truth, 0.03, seed) for seed, truth in enumerate(truths)]
    figures = measure(["warping_error", "flicker_live"], results, low_resolutions=lows)
    error, flicker = expected_pair_figures(
        results[1], results[0], enlarged[1], enlarged[0], border=0
    )
    assert figures["warping_error"].per_frame[1] == pytest.approx(error, abs=2e-3)
    assert figures["flicker_live"].per_frame[1] == pytest.approx(flicker, abs=2e-3)


def test_flicker_live_follows_the_enlarged_input_even_beside_a_truth():
    truths = moving(2)
    lows = [resize(truth, 16, 24).clamp(0, 1) for truth in truths]
    results = [noisy(truth, 0.03, seed) for seed, truth in enumerate(truths)]
    alone = measure(["flicker_live"], results, low_resolutions=lows)["flicker_live"]
    assert measure(["flicker", "flicker_live"], results, truths, lows)["flicker_live"] == alone


def test_a_pair_with_nothing_unoccluded_has_no_value():
    truths = [moving(1, 64, 96, seed=seed)[0] for seed in (1, 2)]
    small = [truth[:, :13, :13].contiguous() for truth in truths]
    assert visible_mask(torch.full((2, 13, 13), 50.0), torch.zeros(2, 13, 13)).sum() == 0
    dark, bright = (torch.from_numpy(luma(pixels)) for pixels in small)
    there, back = (preset_flow(*pair, DIS_MEDIUM) for pair in ((bright, dark), (dark, bright)))
    hidden = not visible_mask(there, back)[5:8, 5:8].any()
    assert hidden, "the two textures were meant to have no common motion in the middle"
    figures = measure(["warping_error", "flicker"], small, small, border=5)
    assert figures["warping_error"].per_frame == (None, None)
    assert figures["warping_error"].mean is None
    assert "no frame" in figures["warping_error"].reason
    json.dumps(figures["flicker"].to_json(), allow_nan=False)


def test_pictures_too_small_for_flow_have_no_pair_figures():
    tiny = moving(2, 8, 8)
    assert measure(["flicker"], tiny, tiny)["flicker"].per_frame == (None, None)


def test_tof_is_the_speed_that_a_frozen_result_lacks():
    truths = moving(3, 96, 128, step=(0.0, 2.0))
    frozen = [truths[0]] * 3
    assert measure(["tof"], frozen, truths)["tof"].per_frame[1:] == pytest.approx(
        [2.0, 2.0], abs=0.1
    )
    assert measure(["tof"], truths, truths)["tof"].per_frame == (None, 0, 0)


def test_tof_counts_the_window_that_tecogan_counts():
    truths, results = moving(2, 70, 100, seed=1), moving(2, 70, 100, step=(1, 2), seed=2)

    def flow(pair):
        gray = [
            np.clip(np.rint((luma(pixels) - 16) * 255 / 219), 0, 255).astype(np.uint8)
            for pixels in pair
        ]
        return cv2.calcOpticalFlowFarneback(*gray, None, 0.5, 3, 15, 3, 5, 1.2, 0)

    window = np.s_[(70 - 32) // 2 : (70 + 32) // 2, (100 - 64) // 2 : (100 + 64) // 2]
    expected = np.sqrt(((flow(truths) - flow(results))[window] ** 2).sum(axis=-1)).mean()
    assert measure(["tof"], results, truths)["tof"].per_frame[1] == pytest.approx(
        expected, rel=1e-4
    )


def test_every_metric_gives_one_value_per_frame_and_none_where_a_pair_begins_or_one_per_clip(name):
    truths = moving(3, 192, 208)
    if name == "diversity":
        truths = truths[:1] * 3
    lows = [resize(truth, 48, 52).clamp(0, 1) for truth in truths]
    results = [noisy(truth, 0.03, seed) for seed, truth in enumerate(truths)]
    figures = measure([name], results, truths, lows)[name]
    assert json.loads(json.dumps(figures.to_json(), allow_nan=False))["unit"] == METRICS[name].unit
    if name in CLIP_METRICS:
        assert figures.per_frame is None
        assert figures.mean is not None
        return
    assert len(figures.per_frame) == 3
    assert (figures.per_frame[0] is None) == METRICS[name].of_pairs
    existing = [figure for figure in figures.per_frame if figure is not None]
    assert len(existing) == (2 if METRICS[name].of_pairs else 3)
    assert figures.mean == pytest.approx(sum(existing) / len(existing))


def test_every_metric_finds_the_truth_better_than_a_blurred_and_noisy_copy(name):
    if METRICS[name].needs is Needs.NOTHING or name == "diversity":
        pytest.skip(
            "it does not compare pictures with the truth; its own tests say what it prefers"
        )
    truths = moving(2, 192, 208, step=(1.3, -2.1))
    lows = [resize(truth, 48, 52).clamp(0, 1) for truth in truths]
    worse = [noisy(resize(low, 192, 208).clamp(0, 1), 0.1, seed) for seed, low in enumerate(lows)]
    if name in ("sharpness", "sharpness_live"):
        worse = [resize(resize(low, 24, 26), 192, 208).clamp(0, 1) for low in lows]
    good, bad = (measure([name], results, truths, lows)[name] for results in (truths, worse))
    assert (good.mean > bad.mean) if good.higher_is_better else (good.mean < bad.mean)


def test_no_metric_alters_a_frame(weights):
    truths = moving(2)
    results = [noisy(truth, 0.03, seed) for seed, truth in enumerate(truths)]
    lows = [resize(truth, 16, 24).clamp(0, 1) for truth in truths]
    copies = [[pixels.clone() for pixels in clip] for clip in (results, truths, lows)]
    measure(list(METRICS), results, truths, lows)
    for clip, copy in zip((results, truths, lows), copies, strict=True):
        assert all(torch.equal(pixels, kept) for pixels, kept in zip(clip, copy, strict=True))


def test_only_the_last_frame_is_held_on_to():
    board = Scoreboard(
        ["flicker", "flicker_live"], has_truth=True, has_low_resolution=True, with_baseline=True
    )
    held = []
    for index in range(4):
        truth = moving(1, seed=index)[0]
        board.update(
            Frame(truth.clone(), index, index, Fraction(1, 25)), truth, resize(truth, 16, 24)
        )
        held.append(weakref.ref(truth))
        del truth
    gc.collect()
    assert [reference() is not None for reference in held] == [False, False, False, True]


def test_the_baseline_is_the_enlarged_input_scored_alike():
    truths = moving(2)
    lows = [resize(truth, 16, 24).clamp(0, 1) for truth in truths]
    enlarged = [resize(low, 64, 96).clamp(0, 1) for low in lows]
    names = ["psnr", "sharpness", "flicker", "lr_psnr"]
    board = Scoreboard(names, has_truth=True, has_low_resolution=True, with_baseline=True)
    for index in range(2):
        board.update(
            Frame(noisy(truths[index]), index, index, Fraction(1, 25)), truths[index], lows[index]
        )
    assert board.compute_baseline() == measure(names, enlarged, truths, lows)


def test_an_unknown_metric_is_refused_naming_the_nearest():
    with pytest.raises(UsageError, match=r"'fliker'.*did you mean 'flicker'"):
        Scoreboard(["psnr", "fliker"], has_truth=True, has_low_resolution=True)


def test_a_metric_that_lacks_what_it_needs_is_refused():
    with pytest.raises(UsageError, match=r"'psnr' needs a truth \(--reference\)"):
        Scoreboard(["psnr"], has_truth=False, has_low_resolution=True)
    with pytest.raises(UsageError, match=r"'flicker_live' needs the low-resolution input"):
        Scoreboard(["flicker_live"], has_truth=True, has_low_resolution=False)
    with pytest.raises(UsageError, match=r"'warping_error' needs a truth .* or the low-resolution"):
        Scoreboard(["warping_error"], has_truth=False, has_low_resolution=False)


def test_all_that_can_be_computed_is_offered_but_for_what_must_be_asked_for():
    asked_for = {"diversity", "ewarp", *(name for name in METRICS if ":" in name)}
    live = {"lr_psnr", "sharpness_live", "flicker_live"}
    assert possible_metrics(True, True) == [name for name in METRICS if name not in asked_for]
    assert set(METRICS) - set(possible_metrics(True, False)) == live | asked_for
    assert set(possible_metrics(False, True)) == live | {"niqe", "brisque", "warping_error"}
    assert possible_metrics(False, False) == ["niqe", "brisque"]


@pytest.mark.parametrize("fast", [False, True])
def test_fast_flow_changes_the_motion_that_is_used(fast):
    truths = moving(2, step=(1.3, -2.1))
    board = Scoreboard(["warping_error"], has_truth=True, has_low_resolution=False, fast_flow=fast)
    for index, truth in enumerate(truths):
        board.update(Frame(truth, index, index, Fraction(1, 25)), truth)
    now, before = (torch.from_numpy(luma(pixels)).float() for pixels in reversed(truths))
    motion = motion_between(now, before, DIS_FAST if fast else DIS_MEDIUM)
    expected = float(motion.change(now, before)[motion.visible].abs().mean())
    assert board.compute()["warping_error"].per_frame[1] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_a_figure_across_frames_never_stands_without_a_sharpness_figure(name):
    assert with_sharpness(["psnr", name], has_truth=True) == ["psnr", name, "sharpness"]
    assert with_sharpness([name], has_truth=False) == [name, "sharpness_live"]
    assert with_sharpness([name, "sharpness_live"], has_truth=True) == [name, "sharpness_live"]
    assert with_sharpness(["psnr"], has_truth=True) == ["psnr"]


def test_a_few_pixels_of_difference_in_size_are_cropped_from_the_far_sides():
    truth = moving(1, 64, 96)[0]
    result = noisy(truth[:, :60, :92])
    expected = value("psnr", result, truth[:, :60, :92].contiguous())
    assert value("psnr", result, truth) == expected
    assert value("psnr", noisy(truth), truth[:, :60, :92]) == value(
        "psnr", noisy(truth)[:, :60, :92], truth[:, :60, :92]
    )


def test_lr_psnr_sees_the_whole_result_where_the_truth_is_smaller():
    result = moving(1, 64, 96)[0]
    low = resize(result, 16, 24)
    figures = measure(["psnr", "lr_psnr"], [result], [result[:, :60, :92]], [low])
    assert figures["lr_psnr"].mean == 100


def test_other_sizes_are_refused_naming_both():
    with pytest.raises(InputError, match=r"96x64.*48x32"):
        value("psnr", moving(1, 64, 96)[0], moving(1, 32, 48)[0])


def test_a_border_that_leaves_nothing_is_refused():
    truth = moving(1, 64, 96)[0]
    with pytest.raises(UsageError, match="border of 32 px leaves nothing"):
        value("psnr", truth, truth, border=32)
    with pytest.raises(UsageError, match="border of -1 px"):
        value("psnr", truth, truth, border=-1)


@pytest.mark.parametrize(("metric", "side_px"), [("niqe", 96), ("brisque", 16), ("ms_ssim", 161)])
def test_a_metric_that_no_frame_is_large_enough_for_says_what_size_it_wants(
    shared_data, monkeypatch, metric, side_px
):
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "metric-params"))
    small = [frame[:, :12, :12] for frame in moving(count=1)]
    result = measure([metric], small, small)[metric]
    assert result.mean is None
    assert str(side_px) in result.reason
