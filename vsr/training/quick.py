"""The default recipe: a sharp, faithful model of one keyframe in some ten seconds of one core."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vsr.networks.singan import Critic, Generator, NetworkSpec, pad
from vsr.resample import resize
from vsr.training.losses import critic_loss
from vsr.training.method import Progress, TrainedPair, loss_curve_summary


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


def train_quick(keyframe: torch.Tensor, options: Quick, seed: int, progress: Progress) -> TrainedPair:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread count."""
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Generator(options.network), Critic(options.network)
    average = copy.deepcopy(generator)
    pairs = scale_pairs(keyframe, options)
    optimiser = torch.optim.Adam(generator.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.iterations)
    critic_optimiser = torch.optim.Adam(critic.parameters(), lr=options.critic_learning_rate, betas=(0.5, 0.999))
    losses = []
    for iteration in range(options.iterations):
        padded, target = draw_crops(pairs, options, random)
        halo = options.network.halo
        output = padded[..., halo:-halo, halo:-halo] + generator.residual(padded)
        loss = F.l1_loss(output, target)
        losses.append(loss.item())
        if iteration >= options.adversarial_start * options.iterations and iteration % options.adversarial_every == 0:
            mix = torch.rand((), generator=random)
            critic_optimiser.zero_grad(set_to_none=True)
            critic_loss(critic, target, output.detach(), mix).backward()
            critic_optimiser.step()
            loss = loss - options.adversarial_weight * critic(output).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        update_average(average, generator, options.average_decay)
        progress(iteration + 1, options.iterations, losses[-1])
    return TrainedPair(average.eval(), critic.eval(), 0.0, loss_curve_summary(losses))


def scale_pairs(keyframe: torch.Tensor, options: Quick) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(base extended by the halo, target) for each pair scale, in [-1, 1], (3, h + 2 halo, w + 2 halo) and (3, h, w).

    The reduced picture is rounded to 8 bits, as a clip's own frames are.
    """
    height, width = keyframe.shape[-2:]
    pairs = []
    for scale in options.pair_scales:
        target = resize(keyframe, round(height * scale), round(width * scale)).clamp(0, 1)
        target_height, target_width = target.shape[-2:]
        low = resize(target, round(target_height / options.step_ratio), round(target_width / options.step_ratio))
        base = resize((low.clamp(0, 1) * 255).round() / 255, target_height, target_width)
        pairs.append((pad((2 * base - 1)[None], options.network)[0], 2 * target - 1))
    return pairs


def draw_crops(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], options: Quick, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of matching crops of one pair, flipped and turned alike: inputs with their halo, and targets."""
    draw = _uniform_draw(random)
    padded, target = pairs[draw(len(pairs))]
    side = min(options.crop_px, *target.shape[-2:])
    extended = side + 2 * options.network.halo
    inputs, targets = [], []
    for _ in range(options.batch):
        top, left = draw(target.shape[1] - side + 1), draw(target.shape[2] - side + 1)
        turns, flip = draw(4), draw(2)
        crops = padded[:, top : top + extended, left : left + extended], target[:, top : top + side, left : left + side]
        turned = [torch.rot90(crop, turns, (1, 2)) for crop in crops]
        if flip:
            turned = [crop.flip(2) for crop in turned]
        inputs.append(turned[0])
        targets.append(turned[1])
    return torch.stack(inputs), torch.stack(targets)


def _uniform_draw(random: torch.Generator) -> Callable[[int], int]:
    return lambda bound: int(torch.randint(bound, (), generator=random))


def update_average(average: torch.nn.Module, current: torch.nn.Module, decay: float) -> None:
    """Exponential moving average of the weights, in place."""
    with torch.no_grad():
        for kept, fresh in zip(average.parameters(), current.parameters(), strict=True):
            kept.lerp_(fresh, 1 - decay)
