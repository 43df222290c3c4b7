"""tLPIPS: |LPIPS(T_t-1, T_t) - LPIPS(Y_t-1, Y_t)|, how far the perceived change differs from the
truth's."""

from collections.abc import Sequence

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import FramePair, Observation
from vsr.metrics.perceptual import ANY_BACKBONE, load_distance


def load(networks: Sequence[str] = ANY_BACKBONE) -> LoadedMetric:
    """On the first of these networks that has weights; raises MetricUnavailableError without
    any."""
    distance = load_distance(networks)

    def perceived_change(observation: Observation, step: FramePair) -> float | None:
        if step.previous is None:
            return None
        return distance.between(
            observation.inner(step.previous.pixels), observation.inner(step.current.pixels)
        )

    def measure(observation: Observation) -> float | None:
        assert observation.truth is not None
        true_change = perceived_change(observation, observation.truth)
        change = perceived_change(observation, observation.result)
        return None if true_change is None or change is None else abs(true_change - change)

    return LoadedMetric(measure, distance.network)
