"""How much luma changes along the motion: mean |Y_t - W(Y_t-1)| over unoccluded pixels, in grey
levels.

It rewards blur, so read it beside sharpness; the truth itself does not score 0.
"""

import cv2
import numpy as np

from vsr.image.motion import FloatArray, Motion
from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation


def load() -> LoadedMetric:
    """Along the truth's motion; without a truth, along the enlarged input's."""
    return LoadedMetric(_measure)


def mean_visible(observation: Observation, motion: Motion, values: FloatArray) -> float | None:
    """Mean of |values| (H, W) where both frames show the pixel, border left off; None where that is
    nowhere."""
    visible = observation.inner_array(motion.visible)
    count = np.count_nonzero(visible)
    if not count:
        return None
    return (
        float(cv2.norm(observation.inner_array(values), cv2.NORM_L1, visible.view(np.uint8)))
        / count
    )


def _measure(observation: Observation) -> float | None:
    motion = observation.reference.motion
    if motion is None:
        return None
    return mean_visible(observation, motion, observation.result.luma_change(motion))
