"""HaarPSI (Reisenhofer et al., 2018): similarity of result and truth in the coefficients of a Haar
wavelet, on RGB; 1 for equal pictures.

Its authors found that it correlates with human ratings better than SSIM, FSIM and VSI, on four
databases. By their definition: YIQ 0..255, halved by the mean of 2x2 pixels; similarity at the two
finer of three scales, weighted by the third; C 30, alpha 4.2; what lies outside the picture is 0.
"""

import torch
import torch.nn.functional as F

from vsr.metrics.backbones import exact_inference
from vsr.metrics.metric import LoadedMetric, too_small_reason

MIN_SIDE_PX = 16
"""Twice the side of the largest wavelet."""
_C = 30.0
_ALPHA = 4.2
_SCALES_PX = (2, 4, 8)
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def haarpsi(result: torch.Tensor, truth: torch.Tensor) -> float | None:
    """Return HaarPSI of two pictures (3, H, W) in [0, 1]; None below `MIN_SIDE_PX`."""
    if min(truth.shape[-2:]) < MIN_SIDE_PX:
        return None
    with exact_inference():
        similarities, weights = _local_similarities(_halved_yiq(result), _halved_yiq(truth))
        # The logistic function spreads what lies near 1, where good results crowd together.
        spread = (torch.sigmoid(_ALPHA * similarities) * weights).sum(dtype=torch.float64)
        total = weights.sum(dtype=torch.float64)
        # A picture that is black throughout has no weight anywhere, and equals itself.
        mean = spread / total if total > 0 else torch.sigmoid(total + _ALPHA)
        return float((torch.logit(mean) / _ALPHA) ** 2)


def load() -> LoadedMetric:
    """Load HaarPSI; a value is missing where a picture is smaller than `MIN_SIDE_PX`."""
    return LoadedMetric(
        lambda observation: haarpsi(*observation.rgb_pair()),
        missing_reason=too_small_reason(MIN_SIDE_PX),
    )


def _halved_yiq(picture: torch.Tensor) -> torch.Tensor:
    """Convert (3, H, W) in [0, 1] to YIQ (3, H/2, W/2), Y 0..255; halves are rounded up."""
    yiq = torch.einsum("oc,chw->ohw", picture.new_tensor(_YIQ), 255 * picture)
    height, width = yiq.shape[-2:]
    # The distance from which people look at a screen hides the finest detail.
    return F.avg_pool2d(F.pad(yiq, (0, width % 2, 0, height % 2)), 2)


def _local_similarities(
    result: torch.Tensor, truth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return similarity and weight (3, h, w) around each pixel: of rows, of columns, of color."""
    both = torch.stack([result, truth])
    fine, medium, coarse = (_haar(both[:, :1], side).abs() for side in _SCALES_PX)
    # Edges that either picture has at the coarsest scale are where people look.
    weights = torch.maximum(*coarse)
    details = (_similarity(*fine) + _similarity(*medium)) / 2
    colors = F.avg_pool2d(F.pad(both[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs()
    color = _similarity(*colors).mean(dim=0, keepdim=True)
    return torch.cat([details, color]), torch.cat([weights, weights.mean(dim=0, keepdim=True)])


def _haar(planes: torch.Tensor, side: int) -> torch.Tensor:
    """Return the wavelet coefficients (N, 2, h, w) of planes (N, 1, h, w), down and across."""
    wavelet = torch.ones(side, side, device=planes.device) / side
    wavelet[side // 2 :] *= -1
    # An even window has no middle: it reaches one pixel further down and right.
    before, after = side // 2 - 1, side // 2
    padded = F.pad(planes, (before, after, before, after))
    return F.conv2d(padded, torch.stack([wavelet, wavelet.T])[:, None])


def _similarity(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (2 * one * other + _C) / (one**2 + other**2 + _C)
