"""The default recipe: a sharp, faithful model of one keyframe in some ten seconds of one core."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F

from vsr.blur import Rows
from vsr.networks.singan import Critic, Generator, NetworkSpec
from vsr.training.adam import Adam, cosine_rate
from vsr.training.crops import Pair, cut, draw_place, scale_pairs, uniform_draw
from vsr.training.losses import critic_loss
from vsr.training.method import Progress, TrainedPair, loss_curve_summary
from vsr.training.steadiness import beside, steadiness_loss


@dataclass(frozen=True)
class Quick:
    """Settings of the quick recipe: L1 on crops of scale-augmented pairs, then a small adversarial term."""

    network: NetworkSpec = NetworkSpec(width=16)
    """Half the published width: as sharp and as close to the truth, at a quarter of the time."""
    step_ratio: float = 2**0.5
    """Enlargement of one step. 2 is softer, 1.26 sharper than it should be."""
    iterations: int = 500
    pair_scales: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6)
    """The keyframe at these sizes gives the targets: the model sees its own next step's scale among others."""
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
    """Of the loss over the frames around the keyframe, where any are given. More buys steadiness with blur."""
    kernel: Rows | None = None
    """Blur kernel of half the size, for a step ratio of 2; None: bicubic."""
    held_out_scale: float = 0.75
    """The keyframe at this size is never trained on: it tells when the first part of the training has done its work."""
    check_every: int = 100
    """Iterations between two looks at it."""
    patience: int = 3
    """Looks without a gain after which the rest of the first part is left out."""
    least_gain: float = 0.003
    """Share by which the loss must fall to count as a gain."""


def train_quick(keyframe: torch.Tensor, options: Quick, seed: int, progress: Progress) -> TrainedPair:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread count."""
    return train_quick_steady(keyframe, (), options, seed, progress)


def train_quick_steady(
    keyframe: torch.Tensor, neighbours: Sequence[torch.Tensor], options: Quick, seed: int, progress: Progress
) -> TrainedPair:
    """The same, made steady on `neighbours`: frames near the keyframe, of its size. Without any it is `train_quick`."""
    random = torch.Generator().manual_seed(seed)
    draw = uniform_draw(random)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Generator(options.network), Critic(options.network)
    average = copy.deepcopy(generator)
    pairs = _pairs(keyframe, options)
    frames = [beside(keyframe, frame, _pairs(frame, options)) for frame in neighbours]
    optimiser = Adam(generator, options.learning_rate)
    critic_optimiser = Adam(critic, options.critic_learning_rate, betas=(0.5, 0.999))
    halo = options.network.halo
    held_out = HeldOut(keyframe, options)
    losses: list[float] = []
    share_done = 0.0
    while share_done < 1:
        iteration = len(losses)
        number = draw(len(pairs))
        # A blur kernel is not turned with the crops.
        turned = options.kernel is None
        places = [draw_place(pairs[number], options.crop_px, draw, turned=turned) for _ in range(options.batch)]
        padded, target = cut(pairs[number], places)
        output = padded[..., halo:-halo, halo:-halo] + generator.residual(padded)
        loss = F.l1_loss(output, target)
        losses.append(loss.item())
        if share_done >= options.adversarial_start and iteration % options.adversarial_every == 0:
            mix = torch.rand((), generator=random)
            critic_optimiser.descend(critic_loss(critic, target, output.detach(), mix))
            loss = loss - options.adversarial_weight * critic(output).mean()
        if frames:
            frame = frames[draw(len(frames))][number]
            changes = [steadiness_loss(generator, frame, *each) for each in zip(places, output - target, strict=True)]
            loss = loss + options.steadiness_weight * torch.stack(changes).mean()
        optimiser.learning_rate = cosine_rate(options.learning_rate, share_done)
        optimiser.descend(loss)
        update_average(average, generator, options.average_decay)
        share_done = (round(share_done * options.iterations) + 1) / options.iterations
        # The game that follows trades this loss for sharpness, so only before it does the loss say anything.
        if share_done < options.adversarial_start and len(losses) % options.check_every == 0:
            share_done = options.adversarial_start if held_out.has_settled(average) else share_done
        progress(round(share_done * options.iterations), options.iterations, losses[-1])
    return TrainedPair(average.eval(), critic.eval(), 0.0, loss_curve_summary(losses), options.kernel)


class HeldOut:
    """Looks at a size of the keyframe that is not trained on, and tells when that is no longer done better."""

    def __init__(self, keyframe: torch.Tensor, options: Quick) -> None:
        scales = (options.held_out_scale,)
        self._pair = scale_pairs(keyframe, options.network, options.step_ratio, scales, options.kernel)[0]
        self._halo = options.network.halo
        self._factor, self._patience = 1 - options.least_gain, options.patience
        self._best = inf
        self._looks_since = 0

    def has_settled(self, generator: Generator) -> bool:
        """Whether the last `patience` looks, this one among them, have all shown no gain."""
        halo, padded = self._halo, self._pair.padded[None]
        with torch.no_grad():
            output = padded[..., halo:-halo, halo:-halo] + generator.residual(padded)
            loss = float(F.l1_loss(output[0], self._pair.target))
        if loss < self._best * self._factor:
            self._best, self._looks_since = loss, 0
        else:
            self._looks_since += 1
        return self._looks_since >= self._patience


def _pairs(picture: torch.Tensor, options: Quick) -> list[Pair]:
    return scale_pairs(picture, options.network, options.step_ratio, options.pair_scales, options.kernel)


def update_average(average: torch.nn.Module, current: torch.nn.Module, decay: float) -> None:
    """Exponential moving average of the weights, in place."""
    with torch.no_grad():
        for kept, fresh in zip(average.parameters(), current.parameters(), strict=True):
            kept.lerp_(fresh, 1 - decay)
