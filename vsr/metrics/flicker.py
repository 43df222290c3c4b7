"""Change along the motion over unoccluded pixels: `warping_error`, how much luma changes;
`flicker`, how much of that the reference does not have; and `ewarp`, the warping error of published
tables.

`warping_error` = mean |Y_t - W(Y_t-1)| rewards blur, so read it beside sharpness; the truth itself
does not score 0. `flicker` = mean |(Y_t - W(Y_t-1)) - (T_t - W(T_t-1))|. W follows the motion of
the reference T in all terms. T's own noise, which nobody can follow, is flicker's floor. These two
are in grey levels of luma. `ewarp` (Lai et al., 2018, equation 9) = 1000 mean (Y_t-1 - W(Y_t))^2 on
RGB in [0, 1], where W brings the later frame onto the earlier one. Lai's flow is FlowNet2's; ours
is DIS, so that figures of papers compare in order rather than by value.
"""

import torch

from vsr.image.dense_motion import Motion
from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import FramePair, Observation


def load_warping_error() -> LoadedMetric:
    """Load the change along the truth's motion; without a truth, along the enlarged input's."""
    return LoadedMetric(_measure_warping_error)


def load_ewarp() -> LoadedMetric:
    """Load Lai's warping error along the motion of the truth; without one, of the enlarged
    input."""
    return LoadedMetric(_measure_ewarp)


def load() -> LoadedMetric:
    """Load flicker with the truth for T."""
    return LoadedMetric(lambda observation: _excess_change(observation, observation.truth))


def load_live() -> LoadedMetric:
    """Load flicker with the enlarged input for T: what can be said without a truth."""
    return LoadedMetric(lambda observation: _excess_change(observation, observation.enlarged))


def _measure_warping_error(observation: Observation) -> float | None:
    motion = observation.reference.motion
    if motion is None:
        return None
    return _mean_visible(observation, motion, observation.result.luma_change(motion))


def _measure_ewarp(observation: Observation) -> float | None:
    reference, result = observation.reference, observation.result
    # Lai's W brings the later frame onto the earlier one, the other metrics' the other way.
    motion = reference.motion_forward
    if motion is None or result.previous is None:
        return None
    change = motion.change(result.previous.pixels, result.current.pixels)
    squares = change.square_().mean(dim=0)
    error = _mean_visible(observation, motion, squares)
    # In the unit of the published tables.
    return None if error is None else 1000 * error


def _excess_change(observation: Observation, reference: FramePair | None) -> float | None:
    assert reference is not None
    motion = reference.motion
    if motion is None:
        return None
    excess = observation.result.luma_change(motion) - reference.luma_change(motion)
    return _mean_visible(observation, motion, excess)


def _mean_visible(observation: Observation, motion: Motion, values: torch.Tensor) -> float | None:
    """Return the mean of |values| (H, W) where both frames show the pixel, border left off; None
    where that is nowhere."""
    visible = observation.inner(motion.visible)
    count = int(visible.count_nonzero())
    if not count:
        return None
    magnitudes = observation.inner(values).abs() * visible
    return float(magnitudes.sum(dtype=torch.float64)) / count
