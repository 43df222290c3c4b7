"""What the generator is to make small, term by term."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.train.dataset.frequency import fft_loss, focal_frequency_loss, spectral_loss
from vsr.train.dataset.gan_losses import GAMES
from vsr.train.dataset.options import LossOptions
from vsr.train.dataset.perceptual import MIN_PERCEPTUAL_PX, load_classifier_features, load_perceptual

PIXEL_LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the generator made of a batch, and what it was given; (N, C, ., .) in [0, 1], results not clamped."""

    low: torch.Tensor
    truth: torch.Tensor
    result: torch.Tensor
    other: torch.Tensor | None = None
    """A second sample of the same inputs with other noise."""


Term = Callable[[Outcome], torch.Tensor]


def content_terms(options: LossOptions, device: torch.device) -> dict[str, tuple[float, Term]]:
    """Weight and function of each term that compares with the truth or the input.

    Raises `ModelError` where a term needs weights that are not here.
    """
    terms: dict[str, tuple[float, Term]] = {}
    terms["pixel"] = (options.pixel_weight, pixel_term(options))
    terms["fft"] = (options.fft_weight, lambda outcome: fft_loss(outcome.result, outcome.truth))
    terms["spectral"] = (options.spectral_weight, lambda outcome: spectral_loss(outcome.result, outcome.truth))
    terms["focal"] = (options.focal_weight, lambda outcome: focal_frequency_loss(outcome.result, outcome.truth))
    terms["consistency"] = (options.consistency_weight, _inconsistency)
    if options.perceptual != "none":
        distance = load_perceptual(options.perceptual, device)
        terms["perceptual"] = (options.perceptual_weight, lambda outcome: distance(outcome.result, outcome.truth))
    if options.diversity_weight:
        terms["diversity"] = (options.diversity_weight, _likeness(options.diversity_bound, device))
    return {name: term for name, term in terms.items() if term[0] > 0}


def pixel_term(options: LossOptions) -> Term:
    """The distance from the truth in pixels."""
    distance = PIXEL_LOSSES[options.pixel]
    return lambda outcome: distance(outcome.result, outcome.truth)


def is_late(term: str) -> bool:
    """Whether a term waits, with the adversarial one, until the pixels are roughly right."""
    return term in {"perceptual", "diversity"}


def needs_two_samples(options: LossOptions) -> bool:
    """Whether the terms compare two samples."""
    return options.diversity_weight > 0


def is_adversarial(options: LossOptions) -> bool:
    """Whether there is a discriminator."""
    return options.adversarial in GAMES and options.adversarial_weight > 0


def smallest_crop_px(options: LossOptions) -> int:
    """What the networks behind the terms can look at."""
    return MIN_PERCEPTUAL_PX if options.perceptual != "none" or options.diversity_weight else 1


def _inconsistency(outcome: Outcome) -> torch.Tensor:
    return F.l1_loss(resize(outcome.result, *outcome.low.shape[-2:]), outcome.low)


def _likeness(bound: float, device: torch.device) -> Term:
    """What the L1 distance of the samples' features lacks of `bound`: 0 where they differ enough (seed 002)."""
    features = load_classifier_features(device)

    def likeness(outcome: Outcome) -> torch.Tensor:
        assert outcome.other is not None
        distance = F.l1_loss(features(outcome.result), features(outcome.other))
        return bound - distance.clamp(max=bound)

    return likeness
