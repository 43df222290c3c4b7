"""tOF (TecoGAN, Chu et al., 2020): distance of the result's own motion from the truth's, in pixels.

Mean length of the difference of Farneback's flows from frame t-1 to t on full-range grey. As in
TecoGAN's script, only a centered window counts whose sides are the largest multiples of 32 that
leave 8 px on each side. Every pair counts: the script also skips the first and last two frames of a
clip, which hides where a clip begins badly.
"""

import numpy as np

from vsr.metrics.metric import LoadedMetric
from vsr.metrics.observation import Observation

_MARGIN_PX = 8
_WINDOW_STEP_PX = 32


def load() -> LoadedMetric:
    """Load tOF against the truth."""
    return LoadedMetric(_measure)


def _measure(observation: Observation) -> float | None:
    assert observation.truth is not None
    flow, true_flow = observation.result.farneback, observation.truth.farneback
    if flow is None or true_flow is None:
        return None
    # The script leaves 8 px off; a wider border that was asked for holds as well.
    margin = max(_MARGIN_PX, observation.border)
    height, width = flow.shape[:2]
    window = (_centered(height, margin), _centered(width, margin))
    difference = flow[window] - true_flow[window]
    return float(np.hypot(difference[..., 0], difference[..., 1]).mean(dtype=np.float64))


def _centered(side: int, margin: int) -> slice:
    """Return the part of a side that counts; all but the margin where no multiple of 32 fits, all
    where that is nothing."""
    room = side - 2 * margin
    length = room // _WINDOW_STEP_PX * _WINDOW_STEP_PX or max(room, 0) or side
    start = (side - length) // 2
    return slice(start, start + length)
