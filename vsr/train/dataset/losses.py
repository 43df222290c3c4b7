"""The terms of the generator's loss, in pixels, spectra, features and samples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.train.adversarial import GAN_LOSSES
from vsr.train.dataset.options import LossOptions
from vsr.train.dataset.perceptual import (
    MIN_PERCEPTUAL_PX,
    load_classifier_features,
    load_perceptual,
)

MIN_POWER = 1e-8
PIXEL_LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, eq=False)
class BatchOutput:
    """Results of the generator for a batch, with what it was given; (N, C, ., .) in [0, 1], results
    not clamped."""

    low: torch.Tensor
    truth: torch.Tensor
    result: torch.Tensor
    other: torch.Tensor | None = None
    """A second sample of the same inputs with other noise."""


LossTerm = Callable[[BatchOutput], torch.Tensor]


def content_terms(options: LossOptions, device: torch.device) -> dict[str, tuple[float, LossTerm]]:
    """Weight and function of each term that compares with the truth or the input.

    Raises `ModelError` where a term needs weights that are not here.
    """
    terms: dict[str, tuple[float, LossTerm]] = {}
    # Terms of weight 0 are dropped in the end; those that need weights are not even loaded.
    terms["pixel"] = (options.pixel_weight, pixel_term(options))
    transform = TRANSFORMS[options.fft_transform]
    terms["fft"] = (
        options.fft_weight,
        lambda output: fft_loss(output.result, output.truth, transform),
    )
    terms["spectral"] = (
        options.spectral_weight,
        lambda output: spectral_loss(output.result, output.truth),
    )
    terms["focal"] = (
        options.focal_weight,
        lambda output: focal_frequency_loss(output.result, output.truth),
    )
    terms["consistency"] = (options.consistency_weight, _consistency_loss)
    if options.perceptual != "none":
        distance = load_perceptual(options.perceptual, device)
        terms["perceptual"] = (
            options.perceptual_weight,
            lambda output: distance(output.result, output.truth),
        )
    if options.diversity_weight:
        terms["diversity"] = (
            options.diversity_weight,
            _diversity_loss(options.diversity_features, options.diversity_bound, device),
        )
    return {name: term for name, term in terms.items() if term[0] > 0}


def pixel_term(options: LossOptions) -> LossTerm:
    """The distance from the truth in pixels."""
    distance = PIXEL_LOSSES[options.pixel]
    return lambda output: distance(output.result, output.truth)


def is_late(term: str) -> bool:
    """Whether a term waits, with the adversarial one, until the pixels are roughly right."""
    return term in {"perceptual", "diversity"}


def needs_two_samples(options: LossOptions) -> bool:
    """Whether the terms compare two samples."""
    return options.diversity_weight > 0


def is_adversarial(options: LossOptions) -> bool:
    """Whether there is a discriminator."""
    return options.adversarial in GAN_LOSSES and options.adversarial_weight > 0


def min_crop_px(options: LossOptions) -> int:
    """Smallest crop that the networks behind the terms can look at."""
    return MIN_PERCEPTUAL_PX if options.perceptual != "none" or options.diversity_weight else 1


def _consistency_loss(output: BatchOutput) -> torch.Tensor:
    # By the reduction that made the inputs: any other would ask for another picture.
    return F.l1_loss(resize(output.result, *output.low.shape[-2:]), output.low)


def _diversity_loss(network: str, bound: float, device: torch.device) -> LossTerm:
    """Measure what the L1 distance of the samples' features lacks of `bound`: 0 where they differ
    enough."""
    features = load_classifier_features(network, device)

    def likeness(output: BatchOutput) -> torch.Tensor:
        assert output.other is not None
        # In features: noise that only changes single pixels is no diversity.
        distance = F.l1_loss(features(output.result), features(output.other))
        # Bounded: else ever wilder noise would pay.
        return bound - distance.clamp(max=bound)

    return likeness


def _full_spectrum(pictures: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> coefficients whose moduli add up to those of the whole spectrum."""
    spectrum = torch.fft.rfft2(pictures)
    # The half that is left out mirrors all columns but the first and, for an even width, the last.
    copies = spectrum.real.new_full((spectrum.shape[-1],), 2.0)
    copies[0] = 1
    if pictures.shape[-1] % 2 == 0:
        copies[-1] = 1
    weighted: torch.Tensor = spectrum * copies
    return weighted


def _cosine_spectrum(pictures: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> coefficients of the orthonormal DCT-II in both directions."""
    rows, columns = (_cosines(side).to(pictures) for side in pictures.shape[-2:])
    spectrum: torch.Tensor = rows @ pictures @ columns.T
    return spectrum


@cache
def _cosines(side: int) -> torch.Tensor:
    """Matrix of the orthonormal DCT-II, (side, side): a row for each frequency."""
    places = torch.arange(side, dtype=torch.float64)
    matrix: torch.Tensor = (
        torch.cos(torch.pi / side * (places + 0.5) * places[:, None]) * (2 / side) ** 0.5
    )
    # The constant row would be too long by this factor, and count for more than the others.
    matrix[0] /= 2**0.5
    return matrix


Transform = Callable[[torch.Tensor], torch.Tensor]
TRANSFORMS: dict[str, Transform] = {"fft": _full_spectrum, "dct": _cosine_spectrum}


def fft_loss(
    result: torch.Tensor, truth: torch.Tensor, transform: Transform = _full_spectrum
) -> torch.Tensor:
    """||F(result) - F(truth)|| / max(||F(result)||, ||F(truth)||), in [0, 2]; the mean over the
    batch.

    With the L2 norm of complex spectra this would be the relative L2 distance of the pixels
    themselves (Parseval), so the norm here is L1: the sum of moduli, over frequencies and colors.
    """
    of_result, of_truth = (transform(pictures.float()) for pictures in (result, truth))
    # Relative to the larger of the two: a result without any detail is no farther away than 1.
    distance = (of_result - of_truth).abs().sum(dim=(1, 2, 3))
    largest = torch.maximum(of_result.abs().sum(dim=(1, 2, 3)), of_truth.abs().sum(dim=(1, 2, 3)))
    loss: torch.Tensor = (distance / largest).mean()
    return loss


def confuse_high_frequencies(
    result: torch.Tensor, truth: torch.Tensor, cutoff: float
) -> torch.Tensor:
    """Put the truth's frequencies above `cutoff` cycles per pixel into the result, (N, C, H, W).

    A discriminator that sees this cannot win by the highest frequencies alone, which generators
    learn last (Li et al., 2021). With gradient to the result.
    """
    height, width = result.shape[-2:]
    cycles = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    is_low = (cycles <= cutoff).to(result.device)
    mixed = torch.where(is_low, torch.fft.rfft2(result.float()), torch.fft.rfft2(truth.float()))
    # With the size: half a spectrum does not tell odd widths from even ones.
    confused: torch.Tensor = torch.fft.irfft2(mixed, s=(height, width))
    return confused


def spectral_loss(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the azimuthal mean spectra (Durall et al., CVPR 2020), less that of the
    truth with itself.

    The published code computes the profile outside of the graph, so that no gradient comes through;
    here it does.
    """
    of_result, of_truth = azimuthal_profile(result), azimuthal_profile(truth).detach()
    # Subtracted, so that equal spectra cost nothing; it has no gradient.
    entropy = F.binary_cross_entropy(of_truth.clamp(0, 1), of_truth.clamp(0, 1))
    return F.binary_cross_entropy(of_result.clamp(0, 1), of_truth.clamp(0, 1)) - entropy


def focal_frequency_loss(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean of w |F(result) - F(truth)|^2, w = |F(result) - F(truth)| over its greatest, without
    gradient, alpha 1."""
    distance = (
        torch.fft.fft2(result.float(), norm="ortho") - torch.fft.fft2(truth.float(), norm="ortho")
    ).abs()
    # Frequencies that are far off count more, relative to the worst one of each picture.
    weights = (distance / distance.amax(dim=(2, 3), keepdim=True).clamp_min(MIN_POWER)).detach()
    loss: torch.Tensor = (weights * distance**2).mean()
    return loss


def azimuthal_profile(pictures: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, rings): mean log power of the gray picture over each ring, brought to
    0..1; with gradient."""
    height, width = pictures.shape[-2:]
    shorter = min(height, width)
    power = torch.fft.fft2(pictures.float().mean(dim=1)).abs() ** 2
    # Rings of equal frequency in cycles per pixel: on a crop that is not square they are ellipses
    # of the spectrum.
    rows, columns = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    rings = (
        (torch.hypot(rows[:, None], columns) * shorter).round().long().flatten().to(pictures.device)
    )
    count = shorter // 2 + 1
    # The corners, beyond the Nyquist frequency of the axes, belong to no whole ring.
    inside = rings < count
    # Logarithms, since the power of natural pictures falls by decades.
    logs = torch.log(power.flatten(1) + MIN_POWER)[:, inside]
    sums = logs.new_zeros(len(pictures), count).index_add(1, rings[inside], logs)
    means = sums / torch.bincount(rings[inside], minlength=count)
    # Brought to 0..1, which the cross entropy takes: contrast does not count.
    least, most = means.amin(dim=1, keepdim=True), means.amax(dim=1, keepdim=True)
    return (means - least) / (most - least).clamp_min(MIN_POWER)
