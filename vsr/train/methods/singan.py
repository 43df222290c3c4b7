"""SinGAN's published losses and schedule: the single-scale form and the full pyramid, with the
known crashes mended.

Mended: every inner generator step makes its own fake, so that the adversarial gradient survives and
no graph is used after its weights changed; the coarsest level's reconstruction noise is drawn once;
pictures stay float from level to level. Sources: Rott Shaham et al. (2019) and its public code; the
single-scale form is that code's SR_train mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import log

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.models.networks.singan import Critic, Generator, NetworkSpec, init_as_published
from vsr.train.methods.losses import critic_loss
from vsr.train.methods.method import IterationProgress, TrainedNetworks, loss_curve_summary


@dataclass(frozen=True)
class FaithfulOptions:
    """One scale: the generator learns to restore the keyframe from its reduction by one step."""

    network: NetworkSpec = NetworkSpec(width=128, batch_norm=True, tanh=True, padding="zeros")
    step_ratio: float = 2 ** (1 / 3)
    iterations: int = 2000
    """Per level."""
    critic_steps: int = 3
    generator_steps: int = 3
    learning_rate: float = 5e-4
    decay_at: float = 0.8
    """Share of the iterations after which the learning rate falls to a tenth."""
    reconstruction_weight: float = 100.0
    """Alpha of the paper, at its value for super-resolution."""
    noise_share: float = 0.1
    """Noise amplitude over the root mean square error of the reconstruction's base."""


@dataclass(frozen=True)
class PyramidOptions(FaithfulOptions):
    """The whole pyramid of the paper; its finest generator is the model. Width doubles every four
    levels."""

    network: NetworkSpec = NetworkSpec(width=32, batch_norm=True, tanh=True, padding="zeros")
    coarsest_px: int = 18
    """Short side of the coarsest level."""
    widest: int = 128


Inputs = tuple[torch.Tensor, torch.Tensor]
"""A generator's two inputs: the noisy base and the base, (1, 3, H, W) each."""


def train_faithful(
    keyframe: torch.Tensor, options: FaithfulOptions, seed: int, progress: IterationProgress
) -> TrainedNetworks:
    """Train one scale on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread
    count."""
    random = torch.Generator().manual_seed(seed)
    real = (2 * keyframe - 1)[None]
    base = _reduce_and_enlarge(real, options.step_ratio)
    amplitude = options.noise_share * F.mse_loss(base, real).sqrt().item()
    generator, critic = _published_networks(options.network, seed)

    def draw() -> Inputs:
        return base + amplitude * torch.randn(real.shape, generator=random), base

    losses = _train_level(generator, critic, real, (base, base), draw, options, random, progress)
    return TrainedNetworks(generator.eval(), critic.eval(), amplitude, loss_curve_summary(losses))


def train_pyramid(
    keyframe: torch.Tensor, options: PyramidOptions, seed: int, progress: IterationProgress
) -> TrainedNetworks:
    """Train level after level on `keyframe`, (3, H, W) in [0, 1], and keep the finest.
    Deterministic likewise."""
    random = torch.Generator().manual_seed(seed)
    reals = pyramid_levels((2 * keyframe - 1)[None], options)
    sampler = _PyramidSampler(reals, random)
    reconstruction = torch.zeros_like(reals[0])
    losses: list[float] = []
    below: tuple[Generator, Critic] | None = None
    for level, real in enumerate(reals):
        width = min(options.network.width * 2 ** (level // 4), options.widest)
        generator, critic = _published_networks(replace(options.network, width=width), seed + level)
        if below is not None and below[0].spec == generator.spec:
            generator.load_state_dict(below[0].state_dict())
            critic.load_state_dict(below[1].state_dict())
        base = resize(reconstruction, *real.shape[-2:])
        amplitude = options.noise_share * F.mse_loss(base, real).sqrt().item() if level else 1.0
        # Only the coarsest level restores its picture from noise, drawn once; the others start from
        # the one below.
        reconstruction_inputs = (base, base) if level else (sampler.noise(0), base)
        draw = partial(sampler.draw, level, amplitude)
        report = _level_progress(progress, level, len(reals))
        losses += _train_level(
            generator, critic, real, reconstruction_inputs, draw, options, random, report
        )
        generator.eval().requires_grad_(False)
        reconstruction = generator(*reconstruction_inputs)
        sampler.trained.append((generator, amplitude))
        below = generator, critic.eval()
    return TrainedNetworks(generator, critic, amplitude, loss_curve_summary(losses))


def pyramid_levels(real: torch.Tensor, options: PyramidOptions) -> list[torch.Tensor]:
    """`real` reduced to each level, coarsest first.

    The ratio is re-solved so that the coarsest level has exactly `coarsest_px` on its short side.
    The picture is not shrunk first: the published limit of 250 pixels would shrink the result with
    it.
    """
    short = min(real.shape[-2:])
    steps = int(log(short / options.coarsest_px) / log(options.step_ratio)) + 1
    ratio = (options.coarsest_px / short) ** (1 / steps)
    sizes = [
        [round(side * ratio ** (steps - level)) for side in real.shape[-2:]]
        for level in range(steps + 1)
    ]
    return [resize(real, *size) for size in sizes]


class _PyramidSampler:
    """Draws the random inputs of a level from the levels trained so far."""

    def __init__(self, reals: list[torch.Tensor], random: torch.Generator) -> None:
        self.reals = reals
        self.random = random
        self.trained: list[tuple[Generator, float]] = []

    def draw(self, level: int, amplitude: float) -> Inputs:
        """Inputs of `level` made of a fresh random fake of all levels below it."""
        base = torch.zeros_like(self.reals[level])
        if level > 0:
            generator, amplitude_below = self.trained[level - 1]
            with torch.no_grad():
                base = resize(
                    generator(*self.draw(level - 1, amplitude_below)), *self.reals[level].shape[-2:]
                )
        return base + amplitude * self.noise(level), base

    def noise(self, level: int) -> torch.Tensor:
        """Unit noise; at the coarsest level one channel repeated to three."""
        like = self.reals[level]
        if level == 0:
            return torch.randn((1, 1, *like.shape[-2:]), generator=self.random).expand_as(like)
        return torch.randn(like.shape, generator=self.random)


def _train_level(
    generator: Generator,
    critic: Critic,
    real: torch.Tensor,
    reconstruction_inputs: Inputs,
    draw: Callable[[], Inputs],
    options: FaithfulOptions,
    random: torch.Generator,
    progress: IterationProgress,
) -> list[float]:
    """The adversarial game of one level, in place; returns the reconstruction loss of every
    iteration."""
    critic_optimizer, generator_optimizer = (
        torch.optim.Adam(network.parameters(), lr=options.learning_rate, betas=(0.5, 0.999))
        for network in (critic, generator)
    )
    milestone = [int(options.decay_at * options.iterations)]
    schedules = [
        torch.optim.lr_scheduler.MultiStepLR(optimizer, milestone, 0.1)
        for optimizer in (critic_optimizer, generator_optimizer)
    ]
    losses = []
    for iteration in range(options.iterations):
        for _ in range(options.critic_steps):
            with torch.no_grad():
                fake = generator(*draw())
            critic_optimizer.zero_grad(set_to_none=True)
            critic_loss(critic, real, fake, torch.rand((), generator=random)).backward()
            critic_optimizer.step()
        for _ in range(options.generator_steps):
            reconstruction = F.mse_loss(generator(*reconstruction_inputs), real)
            generator_optimizer.zero_grad(set_to_none=True)
            (
                options.reconstruction_weight * reconstruction - critic(generator(*draw())).mean()
            ).backward()
            generator_optimizer.step()
        for schedule in schedules:
            schedule.step()
        losses.append(reconstruction.item())
        progress(iteration + 1, options.iterations, losses[-1])
    return losses


def _published_networks(spec: NetworkSpec, seed: int) -> tuple[Generator, Critic]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Generator(spec), Critic(spec)
        init_as_published(generator)
        init_as_published(critic)
    return generator, critic


def _reduce_and_enlarge(real: torch.Tensor, step_ratio: float) -> torch.Tensor:
    height, width = real.shape[-2:]
    return resize(
        resize(real, round(height / step_ratio), round(width / step_ratio)), height, width
    )


def _level_progress(progress: IterationProgress, level: int, levels: int) -> IterationProgress:
    """Progress of one level as a part of the whole pyramid's."""
    return lambda done, total, loss: progress(level * total + done, levels * total, loss)
