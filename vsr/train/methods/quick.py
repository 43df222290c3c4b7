"""The default recipe: a sharp, faithful model of one keyframe in some ten seconds of one core."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F

from vsr.errors import UsageError
from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.models.networks.singan import Critic, Generator, NetworkSpec
from vsr.records import option
from vsr.train.adversarial import critic_loss
from vsr.train.crops import (
    MIN_CROP_PX,
    MIN_PAIR_SCALE,
    CropPlacement,
    TrainingPair,
    crop_batch,
    draw_placement,
    integer_sampler,
    multiscale_pairs,
    without_halo,
)
from vsr.train.fit import IterationProgress, fit, loss_curve_summary
from vsr.train.methods.method import GeneratorTraining, TrainedNetworks
from vsr.train.methods.temporal_loss import align_neighbor, temporal_loss
from vsr.train.optimizer import MIN_LEARNING_RATE, Adam, AveragedNetwork, cosine_decay
from vsr.train.state_file import Resumable

CRITIC_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class QuickOptions:
    """Settings of the quick recipe: L1 on crops of scale-augmented pairs, then a small adversarial
    term."""

    network: NetworkSpec = NetworkSpec(width=16)
    """Half the published width: as sharp and as close to the truth, at a quarter of the time."""
    # 2 is softer, 1.26 sharper than it should be.
    step_ratio: float = option(2**0.5, "Enlargement of one step.", at_least=1.05, at_most=8)
    iterations: int = option(500, "Iterations at most.", at_least=1)
    # The model sees its own next step's scale among others.
    pair_scales: tuple[float, ...] = option(
        (1.0, 0.9, 0.8, 0.7, 0.6),
        "Sizes of the keyframe that give the targets.",
        at_least=MIN_PAIR_SCALE,
        at_most=1,
    )
    crop_px: int = option(48, "Side of the crops.", at_least=MIN_CROP_PX)
    batch: int = option(1, "Crops in an iteration.", at_least=1)
    learning_rate: float = option(
        1e-3, "Learning rate of the generator.", at_least=MIN_LEARNING_RATE, at_most=1
    )
    critic_learning_rate: float = option(
        5e-4, "Learning rate of the critic.", at_least=MIN_LEARNING_RATE, at_most=1
    )
    average_decay: float = 0.99
    """Decay of the exponential moving average of the weights, which is what is kept."""
    adversarial_weight: float = 0.05
    adversarial_start: float = 0.5
    """Share of the iterations after which critic and adversarial term set in."""
    # A step with the game costs three times one without.
    adversarial_every: int = option(
        2, "Iterations between two steps of the adversarial game.", at_least=1
    )
    steadiness_weight: float = 8.0
    """Weight of the loss over the frames around the keyframe, where any are given. More buys
    steadiness with blur."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size, for a step ratio of 2; None: bicubic."""
    # Never trained on: it tells when the first part of the training has done its work.
    held_out_scale: float = option(
        0.75, "Size of the keyframe for validation.", at_least=MIN_PAIR_SCALE, at_most=1
    )
    check_every: int = option(100, "Iterations between two validations.", at_least=1)
    patience: int = option(
        3, "Validations without a gain that end the first part of the training.", at_least=1
    )
    least_gain: float = 0.003
    """Share by which the loss must fall to count as a gain."""

    def __post_init__(self) -> None:
        if not self.pair_scales:
            raise UsageError("pair_scales is empty; expected one size of the keyframe or more.")


def train_quick(
    keyframe: torch.Tensor, options: QuickOptions, seed: int, progress: IterationProgress
) -> TrainedNetworks:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and number of threads."""
    training = QuickTraining([keyframe], options, seed)
    fit(training, progress)
    return training.trained()


class QuickTraining(GeneratorTraining):
    """One model of the quick recipe, made steady on the frames around its keyframe where any are
    given."""

    kept = (
        "losses",
        "_random",
        "_schedule",
        "_restorer",
        "_critic",
        "_critic_optimizer",
    )

    def __init__(self, pictures: Sequence[torch.Tensor], options: QuickOptions, seed: int) -> None:
        """`pictures` are the keyframe, (3, H, W) in [0, 1], and frames near it, of its size."""
        super().__init__(options.iterations)
        keyframe, *neighbors = pictures
        self._options = options
        # A generator of its own: whatever else draws numbers, the model stays the same.
        self._random = torch.Generator().manual_seed(seed)
        self._draw = integer_sampler(self._random)
        generator, self._critic = initial_networks(options, seed)
        self._restorer = AveragedNetwork(generator)
        self._critic_optimizer = Adam(
            self._critic, options.critic_learning_rate, betas=CRITIC_BETAS
        )
        self._pairs = quick_pairs(keyframe, options)
        # A size between those that are trained on: it cannot be learned by heart.
        self._held_out = held_out_pair(keyframe, options)
        self._neighbors = [
            align_neighbor(keyframe, frame, quick_pairs(frame, options)) for frame in neighbors
        ]
        self._schedule = Schedule(options)

    @property
    def iterations_done(self) -> int:
        return self._schedule.iterations_done

    @property
    def is_over(self) -> bool:
        return self._schedule.is_over

    def step(self) -> None:
        """Restore crops, at times against the critic; then look whether that still gains."""
        options, schedule = self._options, self._schedule
        number, places = draw_placements(self._pairs, options, self._draw)
        padded, target = crop_batch(self._pairs[number], places)
        output = restored(self._restorer.network, padded)
        loss = F.l1_loss(output, target)
        self.losses.append(loss.item())
        if schedule.has_adversarial_step:
            # Detail that the critic takes for real, at a weight that keeps colors and edges true.
            loss = loss - options.adversarial_weight * self._adversarial_step(target, output)
        if self._neighbors:
            # Errors that do not move with the picture would flicker.
            loss = loss + options.steadiness_weight * self._change(number, places, output - target)
        self._restorer.descend(loss, schedule.rate, options.average_decay)
        schedule.advance()
        if schedule.needs_validation:
            held_out = self._held_out
            with torch.no_grad():
                # The average is what is kept, so the average is what is tested.
                output = restored(self._restorer.average, held_out.padded[None])[0]
            schedule.record_validation(F.l1_loss(output, held_out.target).item())

    def trained(self) -> TrainedNetworks:
        """Hand over the averaged generator: single states are noisier."""
        return TrainedNetworks(
            self._restorer.average,
            self._critic.eval(),
            0.0,
            loss_curve_summary(self.losses),
            self._options.kernel,
        )

    def _adversarial_step(self, target: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Take a step of the critic; then its mean score of the generator's output."""
        mix = torch.rand((), generator=self._random)
        # Detached: this loss moves the critic alone.
        loss = critic_loss(self._critic, target, output.detach(), mix)
        self._critic_optimizer.minimize(loss)
        score: torch.Tensor = self._critic(output).mean()
        return score

    def _change(
        self, number: int, places: Sequence[CropPlacement], errors: torch.Tensor
    ) -> torch.Tensor:
        """Compare the crops' errors with those on a frame around the keyframe, drawn at random."""
        # One of them at random: each costs a pass of the network.
        neighbor = self._neighbors[self._draw(len(self._neighbors))][number]
        changes = [
            temporal_loss(self._restorer.network, neighbor, *each)
            for each in zip(places, errors, strict=True)
        ]
        return torch.stack(changes).mean()


class Schedule(Resumable):
    """Progress of the training of one model. Its first part ends early where that no longer
    gains."""

    kept = ("_share_done", "_iterations", "_best", "_checks_without_gain")

    def __init__(self, options: QuickOptions) -> None:
        self._options = options
        self._share_done = 0.0
        self._iterations = 0
        self._best = inf
        self._checks_without_gain = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of the training."""
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
        """Number of iterations behind, those that were left out among them."""
        return round(self._share_done * self._options.iterations)

    def advance(self) -> None:
        """Count one more iteration."""
        self._iterations += 1
        # By whole iterations, so that a training always ends at exactly 1.
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
        # A gain of less than this share is noise of the last crops.
        if loss < self._best * (1 - self._options.least_gain):
            self._best, self._checks_without_gain = loss, 0
        else:
            self._checks_without_gain += 1
        if self._checks_without_gain >= self._options.patience:
            # The second part keeps its whole length: sharpness is made there.
            self._share_done = self._options.adversarial_start


def initial_networks(options: QuickOptions, seed: int) -> tuple[Generator, Critic]:
    """Make what a model of this seed begins with; torch's own random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(options.network), Critic(options.network)


def quick_pairs(picture: torch.Tensor, options: QuickOptions) -> list[TrainingPair]:
    """Pairs to train on, one for each of the keyframe's sizes."""
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
    size = pairs[number].target.shape[-2:]
    return number, [
        draw_placement(size, options.crop_px, draw, augmented=augmented)
        for _ in range(options.batch)
    ]


def restored(generator: Generator, padded: torch.Tensor) -> torch.Tensor:
    """(N, 3, H + 2 halo, W + 2 halo) in [-1, 1] -> (N, 3, H, W) with the generator's detail."""
    return without_halo(padded, generator.spec.halo) + generator.residual(padded)
