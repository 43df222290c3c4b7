"""KernelGAN as published (Bell-Kligler, Shocher and Irani, NeurIPS 2019): the game alone, from
random weights, held by bicubic reduction that is annealed away.

`kernelgan.py` has the estimate of this project, which is nearer to the truth and is the default;
this one is for comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.engine.tiling import single_thread
from vsr.errors import ModelError
from vsr.image.blur import FACTOR, aligned_center, bicubic_kernel, center_of_mass
from vsr.image.resample import resize
from vsr.models.networks.kernelgan import (
    KERNEL_SIDE,
    DeepLinearGenerator,
    PatchDiscriminator,
    label_loss,
)
from vsr.progress import never
from vsr.records import option
from vsr.restore.cross_scale import CrossScaleSpectrum
from vsr.train.crops import texture_map, texture_weighted_sampler
from vsr.train.fit import IterationProgress, Training, fit, loss_curve_summary
from vsr.train.methods.kernelgan import (
    MIN_KERNELGAN_CROP_PX,
    KernelEstimate,
    KernelFit,
    border_mask,
    threshold_kernel,
)
from vsr.train.optimizer import Adam

SIMILAR_TIMES = 3
"""Iterations in a row whose bicubic loss is low before it is annealed."""


@dataclass(frozen=True)
class PublishedKernelGanOptions:
    """The published settings."""

    iterations: int = option(3000, "Iterations of the game.", at_least=1)
    crop_px: int = option(64, "Side of the crops.", at_least=MIN_KERNELGAN_CROP_PX)
    learning_rate: float = option(2e-4, "Learning rate of both networks.", above=0)
    decay_every: int = option(
        750, "Iterations between two falls of the learning rates to a tenth.", at_least=1
    )
    input_noise: float = option(
        1 / 255, "Deviation of the noise on the discriminator's pictures.", at_least=0
    )
    bicubic_weight: float = option(5.0, "First weight of the bicubic term.", at_least=0)
    bicubic_similar: float = option(
        0.4, "Bicubic loss below which, three times in a row, its annealing begins.", at_least=0
    )
    anneal_every: int = option(
        200, "Iterations between two falls of the bicubic weight to a hundredth.", at_least=1
    )
    bicubic_least: float = option(5e-6, "Least weight of the bicubic term.", at_least=0)
    constrained_below: float = option(
        5e-3, "Bicubic weight below which the centre and sparsity terms set in.", at_least=0
    )
    sum_weight: float = option(0.5, "Weight of the distance of the sum from 1.", at_least=0)
    border_weight: float = option(0.5, "Weight of the taps at the border.", at_least=0)
    centre_weight: float = option(1.0, "Weight of the centre of mass, once it sets in.", at_least=0)
    sparsity_weight: float = option(5.0, "Weight of many taps, once it sets in.", at_least=0)
    kept_taps: int = option(
        40,
        "Taps kept of the result, about; the smaller ones are cut off.",
        at_least=1,
        at_most=KERNEL_SIDE**2 - 1,
    )


class PublishedKernelGan(Training):
    """The game: a step of the reducer, then one of the discriminator."""

    kept = (
        "losses",
        "weights",
        "discriminator_losses",
        "accuracies",
        "_reducer",
        "_discriminator",
        "_random",
        "_reducer_optimizer",
        "_discriminator_optimizer",
        "_similar",
    )

    def __init__(
        self, keyframe: torch.Tensor, options: PublishedKernelGanOptions, seed: int
    ) -> None:
        """`keyframe` is (3, H, W) in [0, 1]."""
        super().__init__(options.iterations)
        self._options, self._picture = options, 2 * keyframe - 1
        self._random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._reducer, self._discriminator = DeepLinearGenerator(), PatchDiscriminator()
        self._reducer_optimizer, self._discriminator_optimizer = (
            Adam(network, options.learning_rate, betas=(0.5, 0.999))
            for network in (self._reducer, self._discriminator)
        )
        side = min(options.crop_px, *keyframe.shape[-2:])
        texture = texture_map(keyframe)
        self._draw = texture_weighted_sampler(texture, side, self._random)
        # Of the size of a reduced crop.
        self._draw_small = texture_weighted_sampler(
            texture, (side - KERNEL_SIDE) // FACTOR + 1, self._random
        )
        self._border = border_mask(KERNEL_SIDE)
        self.weights = {
            "bicubic": options.bicubic_weight,
            "sum": options.sum_weight,
            "border": options.border_weight,
            "centre": 0.0,
            "sparsity": 0.0,
        }
        """Weights of the terms beside the adversarial one, as of the next iteration."""
        self._similar = 0
        self.discriminator_losses: list[float] = []
        self.accuracies: list[float] = []

    def step(self) -> None:
        """Take a step of both networks, then go on with the schedule. Raises `ModelError` where the
        loss is not finite."""
        # The layers are linear: one convolution does what they do one after another.
        kernel = self._reducer.kernel()
        crop = self._picture[:, *self._draw()][None]
        reduced = reduce_by(crop, kernel)
        # Without noise: only what the discriminator itself learns from gets it.
        adversarial = label_loss(self._discriminator(reduced), 1.0)
        terms = kernel_terms(crop, reduced, kernel, self._border)
        loss = adversarial + sum(self.weights[name] * term for name, term in terms.items())
        if not torch.isfinite(loss):
            raise ModelError(
                "KernelGAN diverged: its loss is not finite. Try another --seed, or --keyframe N "
                "for another frame."
            )
        self._reducer_optimizer.minimize(loss)
        self.losses.append(adversarial.item())
        self._judge()
        self._schedule(float(terms["bicubic"].detach()))

    def kernel(self) -> torch.Tensor:
        """The kernel so far, as it is handed over: of few taps, sum 1, centred."""
        with torch.no_grad():
            return threshold_kernel(self._reducer.kernel(), self._options.kept_taps)

    def _judge(self) -> None:
        with torch.no_grad():
            fake = reduce_by(self._picture[:, *self._draw()][None], self._reducer.kernel())
        real = self._picture[:, *self._draw_small()][None]
        of_real, of_fake = (self._discriminator(self._noisy(each)) for each in (real, fake))
        loss = (label_loss(of_real, 1.0) + label_loss(of_fake, 0.0)) / 2
        right = (of_real > 0.5).float().mean() + (of_fake < 0.5).float().mean()
        self._discriminator_optimizer.minimize(loss)
        self.discriminator_losses.append(loss.item())
        self.accuracies.append(float(right) / 2)

    def _schedule(self, bicubic_loss: float) -> None:
        """Lower the rates and, once reductions are like bicubic ones, the bicubic weight; when that
        is small the kernel's own terms set in."""
        options, done = self._options, len(self.losses)
        if done % options.decay_every == 0:
            for optimizer in (self._reducer_optimizer, self._discriminator_optimizer):
                optimizer.learning_rate /= 10
        if self._similar < SIMILAR_TIMES:
            # In a row: one lucky crop must not begin the annealing.
            self._similar = self._similar + 1 if bicubic_loss < options.bicubic_similar else 0
        elif done % options.anneal_every == 0:
            lowered = max(self.weights["bicubic"] / 100, options.bicubic_least)
            self.weights["bicubic"] = lowered
            if lowered < options.constrained_below:
                self.weights["centre"] = options.centre_weight
                self.weights["sparsity"] = options.sparsity_weight

    def _noisy(self, picture: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(picture.shape, generator=self._random)
        return picture + self._options.input_noise * noise


def kernel_terms(
    crop: torch.Tensor, reduced: torch.Tensor, kernel: torch.Tensor, border: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The terms beside the adversarial one, unweighted, by name."""
    height, width = (side // FACTOR for side in crop.shape[-2:])
    # The reduced crop begins where all taps lie inside: so many reduced pixels are cut off.
    cut = (KERNEL_SIDE // 2) // FACTOR
    rows, columns = reduced.shape[-2:]
    even = crop[..., : FACTOR * height, : FACTOR * width]
    bicubic = resize(even, height, width)[..., cut : cut + rows, cut : cut + columns]
    return {
        "bicubic": F.mse_loss(reduced, bicubic),
        "sum": (1 - kernel.sum()).abs(),
        "border": (kernel * border).abs().mean(),
        "centre": ((center_of_mass(kernel) - aligned_center(KERNEL_SIDE)) ** 2).mean(),
        # At zero alone the root would have no slope.
        "sparsity": (kernel.abs() + 1e-12).pow(0.2).mean(),
    }


def reduce_by(crop: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Reduce each color of (1, 3, H, W) by the kernel, only where all of its taps lie inside."""
    return F.conv2d(crop.transpose(0, 1), kernel[None, None], stride=FACTOR).transpose(0, 1)


def estimate_kernel_as_published(
    keyframe: torch.Tensor,
    options: PublishedKernelGanOptions,
    seed: int,
    progress: IterationProgress,
    should_stop: Callable[[], bool] = never,
) -> KernelEstimate:
    """Play the published game on `keyframe`, (3, H, W) in [0, 1], and take its kernel, whatever it
    is. Deterministic for a seed. Raises `ModelError` where it diverges, and `InterruptedRunError`
    where it is asked to stop."""
    with single_thread():
        training = PublishedKernelGan(keyframe, options, seed)
        fit(training, progress, should_stop=should_stop)
    kernel, scales = training.kernel(), CrossScaleSpectrum(keyframe)
    # Only reported: the published game chooses nothing by them.
    mismatches = [float(scales.mismatch(each)) for each in (kernel, bicubic_kernel())]
    return KernelEstimate(
        KernelFit(kernel, "kernelgan", *mismatches),
        loss_curve_summary(training.losses),
        loss_curve_summary(training.discriminator_losses),
        loss_curve_summary(training.accuracies),
    )
