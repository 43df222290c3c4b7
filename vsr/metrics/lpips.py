"""LPIPS: perceptual distance between result and truth, on RGB."""

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation
from vsr.metrics.perceptual import load_distance


def load() -> LoadedMetric:
    """Raises MetricUnavailableError without weights."""
    distance = load_distance()

    def measure(observation: Observation) -> float | None:
        assert observation.truth is not None
        return distance.between(
            observation.inner(observation.result.now.pixels), observation.inner(observation.truth.now.pixels)
        )

    return LoadedMetric(measure, distance.network)
