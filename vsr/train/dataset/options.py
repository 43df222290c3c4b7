"""Options of a training on pictures; `--set` reaches every field by its dotted
name."""

from dataclasses import dataclass, field, fields
from typing import Literal

from vsr.errors import UsageError


@dataclass(frozen=True)
class LossOptions:
    """The terms of the generator's loss, each with its weight; a weight of 0 leaves a term out."""

    pixel: Literal["l1", "l2"] = "l2"
    pixel_weight: float = 1.0
    perceptual: Literal["none", "lpips", "dists", "vgg22", "vgg54"] = "none"
    perceptual_weight: float = 1.0
    adversarial: Literal[
        "none", "gan", "ragan", "rals", "rahinge", "rcgan", "rcls", "rchinge", "wgangp", "ragp"
    ] = "none"
    adversarial_weight: float = 5e-3
    gradient_penalty_weight: float = 10.0
    """Of `ragp` and `wgangp`."""
    fft_weight: float = 0.0
    """Relative L1 distance of complex spectra; usual values are 0.3 and 0.5."""
    spectral_weight: float = 0.0
    """Cross entropy of azimuthally averaged spectra (Durall et al., 2020)."""
    focal_weight: float = 0.0
    """Focal frequency loss (Jiang et al., 2021)."""
    consistency_weight: float = 0.0
    """L1 between the reduced result and the input."""
    diversity_weight: float = 0.0
    """Of the distance between two samples, which is to be large; for networks with noise."""
    diversity_bound: float = 0.1
    """Beyond which more distance gains nothing: without a bound the term would win over all
    others."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and value < 0:
                raise UsageError(f"losses.{each.name} is {value:g}; expected 0 or more.")


@dataclass(frozen=True)
class TrainingOptions:
    """A training; defaults are for two CPU cores."""

    steps: int = 2000
    batch: int = 16
    crop_px: int = 96
    """Side of the crops at the high resolution; cut to a multiple of the scale."""
    learning_rate: float = 1e-3
    last_layer_rate: float = 1.0
    """Factor of the learning rate of the last layer; 0.1 for the networks that were published
    so."""
    halve_at: tuple[float, ...] = ()
    """Shares of the steps after which the learning rate is halved."""
    adversarial_start: float = 0.0
    """Share of the steps after which discriminator, perceptual and adversarial terms set in."""
    discriminator_rate: float = 1e-4
    discriminator_width: int = 64
    average_decay: float = 0.999
    """Of the exponential moving average of the weights, which is what is kept."""
    validate_every: int = 500
    """Steps between two looks at the validation pictures."""
    consistency_passes: int = 0
    """Back-projections onto the input after the network, in training and ever after."""
    losses: LossOptions = field(default_factory=LossOptions)

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("crop_px", 16), ("validate_every", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected {least} or more.")
        if not self.learning_rate > 0:
            raise UsageError(
                f"learning_rate is {self.learning_rate:g}; expected a number above 0, such as 1e-4."
            )
        if not 0 <= self.average_decay < 1:
            raise UsageError(
                f"average_decay is {self.average_decay:g}; expected 0 up to, without, 1."
            )
