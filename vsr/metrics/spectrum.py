"""Discrepancy of 1-D power spectra (after Durall et al., 2020), the exact form of which is `FORM`;
0 where the clip has the truth's spectrum."""

import numpy as np
from numpy.typing import NDArray

from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedClipMetric, MetricUnavailableError
from vsr.metrics.observation import Observation

FORM = (
    "mean over r of (P_result(r) - P_truth(r))^2, P the mean over the frames of: the azimuthal "
    "mean of log10(1 + |F|^2), F the FFT of BT.601 luma 16..235, over frequencies that round to r "
    "/ min(H, W) cycles a pixel, r = 0..min(H, W) // 2, brought to 0..1 by its least and greatest "
    "value"
)
MIN_SIDE_PX = 8
Array = NDArray[np.float64]


def profile(luma: FloatArray) -> Array:
    """Return P of one picture (H, W), (min(H, W) // 2 + 1,); all 0 for one whose spectrum is
    flat."""
    height, width = luma.shape
    shorter = min(height, width)
    power = np.abs(np.fft.rfft2(luma)) ** 2
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    rings = np.rint(frequencies * shorter).astype(np.intp)
    # rfft2 leaves out the mirror image of all columns but the first and, for an even width, the
    # last.
    copies = np.full(rings.shape, 2.0)
    copies[:, 0] = 1
    if width % 2 == 0:
        copies[:, -1] = 1
    # The logarithm is taken before the mean over directions, as in the authors' program.
    sums = np.bincount(rings.ravel(), (copies * np.log10(1 + power)).ravel())
    means = (sums / np.bincount(rings.ravel(), copies.ravel()))[: shorter // 2 + 1]
    span = means.max() - means.min()
    return np.asarray((means - means.min()) / span) if span > 0 else np.zeros_like(means)


class SpectrumDiscrepancy:
    """Discrepancy of one clip so far."""

    def __init__(self) -> None:
        self._difference: Array | None = None
        self._count = 0

    def update(self, observation: Observation) -> None:
        """Take in the next frame."""
        assert observation.truth is not None
        result, truth = (
            observation.inner_array(picture.luma_array)
            for picture in (observation.result.current, observation.truth.current)
        )
        if min(result.shape) < MIN_SIDE_PX:
            return
        difference = profile(result) - profile(truth)
        self._difference = difference if self._difference is None else self._difference + difference
        self._count += 1

    def compute(self) -> float:
        """Return the discrepancy of the mean profiles; raises MetricUnavailableError where no frame
        was large enough."""
        if self._difference is None:
            raise MetricUnavailableError(f"no frame has {MIN_SIDE_PX} px or more a side")
        return float(((self._difference / self._count) ** 2).mean())


def load() -> LoadedClipMetric:
    """Load the discrepancy of a whole clip: profiles are averaged over the frames before they are
    compared."""
    return LoadedClipMetric(SpectrumDiscrepancy)
