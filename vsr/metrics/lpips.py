"""LPIPS: perceptual distance between result and truth, on RGB."""

from collections.abc import Sequence

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation
from vsr.metrics.perceptual import ANY_BACKBONE, load_distance


def load(networks: Sequence[str] = ANY_BACKBONE) -> LoadedMetric:
    """On the first of these networks that has weights; raises MetricUnavailableError without
    any."""
    distance = load_distance(networks)

    def measure(observation: Observation) -> float | None:
        assert observation.truth is not None
        return distance.between(
            observation.inner(observation.result.current.pixels),
            observation.inner(observation.truth.current.pixels),
        )

    return LoadedMetric(measure, distance.network)
