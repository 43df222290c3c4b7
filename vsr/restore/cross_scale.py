"""A judge of blur kernels for one picture: the picture's own power spectrum at two scales.

Scenes look alike at every scale. Reduced by the right kernel a picture therefore resembles itself
(Michaeli and Irani, ICCV 2013), which shows in its power spectrum, direction by direction: a judge
that knows nothing of the discriminator.
"""

from dataclasses import dataclass
from math import degrees, exp, log, pi

import torch

from vsr.image.blur import FACTOR, aligned_center, bicubic_kernel, gaussian_kernel, recentered
from vsr.image.luma import LUMA_WEIGHTS

WINDOW_PX = 16
"""Window of the picture; its reduction is seen through the same window, so the picture through one
of twice the side."""
ANALYZED_PX = 1024
"""Side of the middle part of a large picture that is looked at."""
QUANTIZATION_POWER = 1 / 12
"""Power, in gray levels squared, that rounding to 8 bits adds at every frequency."""
MIN_SIGNAL_SHARE = 10
"""Power from which on a frequency counts, over that of the errors; far below, these are all that
can be seen."""
MIN_CYCLES = 1.5
"""In a window: slower changes are smeared by its edges."""
GAIN_STEPS = 4
MIN_SIGMA_PX, MAX_SIGMA_PX = 0.4, 3.5
SEARCH_GRID, REFINEMENTS = (11, 11, 13), 4
"""For a Gaussian: how many widths on either axis and directions are tried at once, and how often,
ever closer."""
OCTAVES = 4
"""Scales that `accumulate_octaves` takes in; at the next the kernel is narrower than a tap."""


MAX_BICUBIC_RATIO = 0.65
"""Part of bicubic's mismatch below which a Gaussian's is believed: blurred stills have 0.14 to
0.64, bicubic ones 0.71 and more."""
MIN_WIDE_SIGMA_PX = 0.9
"""Least width of a Gaussian to believe, on its wider axis: bicubic reduction has 0.8; below, a
picture is aliased, not blurred."""


@dataclass(frozen=True, eq=False)
class GaussianFit:
    """The Gaussian that explains a picture best, and how well it does."""

    kernel: torch.Tensor
    """Aligned, of sum 1."""
    wide_sigma_px: float
    """Standard deviation on the wider axis."""
    narrow_sigma_px: float
    degrees: float
    """Direction of the wider axis, counter-clockwise from the right, 0 to 180."""
    mismatch: float
    bicubic_mismatch: float
    """Misfit of bicubic reduction."""

    @property
    def is_blur(self) -> bool:
        """Whether it explains the picture clearly better than bicubic reduction, and as a blur."""
        is_better = self.mismatch < MAX_BICUBIC_RATIO * self.bicubic_mismatch
        return is_better and self.wide_sigma_px > MIN_WIDE_SIGMA_PX


class CrossScaleSpectrum:
    """The spectra of a picture, (3, H, W) in [0, 1], at least 32 pixels a side, or the mean spectra
    of several."""

    def __init__(self, *pictures: torch.Tensor, error_power: float = 0.0) -> None:
        """`error_power` is that of noise and of coding errors at every frequency, in gray levels
        squared."""
        own, fine = (
            torch.stack([_power_spectrum(_gray_middle(one), side) for one in pictures]).mean(dim=0)
            for side in (WINDOW_PX, FACTOR * WINDOW_PX)
        )
        # At the picture's own scale; the floor keeps logarithms finite.
        self._own = own.clamp_min(1e-3)
        self._error_power = QUANTIZATION_POWER + error_power
        # Before a reduction there is no rounding yet: the picture's own is taken off.
        self._fine = (fine - self._error_power).clamp_min(1e-6)
        self._cycles = torch.fft.fftfreq(FACTOR * WINDOW_PX)
        own_cycles = torch.fft.fftfreq(WINDOW_PX)
        # Brightness and slow slopes say nothing of a blur.
        changing = torch.hypot(own_cycles[:, None], own_cycles[None, :]) > MIN_CYCLES / WINDOW_PX
        least = MIN_SIGNAL_SHARE * self._error_power
        # Never all nought: a flat picture speaks for no kernel, but it must not divide by it.
        weights = changing * ((self._own / (self._own + least)) ** 2 + 1e-9)
        self._weights = weights / weights.sum()

    def mismatch(self, kernel: torch.Tensor) -> torch.Tensor:
        """Root mean square of the natural logarithm by which powers differ between the picture and
        its reduction.

        0 would be a perfect kernel; a factor common to all frequencies does not count.
        Differentiable.
        """
        return self._mismatch(frequency_response(kernel, self._cycles).abs() ** 2)

    def fit(self, side: int) -> GaussianFit:
        """The best Gaussian of (side, side), beside bicubic reduction."""
        along, across, angle = self._best_gaussian()
        kernel = gaussian_kernel(side, (along, across), angle)
        return GaussianFit(
            kernel,
            max(along, across),
            min(along, across),
            (angle + 90 * (across > along)) % 180,
            float(self.mismatch(kernel)),
            float(self.mismatch(bicubic_kernel())),
        )

    def _best_gaussian(self) -> tuple[float, float, float]:
        """Find the standard deviations on both axes, and the direction of the first in degrees."""
        # Widths are searched by their logarithm, since what counts is their ratio.
        span = log(MAX_SIGMA_PX / MIN_SIGMA_PX)
        best, reach = (
            torch.tensor([span / 2, span / 2, pi / 2]),
            torch.tensor([span / 2, span / 2, pi / 2]),
        )
        for _ in range(REFINEMENTS):
            tried = best + reach * torch.cartesian_prod(
                *(torch.linspace(-1, 1, count) for count in SEARCH_GRID)
            )
            tried[:, :2] = tried[:, :2].clamp(0, span)
            # All at once: a search by descent stops at the first hollow.
            best = tried[self._mismatch(self._gaussian_power(tried)).argmin()]
            # A little more than a step of the grid on each side, for a best one that lies between.
            reach = reach * 3 / max(SEARCH_GRID)
        along, across = (MIN_SIGMA_PX * exp(float(value)) for value in best[:2])
        return along, across, degrees(float(best[2]))

    def _gaussian_power(self, tried: torch.Tensor) -> torch.Tensor:
        """Compute the power of Gaussians given by the logarithms of their widths, in units of the
        least, and their angles."""
        widths, angles = MIN_SIGMA_PX * tried[:, :2].exp(), tried[:, 2]
        right, down = self._cycles, self._cycles[:, None]
        cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
        # The axes of the Gaussian, in cycles per pixel along them.
        turned = torch.stack([right * cosine - down * sine, right * sine + down * cosine], dim=1)
        # The transform of a Gaussian is a Gaussian; the square makes it a power.
        return torch.exp(-((2 * pi * widths[..., None, None] * turned) ** 2).sum(dim=1))

    def _mismatch(self, power: torch.Tensor) -> torch.Tensor:
        """Compute the mismatch of reductions by kernels of the power (..., 2 n, 2 n)."""
        # Reduction by two folds four frequencies of the fine spectrum onto each of the coarse one.
        reduced = (
            (self._fine * power)
            .unflatten(-2, (FACTOR, -1))
            .unflatten(-1, (FACTOR, -1))
            .sum(dim=(-4, -2))
        )
        # Powers span decades, so they are compared as logarithms.
        target = self._own.log()
        with torch.no_grad():
            # A contrast common to all frequencies does not count. Rounding adds a power that no
            # contrast changes, so its best value is found by a few fixed-point steps.
            gain = self._mean(target - (reduced + 1e-9).log())
            for _ in range(GAIN_STEPS):
                gain = gain + self._mean(target - (gain.exp() * reduced + self._error_power).log())
        # The gain has no gradient of its own: at its best value a small change of it costs nothing.
        error = (gain.exp() * reduced + self._error_power).log() - target
        return self._mean(error**2)[..., 0, 0].sqrt()

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        return (self._weights * values).sum(dim=(-2, -1), keepdim=True)


def frequency_response(kernel: torch.Tensor, cycles: torch.Tensor) -> torch.Tensor:
    """Compute a kernel's effect on waves of these cycles per pixel, (n,) down and across: (n, n),
    complex."""
    offsets = torch.arange(len(kernel)) - aligned_center(len(kernel))
    waves = torch.exp(-2j * pi * cycles[:, None] * offsets)
    response: torch.Tensor = waves @ kernel.to(waves.dtype) @ waves.T
    return response


def accumulate_octaves(kernel: torch.Tensor) -> torch.Tensor:
    """The blur that a picture has suffered, from the kernel by whose reduction it resembles itself;
    same side.

    The picture is blurred already: of its blur K the reduction finds K(u) / K(u / 2) only. So K is
    the product of what was found, at u, u / 2, u / 4 and so on; a Gaussian's variance grows by a
    third.
    """
    # Four times the kernel's side: the product of several responses is wider than any of them.
    cycles = torch.fft.fftfreq(4 * len(kernel))
    # Halving the frequency is the kernel of one octave below.
    responses = [frequency_response(kernel, cycles / FACTOR**octave) for octave in range(OCTAVES)]
    offsets = torch.arange(len(kernel)) - aligned_center(len(kernel))
    waves = torch.exp(2j * pi * offsets[:, None] * cycles)
    # Back to taps at the same offsets; a kernel is real, so what is imaginary is rounding.
    taps = (waves @ torch.stack(responses).prod(dim=0) @ waves.T).real
    return recentered(taps)


def _gray_middle(picture: torch.Tensor) -> torch.Tensor:
    """Luma, (H, W) in gray levels, of the middle of a picture (3, H, W): it shows what the picture
    is of, and more windows than these change nothing."""
    top, left = (max(0, side - ANALYZED_PX) // 2 for side in picture.shape[-2:])
    seen = picture[:, top : top + ANALYZED_PX, left : left + ANALYZED_PX]
    gray: torch.Tensor = 255 * torch.tensordot(torch.tensor(LUMA_WEIGHTS), seen, dims=1)
    return gray


def _power_spectrum(gray: torch.Tensor, side: int) -> torch.Tensor:
    """Mean power of (H, W) at each frequency, (side, side), through Hann windows that overlap by
    half."""
    window = torch.hann_window(side)[:, None] * torch.hann_window(side)
    # Half overlapped, so that what the window fades out of one patch is in the middle of the next.
    patches = gray.unfold(0, side, side // 2).unfold(1, side, side // 2).flatten(0, 1)
    # Else the mean leaks into the lowest frequencies through the window.
    patches = patches - patches.mean(dim=(1, 2), keepdim=True)
    power: torch.Tensor = torch.fft.fft2(patches * window).abs().square().mean(dim=0)
    # So that white noise of variance 1 has a power of 1 at every frequency.
    return power / window.square().sum()
