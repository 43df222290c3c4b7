"""How much detail of each fineness a picture holds: its power spectrum, averaged over
directions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vsr.evaluate.report.regions import Plane, RgbImage, luma

Values = NDArray[np.float64]

NUM_BINS = 64


def frequencies() -> Values:
    """Centres of the bins in cycles per pixel, (NUM_BINS,); 0.5 is the finest pattern that pixels
    can hold."""
    return (np.arange(NUM_BINS) + 0.5) * 0.5 / NUM_BINS


def radial_power_db(pictures: Sequence[RgbImage]) -> Values:
    """Mean power over pictures in dB, for each bin (NUM_BINS,); NaN where a bin is empty.

    Of luma in [0, 255] without its mean, under a Hann window, which keeps the picture's edges out
    of it.
    """
    power = np.mean([_radial_power(luma(picture)) for picture in pictures], axis=0)
    return np.asarray(10 * np.log10(power + 1e-9))


def _radial_power(plane: Plane) -> Values:
    height, width = plane.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.rfft2((plane - plane.mean()) * window)) ** 2 / max(
        (window**2).sum(), 1e-9
    )
    fineness = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    bins = (fineness * 2 * NUM_BINS).astype(int)
    inside = bins < NUM_BINS
    sums = np.bincount(bins[inside], power[inside], NUM_BINS)
    counts = np.bincount(bins[inside], minlength=NUM_BINS)
    return np.asarray(np.divide(sums, counts, out=np.full(NUM_BINS, np.nan), where=counts > 0))
