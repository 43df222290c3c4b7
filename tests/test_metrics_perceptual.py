"""VIF, HaarPSI, MAE, RMSE and ewarp, each against an independent computation."""

import numpy as np
import piq
import pytest
import torch
from scipy.ndimage import map_coordinates

from tests.measuring import array, measure, moving, noisy, value
from vsr.image.dense_motion import motion_between
from vsr.image.resample import resize
from vsr.metrics.observation import MetricImage


def blurred(picture, factor=3):
    height, width = picture.shape[-2:]
    return resize(resize(picture, height // factor, width // factor), height, width).clamp(0, 1)


DISTORTIONS = {
    "noise": noisy,
    "strong noise": lambda picture: noisy(picture, 0.3),
    "blur": blurred,
    "contrast": lambda picture: (0.5 + 1.3 * (picture - 0.5)).clamp(0, 1),
    "negative": lambda picture: 1 - picture,
    "dark": lambda picture: picture / 4,
}


@pytest.mark.parametrize("shape", [(64, 96), (65, 99), (128, 80)])
@pytest.mark.parametrize("name", DISTORTIONS)
def test_vif_and_haarpsi_are_those_of_piq(name, shape):
    truth = moving(1, *shape)[0]
    result = DISTORTIONS[name](truth)
    for metric, oracle in (("vif", piq.vif_p), ("haarpsi", piq.haarpsi)):
        expected = float(oracle(result[None].double(), truth[None].double()))
        assert value(metric, result, truth) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_vif_is_that_of_the_authors_formula_pixel_by_pixel():
    """The first scale's channel at one pixel, written out for a picture as small as its window."""
    random = np.random.default_rng(0)
    truth = random.uniform(0, 255, (41, 41))
    result = 0.7 * truth + random.normal(0, 20, truth.shape) + 30
    expected = vifp_in_loops(result, truth)
    pictures = [
        torch.from_numpy((plane / 255).astype(np.float32)).expand(3, -1, -1)
        for plane in (result, truth)
    ]
    assert value("vif", *pictures) == pytest.approx(expected, rel=1e-4)


def vifp_in_loops(result, truth):
    kept = total = 0.0
    for scale in range(1, 5):
        side = 2 ** (4 - scale + 1) + 1
        offsets = np.arange(side) - side // 2
        window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (side / 5) ** 2))
        window /= window.sum()

        def means(plane, window=window, side=side):
            rows, columns = (length - side + 1 for length in plane.shape)
            return np.array(
                [
                    [(window * plane[y : y + side, x : x + side]).sum() for x in range(columns)]
                    for y in range(rows)
                ]
            )

        if scale > 1:
            result, truth = means(result)[::2, ::2], means(truth)[::2, ::2]
        covariance = means(result * truth) - means(result) * means(truth)
        own, other = (means(plane**2) - means(plane) ** 2 for plane in (truth, result))
        gain = np.maximum(covariance / own, 0)
        noise = np.where(gain > 0, other - gain * covariance, other)
        kept += np.log2(1 + gain**2 * own / (noise + 2)).sum()
        total += np.log2(1 + own / 2).sum()
    return kept / total


def test_equal_and_flat_pictures_score_1_and_small_ones_nothing():
    truth = moving(1, 64, 96)[0]
    flat = torch.full_like(truth, 0.4)
    for name, side in (("vif", 41), ("haarpsi", 16)):
        for picture in (truth, flat, torch.zeros_like(truth)):
            assert value(name, picture, picture.clone()) == pytest.approx(1, abs=1e-5)
        small = truth[:, :side, :side]
        assert value(name, small, small) == pytest.approx(1, abs=1e-5)
        assert value(name, small[:, 1:], small[:, 1:]) is None
        assert "smaller than" in measure([name], [small[:, 1:]], [small[:, 1:]])[name].reason


def test_vif_ranks_blur_and_noise_below_the_truth_and_contrast_above():
    truth = moving(1, 64, 96)[0]
    assert value("vif", blurred(truth), truth) < value("vif", blurred(truth, 2), truth) < 1
    assert value("vif", (0.5 + 0.8 * (truth - 0.5)), truth) < 1
    dull = 0.5 + 0.5 * (truth - 0.5)
    assert value("vif", truth, dull) > 1


@pytest.mark.parametrize("border", [0, 4])
def test_mean_absolute_and_root_mean_square_errors_are_numpys(border):
    truth = moving(1, 32, 48)[0]
    result = noisy(truth)
    inner = slice(border, 32 - border), slice(border, 48 - border)
    errors = 255 * (array(result)[inner] - array(truth)[inner])
    assert value("mae", result, truth, border=border) == pytest.approx(
        np.abs(errors).mean(), rel=1e-5
    )
    assert value("rmse", result, truth, border=border) == pytest.approx(
        np.sqrt((errors**2).mean()), rel=1e-5
    )


def test_ewarp_is_lais_formula_written_out():
    truths = moving(2, 64, 96, step=(1.5, 2.0))
    results = [noisy(truth, 0.05, seed) for seed, truth in enumerate(truths)]
    earlier, later = (MetricImage(truth, truth).luma for truth in truths)
    motion = motion_between(earlier, later)
    rows, columns = np.indices((64, 96))
    places = [rows + motion.flow[1].numpy(), columns + motion.flow[0].numpy()]
    first, second = (array(result) for result in results)
    warped = np.stack(
        [map_coordinates(second[..., c], places, order=1, mode="nearest") for c in range(3)],
        axis=-1,
    )
    squares = ((first - warped) ** 2)[motion.visible.numpy()]
    assert motion.visible.float().mean() > 0.3
    figures = measure(["ewarp"], results, truths)["ewarp"]
    assert figures.per_frame[0] is None
    assert figures.per_frame[1] == pytest.approx(1000 * squares.mean(), rel=1e-2)
    lows = [resize(truth, 16, 24).clamp(0, 1) for truth in truths]
    assert measure(["ewarp"], results, None, lows)["ewarp"].mean > 0
