"""Structural similarity (Wang et al., 2004) on RGB and on BT.601 luma."""

from dataclasses import dataclass

import numpy as np
import torch

from vsr.image.blur import gaussian_filter
from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

WINDOW_PX = 11
_SIGMA_PX = 1.5
_BAND_PX = 128
_VALID = slice(WINDOW_PX // 2, -(WINDOW_PX // 2))


@dataclass(frozen=True)
class Similarity:
    """How alike two planes are on average, 1 for equal ones."""

    ssim: float
    structure: float
    """SSIM's product of contrast and structure, without luminance."""


def similarity(result: FloatArray, truth: FloatArray, data_range: float) -> Similarity:
    """Of two planes (H, W): 11x11 Gaussian window of sigma 1.5, K 0.01 and 0.03, valid region
    only."""
    height, width = result.shape
    count = (height - WINDOW_PX + 1) * (width - WINDOW_PX + 1)
    ssim_sum = structure_sum = 0.0
    # In bands, whose dozen intermediate planes stay in the processor's cache.
    for top in range(0, height - WINDOW_PX + 1, _BAND_PX):
        rows = slice(top, top + _BAND_PX + WINDOW_PX - 1)
        luminance, structure = _terms(result[rows], truth[rows], data_range)
        luminance *= structure
        ssim_sum += float(luminance[:, _VALID].sum())
        structure_sum += float(structure[:, _VALID].sum())
    return Similarity(ssim_sum / count, structure_sum / count)


def ssim(result: torch.Tensor, truth: torch.Tensor, data_range: float) -> float | None:
    """Mean SSIM of planes (..., H, W), see `similarity`; None where the pictures are smaller than
    the window."""
    if min(result.shape[-2:]) < WINDOW_PX:
        return None
    pairs = zip(planes(result), planes(truth), strict=True)
    return float(np.mean([similarity(*pair, data_range=data_range).ssim for pair in pairs]))


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
        observation.inner(observation.result.current.pixels),
        observation.inner(observation.truth.current.pixels),
        data_range=1.0,
    )


def _measure_luma(observation: Observation) -> float | None:
    assert observation.truth is not None
    return ssim(
        observation.inner(observation.result.current.luma),
        observation.inner(observation.truth.current.luma),
        data_range=255.0,
    )


def _terms(
    result: FloatArray, truth: FloatArray, data_range: float
) -> tuple[FloatArray, FloatArray]:
    """Luminance, and contrast times structure, around each pixel of the valid rows."""
    # Of sum and difference: 4xy = (x + y)^2 - (x - y)^2 and 2(x^2 + y^2) = (x + y)^2 + (x - y)^2,
    # which saves passes. Shifting the sum leaves its variance alone and spares float32 the
    # cancellation in E[s^2] - E[s]^2.
    shift = np.float32(data_range)
    total, difference = result + truth, result - truth
    total -= shift
    mean_total, mean_difference = _means(total), _means(difference)
    total *= total
    difference *= difference
    variance_of_total, variance_of_difference = _means(total), _means(difference)
    variance_of_total -= mean_total * mean_total
    mean_difference *= mean_difference
    variance_of_difference -= mean_difference
    mean_total += shift
    mean_total *= mean_total
    luminance = _contrast(mean_total, mean_difference, np.float32(2 * (0.01 * data_range) ** 2))
    return luminance, _contrast(
        variance_of_total, variance_of_difference, np.float32(2 * (0.03 * data_range) ** 2)
    )


def _contrast(larger: FloatArray, smaller: FloatArray, constant: np.float32) -> FloatArray:
    """(larger - smaller) / (larger + smaller), with the constant added to both terms; overwrites
    `larger`."""
    larger += constant
    contrast = larger - smaller
    larger += smaller
    contrast /= larger
    return contrast


def _means(plane: FloatArray) -> FloatArray:
    # Whole rows lie side by side in memory, which doubles the speed of all that follows.
    return gaussian_filter(plane, WINDOW_PX, _SIGMA_PX)[_VALID]
