"""Structural similarity (Wang et al., 2004) on RGB and on BT.601 luma, and its multi-scale form
(Wang, Simoncelli and Bovik, 2003) on RGB."""

from dataclasses import dataclass

import numpy as np
import torch

from vsr.image.blur import gaussian_filter
from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedMetric, too_small_reason
from vsr.metrics.observation import Observation

WINDOW_PX = 11
_SIGMA_PX = 1.5
_BAND_PX = 128
_VALID = slice(WINDOW_PX // 2, -(WINDOW_PX // 2))
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_SIDE_PX = 161
"""Below this the smallest of MS-SSIM's five scales is smaller than the window of SSIM."""


@dataclass(frozen=True)
class Similarity:
    """Mean similarity of two planes, 1 for equal ones."""

    ssim: float
    structure: float
    """SSIM's product of contrast and structure, without luminance."""


def similarity(result: FloatArray, truth: FloatArray, data_range: float) -> Similarity:
    """Compare two planes (H, W): 11x11 Gaussian window of sigma 1.5, K 0.01 and 0.03, valid region
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
    """Return the mean SSIM of planes (..., H, W), see `similarity`; None where the pictures are
    smaller than the window."""
    if min(result.shape[-2:]) < WINDOW_PX:
        return None
    pairs = zip(_planes(result), _planes(truth), strict=True)
    return float(np.mean([similarity(*pair, data_range=data_range).ssim for pair in pairs]))


def ms_ssim(result: torch.Tensor, truth: torch.Tensor, data_range: float) -> float | None:
    """Return MS-SSIM of planes (..., H, W), each by itself and then averaged; None below
    `MS_SSIM_MIN_SIDE_PX`.

    Contrast and structure of four scales and the SSIM of the fifth, each to the power of its
    weight; below 0 counts as 0. A scale is the mean of 2x2 pixels of the one before, an odd last
    row or column being repeated.
    """
    if min(result.shape[-2:]) < MS_SSIM_MIN_SIDE_PX:
        return None
    pairs = zip(_planes(result), _planes(truth), strict=True)
    return float(np.mean([_multi_scale(*pair, data_range=data_range) for pair in pairs]))


def load_rgb() -> LoadedMetric:
    """Load SSIM averaged over the three channels."""
    return LoadedMetric(lambda observation: ssim(*observation.rgb_pair(), data_range=1.0))


def load_luma() -> LoadedMetric:
    """Load SSIM of luma 16..235 with a data range of 255."""
    return LoadedMetric(lambda observation: ssim(*observation.luma_pair(), data_range=255.0))


def load_multi_scale() -> LoadedMetric:
    """Load MS-SSIM averaged over the three channels."""
    return LoadedMetric(_measure_multi_scale, missing_reason=too_small_reason(MS_SSIM_MIN_SIDE_PX))


def _measure_multi_scale(observation: Observation) -> float | None:
    return ms_ssim(*observation.rgb_pair(), data_range=1.0)


def _planes(pixels: torch.Tensor) -> FloatArray:
    """Return (..., H, W) as an array of planes (N, H, W) on the CPU."""
    array: FloatArray = pixels.reshape(-1, *pixels.shape[-2:]).cpu().numpy()
    return array


def _multi_scale(result: FloatArray, truth: FloatArray, data_range: float) -> float:
    factors = []
    for _ in _SCALE_WEIGHTS[:-1]:
        factors.append(similarity(result, truth, data_range).structure)
        result, truth = _halved(result), _halved(truth)
    factors.append(similarity(result, truth, data_range).ssim)
    # A negative structure, as of inverted pictures, has no real power.
    return float(np.prod(np.maximum(factors, 0) ** np.array(_SCALE_WEIGHTS)))


def _halved(plane: FloatArray) -> FloatArray:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)


def _terms(
    result: FloatArray, truth: FloatArray, data_range: float
) -> tuple[FloatArray, FloatArray]:
    """Return luminance, and contrast times structure, around each pixel of the valid rows."""
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
    # The means are of the shifted sum; luminance is of the sum itself.
    mean_total += shift
    mean_total *= mean_total
    luminance = _contrast(mean_total, mean_difference, np.float32(2 * (0.01 * data_range) ** 2))
    return luminance, _contrast(
        variance_of_total, variance_of_difference, np.float32(2 * (0.03 * data_range) ** 2)
    )


def _contrast(larger: FloatArray, smaller: FloatArray, constant: np.float32) -> FloatArray:
    """Return (larger - smaller) / (larger + smaller), with the constant added to both terms;
    overwrites `larger`."""
    larger += constant
    contrast = larger - smaller
    larger += smaller
    contrast /= larger
    return contrast


def _means(plane: FloatArray) -> FloatArray:
    # Whole rows lie side by side in memory, which doubles the speed of all that follows.
    return gaussian_filter(plane, WINDOW_PX, _SIGMA_PX)[_VALID]
