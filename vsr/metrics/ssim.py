"""Structural similarity (Wang et al., 2004) on RGB and on BT.601 luma."""

from math import exp

import torch

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

WINDOW_PX = 11
_SIGMA_PX = 1.5
_BELL = [exp(-((i - WINDOW_PX // 2) ** 2) / (2 * _SIGMA_PX**2)) for i in range(WINDOW_PX)]
_WEIGHTS = [height / sum(_BELL) for height in _BELL]


def ssim(result: torch.Tensor, truth: torch.Tensor, data_range: float) -> float | None:
    """Mean SSIM of planes (..., H, W): 11x11 Gaussian window of sigma 1.5, K 0.01 and 0.03, valid region only.

    None where the pictures are smaller than the window.
    """
    if min(result.shape[-2:]) < WINDOW_PX:
        return None
    # Shifting both by the same grey leaves variances alone and spares float32 the cancellation in E[x^2] - E[x]^2.
    middle = data_range / 2
    x, y = result - middle, truth - middle
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + middle, mean_y + middle
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    likeness = likeness * (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(likeness.double().mean())


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


def _blur(planes: torch.Tensor) -> torch.Tensor:
    return _blur_axis(_blur_axis(planes, -2), -1)


def _blur_axis(planes: torch.Tensor, axis: int) -> torch.Tensor:
    # A sum of shifted pictures, since a convolution would be rounded to TF32 on a GPU.
    length = planes.shape[axis] - WINDOW_PX + 1
    blurred = torch.zeros_like(planes.narrow(axis, 0, length))
    for offset, weight in enumerate(_WEIGHTS):
        blurred.add_(planes.narrow(axis, offset, length), alpha=weight)
    return blurred
