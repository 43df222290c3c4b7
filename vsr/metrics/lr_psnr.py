"""Agreement with the input: PSNR between the result, reduced again, and the low-resolution input,
on RGB."""

from math import ceil

from vsr.image.resample import resize
from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation
from vsr.metrics.psnr import psnr


def load() -> LoadedMetric:
    """LR-PSNR; 45 dB or more counts as full agreement (NTIRE 2021)."""
    return LoadedMetric(_measure)


def _measure(observation: Observation) -> float:
    low = observation.low_resolution
    assert low is not None
    result = observation.result.current.uncropped
    reduced = resize(result, *low.shape[-2:])
    border = ceil(observation.border * low.shape[-1] / result.shape[-1])
    height, width = low.shape[-2:]
    inner = (..., slice(border, height - border), slice(border, width - border))
    return psnr(reduced[inner], low[inner], peak=1.0)
