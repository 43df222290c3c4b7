"""The quick recipe for many seeds of one keyframe as one job.

Each model has its own random draws, early stop, rates and average, and is the one that
`train_quick` makes of its seed, but for rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import fmean

import torch
import torch.nn.functional as F

from vsr.image.blur import FACTOR
from vsr.models.networks.singan import Critic, Ensemble, Generator
from vsr.train.adversarial import critic_loss
from vsr.train.crops import (
    CropPlacement,
    DeviceCropper,
    TrainingPair,
    integer_sampler,
    without_halo,
)
from vsr.train.fit import Training, loss_curve_summary
from vsr.train.methods.method import BatchedMethod, BatchedProgress, TrainedNetworks
from vsr.train.methods.quick import (
    CRITIC_BETAS,
    QuickOptions,
    Schedule,
    draw_placements,
    held_out_pair,
    initial_networks,
    quick_pairs,
)
from vsr.train.methods.together import (
    DETERMINISTIC,
    MAX_BATCH,
    REPORT_EVERY,
    train_in_batches,
)
from vsr.train.optimizer import BatchedAdam

MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that is planned for."""
CROP_COPIES, MAP_COPIES = 8, 3
"""Copies of a layer's features that one iteration keeps, its steps of the game among them, and a
look."""


def can_train_batched(keyframe: torch.Tensor, options: QuickOptions) -> bool:
    """Whether these models can be one job: crops must be of one size, and weights be all that a
    network learns."""
    # Crops of many models are cut in one step, which takes one size for all.
    smallest = round(min(options.pair_scales) * min(keyframe.shape[-2:]))
    if options.kernel is not None:
        smallest -= smallest % FACTOR
    return smallest >= options.crop_px and not options.network.batch_norm


def train_quick_batched(
    keyframe: torch.Tensor,
    options: QuickOptions,
    seeds: Sequence[int],
    device: torch.device,
    progress: BatchedProgress,
) -> Iterator[tuple[int, TrainedNetworks]]:
    """Yield place in `seeds` and model, on the CPU, each as soon as it is done; `keyframe` is
    (3, H, W) in [0, 1].

    As many at once as the device's memory is thought to hold; where it does not, half as many begin
    again. Raises `ModelError` where it does not hold a single one.
    """
    assert can_train_batched(keyframe, options)
    yield from train_in_batches(
        seeds,
        batch_that_fits(keyframe, options, device),
        lambda batch: _BatchedTraining(keyframe, options, batch, device, progress),
        lambda training, _: training.pop_finished(),
    )


class _BatchedTraining(Training):
    """Models that are trained at once. Each `number` below is the row of one among their
    weights."""

    def __init__(
        self,
        keyframe: torch.Tensor,
        options: QuickOptions,
        seeds: Mapping[int, int],
        device: torch.device,
        progress: BatchedProgress,
    ) -> None:
        """`seeds` by their places."""
        super().__init__(options.iterations)
        self._progress = progress
        self._options, self._device = options, device
        self._running = list(range(len(seeds)))
        self._finished: list[int] = []
        self._mean_loss = inf
        # On the device, so that nothing waits for it in an iteration.
        self._curves = torch.zeros(options.iterations, len(seeds), device=device)
        self._places = list(seeds)
        # The draws of each model are those that it would make alone.
        self._randoms = [torch.Generator().manual_seed(seed) for seed in seeds.values()]
        networks = [initial_networks(options, seed) for seed in seeds.values()]
        self._generators = Ensemble([generator for generator, _ in networks], device)
        # A second copy, which follows the first.
        self._averages = Ensemble([generator for generator, _ in networks], device)
        self._critics = Ensemble([critic for _, critic in networks], device)
        self._adam = BatchedAdam(self._generators.weights)
        self._critics_adam = BatchedAdam(self._critics.weights, CRITIC_BETAS)
        self._schedules = [Schedule(options) for _ in networks]
        self._pairs = quick_pairs(keyframe, options)
        halo, side = options.network.halo, options.crop_px
        self._inputs = DeviceCropper([pair.padded for pair in self._pairs], side + 2 * halo, device)
        self._targets = DeviceCropper([pair.target for pair in self._pairs], side, device)
        held_out = held_out_pair(keyframe, options)
        self._held_out = TrainingPair(held_out.padded.to(device), held_out.target.to(device))

    @property
    def is_over(self) -> bool:
        """Whether the last model has come to its end."""
        return not self._running

    @property
    def has_diverged(self) -> bool:
        """False: each model is judged by its own weights, when it is saved."""
        return False

    def step(self) -> None:
        """Do one iteration of every model that still runs."""
        running, schedules = self._running, self._schedules
        number_of_steps = len(self.losses)
        latest = self._train_step(running)
        self._curves[number_of_steps, running] = latest
        for number in running:
            schedules[number].advance()
        self._validate([number for number in running if schedules[number].needs_validation])
        over = [number for number in running if schedules[number].is_over]
        # Fetched, for which the GPU is waited for, only now and then; until then the mean of before
        # stands.
        if over or (number_of_steps + 1) % REPORT_EVERY == 0:
            values = latest.tolist()
            self._mean_loss = fmean(values)
            for number, loss in zip(running, values, strict=True):
                done = schedules[number].iterations_done
                self._progress(self._places[number], done, self.iterations, loss)
        self.losses.append(self._mean_loss)
        self._finished += over
        self._running = [number for number in running if number not in over]

    def pop_finished(self) -> Iterator[tuple[int, TrainedNetworks]]:
        """Yield place and model of those that have ended since the last call."""
        while self._finished:
            number = self._finished.pop(0)
            losses = self._curves[: len(self.losses), number].tolist()
            yield self._places[number], self._trained(number, losses)

    @DETERMINISTIC
    def _train_step(self, running: Sequence[int]) -> torch.Tensor:
        """Do one iteration of each of these; their losses, (len(running),)."""
        options = self._options
        places = [place for number in running for place in self._draw_placements(number)]
        inputs, targets = self._inputs.crop_batch(places), self._targets.crop_batch(places)
        outputs = without_halo(inputs, options.network.halo) + self._generators(inputs, running)
        # A mean for each model and their sum: none pulls at the weights of another.
        errors = F.l1_loss(outputs, targets, reduction="none")
        losses = errors.reshape(len(running), -1).mean(dim=1)
        loss = losses.sum()
        playing = [number for number in running if self._schedules[number].has_adversarial_step]
        if playing:
            loss = loss - options.adversarial_weight * self._adversarial_step(
                running, playing, targets, outputs
            )
        # Models that are over stay in the one stack of weights: rate 0 leaves them as they are.
        rates = [
            schedule.rate if number in running else 0.0
            for number, schedule in enumerate(self._schedules)
        ]
        self._adam.minimize(loss, rates)
        with torch.no_grad():
            # Rows of models that are over move too, but those were handed over already.
            self._averages.weights.lerp_(self._generators.weights, 1 - options.average_decay)
        return losses.detach()

    def _adversarial_step(
        self,
        running: Sequence[int],
        playing: Sequence[int],
        targets: torch.Tensor,
        outputs: torch.Tensor,
    ) -> torch.Tensor:
        """Take a step of the critics of `playing`; then the sum of their mean scores of the
        generators' outputs."""
        options = self._options
        if len(playing) < len(running):
            rows = [
                options.batch * running.index(number) + crop
                for number in playing
                for crop in range(options.batch)
            ]
            # Models without a step of the game in this iteration leave their critics alone.
            targets, outputs = targets[rows], outputs[rows]
        mixes = torch.stack([torch.rand((), generator=self._randoms[number]) for number in playing])
        # One place for each model, the same for all of its crops.
        mix = mixes.repeat_interleave(options.batch)[:, None, None, None].to(self._device)

        def critics(pictures: torch.Tensor) -> torch.Tensor:
            return self._critics(pictures, playing)

        # Both are means over all critics, of maps of one size.
        loss = critic_loss(critics, targets, outputs.detach(), mix) * len(playing)
        rate = options.critic_learning_rate
        self._critics_adam.minimize(
            loss, [rate if number in playing else 0.0 for number in range(len(self._places))]
        )
        return critics(outputs).mean() * len(playing)

    def _draw_placements(self, number: int) -> list[tuple[int, CropPlacement]]:
        pair, places = draw_placements(
            self._pairs, self._options, integer_sampler(self._randoms[number])
        )
        return [(pair, place) for place in places]

    @DETERMINISTIC
    def _validate(self, looking: Sequence[int]) -> None:
        """Tell the schedules of these the loss on the held-out picture."""
        if not looking:
            return
        padded = self._held_out.padded
        with torch.no_grad():
            # The same picture for each model.
            details = self._averages(padded.expand(len(looking), -1, -1, -1), looking)
            base = without_halo(padded, self._options.network.halo)
            error = (base + details - self._held_out.target).abs()
            losses = error.flatten(1).mean(dim=1).tolist()
        for number, loss in zip(looking, losses, strict=True):
            self._schedules[number].record_validation(loss)

    def _trained(self, number: int, losses: list[float]) -> TrainedNetworks:
        generator, critic = self._averages.one(number), self._critics.one(number)
        assert isinstance(generator, Generator)
        assert isinstance(critic, Critic)
        return TrainedNetworks(
            generator, critic, 0.0, loss_curve_summary(losses), self._options.kernel
        )


def batch_that_fits(keyframe: torch.Tensor, options: QuickOptions, device: torch.device) -> int:
    """Estimate how many models a GPU's free memory holds at once; at least one. On a CPU as many as
    there are."""
    if device.type == "cpu":
        return MAX_BATCH
    height, width = keyframe.shape[-2:]
    crops = (
        options.batch
        * (options.crop_px + 2 * options.network.halo) ** 2
        * options.network.layers
        * CROP_COPIES
    )
    # The held-out picture is larger than any crop, but has no gradients.
    maps = options.held_out_scale**2 * height * width * MAP_COPIES
    # Four bytes a feature: training is in float32.
    bytes_each = 4 * options.network.width * (crops + maps)
    # What other programs hold is not counted on.
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MAX_BATCH, int(MEMORY_SHARE * free / bytes_each)))


QUICK_BATCHED = BatchedMethod(can_train_batched, train_quick_batched)
