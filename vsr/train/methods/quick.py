"""The default recipe: a sharp, faithful model of one keyframe in some ten seconds of one core."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F

from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.models.networks.singan import Critic, Generator, NetworkSpec
from vsr.train.methods.adam import Adam, cosine_decay
from vsr.train.methods.crops import (
    CropPlacement,
    TrainingPair,
    crop_batch,
    draw_placement,
    integer_sampler,
    multiscale_pairs,
)
from vsr.train.methods.losses import critic_loss
from vsr.train.methods.method import IterationProgress, TrainedNetworks, loss_curve_summary
from vsr.train.methods.temporal_loss import align_neighbor, temporal_loss

CRITIC_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class QuickOptions:
    """Settings of the quick recipe: L1 on crops of scale-augmented pairs, then a small adversarial
    term."""

    network: NetworkSpec = NetworkSpec(width=16)
    """Half the published width: as sharp and as close to the truth, at a quarter of the time."""
    step_ratio: float = 2**0.5
    """Enlargement of one step. 2 is softer, 1.26 sharper than it should be."""
    iterations: int = 500
    pair_scales: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6)
    """The keyframe at these sizes gives the targets: the model sees its own next step's scale among
    others."""
    crop_px: int = 48
    batch: int = 1
    learning_rate: float = 1e-3
    critic_learning_rate: float = 5e-4
    average_decay: float = 0.99
    """Of the exponential moving average of the weights, which is what is kept."""
    adversarial_weight: float = 0.05
    adversarial_start: float = 0.5
    """Share of the iterations after which critic and adversarial term set in."""
    adversarial_every: int = 2
    """Iterations between two steps of the game; a step costs three times one without."""
    steadiness_weight: float = 8.0
    """Of the loss over the frames around the keyframe, where any are given. More buys steadiness
    with blur."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size, for a step ratio of 2; None: bicubic."""
    held_out_scale: float = 0.75
    """The keyframe at this size is never trained on: it tells when the first part of the training
    has done its work."""
    check_every: int = 100
    """Iterations between two looks at it."""
    patience: int = 3
    """Looks without a gain after which the rest of the first part is left out."""
    least_gain: float = 0.003
    """Share by which the loss must fall to count as a gain."""


def train_quick(
    keyframe: torch.Tensor, options: QuickOptions, seed: int, progress: IterationProgress
) -> TrainedNetworks:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread count."""
    return train_quick_steady(keyframe, (), options, seed, progress)


def train_quick_steady(
    keyframe: torch.Tensor,
    neighbours: Sequence[torch.Tensor],
    options: QuickOptions,
    seed: int,
    progress: IterationProgress,
) -> TrainedNetworks:
    """The same, made steady on `neighbours`: frames near the keyframe, of its size. Without any it
    is `train_quick`."""
    random = torch.Generator().manual_seed(seed)
    draw = integer_sampler(random)
    generator, critic = initial_networks(options, seed)
    average = copy.deepcopy(generator)
    pairs = quick_pairs(keyframe, options)
    frames = [align_neighbor(keyframe, frame, quick_pairs(frame, options)) for frame in neighbours]
    optimizer = Adam(generator, options.learning_rate)
    critic_optimizer = Adam(critic, options.critic_learning_rate, betas=CRITIC_BETAS)
    halo = options.network.halo
    held_out = held_out_pair(keyframe, options)
    schedule = Schedule(options)
    losses: list[float] = []
    while not schedule.is_over:
        number, places = draw_placements(pairs, options, draw)
        padded, target = crop_batch(pairs[number], places)
        output = padded[..., halo:-halo, halo:-halo] + generator.residual(padded)
        loss = F.l1_loss(output, target)
        losses.append(loss.item())
        if schedule.has_adversarial_step:
            mix = torch.rand((), generator=random)
            critic_optimizer.minimize(critic_loss(critic, target, output.detach(), mix))
            loss = loss - options.adversarial_weight * critic(output).mean()
        if frames:
            frame = frames[draw(len(frames))][number]
            changes = [
                temporal_loss(generator, frame, *each)
                for each in zip(places, output - target, strict=True)
            ]
            loss = loss + options.steadiness_weight * torch.stack(changes).mean()
        optimizer.learning_rate = schedule.rate
        optimizer.minimize(loss)
        update_ema(average, generator, options.average_decay)
        schedule.advance()
        if schedule.needs_validation:
            with torch.no_grad():
                output = (
                    held_out.padded[..., halo:-halo, halo:-halo]
                    + average.residual(held_out.padded[None])[0]
                )
            schedule.record_validation(F.l1_loss(output, held_out.target).item())
        progress(schedule.iterations_done, options.iterations, losses[-1])
    return TrainedNetworks(
        average.eval(), critic.eval(), 0.0, loss_curve_summary(losses), options.kernel
    )


class Schedule:
    """How far the training of one model is. Its first part ends early where that no longer
    gains."""

    def __init__(self, options: QuickOptions) -> None:
        self._options = options
        self._share_done = 0.0
        self._iterations = 0
        self._best = inf
        self._checks_without_gain = 0

    @property
    def is_over(self) -> bool:
        return self._share_done >= 1

    @property
    def has_adversarial_step(self) -> bool:
        """Whether the coming iteration has a step of the game."""
        has_begun = self._share_done >= self._options.adversarial_start
        return has_begun and self._iterations % self._options.adversarial_every == 0

    @property
    def rate(self) -> float:
        """Learning rate of the coming iteration."""
        return cosine_decay(self._options.learning_rate, self._share_done)

    @property
    def iterations_done(self) -> int:
        """Of all, those that were left out among them."""
        return round(self._share_done * self._options.iterations)

    def advance(self) -> None:
        """An iteration is done."""
        self._iterations += 1
        self._share_done = (self.iterations_done + 1) / self._options.iterations

    @property
    def needs_validation(self) -> bool:
        """Whether the loss on the held-out picture is to be told now."""
        # The game that follows trades this loss for sharpness, so only before it does the loss say
        # anything.
        is_first_part = self._share_done < self._options.adversarial_start
        return is_first_part and self._iterations % self._options.check_every == 0

    def record_validation(self, loss: float) -> None:
        """Leave out the rest of the first part where the last `patience` looks, this one among
        them, gained nothing."""
        if loss < self._best * (1 - self._options.least_gain):
            self._best, self._checks_without_gain = loss, 0
        else:
            self._checks_without_gain += 1
        if self._checks_without_gain >= self._options.patience:
            self._share_done = self._options.adversarial_start


def initial_networks(options: QuickOptions, seed: int) -> tuple[Generator, Critic]:
    """What a model of this seed begins with; torch's own random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(options.network), Critic(options.network)


def quick_pairs(picture: torch.Tensor, options: QuickOptions) -> list[TrainingPair]:
    """What is trained on."""
    return multiscale_pairs(
        picture, options.network, options.step_ratio, options.pair_scales, options.kernel
    )


def held_out_pair(keyframe: torch.Tensor, options: QuickOptions) -> TrainingPair:
    """A size of the keyframe that is not trained on."""
    scales = (options.held_out_scale,)
    return multiscale_pairs(keyframe, options.network, options.step_ratio, scales, options.kernel)[
        0
    ]


def draw_placements(
    pairs: Sequence[TrainingPair], options: QuickOptions, draw: Callable[[int], int]
) -> tuple[int, list[CropPlacement]]:
    """The number of a pair, and places of a batch of crops of it."""
    number = draw(len(pairs))
    # A blur kernel is not turned with the crops.
    augmented = none_if_bicubic(options.kernel) is None
    return number, [
        draw_placement(pairs[number], options.crop_px, draw, augmented=augmented)
        for _ in range(options.batch)
    ]


def update_ema(average: torch.nn.Module, current: torch.nn.Module, decay: float) -> None:
    """Exponential moving average of the weights, in place."""
    with torch.no_grad():
        for kept, fresh in zip(average.parameters(), current.parameters(), strict=True):
            kept.lerp_(fresh, 1 - decay)
