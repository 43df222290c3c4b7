"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003) on RGB."""

import numpy as np
import torch

from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedMetric, too_small_reason
from vsr.metrics.observation import Observation
from vsr.metrics.ssim import planes, similarity

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MIN_SIDE_PX = 161
"""Below this the smallest of the five scales is smaller than the window of SSIM."""


def ms_ssim(result: torch.Tensor, truth: torch.Tensor, data_range: float) -> float | None:
    """MS-SSIM of planes (..., H, W), each by itself and then averaged; None below `MIN_SIDE_PX`.

    Contrast and structure of four scales and the SSIM of the fifth, each to the power of its
    weight; below 0 counts as 0. A scale is the mean of 2x2 pixels of the one before, an odd last
    row or column being repeated.
    """
    if min(result.shape[-2:]) < MIN_SIDE_PX:
        return None
    pairs = zip(planes(result), planes(truth), strict=True)
    return float(np.mean([_of_plane(*pair, data_range=data_range) for pair in pairs]))


def load() -> LoadedMetric:
    """MS-SSIM averaged over the three channels."""
    return LoadedMetric(_measure, missing_reason=too_small_reason(MIN_SIDE_PX))


def _measure(observation: Observation) -> float | None:
    assert observation.truth is not None
    return ms_ssim(
        observation.inner(observation.result.current.pixels),
        observation.inner(observation.truth.current.pixels),
        data_range=1.0,
    )


def _of_plane(result: FloatArray, truth: FloatArray, data_range: float) -> float:
    factors = []
    for _ in _SCALE_WEIGHTS[:-1]:
        factors.append(similarity(result, truth, data_range).structure)
        result, truth = _halved(result), _halved(truth)
    factors.append(similarity(result, truth, data_range).ssim)
    return float(np.prod(np.maximum(factors, 0) ** np.array(_SCALE_WEIGHTS)))


def _halved(plane: FloatArray) -> FloatArray:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)
