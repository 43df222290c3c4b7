"""Options of data-set training; `--set` reaches every field by its dotted name."""

from dataclasses import dataclass
from typing import Literal

from vsr.records import option


@dataclass(frozen=True)
class LossOptions:
    """Terms of the generator's loss, each with its weight; a weight of 0 leaves a term out."""

    pixel: Literal["l1", "l2"] = option("l2", "Distance of pixels.")
    pixel_weight: float = option(1.0, "Weight of that distance.", at_least=0)
    perceptual: Literal["none", "lpips", "dists", "vgg22", "vgg54", "vgg54_esrgan", "random"] = (
        option(
            "none",
            "Network whose features are compared: vgg22 and vgg54 as in SRGAN, vgg54_esrgan as in "
            "ESRGAN; random has fixed random weights and needs no file.",
        )
    )
    perceptual_weight: float = option(1.0, "Weight of that comparison.", at_least=0)
    adversarial: Literal[
        "none", "gan", "ragan", "rals", "rahinge", "rcgan", "rcls", "rchinge", "wgangp", "ragp"
    ] = option("none", "Adversarial loss.")
    adversarial_weight: float = option(5e-3, "Weight of that loss.", at_least=0)
    gradient_penalty_weight: float = option(
        10.0, "Weight of the gradient penalty of `ragp` and `wgangp`.", at_least=0
    )
    fft_weight: float = option(
        0.0, "Relative L1 distance of complex spectra; usual are 0.3 and 0.5.", at_least=0
    )
    fft_transform: Literal["fft", "dct"] = option("fft", "Transform of that distance.")
    confusion_above: float = option(
        0.0,
        "Frequency in cycles per pixel above which the discriminator sees the truth in the place "
        "of the result (high-frequency confusion); 0: it sees the result alone.",
        at_least=0,
    )
    spectral_weight: float = option(
        0.0,
        "Cross entropy of azimuthally averaged spectra (Durall et al., 2020).",
        at_least=0,
    )
    focal_weight: float = option(0.0, "Focal frequency loss (Jiang et al., 2021).", at_least=0)
    consistency_weight: float = option(
        0.0, "L1 distance between the reduced result and the input.", at_least=0
    )
    diversity_weight: float = option(
        0.0, "Reward for the distance of two samples; for networks with noise.", at_least=0
    )
    diversity_features: Literal["squeezenet", "random"] = option(
        "squeezenet", "Network whose features tell two samples apart; random needs no file."
    )
    # Without a bound this term would win over all others.
    diversity_bound: float = option(
        0.1, "Distance of two samples beyond which more gains nothing.", at_least=0
    )


@dataclass(frozen=True)
class TrainingOptions:
    """A training; defaults are for two CPU cores."""

    steps: int = option(2000, "Steps of the training.", at_least=1)
    batch: int = option(16, "Crops in a step.", at_least=1)
    crop_px: int = option(
        96,
        "Side of the crops at the high resolution; cut to a multiple of the scale.",
        at_least=16,
    )
    learning_rate: float = option(1e-3, "Learning rate of the first step.", above=0)
    last_layer_rate: float = option(
        1.0,
        "Factor of the learning rate of the last layer; 0.1 for networks that were published so.",
    )
    halve_at: tuple[float, ...] = option(
        (), "Shares of the steps after which the learning rates are halved."
    )
    tenth_at: tuple[float, ...] = option(
        (), "Shares of the steps after which the learning rates are divided by ten, as in SRGAN."
    )
    second_moment_decay: float = option(
        0.99, "Adam's decay of squared gradients; SRGAN has 0.999.", at_least=0, below=1
    )
    adversarial_start: float = option(
        0.0,
        "Share of the steps after which discriminator, perceptual and adversarial terms set in.",
    )
    discriminator: Literal["esrgan", "srgan"] = option(
        "esrgan",
        "Its form: esrgan halves by 4x4 kernels and ends in 100 features, srgan by 3x3 and 1024.",
    )
    discriminator_rate: float = option(1e-4, "Learning rate of the discriminator.")
    discriminator_width: int = option(64, "Channels of the discriminator's first layer.")
    average_decay: float = option(
        0.999,
        "Decay of the exponential moving average of the weights, which is what is kept.",
        at_least=0,
        below=1,
    )
    validate_every: int = option(500, "Steps between two validations.", at_least=1)
    consistency_passes: int = option(
        0, "Back-projections onto the input after the network, in training and ever after."
    )
    losses: LossOptions = LossOptions()
