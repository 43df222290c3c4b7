"""Diversity of several results as samples of one clip: per frame of the truth, then averaged (NTIRE
2021)."""

from collections.abc import Sequence
from statistics import fmean

import torch

from vsr.metrics import METRICS
from vsr.metrics.diversity import Diversity
from vsr.metrics.lpips import PerceptualDistance, load_distance
from vsr.metrics.metric import MetricUnavailableError
from vsr.metrics.scoreboard import MetricResult

DIVERSITY = "diversity"


class SampleDiversity:
    """Diversity of all results beside the truth's frames."""

    def __init__(self, border: int) -> None:
        self._border = border
        self._values: list[float] = []
        self._distance: PerceptualDistance | None = None
        self._reason = (
            "no frame has a partner in every result, large enough and of the truth's size"
        )
        try:
            self._distance = load_distance(is_spatial=True)
        except MetricUnavailableError as absent:
            self._reason = str(absent)

    def update(self, truth: torch.Tensor, samples: Sequence[torch.Tensor | None]) -> None:
        """Take the next frame of the truth (3, H, W), with what each result shows there; None for
        one without a partner."""
        if self._distance is None:
            return
        diversity = Diversity()
        for sample in samples:
            # The gain of fewer samples is another figure, so the frame is left out.
            if sample is None or sample.shape != truth.shape:
                return
            distances = self._distance.map_between(self._inner(sample), self._inner(truth))
            if distances is None:
                return
            diversity.add(distances)
        self._values.append(diversity.score)

    def compute(self) -> MetricResult:
        """Return the mean over the frames, in percent."""
        metric = METRICS[DIVERSITY]
        return MetricResult(
            mean=fmean(self._values) if self._values else None,
            higher_is_better=metric.higher_is_better,
            unit=metric.unit,
            per_frame=tuple(self._values) or None,
            reason=None if self._values else self._reason,
            network=None if self._distance is None else self._distance.network,
        )

    def _inner(self, pixels: torch.Tensor) -> torch.Tensor:
        height, width = pixels.shape[-2:]
        return pixels[:, self._border : height - self._border, self._border : width - self._border]
