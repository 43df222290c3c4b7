"""KernelGAN: the blur kernel of one picture, learned by making its reduction look like itself,
patch by patch.

Bell-Kligler, Shocher and Irani (NeurIPS 2019), with another start and another end. The game alone
wanders; so it begins at the Gaussian that explains the picture's spectrum across scales best, is
held by that spectrum rather than by bicubic reduction, and its kernel is kept only where it
explains the picture far better than that Gaussian (cross_scale.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from vsr.engine.tiling import single_thread
from vsr.errors import ModelError
from vsr.image.blur import (
    FACTOR,
    KernelTaps,
    aligned_center,
    bicubic_kernel,
    center_of_mass,
    recentered,
    taps_from_tensor,
)
from vsr.models.networks.kernelgan import (
    KERNEL_SIDE,
    DeepLinearGenerator,
    PatchDiscriminator,
    label_loss,
)
from vsr.progress import never
from vsr.records import option
from vsr.restore.cross_scale import CrossScaleSpectrum, accumulate_octaves
from vsr.train.crops import texture_map, texture_weighted_sampler
from vsr.train.fit import IterationProgress, Training, fit, loss_curve_summary
from vsr.train.optimizer import Adam
from vsr.train.state_file import Resumable

MAX_GAUSSIAN_RATIO = 0.5
"""Part of the Gaussian's mismatch below which the game's kernel is preferred: it is free to fit
anything, and easily reaches two thirds without coming any nearer to the truth."""
MIN_KERNELGAN_CROP_PX = 32
"""Reduced, it must still hold a patch of the discriminator's."""
INIT_STEPS = 100
INIT_LEARNING_RATE = 3e-3
"""Iterations of bringing the reducer to the Gaussian, before the game."""


@dataclass(frozen=True)
class KernelGanOptions:
    """Settings of the game. Published: ten times as long, at twice the rate, 5 for sparsity, 40
    taps."""

    iterations: int = option(300, "Iterations of the game.", at_least=0)
    crop_px: int = option(64, "Side of the crops.", at_least=MIN_KERNELGAN_CROP_PX)
    learning_rate: float = 1e-4
    decay_every: int = option(
        750, "Iterations between two falls of the learning rate to a tenth.", at_least=1
    )
    input_noise: float = 1 / 255
    """Standard deviation of what is added to the discriminator's pictures."""
    spectrum_weight: float = 1.0
    """Weight of the squared mismatch of the picture's spectra."""
    sum_weight: float = 0.5
    border_weight: float = 0.5
    centre_weight: float = 1.0
    sparsity_weight: float = 1.0
    kept_taps: int = option(
        80,
        "Taps kept of the estimate, about; the smaller ones are cut off.",
        at_least=1,
        at_most=KERNEL_SIDE**2 - 1,
    )
    """40 would cut a tenth to a third off a wide Gaussian."""


LONG_KERNELGAN = KernelGanOptions(iterations=3000)


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A kernel, what it rests on, and how well it explains the picture."""

    kernel: torch.Tensor
    """Aligned and of sum 1, for half the size."""
    basis: Literal["bicubic", "spectrum", "game", "kernelgan"]
    """Way it was chosen by; `kernelgan` is the published game, which chooses nothing."""
    mismatch: float
    """Misfit of the kernel; of the best Gaussian where that was not good enough and it is
    bicubic."""
    bicubic_mismatch: float

    def summary(self) -> str:
        """One line for the user."""
        figures = f"mismatch across scales {self.mismatch:.2f}, bicubic {self.bicubic_mismatch:.2f}"
        if self.basis == "bicubic":
            return (
                "no blur explains the picture clearly better than bicubic reduction does "
                f"({figures}): bicubic it is"
            )
        if self.basis == "kernelgan":
            return f"the kernel is that of KernelGAN's published game ({figures})"
        return (
            "the blur is "
            f"{'a Gaussian' if self.basis == 'spectrum' else 'of a shape of its own'} "
            f"({figures})"
        )


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel and how its game went."""

    kernel_fit: KernelFit
    generator_loss: tuple[float, ...] = ()
    """Adversarial loss of the reducer, over equal parts of the training; empty where no game was
    called for."""
    discriminator_loss: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    """Share of the patches, real and reduced alike, that the discriminator told right."""

    @property
    def kernel(self) -> KernelTaps:
        return taps_from_tensor(self.kernel_fit.kernel)


def estimate_kernel(
    keyframe: torch.Tensor,
    options: KernelGanOptions,
    seed: int,
    progress: IterationProgress,
    should_stop: Callable[[], bool] = never,
) -> KernelEstimate:
    """Estimate the kernel by which `keyframe`, (3, H, W) in [0, 1], seems to have lost half its
    size. Deterministic for a seed.

    Bicubic where no blur explains the picture clearly better. Raises `ModelError` where the game
    leads to values that are not finite, and `InterruptedRunError` where it is asked to stop.
    """
    with single_thread():
        training = _KernelTraining(keyframe, options, seed)
        fit(training, progress, should_stop=should_stop)
    game = training.game
    return KernelEstimate(
        game.kernel_fit(),
        loss_curve_summary(game.generator_losses),
        loss_curve_summary(game.discriminator_losses),
        loss_curve_summary(game.accuracies),
    )


class _KernelTraining(Training):
    """The game alone, where the picture is blurred; else there is nothing to do."""

    kept = ("losses", "game")

    def __init__(self, keyframe: torch.Tensor, options: KernelGanOptions, seed: int) -> None:
        self.game = KernelGanTrainer(keyframe, options, seed)
        super().__init__(options.iterations if self.game.blurred else 0)

    def step(self) -> None:
        """Take a step of the reducer, then one of the discriminator."""
        self.losses.append(self.game.step())


class KernelGanTrainer(Resumable):
    """The game of reducer and discriminator, step by step, so that others may join in (see
    zssrgan.py)."""

    kept = (
        "reducer",
        "discriminator",
        "generator_losses",
        "discriminator_losses",
        "accuracies",
        "_random",
        "_reducer_optimizer",
        "_discriminator_optimizer",
        "_kernels",
    )

    def __init__(self, keyframe: torch.Tensor, options: KernelGanOptions, seed: int) -> None:
        self._options = options
        # The published discriminator takes pictures in [-1, 1].
        self._picture = 2 * keyframe - 1
        self._random = torch.Generator().manual_seed(seed)
        # The spectrum judges every kernel, and knows nothing of the game.
        self._scales = CrossScaleSpectrum(keyframe)
        self._fit = self._scales.fit(KERNEL_SIDE)
        self.blurred = self._fit.is_blur
        """Whether some Gaussian explains the picture clearly better than bicubic reduction."""
        # Layers draw from torch's global generator: forked, it stays as the caller had it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reducer, self.discriminator = DeepLinearGenerator(), PatchDiscriminator()
        # From random layers most of the game's length would go into finding any blur at all.
        _fit_reducer(self.reducer, self._fit.kernel)
        self._reducer_optimizer, self._discriminator_optimizer = (
            Adam(network, options.learning_rate, betas=(0.5, 0.999))
            for network in (self.reducer, self.discriminator)
        )
        # Flat places look alike at every blur: crops are drawn by their texture.
        side = min(options.crop_px, *keyframe.shape[-2:])
        texture = texture_map(keyframe)
        self._draw_crop = texture_weighted_sampler(texture, side, self._random)
        # Of the size that a reduced crop has, so that the discriminator cannot tell them by it.
        self._draw_reduced_crop = texture_weighted_sampler(
            texture, (side - KERNEL_SIDE) // FACTOR + 1, self._random
        )
        self._border = border_mask(KERNEL_SIDE)
        self._kernels: list[torch.Tensor] = []
        self.generator_losses: list[float] = []
        self.discriminator_losses: list[float] = []
        self.accuracies: list[float] = []

    def step(self) -> float:
        """Take a step of both sides; the reducer's adversarial loss."""
        self.generator_step()
        self.discriminator_step(self.pair_loss())
        return self.generator_losses[-1]

    def generator_step(self) -> None:
        """Move the reducer towards what the discriminator takes for real, within the kernel's
        terms. Raises `ModelError` where its loss is not finite."""
        # The layers are linear, so the kernel they amount to stands for them: one convolution.
        kernel = self.reducer.kernel()
        reduced = _downscale(self._crop(self._draw_crop), kernel)
        # The crop of the picture itself only sets the scale of the normalization.
        adversarial = label_loss(self.score_fake(self._crop(self._draw_reduced_crop), reduced), 1.0)
        loss = adversarial + self._regularization(kernel)
        if not torch.isfinite(loss):
            raise ModelError(
                "KernelGAN diverged: its loss is not finite. Try another --seed, or --keyframe N "
                "for another frame."
            )
        self._reducer_optimizer.minimize(loss)
        # The one before the step: that of after it is not known yet.
        self._kernels.append(kernel.detach())
        self.generator_losses.append(adversarial.item())
        # As published; both sides, so that neither runs away from the other.
        if len(self.generator_losses) % self._options.decay_every == 0:
            for optimizer in (self._reducer_optimizer, self._discriminator_optimizer):
                optimizer.learning_rate /= 10

    def pair_loss(self) -> torch.Tensor:
        """Judge a crop of the picture beside a reduced one: the discriminator's loss."""
        with torch.no_grad():
            reduced = _downscale(self._crop(self._draw_crop), self.reducer.kernel())
        return self.discriminator_loss(self._crop(self._draw_reduced_crop), reduced)

    def score_fake(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Score `fake`, seen beside `real`: (N, 3, H, W) in [-1, 1] both."""
        return self._scores(real, fake)[1]

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Average its errors on (N, 3, H, W) pictures in [-1, 1], `fake` detached; takes down its
        accuracy."""
        of_real, of_fake = self._scores(real, fake)
        # Its last layer is a sigmoid: at one half it cannot tell.
        right = [(of_real > 0.5).float().mean(), (of_fake < 0.5).float().mean()]
        self.accuracies.append(float(sum(right)) / 2)
        return (label_loss(of_real, 1.0) + label_loss(of_fake, 0.0)) / 2

    def discriminator_step(self, loss: torch.Tensor) -> None:
        """Move the discriminator down a loss of its own."""
        self._discriminator_optimizer.minimize(loss)
        self.discriminator_losses.append(loss.item())

    def restart_discriminator(self) -> None:
        """Give the discriminator its first learning rate again."""
        self._discriminator_optimizer.learning_rate = self._options.learning_rate

    def kernel_fit(self) -> KernelFit:
        """Choose the kernel so far: bicubic, the Gaussian or the game's, the simpler ones unless
        another explains far more."""
        fit = self._fit
        # What no Gaussian explains better, no game is asked about.
        if not self.blurred:
            return KernelFit(bicubic_kernel(), "bicubic", fit.mismatch, fit.bicubic_mismatch)
        if len(self._kernels) >= FACTOR:
            # The game wanders around its kernel: the mean of the later half of its way is nearer.
            free = threshold_kernel(
                torch.stack(self._kernels[len(self._kernels) // 2 :]).mean(dim=0),
                self._options.kept_taps,
            )
            # By the same measure as the Gaussian, which has three numbers to fit with; the game has
            # 169.
            mismatch = float(self._scales.mismatch(free))
            if mismatch < MAX_GAUSSIAN_RATIO * fit.mismatch:
                return KernelFit(accumulate_octaves(free), "game", mismatch, fit.bicubic_mismatch)
        return KernelFit(
            accumulate_octaves(fit.kernel), "spectrum", fit.mismatch, fit.bicubic_mismatch
        )

    def _regularization(self, kernel: torch.Tensor) -> torch.Tensor:
        """Penalize what a kernel is not like, whether it fools the discriminator or not."""
        options = self._options
        # The fifth root asks for few large taps; at zero alone it would have no slope.
        sparsity = (kernel.abs() + 1e-12).pow(0.2).mean()
        return (
            options.spectrum_weight * self._scales.mismatch(kernel) ** 2
            + options.sum_weight * (1 - kernel.sum()).abs()
            + options.border_weight * (kernel * self._border).abs().mean()
            + options.centre_weight
            * ((center_of_mass(kernel) - aligned_center(KERNEL_SIDE)) ** 2).mean()
            + options.sparsity_weight * sparsity
        )

    def _scores(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        # As one batch: normalized each by itself, the two could not be told apart by how strongly
        # they respond.
        scores: torch.Tensor = self.discriminator(
            torch.cat([self._add_noise(real), self._add_noise(_quantize_straight_through(fake))])
        )
        return torch.stack(scores.chunk(2))

    def _add_noise(self, picture: torch.Tensor) -> torch.Tensor:
        return picture + self._options.input_noise * torch.randn(
            picture.shape, generator=self._random
        )

    def _crop(self, draw: Callable[[], tuple[slice, slice]]) -> torch.Tensor:
        return self._picture[:, *draw()][None]


def _fit_reducer(reducer: DeepLinearGenerator, kernel: torch.Tensor) -> None:
    """Train the reducer's weights until they make this kernel."""
    # By descent: the layers that make a kernel cannot be solved for.
    optimizer = Adam(reducer, INIT_LEARNING_RATE)
    for _ in range(INIT_STEPS):
        optimizer.minimize(((reducer.kernel() - kernel) ** 2).sum())


def threshold_kernel(kernel: torch.Tensor, kept_taps: int) -> torch.Tensor:
    """Subtract three quarters of the kernel's value number `kept_taps` + 1, drop what falls below
    0, and align the rest."""
    # Lowered, not only cut: what is kept has no jump where it ends.
    least = 0.75 * kernel.flatten().sort(descending=True).values[kept_taps]
    return recentered((kernel - least).clamp_min(0))


def border_mask(side: int) -> torch.Tensor:
    """Penalty of each tap, (side, side), 0 in the middle and growing outwards, as published."""
    offsets = torch.arange(side) - side // 2
    # The bell falls off with the distance from the middle, so the penalty grows towards the border.
    bell = torch.exp(-0.5 * (offsets / side) ** 2)
    mask = 30 * (1 - bell[:, None] * bell[None, :])
    # The middle half costs nothing, wherever in it the taps are.
    margin = (side - (side // 2 + side % 2)) // 2 - 1
    mask[margin:-margin, margin:-margin] = 0
    return mask


def _quantize_straight_through(picture: torch.Tensor) -> torch.Tensor:
    """Round to 8 bits, as the clip's own pictures are: where those are soft, all that is fine in
    them is rounding."""
    # The rounding has no slope; the gradient passes as if it were not there.
    return picture + ((picture * 127.5).round() / 127.5 - picture).detach()


def _downscale(crop: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Reduce each color of (1, 3, H, W) by the kernel, only where all of its taps lie inside."""
    # Colors take the place of the pictures of a batch: one kernel for all three, none mixed.
    return F.conv2d(crop.transpose(0, 1), kernel[None, None], stride=FACTOR).transpose(0, 1)
