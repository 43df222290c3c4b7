"""Peak signal-to-noise ratio on RGB and on BT.601 luma."""

import torch

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

PERFECT_DB = 100.0
"""What an exact match scores, and the most that anything can."""


def psnr(result: torch.Tensor, truth: torch.Tensor, peak: float) -> float:
    """10 log10(peak^2 / mean squared error) over all values, in dB, at most `PERFECT_DB`."""
    error = torch.mean((result.double() - truth.double()) ** 2)
    if error == 0:
        return PERFECT_DB
    return min(PERFECT_DB, float(10 * torch.log10(peak**2 / error)))


def load_rgb() -> LoadedMetric:
    """PSNR over the three channels."""
    return LoadedMetric(_measure_rgb)


def load_luma() -> LoadedMetric:
    """PSNR of luma 16..235 against a peak of 255, as papers on super-resolution report it."""
    return LoadedMetric(_measure_luma)


def _measure_rgb(observation: Observation) -> float:
    assert observation.truth is not None
    return psnr(
        observation.inner(observation.result.now.pixels), observation.inner(observation.truth.now.pixels), peak=1.0
    )


def _measure_luma(observation: Observation) -> float:
    assert observation.truth is not None
    return psnr(
        observation.inner(observation.result.now.luma), observation.inner(observation.truth.now.luma), peak=255.0
    )
