"""Statistics of natural scenes, on which NIQE and BRISQUE rest (Mittal et al., 2012 and 2013)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.image.blur import gaussian_mean

Array = NDArray[np.float64]

_SHAPES: Array = np.arange(0.2, 10.001, 0.001)
"""Shapes that a fit chooses from, as in the authors' programs."""


@cache
def _ratios() -> Array:
    """Return E[|x|]^2 / E[x^2] of a generalized Gaussian of each of `_SHAPES`; grows with the
    shape."""
    return _gamma(2 / _SHAPES) ** 2 / (_gamma(1 / _SHAPES) * _gamma(3 / _SHAPES))


def _gamma(values: Array) -> Array:
    # Imported late: it takes half of what a run would spend on imports.
    from scipy.special import gamma

    return np.asarray(gamma(values))


@dataclass(frozen=True)
class AsymmetricGaussian:
    """Asymmetric generalized Gaussian distributions, one for each row of samples; not-a-number
    where none fits."""

    shape: Array
    """2 for a Gaussian, 1 for a Laplacian."""
    left: Array
    """Root mean square of the values below zero."""
    right: Array
    """Root mean square of those above."""

    @property
    def spread(self) -> Array:
        """Factor that turns `left` and `right` into the distribution's scale parameters."""
        return np.asarray(np.sqrt(_gamma(1 / self.shape) / _gamma(3 / self.shape)))

    @property
    def mean(self) -> Array:
        """Mean of the distribution."""
        return np.asarray(
            (self.right - self.left) * self.spread * _gamma(2 / self.shape) / _gamma(1 / self.shape)
        )


def fit_asymmetric_gaussian(samples: torch.Tensor) -> AsymmetricGaussian:
    """Fit each row of (N, M) by matching moments (Lasmar et al., 2009). The moments are taken on
    the samples' device; only they leave it."""
    squares = samples * samples
    moments = [
        _mean_where(squares, samples < 0),
        _mean_where(squares, samples > 0),
        samples.abs().mean(dim=1, dtype=torch.float64),
        squares.mean(dim=1, dtype=torch.float64),
    ]
    below, above, magnitude, square = torch.stack(moments).cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = np.sqrt(below), np.sqrt(above)
        # E|x|^2 / E[x^2], corrected for the skew, is that of a symmetric distribution, whose shape
        # a table has.
        skew = left / right
        flatness = magnitude**2 / square
        ratio = flatness * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.where(np.isfinite(ratio), _SHAPES[_nearest(ratio)], np.nan)
    return AsymmetricGaussian(shape, left, right)


def mscn_coefficients(gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each pixel less its local mean, over its local deviation plus 1; and that deviation.

    `gray` is (H, W) in grey levels 0..255; means are by a 7x7 Gaussian of sigma 7/6, borders
    repeated.
    """
    means = gaussian_mean(gray, window_px=7, sigma_px=7 / 6)
    squares = gaussian_mean(gray * gray, window_px=7, sigma_px=7 / 6)
    # Rounding can make the variance of a flat part negative.
    deviations = (squares - means * means).abs().sqrt()
    return (gray - means) / (deviations + 1), deviations


def _mean_where(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the mean of the chosen values of each row; not a number where there is none."""
    return (values * chosen).sum(dim=1, dtype=torch.float64) / chosen.sum(dim=1)


def _nearest(ratios: Array) -> NDArray[np.intp]:
    """Return the index of the entry of `_ratios()` nearest to each; any for what is not finite."""
    above = np.clip(np.searchsorted(_ratios(), ratios), 1, len(_ratios()) - 1)
    return np.where(ratios - _ratios()[above - 1] <= _ratios()[above] - ratios, above - 1, above)
