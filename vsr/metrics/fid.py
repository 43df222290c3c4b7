"""FID (Heusel et al., 2017): distance between the features that Inception finds in a clip's frames
and in the truth's.

One figure for a clip. It is biased upwards for few frames: below some thousands, compare only clips
of equal length.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.metrics.metric import LoadedClipMetric, MetricUnavailableError, build_from_first
from vsr.metrics.observation import Observation
from vsr.models.weights import FID_INCEPTION

if TYPE_CHECKING:
    from vsr.metrics.inception import InceptionFeatures

Array = NDArray[np.float64]
MIN_FRAMES = 2
"""One frame has no covariance."""


class Gaussian:
    """Mean and covariance of rows that are seen one at a time (Welford, 1962)."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(size)
        self._scatter: Array = np.zeros((size, size))

    def add(self, row: Array) -> None:
        """Take in one row (size,)."""
        self.count += 1
        difference = row - self.mean
        # Sums of squares would cancel where the mean is far from zero.
        self.mean = self.mean + difference / self.count
        self._scatter += np.outer(difference, row - self.mean)

    def state(self) -> dict[str, torch.Tensor]:
        """Return count, mean and scatter, as copies."""
        return {
            "count": torch.tensor(self.count),
            "mean": torch.from_numpy(self.mean.copy()),
            "scatter": torch.from_numpy(self._scatter.copy()),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the rows of a state."""
        self.count = int(state["count"])
        self.mean = state["mean"].numpy().copy()
        self._scatter = state["scatter"].numpy().copy()

    @property
    def covariance(self) -> Array:
        """Unbiased covariance (size, size) of two rows or more."""
        return self._scatter / (self.count - 1)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two Gaussians of the same size."""
    # The root of a product of large, nearly singular matrices is complex by rounding.
    root = _square_root(one.covariance)
    # S1 S2 and the symmetric R S2 R, with R the root of S1, have the same eigenvalues.
    eigenvalues = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = 2 * np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance) - shared
    return float(((one.mean - other.mean) ** 2).sum() + spread)


class FrechetInceptionDistance:
    """FID of one clip so far."""

    def __init__(self, features: "InceptionFeatures") -> None:
        self._features = features
        self._result, self._truth = Gaussian(features.size), Gaussian(features.size)

    def update(self, observation: Observation) -> None:
        """Take in the next frame."""
        assert observation.truth is not None
        for gaussian, picture in (
            (self._result, observation.result.current),
            (self._truth, observation.truth.current),
        ):
            gaussian.add(self._features.of(observation.inner(picture.pixels)).numpy())

    def state(self) -> dict[str, torch.Tensor]:
        """Return both Gaussians."""
        return {
            f"{name}_{part}": tensor
            for name, gaussian in (("result", self._result), ("truth", self._truth))
            for part, tensor in gaussian.state().items()
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the frames of a state."""
        for name, gaussian in (("result", self._result), ("truth", self._truth)):
            parts = {part: state[f"{name}_{part}"] for part in ("count", "mean", "scatter")}
            gaussian.restore(parts)

    def compute(self) -> float:
        """Return FID of the frames so far; raises MetricUnavailableError for fewer than
        `MIN_FRAMES`."""
        if self._result.count < MIN_FRAMES:
            raise MetricUnavailableError(
                f"FID needs {MIN_FRAMES} frames or more, found {self._result.count}"
            )
        return max(0.0, frechet_distance(self._result, self._truth))


def load() -> LoadedClipMetric:
    """Load FID on the published weights, else on torchvision's; raises MetricUnavailableError with
    every reason."""
    from vsr.metrics.inception import INCEPTIONS, InceptionFeatures

    features = build_from_first(
        {weights.file: partial(InceptionFeatures, weights) for weights in INCEPTIONS},
        FID_INCEPTION.missing,
    )
    return LoadedClipMetric(partial(FrechetInceptionDistance, features), features.name)


def _square_root(matrix: Array) -> Array:
    """Return the root of a symmetric matrix without negative eigenvalues but for rounding."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T)
