"""Discrepancy of 1-D power spectra (after Durall et al., 2020), the exact form of which is `FORM`;
0 where the clip has the truth's spectrum."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.image.motion import FloatArray
from vsr.metrics.metric import LoadedClipMetric, MetricUnavailableError
from vsr.metrics.observation import Observation

FORM = (
    "mean over r of (P_result(r) - P_truth(r))^2, P the mean over the frames of: the azimuthal "
    "mean of log10(1 + |F|^2), F the FFT of BT.601 luma 16..235, over frequencies that round to r "
    "/ min(H, W) cycles a pixel, r = 0..min(H, W) // 2, brought to 0..1 by its least and greatest "
    "value; profiles of pictures of several sizes are interpolated to the shortest"
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
    """Discrepancy of one clip, or of a set of pictures, so far."""

    def __init__(self) -> None:
        # By length: pictures of a set may differ in size, the frames of a clip do not.
        self._sums: dict[int, Array] = {}
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
        length = len(difference)
        self._sums[length] = self._sums.get(length, np.zeros(length)) + difference
        self._count += 1

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums of the profiles' differences, by their length, and their number."""
        sums = {f"sum_{length}": torch.from_numpy(each) for length, each in self._sums.items()}
        return {"count": torch.tensor(self._count), **sums}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the frames of a state."""
        self._count = int(state["count"])
        sums = [each.numpy() for name, each in state.items() if name != "count"]
        self._sums = {len(each): each for each in sums}

    def compute(self) -> float:
        """Return the discrepancy of the mean profiles; raises MetricUnavailableError where no frame
        was large enough."""
        if not self._sums:
            raise MetricUnavailableError(f"no frame has {MIN_SIDE_PX} px or more a side")
        # Profiles go from 0 to half a cycle a pixel: the shortest has the coarsest steps.
        grid = np.linspace(0, 1, min(self._sums))
        common = [
            np.interp(grid, np.linspace(0, 1, length), each) for length, each in self._sums.items()
        ]
        return float(((np.sum(common, axis=0) / self._count) ** 2).mean())


def load() -> LoadedClipMetric:
    """Load the discrepancy of a whole clip: profiles are averaged over the frames before they are
    compared."""
    return LoadedClipMetric(SpectrumDiscrepancy)
