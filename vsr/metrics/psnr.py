"""Errors of single pixels: peak signal-to-noise ratio on RGB and on BT.601 luma; mean absolute and
root mean square error on RGB in grey levels 0..255."""

from math import log10

import torch

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

PERFECT_DB = 100.0
"""The score of an exact match, and the most that anything can have."""


def psnr(result: torch.Tensor, truth: torch.Tensor, peak: float) -> float:
    """Return 10 log10(peak^2 / mean squared error) over all values, in dB, at most `PERFECT_DB`."""
    # torch adds up float32 in blocks, so that the mean is right to 1e-6 of itself.
    error = float((result - truth).square_().mean())
    return PERFECT_DB if error == 0 else min(PERFECT_DB, 10 * log10(peak**2 / error))


def load_rgb() -> LoadedMetric:
    """Load PSNR over the three channels."""
    return LoadedMetric(lambda observation: psnr(*observation.rgb_pair(), peak=1.0))


def load_luma() -> LoadedMetric:
    """Load PSNR of luma 16..235 against a peak of 255, as papers on super-resolution report it."""
    return LoadedMetric(lambda observation: psnr(*observation.luma_pair(), peak=255.0))


def load_mean_absolute() -> LoadedMetric:
    """Load MAE over the three channels, in grey levels 0..255."""
    return LoadedMetric(lambda observation: 255 * float(_errors(observation).abs().mean()))


def load_root_mean_square() -> LoadedMetric:
    """Load RMSE over the three channels, in grey levels 0..255."""
    return LoadedMetric(
        lambda observation: 255 * float(_errors(observation).square_().mean()) ** 0.5
    )


def _errors(observation: Observation) -> torch.Tensor:
    result, truth = observation.rgb_pair()
    return result - truth
