"""LR-PSNR: consistency with the input, as the PSNR on RGB between the low-resolution input and the
result, reduced to its size."""

from math import ceil

from vsr.image.resample import resize
from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation
from vsr.metrics.psnr import psnr


def load() -> LoadedMetric:
    """Load LR-PSNR; 45 dB or more counts as consistent (NTIRE 2021)."""
    return LoadedMetric(_measure)


def _measure(observation: Observation) -> float:
    low = observation.low_resolution
    assert low is not None
    # The whole result: cropped to a smaller truth it would reduce to another grid.
    result = observation.result.current.uncropped
    height, width = low.shape[-2:]
    reduced = resize(result, height, width)
    # The border is counted in the result's pixels; a part of a small pixel leaves off the whole.
    border = ceil(observation.border * width / result.shape[-1])
    inner = (..., slice(border, height - border), slice(border, width - border))
    return psnr(reduced[inner], low[inner], peak=1.0)
