"""Change that the reference does not have: mean |(Y_t - W(Y_t-1)) - (T_t - W(T_t-1))|, unoccluded,
in grey levels.

W follows the motion of the reference T in both terms. T's own noise, which nobody can follow, is
its floor.
"""

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import FramePair, Observation
from vsr.metrics.warping_error import mean_visible


def load() -> LoadedMetric:
    """With the truth for T."""
    return LoadedMetric(_measure)


def load_live() -> LoadedMetric:
    """With the enlarged input for T: what can be said without a truth."""
    return LoadedMetric(_measure_live)


def _measure(observation: Observation) -> float | None:
    assert observation.truth is not None
    return _excess_change(observation, observation.truth)


def _measure_live(observation: Observation) -> float | None:
    assert observation.enlarged is not None
    return _excess_change(observation, observation.enlarged)


def _excess_change(observation: Observation, reference: FramePair) -> float | None:
    motion = reference.motion
    if motion is None:
        return None
    excess = observation.result.luma_change(motion) - reference.luma_change(motion)
    return mean_visible(observation, motion, excess)
