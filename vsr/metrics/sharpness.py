"""How much detail there is: mean Sobel gradient magnitude of luma over the reference's. 1 is the
reference's own."""

import torch
import torch.nn.functional as F

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import MetricImage, Observation


def load() -> LoadedMetric:
    """Over the truth's; below 1 is blur, above 1 is more edge than there was."""
    return LoadedMetric(_measure)


def load_live() -> LoadedMetric:
    """Over the enlarged input's, for want of a truth."""
    return LoadedMetric(_measure_live)


def _measure(observation: Observation) -> float | None:
    assert observation.truth is not None
    return _ratio(observation, observation.truth.current)


def _measure_live(observation: Observation) -> float | None:
    assert observation.enlarged is not None
    return _ratio(observation, observation.enlarged.current)


def _ratio(observation: Observation, reference: MetricImage) -> float | None:
    """None where the reference is perfectly flat."""
    gradient = _mean_gradient(observation, reference)
    return (
        _mean_gradient(observation, observation.result.current) / gradient if gradient > 0 else None
    )


def _mean_gradient(observation: Observation, picture: MetricImage) -> float:
    padded = F.pad(picture.luma[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    across = _smooth(padded[:, 2:] - padded[:, :-2])
    down = _smooth((padded[2:] - padded[:-2]).T).T
    magnitude = across.square_().add_(down.square_()).sqrt_()
    return float(observation.inner(magnitude).mean())


def _smooth(planes: torch.Tensor) -> torch.Tensor:
    """Weights 1, 2, 1 down the rows."""
    return (planes[:-2] + planes[2:]).add_(planes[1:-1], alpha=2)
