"""Diversity of samples (NTIRE 2021 challenge on learning the SR space): gain of choosing among them
per pixel.

`100 (G - L) / G` with LPIPS maps d_i between sample i and the truth: G is the least of their means,
L the mean of their least at each pixel. 0 for equal samples, and for samples that differ without
coming closer to the truth anywhere.
"""

from collections.abc import Mapping

import torch

from vsr.metrics.lpips import PerceptualDistance, load_distance
from vsr.metrics.metric import LoadedClipMetric, MetricUnavailableError
from vsr.metrics.observation import Observation


class Diversity:
    """The score of the samples so far of one picture, from their distance maps; holds one map."""

    def __init__(self) -> None:
        self._nearest: torch.Tensor | None = None
        self._best_mean = 0.0
        self.count = 0

    def add(self, distances: torch.Tensor) -> None:
        """Take in the next sample's distance from the truth at each pixel, (H, W), 0 or more."""
        # In doubles: the gain is a small difference of two means.
        mean = float(distances.double().mean())
        if self._nearest is None:
            self._nearest, self._best_mean = distances, mean
        else:
            # Only the least of all maps is kept, so that a thousand samples take no more room.
            self._nearest = torch.minimum(self._nearest.to(distances.device), distances)
            self._best_mean = min(self._best_mean, mean)
        self.count += 1

    def state(self) -> dict[str, torch.Tensor]:
        """Return the least distances, the best mean and the number of samples."""
        nearest = torch.zeros(0) if self._nearest is None else self._nearest.cpu().clone()
        return {
            "nearest": nearest,
            "best_mean": torch.tensor(self._best_mean, dtype=torch.float64),
            "count": torch.tensor(self.count),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the samples of a state."""
        self.count = int(state["count"])
        self._nearest = state["nearest"] if self.count else None
        self._best_mean = float(state["best_mean"])

    @property
    def score(self) -> float:
        """Gain in percent, 0 up to 100; 0 as well where a sample is the truth itself."""
        assert self._nearest is not None, "a score is asked for without a sample"
        if self._best_mean == 0:
            return 0.0
        return 100 * (self._best_mean - float(self._nearest.double().mean())) / self._best_mean


class ClipDiversity:
    """Diversity of a clip whose frames are samples of one and the same picture, say a folder of
    them."""

    def __init__(self, distance: PerceptualDistance) -> None:
        self._distance = distance
        self._diversity = Diversity()
        self._truth: torch.Tensor | None = None
        self._problem: str | None = None

    def update(self, observation: Observation) -> None:
        """Take in the next sample."""
        assert observation.truth is not None
        truth = observation.truth.current.pixels
        if self._problem is not None:
            return
        if self._truth is None:
            self._truth = truth
        elif not torch.equal(self._truth.to(truth.device), truth):
            self._problem = (
                "the truth changes from frame to frame; expected frames that are samples of "
                "one picture"
            )
            return
        distances = self._distance.map_between(*observation.rgb_pair())
        if distances is None:
            self._problem = "the pictures are too small for LPIPS"
            return
        self._diversity.add(distances)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the score so far, the truth, and what is wrong, as UTF-8 bytes."""
        problem = list((self._problem or "").encode())
        truth = torch.zeros(0) if self._truth is None else self._truth.cpu().clone()
        return {
            **self._diversity.state(),
            "truth": truth,
            "problem": torch.tensor(problem, dtype=torch.uint8),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the samples of a state."""
        self._diversity.restore(state)
        self._truth = state["truth"] if len(state["truth"]) else None
        self._problem = bytes(state["problem"].tolist()).decode() or None

    def compute(self) -> float:
        """Return the gain in percent; raises MetricUnavailableError where the frames are no samples
        of one picture, or too few."""
        if self._problem is not None:
            raise MetricUnavailableError(self._problem)
        if self._diversity.count < 2:
            raise MetricUnavailableError(
                f"diversity needs 2 samples or more, found {self._diversity.count}"
            )
        return self._diversity.score


def load() -> LoadedClipMetric:
    """Load diversity on the first LPIPS network that has weights; raises MetricUnavailableError
    without any."""
    distance = load_distance(is_spatial=True)
    return LoadedClipMetric(lambda: ClipDiversity(distance), distance.network)
