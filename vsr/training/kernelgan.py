"""KernelGAN: the blur kernel of one picture, learnt by making its reduction look like itself, patch by patch.

Bell-Kligler, Shocher and Irani (NeurIPS 2019). Mended against the published code: the bicubic term compares each colour
with its own reduction, not with the sum of all three; the linear reducer is collapsed to its kernel before each use.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.blur import FACTOR, Rows, as_rows, bicubic_kernel, centre_of, centre_of_mass, centred
from vsr.errors import ModelError
from vsr.networks.kernelgan import KERNEL_SIDE, LinearReducer, PatchDiscriminator, against_label
from vsr.training.method import Progress, loss_curve_summary, one_thread
from vsr.training.texture import place_by_texture, texture_map

FORMED = 0.5
"""Sum of the reducer's kernel, which begins near 0, from which on it is one."""


@dataclass(frozen=True)
class KernelGan:
    """Settings, as published but for the length: afterwards, at a hundredth of the rate, the kernel hardly moves."""

    iterations: int = 1500
    crop_px: int = 64
    learning_rate: float = 2e-4
    decay_every: int = 750
    """Iterations between two falls of the learning rate to a tenth."""
    input_noise: float = 1 / 255
    """Standard deviation of what is added to the discriminator's pictures."""
    bicubic_weight: float = 5.0
    """At the start; it falls to a hundredth every `bicubic_every` iterations once the kernel resembles bicubic."""
    bicubic_every: int = 200
    bicubic_reached: float = 0.4
    """Bicubic loss below which, three times running, the kernel counts as resembling it."""
    least_bicubic_weight: float = 5e-6
    shape_from: float = 5e-3
    """Weight of the bicubic loss below which the centre and sparsity terms set in."""
    sum_weight: float = 0.5
    border_weight: float = 0.5
    centre_weight: float = 1.0
    sparsity_weight: float = 5.0
    kept_taps: int = 40
    """Of the estimate, about: smaller ones are cut off."""


KERNELGAN_AS_PUBLISHED = KernelGan(iterations=3000)


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel and how its game went."""

    kernel: Rows
    """Aligned and of sum 1, for half the size."""
    generator_loss: tuple[float, ...]
    """Adversarial loss of the reducer, over equal parts of the training."""
    discriminator_loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    """Share of the patches, real and reduced alike, that the discriminator told right."""


def estimate_kernel(keyframe: torch.Tensor, options: KernelGan, seed: int, progress: Progress) -> KernelEstimate:
    """The kernel by which `keyframe`, (3, H, W) in [0, 1], seems to have lost half its size. Deterministic for a seed.

    Raises `ModelError` where the game leads to values that are not finite, or is too short to form a kernel.
    """
    with one_thread():
        game = KernelGame(keyframe, options, seed)
        for iteration in range(options.iterations):
            game.generator_step()
            game.discriminator_step(game.pair_loss())
            progress(iteration + 1, options.iterations, game.generator_losses[-1])
    if not game.has_formed():
        raise ModelError(
            f"KernelGAN has formed no kernel in {options.iterations} iterations. Give it more, such as the default "
            f"{KernelGan.iterations}, or choose another frame with --keyframe N."
        )
    return KernelEstimate(
        as_rows(game.clean_kernel()),
        loss_curve_summary(game.generator_losses),
        loss_curve_summary(game.discriminator_losses),
        loss_curve_summary(game.accuracies),
    )


class KernelGame:
    """The game of reducer and discriminator, step by step, so that others may join in (see zssrgan.py)."""

    def __init__(self, keyframe: torch.Tensor, options: KernelGan, seed: int) -> None:
        self._options = options
        self._picture = 2 * keyframe - 1
        self._random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reducer, self.discriminator = LinearReducer(), PatchDiscriminator()
        self._optimisers = [
            torch.optim.Adam(network.parameters(), lr=options.learning_rate, betas=(0.5, 0.999))
            for network in (self.reducer, self.discriminator)
        ]
        side = min(options.crop_px, *keyframe.shape[-2:])
        texture = texture_map(keyframe)
        self._draw_crop = place_by_texture(texture, side, self._random)
        self._draw_small = place_by_texture(texture, (side - KERNEL_SIDE) // FACTOR + 1, self._random)
        self._terms = _KernelTerms(options)
        self.generator_losses: list[float] = []
        self.discriminator_losses: list[float] = []
        self.accuracies: list[float] = []

    def generator_step(self) -> None:
        """Move the reducer towards what the discriminator takes for real, within the kernel's five terms."""
        crop = self._cut(self._draw_crop)
        kernel = self.reducer.kernel()
        reduced = _reduced(crop, kernel)
        adversarial = against_label(self.discriminator(reduced), 1.0)
        loss = adversarial + self._terms.loss(kernel, crop, reduced)
        if not torch.isfinite(loss):
            raise ModelError(
                "KernelGAN went astray: its loss is not finite. Try another --seed, or --keyframe N for another frame."
            )
        self._step(0, loss)
        self._terms.advance()
        self.generator_losses.append(adversarial.item())
        if len(self.generator_losses) % self._options.decay_every == 0:
            for optimiser in self._optimisers:
                optimiser.param_groups[0]["lr"] /= 10

    def pair_loss(self) -> torch.Tensor:
        """The discriminator's loss on a crop of the picture and on a reduced one."""
        with torch.no_grad():
            reduced = _reduced(self._cut(self._draw_crop), self.reducer.kernel())
        return self.discriminator_loss(self._cut(self._draw_small), reduced)

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Mean of its errors on (N, 3, H, W) pictures in [-1, 1], `fake` detached; notes its accuracy."""
        of_real, of_fake = (self.discriminator(self._noisy(picture)) for picture in (real, fake))
        right = [(of_real > 0.5).float().mean(), (of_fake < 0.5).float().mean()]
        self.accuracies.append(float(sum(right)) / 2)
        return (against_label(of_real, 1.0) + against_label(of_fake, 0.0)) / 2

    def discriminator_step(self, loss: torch.Tensor) -> None:
        """Move the discriminator against a loss of its own."""
        self._step(1, loss)
        self.discriminator_losses.append(loss.item())

    def restart_discriminator(self) -> None:
        """Give the discriminator its first learning rate again."""
        self._optimisers[1].param_groups[0]["lr"] = self._options.learning_rate

    def has_formed(self) -> bool:
        """Whether the reducer, whose weights begin small, has come to reduce at all."""
        with torch.no_grad():
            return bool(self.reducer.kernel().sum() > FORMED)

    def clean_kernel(self) -> torch.Tensor:
        """The kernel so far, without its small values, aligned, of sum 1; bicubic until the reducer has formed one."""
        if not self.has_formed():
            return bicubic_kernel()
        with torch.no_grad():
            return clean(self.reducer.kernel(), self._options.kept_taps)

    def _step(self, number: int, loss: torch.Tensor) -> None:
        optimiser = self._optimisers[number]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def _noisy(self, picture: torch.Tensor) -> torch.Tensor:
        return picture + self._options.input_noise * torch.randn(picture.shape, generator=self._random)

    def _cut(self, draw: Callable[[], tuple[slice, slice]]) -> torch.Tensor:
        return self._picture[:, *draw()][None]


class _KernelTerms:
    """What the kernel should be like, apart from fooling the discriminator, and how much that counts."""

    def __init__(self, options: KernelGan) -> None:
        self._options = options
        self._bicubic = bicubic_kernel()
        self._border = border_mask(KERNEL_SIDE)
        self._bicubic_weight = options.bicubic_weight
        self._bicubic_loss = float("inf")
        self._near_bicubic = 0
        self._iterations = 0

    def loss(self, kernel: torch.Tensor, crop: torch.Tensor, reduced: torch.Tensor) -> torch.Tensor:
        options = self._options
        # Where the bicubic kernel's taps begin within the reducer's.
        start = (KERNEL_SIDE - 1) // 2 - (len(self._bicubic) - 1) // 2
        bicubic = _reduced(crop[..., start:, start:], self._bicubic)[..., : reduced.shape[-2], : reduced.shape[-1]]
        bicubic_loss = F.mse_loss(reduced, bicubic)
        self._bicubic_loss = bicubic_loss.item()
        loss = (
            self._bicubic_weight * bicubic_loss
            + options.sum_weight * (1 - kernel.sum()).abs()
            + options.border_weight * (kernel * self._border).abs().mean()
        )
        if self._bicubic_weight < options.shape_from:
            centre = ((centre_of_mass(kernel) - centre_of(KERNEL_SIDE)) ** 2).mean()
            # The root has no slope at zero.
            sparsity = (kernel.abs() + 1e-12).pow(0.2).mean()
            loss = loss + options.centre_weight * centre + options.sparsity_weight * sparsity
        return loss

    def advance(self) -> None:
        """Let go of bicubic, step by step, once it was reached."""
        options = self._options
        self._iterations += 1
        if self._near_bicubic < 3:
            self._near_bicubic = self._near_bicubic + 1 if self._bicubic_loss < options.bicubic_reached else 0
        elif self._iterations % options.bicubic_every == 0:
            self._bicubic_weight = max(self._bicubic_weight / 100, options.least_bicubic_weight)


def clean(kernel: torch.Tensor, kept_taps: int) -> torch.Tensor:
    """The kernel less three quarters of its value number `kept_taps` + 1, without what falls below 0, aligned."""
    least = 0.75 * kernel.flatten().sort(descending=True).values[kept_taps]
    return centred((kernel - least).clamp_min(0))


def border_mask(side: int) -> torch.Tensor:
    """Penalty of each tap, 0 in the middle and growing outwards, as published."""
    offsets = torch.arange(side) - side // 2
    bell = torch.exp(-0.5 * (offsets / side) ** 2)
    mask = 30 * (1 - bell[:, None] * bell[None, :])
    margin = (side - (side // 2 + side % 2)) // 2 - 1
    mask[margin:-margin, margin:-margin] = 0
    return mask


def _reduced(crop: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Each colour of (1, 3, H, W) through the kernel, only where all of its taps lie inside."""
    return F.conv2d(crop.transpose(0, 1), kernel[None, None], stride=FACTOR).transpose(0, 1)
