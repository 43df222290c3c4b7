"""BRISQUE (Mittal et al., 2012): the quality that people would give a picture, 0 (best) to 100;
needs no truth.

Defined by OpenCV's `quality` module, for whose features the parameter file was trained: full-range
BT.601 gray, rounded; 36 features at full and half size (bicubic, not antialiased); a support vector
regression.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vsr.errors import ModelError
from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedMetric, build_from, too_small_reason
from vsr.metrics.observation import Observation
from vsr.metrics.scene_statistics import Array, fit_asymmetric_gaussian, mscn_coefficients
from vsr.models.weights import BRISQUE_MODEL, BRISQUE_RANGE

NUM_FEATURES = 36
MIN_SIDE_PX = 16
"""Smallest side with enough pixels to gather statistics of."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
"""Neighbors whose products count: to the right, below, and on both diagonals."""


@dataclass(frozen=True, eq=False)
class BrisqueModel:
    """A support vector regression with a radial kernel on features that are brought to -1..1."""

    lowest: Array
    """Smallest value of each feature in training, (36,)."""
    highest: Array
    """Largest value of each, (36,)."""
    support: Array
    """Support vectors, (N, 36)."""
    weights: Array
    """Coefficient of each support vector, (N,)."""
    gamma: float
    """Gamma of the kernel exp(-gamma * squared distance)."""
    offset: float

    def predict(self, features: Array) -> float:
        """Return the score of (36,) features, kept within 0..100."""
        # As the features were scaled for the training, each by its own range.
        scaled = 2 * (features - self.lowest) / (self.highest - self.lowest) - 1
        kernel = np.exp(-self.gamma * ((self.support - scaled) ** 2).sum(axis=1))
        return float(np.clip(self.weights @ kernel - self.offset, 0, 100))


def load() -> LoadedMetric:
    """Load BRISQUE; raises MetricUnavailableError without the two parameter files."""
    model = build_from((BRISQUE_MODEL, BRISQUE_RANGE), read_model)

    def measure(observation: Observation) -> float | None:
        gray = observation.inner_array(observation.result.current.gray_bytes).astype(np.float32)
        features = brisque_features(gray) if min(gray.shape) >= MIN_SIDE_PX else None
        return None if features is None else model.predict(features)

    return LoadedMetric(measure, missing_reason=too_small_reason(MIN_SIDE_PX))


def brisque_features(gray: FloatArray) -> Array | None:
    """Return the 36 features of (H, W) in gray levels 0..255; None where a flat picture has no
    statistics."""
    height, width = gray.shape
    # Not antialiased: the regression was trained on such features.
    halved: FloatArray = cv2.resize(gray, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
    features = np.concatenate(
        [_features(mscn_coefficients(torch.from_numpy(each))[0]) for each in (gray, halved)]
    )
    return None if np.isnan(features).any() else features


def read_model(model_path: Path, range_path: Path) -> BrisqueModel:
    """Read the two files of OpenCV's `quality` module; raises ModelError where they hold something
    else."""
    # The nodes of a storage live as long as it does.
    storages = _open(model_path), _open(range_path)
    model, limits = storages[0].getNode("opencv_ml_svm"), storages[1].getNode("range").mat()
    if limits is None or limits.shape != (2, NUM_FEATURES):
        raise ModelError(
            f"{range_path} holds no ranges of {NUM_FEATURES} features for BRISQUE; replace it"
        )
    if model.empty() or model.getNode("svmType").string() != "EPS_SVR":
        raise ModelError(f"{model_path} holds no support vector regression for BRISQUE; replace it")
    decision = model.getNode("decision_functions").at(0)
    support, weights = (
        _numbers(model.getNode("support_vectors"), NUM_FEATURES),
        _numbers(decision.getNode("alpha"), 1),
    )
    if len(support) != len(weights):
        raise ModelError(
            f"{model_path}: {len(support)} support vectors and {len(weights)} weights; replace it"
        )
    return BrisqueModel(
        lowest=limits[0].astype(np.float64),
        highest=limits[1].astype(np.float64),
        support=support,
        weights=weights[:, 0],
        gamma=model.getNode("kernel").getNode("gamma").real(),
        offset=decision.getNode("rho").real(),
    )


def _open(path: Path) -> cv2.FileStorage:
    try:
        return cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError) as error:
        raise ModelError(f"{path} is not a readable parameter file; replace it") from error


def _numbers(node: cv2.FileNode, columns: int) -> Array:
    """Return a sequence of numbers, or of sequences of them, as rows of `columns`."""
    rows = [node.at(index) for index in range(node.size())]
    values = [
        [row.at(index).real() for index in range(row.size())] if row.isSeq() else [row.real()]
        for row in rows
    ]
    return np.array(values, dtype=np.float64).reshape(-1, columns)


def _features(structure: torch.Tensor) -> Array:
    """Return the 18 features of one scale, of MSCN coefficients (H, W)."""
    own = fit_asymmetric_gaussian(structure.reshape(1, -1))
    # Variances, where NIQE takes scale parameters.
    columns = [own.shape, (own.left**2 + own.right**2) / 2]
    # Products of neighbors are skewed where a picture is blurred or blocky.
    for shift in _SHIFTS:
        pairs = fit_asymmetric_gaussian((structure * _shifted(structure, *shift)).reshape(1, -1))
        columns += [pairs.shape, pairs.mean, pairs.left**2, pairs.right**2]
    return np.concatenate(columns)


def _shifted(plane: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """Return for each pixel the one that far below and to the right; 0 outside the picture."""
    height, width = plane.shape
    padded = F.pad(plane, (1, 1, 1, 1))
    return padded[1 + down : 1 + down + height, 1 + across : 1 + across + width]
