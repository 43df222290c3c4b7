"""Camera noise: what differs between neighboring frames and does not follow the motion.

A spatial estimate takes texture for noise, and takes noise that was smoothed (by a recorder, or by
a codec) for nothing. Texture follows the motion and noise does not, whatever its spectrum.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vsr.image.luma import luma
from vsr.image.motion import DIS_FAST, MIN_FAST_SIDE_PX, FloatArray, dis_flow

PATCH_PX = 8
FLAT_SHARE, QUIET_SHARE = 0.1, 0.1
"""Patches looked at: the flattest, and of these the quietest, as shares: elsewhere flow that misses
by a part of a pixel looks like noise. Noise alone varies little from patch to patch, what flow
misses varies much."""
QUIET_FACTOR = 0.780
"""That quantile of a chi-square variable of 63 degrees of freedom, over its mean."""
MIN_PATCHES = 8
MAX_FLAT_GRADIENT = 3.0
"""Root mean square of the gradient in the flattest patches, gray levels a pixel, beyond which
nothing is flat: there what flow misses of texture may look like noise. Real footage has 0.2 to
4.2."""
MAX_SPREAD = 1.6
"""Median over the quiet quantile of the patches' variances, up to which they are believed where
nothing is flat. Noise of 6 levels has 1.1 to 1.4 on nine clips and their middles, a chi-square
variable 1.27; what flow misses has 2 and more."""
SOBEL_GAIN = 8
FLOW_BLUR_PX = 1.2
"""Takes the noise out of what flow is estimated on."""
STRUCTURE_BLUR_PX = 1.5
MIN_LEVEL, MAX_LEVEL = 6.0, 249.0
"""Beyond these mean levels noise is clipped, and reads low."""
CLIPPED_SIGMAS = 3.0
"""Standard deviations of noise from black and from white within which a color is clipped. 2 leave
noise of 12 levels at 11.3 on bunny, none at 9.2."""
BRIGHTNESS_BINS = 4
REPEATED_CHANGE = 0.02
"""Mean absolute difference of two frames, gray levels, up to which one repeats the other."""
RGB, LUMA, CHROMA = slice(0, 3), 3, slice(4, 6)
"""Where they stand among the planes that are compared."""


@dataclass(frozen=True)
class NoiseLevels:
    """Standard deviations in gray levels."""

    rgb: float = 0.0
    """Root mean square over red, green and blue."""
    luma: float = 0.0
    chroma: float = 0.0
    """Noise of R - Y and B - Y."""
    by_brightness: tuple[tuple[float, float], ...] = ()
    """Luma and the noise there."""

    def scaled(self, share: float) -> "NoiseLevels":
        """Take a share of all levels."""
        return NoiseLevels(
            share * self.rgb,
            share * self.luma,
            share * self.chroma,
            tuple((level, share * sigma) for level, sigma in self.by_brightness),
        )

    def rounded(self) -> "NoiseLevels":
        """Round to what is worth telling."""
        return NoiseLevels(
            round(self.rgb, 3),
            round(self.luma, 3),
            round(self.chroma, 3),
            tuple((level, round(sigma, 2)) for level, sigma in self.by_brightness),
        )


def noise_along_motion(one: torch.Tensor, other: torch.Tensor) -> NoiseLevels | None:
    """Noise of two neighboring pictures, (3, H, W) in [0, 1].

    None where one repeats the other, or where the pictures are too small; no noise where they are
    too full of texture to tell.
    """
    if min(one.shape[-2:]) < max(MIN_FAST_SIDE_PX, 2 * PATCH_PX):
        return None
    planes, others = _planes(one), _planes(other)
    if float(np.abs(planes - others).mean()) < REPEATED_CHANGE:
        return None
    views = [
        np.rint(cv2.GaussianBlur(plane[LUMA], (0, 0), FLOW_BLUR_PX)).clip(0, 255).astype(np.uint8)
        for plane in (planes, others)
    ]
    # Whole pixels: interpolation would average noise away. Where the picture is flat, half a pixel
    # makes no difference.
    flow = np.rint(dis_flow(views[0], views[1], DIS_FAST))
    moved = np.stack([_moved(plane, flow) for plane in others])
    # Two pictures' noise adds up in their difference.
    halves = np.stack([_patch_variance(plane) / 2 for plane in planes - moved])
    # No patch has more noise than it varies in all; this catches what was uncovered.
    own = np.stack([_patch_variance(plane) for plane in planes])
    patches = _Patches(
        np.stack([_patch_mean(plane) for plane in planes]),
        np.minimum(halves, own),
        _structure((planes[LUMA] + moved[LUMA]) / 2),
    )
    usable = (patches.levels[LUMA] > MIN_LEVEL) & (patches.levels[LUMA] < MAX_LEVEL)
    if usable.sum() < MIN_PATCHES:
        return None
    found = patches.noise_in(usable)
    margin = CLIPPED_SIGMAS * found.rgb
    if margin <= MIN_LEVEL:
        return found
    # Strong noise is clipped farther from black and white, and in each color by itself.
    colors = patches.levels[RGB]
    whole = usable & ((colors > margin) & (colors < 255 - margin)).all(axis=0)
    if whole.sum() < MIN_PATCHES:
        return found
    among_whole = patches.noise_in(whole)
    return among_whole if among_whole.rgb else found


@dataclass(frozen=True, eq=False)
class _Patches:
    """Measurements of each patch of a picture."""

    levels: FloatArray
    """Means of the planes, (6, patches)."""
    variances: FloatArray
    """Variances of all that does not follow the motion, (6, patches)."""
    structure: FloatArray
    """Mean squared gradient, (patches)."""

    def noise_in(self, usable: np.ndarray) -> NoiseLevels:
        """Measure noise in the flattest of the usable patches; none where nothing is flat."""
        variances, structure = self.variances, self.structure
        flat = usable & (structure <= np.quantile(structure[usable], FLAT_SHARE))
        quietest, middle = np.quantile(variances[:, flat], (QUIET_SHARE, 0.5), axis=1)
        is_even = middle[RGB].sum() <= MAX_SPREAD * quietest[RGB].sum()
        if np.sqrt(structure[flat].mean()) > MAX_FLAT_GRADIENT * SOBEL_GAIN and not is_even:
            return NoiseLevels()
        # Structure and missed motion only add; the factor makes up for taking the quietest.
        quiet = quietest / QUIET_FACTOR
        return NoiseLevels(
            float(np.sqrt(quiet[RGB].mean())),
            float(np.sqrt(quiet[LUMA])),
            float(np.sqrt(quiet[CHROMA].mean())),
            _by_brightness(self.levels[LUMA, usable], structure[usable], variances[LUMA, usable]),
        )


def _planes(picture: torch.Tensor) -> FloatArray:
    """R, G, B, Y, R - Y and B - Y in gray levels, (6, H, W)."""
    levels = 255 * picture.numpy()
    red, green, blue = levels
    gray = luma(levels)
    return np.stack([red, green, blue, gray, red - gray, blue - gray]).astype(np.float32)


def _moved(plane: FloatArray, flow: FloatArray) -> FloatArray:
    """`plane` along a flow of whole pixels, borders repeated."""
    height, width = plane.shape
    rows, columns = np.mgrid[:height, :width]
    rows = (rows + flow[..., 1].astype(int)).clip(0, height - 1)
    columns = (columns + flow[..., 0].astype(int)).clip(0, width - 1)
    moved: FloatArray = plane[rows, columns]
    return moved


def _patches(plane: FloatArray) -> FloatArray:
    height, width = (side // PATCH_PX * PATCH_PX for side in plane.shape)
    cut = plane[:height, :width].reshape(height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX)
    return cut.transpose(0, 2, 1, 3).reshape(-1, PATCH_PX**2)


def _patch_variance(plane: FloatArray) -> FloatArray:
    variance: FloatArray = _patches(plane).var(axis=1, ddof=1)
    return variance


def _patch_mean(plane: FloatArray) -> FloatArray:
    mean: FloatArray = _patches(plane).mean(axis=1)
    return mean


def _structure(plane: FloatArray) -> FloatArray:
    """Mean squared gradient of each patch, smoothed so that noise hardly counts."""
    smooth = cv2.GaussianBlur(plane, (0, 0), STRUCTURE_BLUR_PX)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return _patch_mean(across**2 + down**2)


def _by_brightness(
    levels: FloatArray, structure: FloatArray, variances: FloatArray
) -> tuple[tuple[float, float], ...]:
    """Mean level and noise of each part of the range that holds enough patches."""
    told = []
    for bin_index in range(BRIGHTNESS_BINS):
        low, high = (256 / BRIGHTNESS_BINS * edge for edge in (bin_index, bin_index + 1))
        inside = (levels >= low) & (levels < high)
        # So many that the flattest share of them is enough.
        if inside.sum() < MIN_PATCHES / FLAT_SHARE:
            continue
        flat = inside & (structure <= np.quantile(structure[inside], FLAT_SHARE))
        sigma = float(np.sqrt(np.quantile(variances[flat], QUIET_SHARE) / QUIET_FACTOR))
        told.append((round(float(levels[inside].mean())), round(sigma, 2)))
    return tuple(told)
