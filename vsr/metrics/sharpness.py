"""Sharpness: mean Sobel gradient magnitude of luma over the reference's. 1 is the reference's own
detail, below is blur, above is more edge than there was."""

import torch
import torch.nn.functional as F

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import FramePair, MetricImage, Observation


def load() -> LoadedMetric:
    """Load sharpness over the truth's."""
    return LoadedMetric(lambda observation: _ratio(observation, observation.truth))


def load_live() -> LoadedMetric:
    """Load sharpness over the enlarged input's, for want of a truth."""
    return LoadedMetric(lambda observation: _ratio(observation, observation.enlarged))


def _ratio(observation: Observation, reference: FramePair | None) -> float | None:
    """Return None where the reference is perfectly flat."""
    assert reference is not None
    gradient = _mean_gradient(observation, reference.current)
    return (
        _mean_gradient(observation, observation.result.current) / gradient if gradient > 0 else None
    )


def _mean_gradient(observation: Observation, picture: MetricImage) -> float:
    # Sobel's kernel is separable: a difference one way, a smoothing the other way.
    # Repeated edges: zeros around a picture would be its sharpest edge.
    padded = F.pad(picture.luma[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    across = _smooth(padded[:, 2:] - padded[:, :-2])
    down = _smooth((padded[2:] - padded[:-2]).T).T
    magnitude = across.square_().add_(down.square_()).sqrt_()
    return float(observation.inner(magnitude).mean())


def _smooth(planes: torch.Tensor) -> torch.Tensor:
    """Weigh three neighbors down the columns by 1, 2, 1."""
    return (planes[:-2] + planes[2:]).add_(planes[1:-1], alpha=2)
