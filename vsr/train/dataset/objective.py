"""What the generator is to make small, term by term."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.train.dataset.frequency import fft_loss, focal_frequency_loss, spectral_loss
from vsr.train.dataset.gan_losses import GAN_LOSSES
from vsr.train.dataset.options import LossOptions
from vsr.train.dataset.perceptual import (
    MIN_PERCEPTUAL_PX,
    load_classifier_features,
    load_perceptual,
)

PIXEL_LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, eq=False)
class BatchOutput:
    """What the generator made of a batch, and what it was given; (N, C, ., .) in [0, 1], results
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
    terms["pixel"] = (options.pixel_weight, pixel_term(options))
    terms["fft"] = (options.fft_weight, lambda output: fft_loss(output.result, output.truth))
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
            _diversity_loss(options.diversity_bound, device),
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
    """What the networks behind the terms can look at."""
    return MIN_PERCEPTUAL_PX if options.perceptual != "none" or options.diversity_weight else 1


def _consistency_loss(output: BatchOutput) -> torch.Tensor:
    return F.l1_loss(resize(output.result, *output.low.shape[-2:]), output.low)


def _diversity_loss(bound: float, device: torch.device) -> LossTerm:
    """What the L1 distance of the samples' features lacks of `bound`: 0 where they differ
    enough."""
    features = load_classifier_features(device)

    def likeness(output: BatchOutput) -> torch.Tensor:
        assert output.other is not None
        distance = F.l1_loss(features(output.result), features(output.other))
        return bound - distance.clamp(max=bound)

    return likeness
