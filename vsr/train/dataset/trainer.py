"""A network in training on a data set: its generator, its discriminator, and one step after
another."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn

from vsr.errors import ModelError
from vsr.image.resample import back_project, resize
from vsr.models.networks.srgan import Discriminator, DiscriminatorSpec
from vsr.train.adversarial import GAN_LOSSES, gradient_penalty
from vsr.train.dataset.losses import (
    PIXEL_LOSSES,
    BatchOutput,
    LossTerm,
    confuse_high_frequencies,
    content_terms,
    is_adversarial,
    is_late,
    needs_two_samples,
    pixel_term,
)
from vsr.train.dataset.options import TrainingOptions
from vsr.train.fit import Training
from vsr.train.optimizer import Adam, AveragedNetwork, warm_decay
from vsr.train.state_file import Resumable
from vsr.upscale.networks.files import Architecture

WINDOW_STEPS = 50
"""Over which the distance from the truth is averaged before it is judged."""
DIVERGED_FACTOR = 10.0
"""A window this many times the best one is beyond hope."""
DIVERGENCE_HINT = "Lower the rate, as by --set learning_rate=1e-4."
SEEDS_PER_STEP = 4
FIRST_MOMENT_DECAY = 0.9
DISCRIMINATORS = {
    "esrgan": DiscriminatorSpec(halvings=5, head_width=100, stride_kernel=4),
    "srgan": DiscriminatorSpec(halvings=4, head_width=1024, stride_kernel=3),
}
"""Settings as published, but for the crop, the width and the normalization of a training."""


class Batches(Protocol):
    """A source of crops to learn from."""

    def batch_at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Low and high crops of a step, float (N, 3, ., .) in [0, 1]."""


@dataclass(frozen=True, eq=False)
class TrainableGenerator:
    """A generator, with how to feed it."""

    architecture: Architecture
    spec: Any
    network: nn.Module
    consistency_passes: int

    @property
    def has_noise(self) -> bool:
        return getattr(self.spec, "noise_channels", 0) > 0

    def pair(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert RGB crops to the colors that the network works in."""
        luma = self.architecture.luma
        return (low, high) if luma is None else (luma.from_rgb(low), luma.from_rgb(high))

    def make(self, low: torch.Tensor, seed: int) -> torch.Tensor:
        """Enlarge low crops (N, C, h, w) to (N, C, scale h, scale w), not clamped; `seed` is that
        of the noise."""
        height, width = low.shape[-2:]
        planes = low
        if self.architecture.enlarged_first:
            # Bicubic overshoots; what follows expects pictures.
            planes = resize(low, height * self.spec.scale, width * self.spec.scale).clamp(0, 1)
        if self.has_noise:
            random = torch.Generator().manual_seed(seed)
            # Drawn on the CPU: the same noise on every device.
            noise = torch.randn(len(low), self.spec.noise_channels, height, width, generator=random)
            planes = torch.cat([planes, noise.to(low.device)], dim=1)
        result: torch.Tensor = self.network(planes)
        for _ in range(self.consistency_passes):
            # Part of the network's function, so training sees it as well.
            result = back_project(result, low)
        return result

    def rate_factors(self, last_layer_rate: float) -> list[float]:
        """Factors of the learning rate for each parameter: those of the last layer have their
        own."""
        names = [name for name, _ in self.network.named_parameters()]
        last_layer = names[-1].rpartition(".")[0]
        return [last_layer_rate if n.rpartition(".")[0] == last_layer else 1.0 for n in names]


class DiscriminatorTrainer(Resumable):
    """A discriminator with its optimizer."""

    kept = ("network", "optimizer")

    def __init__(
        self, options: TrainingOptions, crop_px: int, seed: int, device: torch.device
    ) -> None:
        self._gan_loss = GAN_LOSSES[options.losses.adversarial]
        published = DISCRIMINATORS[options.discriminator]
        # As many as the crop bears: it must divide evenly, with four pixels a side left.
        halvings = max(
            number
            for number in range(1, published.halvings + 1)
            if crop_px % 2**number == 0 and crop_px >= 4 * 2**number
        )
        spec = replace(
            published,
            crop_px=crop_px,
            width=options.discriminator_width,
            halvings=halvings,
            # Batch statistics tie crops together, which a penalty for each of them cannot have.
            norm="instance" if self._gan_loss.penalized else "batch",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Discriminator(spec).to(device)
        betas = FIRST_MOMENT_DECAY, options.second_moment_decay
        self.optimizer = Adam(self.network, options.discriminator_rate, betas)
        self._options = options
        self._penalty_weight = options.losses.gradient_penalty_weight

    def train_step(
        self, truth: torch.Tensor, result: torch.Tensor, seed: int, iteration: int
    ) -> float:
        """Take one step; `result` is not changed. Returns the loss, penalty included."""
        # It falls with the generator's.
        self.optimizer.learning_rate = self._options.discriminator_rate * rate_factor(
            self._options, iteration
        )
        # Detached: this step must not reach the generator. Full precision, whatever made it.
        fake = result.detach().float()
        loss = self._gan_loss.discriminator(self.network(truth), self.network(fake))
        if self._gan_loss.penalized:
            mix = torch.rand(len(truth), 1, 1, 1, generator=torch.Generator().manual_seed(seed)).to(
                truth.device
            )
            loss = loss + self._penalty_weight * gradient_penalty(self.network, truth, fake, mix)
        self.optimizer.minimize(loss)
        return float(loss.detach())

    def generator_loss(self, truth: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """Judge the generator's side of the game; leaves no gradient in the discriminator."""
        # The gradient passes through the discriminator to the generator, and leaves nothing in it.
        self.network.requires_grad_(False)
        with torch.no_grad():
            # Relativistic losses compare with it, but it does not depend on the generator.
            real = self.network(truth)
        loss = self._gan_loss.generator(real, self.network(result.float()))
        self.network.requires_grad_(True)
        return loss


class Trainer(Training):
    """A training on a data set. What happens at a step follows from the state and the step's number
    alone."""

    kept = (
        "losses",
        "windows",
        "best_window",
        "best_step",
        "validations",
        "_network",
        "_discriminator",
        "_best_average",
        "_window",
    )

    def __init__(
        self,
        generator: TrainableGenerator,
        options: TrainingOptions,
        batches: Batches,
        crop_px: int,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(options.steps)
        self.generator, self.options = generator, options
        self.values: dict[str, float] = {}
        """Values of each term at the last step, and of the discriminator's loss."""
        self.validations: list[dict[str, float]] = []
        """Results on pictures that are not trained on, so far; the caller adds them."""
        self.best_window: float | None = None
        self.best_step = 0
        self.windows: list[float] = []
        """Mean distance from the truth over each window so far."""
        self._best_average: dict[str, torch.Tensor] = {}
        self._window: list[float] = []
        self._batches, self._seed, self.device = batches, seed, device
        self._terms = content_terms(options.losses, device)
        factors = generator.rate_factors(options.last_layer_rate)
        betas = FIRST_MOMENT_DECAY, options.second_moment_decay
        self._network = AveragedNetwork(generator.network, betas, factors)
        self._discriminator = (
            DiscriminatorTrainer(options, crop_px, seed, device)
            if is_adversarial(options.losses)
            else None
        )

    def step(self) -> None:
        """Learn from one batch."""
        low, high = self._batches.batch_at(self.iterations_done)
        low, truth = self.generator.pair(low.to(self.device), high.to(self.device))
        options = self.options
        # Sharpness before the pixels are roughly right would be learned in the wrong places.
        late = self.iterations_done >= options.adversarial_start * options.steps
        output = self._forward(low, truth, late)
        self.values = {}
        loss = torch.zeros((), device=self.device)
        for name, (weight, term) in self._active_terms(late).items():
            value = term(output)
            loss = loss + weight * value
            self.values[name] = float(value.detach())
        if self._discriminator is not None and late:
            judged, cutoff = output.result, options.losses.confusion_above
            if cutoff > 0:
                judged = confuse_high_frequencies(judged, truth, cutoff)
            self.values["discriminator"] = self._discriminator.train_step(
                truth, judged, self._seed_of_step(2), self.iterations_done
            )
            value = self._discriminator.generator_loss(truth, judged)
            loss = loss + options.losses.adversarial_weight * value
            self.values["adversarial"] = float(value.detach())
        # One more than the steps done: the average starts from the first weights.
        decay = warm_decay(options.average_decay, self.iterations_done + 2)
        rate = options.learning_rate * rate_factor(options, self.iterations_done)
        self._network.descend(loss, rate, decay)
        self.losses.append(sum(self.values.values()))
        self._track_distance(output)

    @property
    def average(self) -> nn.Module:
        """The averaged network, which is what is kept, in evaluation mode."""
        return self._network.average

    @property
    def has_diverged(self) -> bool:
        """Whether the last window is not finite, or far worse than the best one."""
        if not self.windows or self.best_window is None:
            # A window has ended, and none was fit to be kept.
            return bool(self.windows)
        # The negation counts NaN, which is not below anything, as diverged.
        return not self.windows[-1] <= DIVERGED_FACTOR * self.best_window

    def restore_best(self) -> None:
        """Set the average to what it was after the best window. Raises `ModelError` where none is
        finite."""
        if self.best_window is None:
            raise ModelError(
                f"the training diverged within {self.iterations_done} steps: nothing is kept. "
                f"{DIVERGENCE_HINT}"
            )
        self.average.load_state_dict(self._best_average)

    def _active_terms(self, late: bool) -> dict[str, tuple[float, LossTerm]]:
        """Choose the terms of this step; before the late ones set in, pixels alone where there is
        nothing else."""
        active = {name: term for name, term in self._terms.items() if late or not is_late(name)}
        return active or ({} if late else {"pixel": (1.0, pixel_term(self.options.losses))})

    def _forward(self, low: torch.Tensor, truth: torch.Tensor, late: bool) -> BatchOutput:
        # Half precision for the network alone, on a GPU; losses and weights stay in full.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            result = self.generator.make(low, self._seed_of_step(0))
            both = late and needs_two_samples(self.options.losses)
            other = self.generator.make(low, self._seed_of_step(1)) if both else None
        return BatchOutput(low, truth, result.float(), None if other is None else other.float())

    def _seed_of_step(self, purpose: int) -> int:
        # From the step's number: a training that goes on draws what it would have drawn. The large
        # factor keeps seeds apart.
        return 1_000_003 * self._seed + SEEDS_PER_STEP * self.iterations_done + purpose

    def _track_distance(self, output: BatchOutput) -> None:
        """Judge the distance from the truth in pixels, whichever terms there are."""
        distance = PIXEL_LOSSES[self.options.losses.pixel](output.result.detach(), output.truth)
        self._window.append(float(distance))
        if len(self._window) == WINDOW_STEPS or self.is_over or not torch.isfinite(distance):
            self.windows.append(sum(self._window) / len(self._window))
            self._window = []
            # The average is what would be kept, so it must be fit to be kept.
            if _is_finite(self.average) and (
                self.best_window is None or self.windows[-1] < self.best_window
            ):
                self.best_window, self.best_step = self.windows[-1], self.iterations_done
                state = self.average.state_dict()
                self._best_average = {name: each.clone() for name, each in state.items()}


def rate_factor(options: TrainingOptions, iteration: int) -> float:
    """Share of the first learning rate at an iteration: halved, or divided by ten, behind each of
    the shares of the steps that the options name."""
    halvings, tenths = (
        sum(iteration >= share * options.steps for share in shares)
        for shares in (options.halve_at, options.tenth_at)
    )
    return float(0.5**halvings * 0.1**tenths)


def _is_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
