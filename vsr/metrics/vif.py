"""VIF (Sheikh and Bovik, 2006): share of the truth's information that a viewer can still get from
the result; 1 for equal pictures, more where contrast was raised without noise.

The pixel-domain form that its authors published later (vifp), on full-range BT.601 luma 0..255:
four scales, Gaussian windows of 17, 9, 5 and 3 px with a sigma of a fifth of that, valid region
only, visual noise of variance 2.
"""

from math import log10

import numpy as np

from vsr.image.blur import gaussian_filter
from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedMetric, too_small_reason
from vsr.metrics.observation import Observation

FORM = "pixel domain (vifp), 4 scales, full-range BT.601 luma, noise variance 2"
MIN_SIDE_PX = 41
"""Below this the fourth scale is smaller than its window."""
_WINDOWS_PX = (17, 9, 5, 3)
_NOISE_VARIANCE = np.float32(2)
_FLAT = np.float32(1e-8)
"""Variance below which there is nothing to lose."""


def vif(result: FloatArray, truth: FloatArray) -> float | None:
    """Return VIF of two planes (H, W) in grey levels 0..255; None below `MIN_SIDE_PX`."""
    if min(truth.shape) < MIN_SIDE_PX:
        return None
    # Variances do not change when a level is taken off, and float32 keeps more of them without it.
    level = truth.mean(dtype=np.float64).astype(np.float32)
    result, truth = result - level, truth - level
    kept = information = 0.0
    for scale, window in enumerate(_WINDOWS_PX):
        if scale > 0:
            result, truth = _means(result, window)[::2, ::2], _means(truth, window)[::2, ::2]
        kept_here, information_here = _information(result, truth, window)
        kept, information = kept + kept_here, information + information_here
    # A flat truth holds no information, of which nothing can be lost.
    return (kept + 1e-8) / (information + 1e-8)


def load() -> LoadedMetric:
    """Load VIF; a value is missing where a picture is smaller than `MIN_SIDE_PX`."""
    return LoadedMetric(_measure, missing_reason=too_small_reason(MIN_SIDE_PX))


def _measure(observation: Observation) -> float | None:
    # Luma 16..235 stretched to 0..255: the level taken off does not count.
    result, truth = (
        plane.cpu().numpy() * np.float32(255 / 219) for plane in observation.luma_pair()
    )
    return vif(result, truth)


def _information(result: FloatArray, truth: FloatArray, window_px: int) -> tuple[float, float]:
    """Return the information of one scale, in bits times log10(2), that the result keeps of the
    truth's, and the truth's own."""
    mean_result, mean_truth = _means(result, window_px), _means(truth, window_px)
    variance_result = np.maximum(_means(result * result, window_px) - mean_result**2, 0)
    variance_truth = np.maximum(_means(truth * truth, window_px) - mean_truth**2, 0)
    covariance = _means(result * truth, window_px) - mean_result * mean_truth
    # The channel of each pixel: result = gain * truth + noise. Where either is flat, or they are
    # opposed, nothing passes.
    passes = (variance_truth >= _FLAT) & (variance_result >= _FLAT) & (covariance > 0)
    gain = np.where(passes, covariance / (variance_truth + _FLAT), np.float32(0))
    noise = np.maximum(variance_result - gain * covariance, _FLAT)
    signal = gain * gain * variance_truth / (noise + _NOISE_VARIANCE)
    kept = np.log1p(signal).sum(dtype=np.float64)
    information = np.log1p(variance_truth / _NOISE_VARIANCE).sum(dtype=np.float64)
    return float(kept) * log10(np.e), float(information) * log10(np.e)


def _means(plane: FloatArray, window_px: int) -> FloatArray:
    """Return the weighted means around the pixels that have a whole window, (H - w + 1,
    W - w + 1)."""
    edge = window_px // 2
    return gaussian_filter(plane, window_px, window_px / 5)[edge:-edge, edge:-edge]
