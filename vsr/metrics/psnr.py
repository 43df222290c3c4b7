"""Peak signal-to-noise ratio on RGB and on BT.601 luma."""

from math import log10

import torch

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

PERFECT_DB = 100.0
"""What an exact match scores, and the most that anything can."""


def psnr(result: torch.Tensor, truth: torch.Tensor, peak: float) -> float:
    """10 log10(peak^2 / mean squared error) over all values, in dB, at most `PERFECT_DB`."""
    # torch adds up float32 in blocks, so that the mean is right to 1e-6 of itself.
    error = float((result - truth).square_().mean())
    return PERFECT_DB if error == 0 else min(PERFECT_DB, 10 * log10(peak**2 / error))


def load_rgb() -> LoadedMetric:
    """PSNR over the three channels."""
    return LoadedMetric(_measure_rgb)


def load_luma() -> LoadedMetric:
    """PSNR of luma 16..235 against a peak of 255, as papers on super-resolution report it."""
    return LoadedMetric(_measure_luma)


def _measure_rgb(observation: Observation) -> float:
    assert observation.truth is not None
    return psnr(
        observation.inner(observation.result.current.pixels),
        observation.inner(observation.truth.current.pixels),
        peak=1.0,
    )


def _measure_luma(observation: Observation) -> float:
    assert observation.truth is not None
    return psnr(
        observation.inner(observation.result.current.luma),
        observation.inner(observation.truth.current.luma),
        peak=255.0,
    )
