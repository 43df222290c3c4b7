"""Structural similarity (Wang et al., 2004) on RGB and on BT.601 luma."""

from dataclasses import dataclass

import numpy as np
import torch

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation
from vsr.metrics.smoothing import gaussian_means
from vsr.motion import FloatArray

WINDOW_PX = 11
_SIGMA_PX = 1.5
_BAND_PX = 64
_VALID = slice(WINDOW_PX // 2, -(WINDOW_PX // 2))


@dataclass(frozen=True)
class Likeness:
    """How alike two planes are on average, 1 for equal ones."""

    ssim: float
    structure: float
    """SSIM's product of contrast and structure, without luminance."""


def likeness(result: FloatArray, truth: FloatArray, data_range: float) -> Likeness:
    """Of two planes (H, W): 11x11 Gaussian window of sigma 1.5, K 0.01 and 0.03, valid region only."""
    height, width = result.shape
    count = (height - WINDOW_PX + 1) * (width - WINDOW_PX + 1)
    ssim_sum = structure_sum = 0.0
    # In bands, whose dozen intermediate planes stay in the processor's cache.
    for top in range(0, height - WINDOW_PX + 1, _BAND_PX):
        rows = slice(top, top + _BAND_PX + WINDOW_PX - 1)
        luminance, structure = _terms(result[rows], truth[rows], data_range)
        ssim_sum += float((luminance * structure).sum())
        structure_sum += float(structure.sum())
    return Likeness(ssim_sum / count, structure_sum / count)


def ssim(result: torch.Tensor, truth: torch.Tensor, data_range: float) -> float | None:
    """Mean SSIM of planes (..., H, W), see `likeness`; None where the pictures are smaller than the window."""
    if min(result.shape[-2:]) < WINDOW_PX:
        return None
    pairs = zip(planes(result), planes(truth), strict=True)
    return float(np.mean([likeness(*pair, data_range=data_range).ssim for pair in pairs]))


def planes(pixels: torch.Tensor) -> FloatArray:
    """(..., H, W) as an array of planes (N, H, W) on the CPU."""
    array: FloatArray = pixels.reshape(-1, *pixels.shape[-2:]).cpu().numpy()
    return array


def load_rgb() -> LoadedMetric:
    """SSIM averaged over the three channels."""
    return LoadedMetric(_measure_rgb)


def load_luma() -> LoadedMetric:
    """SSIM of luma 16..235 with a data range of 255."""
    return LoadedMetric(_measure_luma)


def _measure_rgb(observation: Observation) -> float | None:
    assert observation.truth is not None
    return ssim(
        observation.inner(observation.result.now.pixels),
        observation.inner(observation.truth.now.pixels),
        data_range=1.0,
    )


def _measure_luma(observation: Observation) -> float | None:
    assert observation.truth is not None
    return ssim(
        observation.inner(observation.result.now.luma), observation.inner(observation.truth.now.luma), data_range=255.0
    )


def _terms(result: FloatArray, truth: FloatArray, data_range: float) -> tuple[FloatArray, FloatArray]:
    """Luminance, and contrast times structure, around each pixel of the valid region."""
    # Shifting both by the same grey leaves variances alone and spares float32 the cancellation in E[x^2] - E[x]^2.
    middle = np.float32(data_range / 2)
    x, y = result - middle, truth - middle
    mean_x, mean_y = _means(x), _means(y)
    product_of_means, squares_of_means = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _means(x * y) - product_of_means
    variances = _means(x * x + y * y) - squares_of_means
    c1, c2 = np.float32((0.01 * data_range) ** 2), np.float32((0.03 * data_range) ** 2)
    # The means of the unshifted planes, multiplied out.
    shift = middle * (mean_x + mean_y + middle)
    luminance = (2 * (product_of_means + shift) + c1) / (squares_of_means + 2 * shift + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _means(plane: FloatArray) -> FloatArray:
    return gaussian_means(plane, WINDOW_PX, _SIGMA_PX)[_VALID, _VALID]
