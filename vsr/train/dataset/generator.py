"""A network in training: what it is given, what it makes, and its discriminator."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vsr.image.resample import back_project, resize
from vsr.models.networks.discriminators import Discriminator, DiscriminatorSpec
from vsr.train.dataset.gan_losses import GAN_LOSSES, gradient_penalty
from vsr.train.dataset.options import TrainingOptions
from vsr.upscale.networks.architectures import Architecture


@dataclass(frozen=True, eq=False)
class TrainableGenerator:
    """A generator, told how to feed it."""

    architecture: Architecture
    spec: Any
    network: nn.Module
    consistency_passes: int

    @property
    def has_noise(self) -> bool:
        return getattr(self.spec, "noise_channels", 0) > 0

    def pair(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB crops in the colours that the network works in."""
        luma = self.architecture.luma
        return (low, high) if luma is None else (luma.from_rgb(low), luma.from_rgb(high))

    def make(self, low: torch.Tensor, seed: int) -> torch.Tensor:
        """Low crops (N, C, h, w) -> results (N, C, scale h, scale w), not clamped; `seed` is that
        of the noise."""
        height, width = low.shape[-2:]
        planes = low
        if self.architecture.enlarged_first:
            planes = resize(low, height * self.spec.scale, width * self.spec.scale).clamp(0, 1)
        if self.has_noise:
            random = torch.Generator().manual_seed(seed)
            noise = torch.randn(len(low), self.spec.noise_channels, height, width, generator=random)
            planes = torch.cat([planes, noise.to(low.device)], dim=1)
        result: torch.Tensor = self.network(planes)
        for _ in range(self.consistency_passes):
            result = back_project(result, low)
        return result

    def parameter_groups(self, options: TrainingOptions) -> list[dict[str, Any]]:
        """All parameters, those of the last layer apart with their own learning rate."""
        named = list(self.network.named_parameters())
        last_layer = named[-1][0].rpartition(".")[0]
        last = [parameter for name, parameter in named if name.rpartition(".")[0] == last_layer]
        rest = [parameter for name, parameter in named if name.rpartition(".")[0] != last_layer]
        rates = (options.learning_rate, options.learning_rate * options.last_layer_rate)
        return [
            {"params": group, "lr": rate, "initial_lr": rate}
            for group, rate in zip((rest, last), rates, strict=True)
        ]


class DiscriminatorTrainer:
    """The discriminator and its optimiser."""

    def __init__(
        self, options: TrainingOptions, crop_px: int, seed: int, device: torch.device
    ) -> None:
        self._gan_loss = GAN_LOSSES[options.losses.adversarial]
        halvings = max(
            number
            for number in range(1, 6)
            if crop_px % 2**number == 0 and crop_px >= 4 * 2**number
        )
        spec = DiscriminatorSpec(
            crop_px,
            options.discriminator_width,
            halvings,
            # Batch statistics tie crops together, which a penalty for each of them cannot have.
            norm="instance" if self._gan_loss.penalized else "batch",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Discriminator(spec).to(device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=options.discriminator_rate, betas=(0.9, 0.99)
        )
        self._penalty_weight = options.losses.gradient_penalty_weight

    def train_step(self, truth: torch.Tensor, result: torch.Tensor, seed: int) -> float:
        """One step; `result` is not changed. Returns the loss, penalty included."""
        fake = result.detach().float()
        loss = self._gan_loss.discriminator(self.network(truth), self.network(fake))
        if self._gan_loss.penalized:
            mix = torch.rand(len(truth), 1, 1, 1, generator=torch.Generator().manual_seed(seed)).to(
                truth.device
            )
            loss = loss + self._penalty_weight * gradient_penalty(self.network, truth, fake, mix)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def generator_loss(self, truth: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """The generator's side of the game; leaves no gradient in the discriminator."""
        self.network.requires_grad_(False)
        with torch.no_grad():
            real = self.network(truth)
        loss = self._gan_loss.generator(real, self.network(result.float()))
        self.network.requires_grad_(True)
        return loss
