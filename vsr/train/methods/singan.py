"""SinGAN's published losses and schedule: the single-scale form and the full pyramid, with the
known crashes mended.

Mended: every inner generator step makes its own fake, so that the adversarial gradient survives and
no graph is used after its weights changed; the coarsest level's reconstruction noise is drawn once;
pictures stay float from level to level. Sources: Rott Shaham et al. (2019) and its public code; the
single-scale form is that code's SR_train mode.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log
from statistics import fmean
from typing import Any

import torch

from vsr.image.resample import resize
from vsr.models.networks.singan import (
    Critic,
    Ensemble,
    Generator,
    NetworkSpec,
    init_as_published,
    pad,
)
from vsr.records import option
from vsr.train.adversarial import critic_loss
from vsr.train.fit import loss_curve_summary
from vsr.train.methods.method import (
    BatchedMethod,
    BatchedProgress,
    GeneratorTraining,
    TrainedNetworks,
)
from vsr.train.methods.together import (
    DETERMINISTIC,
    MAX_BATCH,
    REPORT_EVERY,
    train_in_batches,
)
from vsr.train.optimizer import MIN_LEARNING_RATE, BatchedAdam

BETAS = (0.5, 0.999)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FaithfulOptions:
    """One scale: the generator learns to restore the keyframe from its reduction by one step."""

    network: NetworkSpec = NetworkSpec(width=128, batch_norm=True, tanh=True, padding="zeros")
    step_ratio: float = option(2 ** (1 / 3), "Enlargement of one step.", at_least=1.05, at_most=8)
    iterations: int = option(2000, "Iterations of each level.", at_least=1)
    critic_steps: int = 3
    generator_steps: int = 3
    learning_rate: float = option(
        5e-4, "Learning rate of generator and critic.", at_least=MIN_LEARNING_RATE, at_most=1
    )
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


class SeededNoise:
    """Random numbers for many models, each from a generator of its own seed, so that a model draws
    what it would draw alone."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        """Draw on the CPU, for the same numbers on every device, and move them to `device`."""
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device

    def normal(self, channels: int, height: int, width: int) -> torch.Tensor:
        """Draw from N(0, 1), (M, C, H, W)."""
        drawn = [torch.randn(channels, height, width, generator=own) for own in self._generators]
        return torch.stack(drawn).to(self._device)

    def uniform(self) -> torch.Tensor:
        """Draw a number from [0, 1) for each model, (M, 1, 1, 1)."""
        drawn = [torch.rand(1, 1, 1, generator=own) for own in self._generators]
        return torch.stack(drawn).to(self._device)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of each generator."""
        return {str(number): own.get_state() for number, own in enumerate(self._generators)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a state."""
        for number, own in enumerate(self._generators):
            own.set_state(state[str(number)])


Inputs = tuple[torch.Tensor, torch.Tensor]
"""The two inputs of each model's generator: the noisy base and the base, (M, 3, H, W) each."""


class FaithfulTraining(GeneratorTraining):
    """One scale of SinGAN: a generator and its critic, turn by turn. Models of many seeds are
    trained as one, each as it would be alone."""

    kept = (
        "losses",
        "curves",
        "_random",
        "_generators",
        "_critics",
        "_generators_optimizer",
        "_critics_optimizer",
    )

    def __init__(
        self,
        keyframe: torch.Tensor,
        options: FaithfulOptions,
        seeds: Sequence[int],
        device: torch.device = CPU,
    ) -> None:
        """`keyframe` is (3, H, W) in [0, 1]."""
        super().__init__(options.iterations)
        self._options, self._seeds, self._device = options, seeds, device
        self.curves: list[list[float]] = []
        """Loss of each model in each iteration."""
        self._random = SeededNoise(seeds, device)
        # In [-1, 1]: the published generator ends in a tanh.
        self._start((2 * keyframe.to(device) - 1)[None])

    def _start(self, real: torch.Tensor) -> None:
        """Begin the training on (1, 3, H, W) in [-1, 1]."""
        options = self._options
        self._begin(real, _reduce_and_enlarge(real, options.step_ratio), options.network)

    def _begin(self, real: torch.Tensor, base: torch.Tensor, spec: NetworkSpec) -> None:
        """Train new networks to make `real` of `base`: the lost detail of one step is what there is
        to learn."""
        self._real = real.expand(len(self._seeds), -1, -1, -1)
        base = base.expand_as(self._real)
        self._reconstruction_inputs: Inputs = (base, base)
        # Noise is as strong as what is to be restored: a base that is nearly right needs little.
        self._amplitudes = self._options.noise_share * _mean_squares(base, self._real).sqrt()
        networks = [_published_networks(spec, seed) for seed in self._seeds_of_networks()]
        self._generators = Ensemble([generator for generator, _ in networks], self._device)
        self._critics = Ensemble([critic for _, critic in networks], self._device)
        self._generators_optimizer = BatchedAdam(self._generators.weights, BETAS)
        self._critics_optimizer = BatchedAdam(self._critics.weights, BETAS)

    def _seeds_of_networks(self) -> Sequence[int]:
        return self._seeds

    @DETERMINISTIC
    def step(self) -> None:
        """Take some steps of the critics, then as many of the generators."""
        options, count = self._options, len(self._seeds)
        is_late = self._iteration_of_level >= int(options.decay_at * options.iterations)
        rates = [options.learning_rate * (0.1 if is_late else 1)] * count
        # The critics first: a generator can only follow a critic that knows the present fakes.
        for _ in range(options.critic_steps):
            with torch.no_grad():
                # Without a graph: the critic's step must not reach the generator.
                fakes = _generate(self._generators, self._draw())
            # One place for all pixels, as published.
            mix = self._random.uniform()
            # A mean over all models, whose sum is descended: none pulls at the weights of another.
            loss = critic_loss(self._critics, self._real, fakes, mix) * count
            self._critics_optimizer.minimize(loss, rates)
        for _ in range(options.generator_steps):
            # Without noise: one input of all must give the picture itself.
            restored = _generate(self._generators, self._reconstruction_inputs)
            errors = _mean_squares(restored, self._real)
            # A fake of its own: one of before would have no gradient, or that of older weights.
            scores = self._critics(_generate(self._generators, self._draw())).mean() * count
            self._generators_optimizer.minimize(
                options.reconstruction_weight * errors.sum() - scores, rates
            )
        # Of the last step: the adversarial term has no target that it could be judged by.
        self.curves.append(errors.flatten().tolist())
        self.losses.append(fmean(self.curves[-1]))

    @property
    def has_diverged(self) -> bool:
        """Whether no model is left that has a finite loss: each is judged when it is saved."""
        return not any(map(isfinite, self.curves[-1]))

    def trained(self, number: int = 0) -> TrainedNetworks:
        """Hand over one model's networks of the last level."""
        generator, critic = self._generators.one(number), self._critics.one(number)
        assert isinstance(generator, Generator)
        assert isinstance(critic, Critic)
        return TrainedNetworks(
            generator,
            critic,
            float(self._amplitudes[number]),
            loss_curve_summary([losses[number] for losses in self.curves]),
        )

    @property
    def _iteration_of_level(self) -> int:
        return len(self.losses) % self._options.iterations

    def _draw(self) -> Inputs:
        """Draw the inputs of a fake of each model."""
        base = self._reconstruction_inputs[1]
        return base + self._amplitudes * self._random.normal(*base.shape[1:]), base


class PyramidTraining(FaithfulTraining):
    """The scales of SinGAN one after another, coarsest first; the finest is the model."""

    _options: PyramidOptions

    def _start(self, real: torch.Tensor) -> None:
        self._reals = pyramid_levels(real, self._options)
        self.iterations = len(self._reals) * self._options.iterations
        self._below: list[tuple[Ensemble, torch.Tensor]] = []
        """Generators and noise amplitudes of each level that is trained."""
        self._begin_level(torch.zeros_like(self._reals[0]))

    def step(self) -> None:
        """Do one iteration of the level, and go up to the next one behind its last."""
        super().step()
        if self._iteration_of_level == 0 and not self.is_over:
            self._go_up()

    def state_dict(self) -> dict[str, Any]:
        """The state of the level, and the weights of those below it."""
        finished = [generators.state_dict() for generators, _ in self._below]
        return super().state_dict() | {"finished": finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go up to the level of a state, and go on from there."""
        # Each level's base and noise follow from those below: they are climbed through again.
        for finished in state["finished"]:
            self._generators.load_state_dict(finished)
            self._go_up()
        super().load_state_dict(state)

    def _go_up(self) -> None:
        """Keep the level's generators as they are, and begin the next level with what they
        restore."""
        generators, critics = self._generators, self._critics
        # With their running statistics, which inference uses too: those of a batch differ by
        # picture.
        generators.normalizes_by_batch = False
        with torch.no_grad():
            restored = _generate(generators, self._reconstruction_inputs)
        self._below.append((generators, self._amplitudes))
        self._begin_level(restored)
        # Levels of one width begin where the one below has ended.
        if self._generators.spec == generators.spec:
            self._generators.load_state_dict(generators.state_dict())
            self._critics.load_state_dict(critics.state_dict())

    def _begin_level(self, restored: torch.Tensor) -> None:
        options, level = self._options, len(self._below)
        real = self._reals[level]
        # Fine levels have more to draw, and cost the most: hence the limit.
        width = min(options.network.width * 2 ** (level // 4), options.widest)
        base = resize(restored, *real.shape[-2:])
        self._begin(real, base, replace(options.network, width=width))
        if level == 0:
            # Only the coarsest level restores its picture from noise, drawn once; the others start
            # from the one below.
            self._amplitudes = torch.ones_like(self._amplitudes)
            self._reconstruction_inputs = (self._noise(0), self._reconstruction_inputs[1])

    def _seeds_of_networks(self) -> Sequence[int]:
        return [seed + len(self._below) for seed in self._seeds]

    def _draw(self) -> Inputs:
        return self._draw_at(len(self._below), self._amplitudes)

    def _draw_at(self, level: int, amplitudes: torch.Tensor) -> Inputs:
        """Draw inputs of `level` made of fresh random fakes of all levels below it."""
        size = self._reals[level].shape[-2:]
        if level > 0:
            generators, amplitudes_below = self._below[level - 1]
            with torch.no_grad():
                fakes = _generate(generators, self._draw_at(level - 1, amplitudes_below))
                base = resize(fakes, *size)
        else:
            # The coarsest level has nothing below it: it makes its picture of noise alone.
            base = self._reals[0].new_zeros(len(self._seeds), 3, *size)
        return base + amplitudes * self._noise(level), base

    def _noise(self, level: int) -> torch.Tensor:
        """Draw unit noise, (M, 3, H, W)."""
        size = self._reals[level].shape[-2:]
        if level == 0:
            # As published: one noise for all three colors.
            return self._random.normal(1, *size).expand(-1, 3, -1, -1)
        return self._random.normal(3, *size)


def _generate(generators: Ensemble, inputs: Inputs) -> torch.Tensor:
    """Make a picture of each model's inputs, (M, 3, H, W), not clamped."""
    noisy, base = inputs
    return base + generators(pad(noisy, generators.spec))


def _mean_squares(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean square difference of each model's pictures, (M, 1, 1, 1)."""
    return (one - other).square().mean(dim=(1, 2, 3), keepdim=True)


def begin_faithful(
    pictures: Sequence[torch.Tensor], options: FaithfulOptions, seed: int
) -> FaithfulTraining:
    """Begin the training of one model; the one picture is the keyframe, (3, H, W) in [0, 1]."""
    (keyframe,) = pictures
    return _training_class(options)(keyframe, options, [seed])


def train_faithful_batched(
    keyframe: torch.Tensor,
    options: FaithfulOptions,
    seeds: Sequence[int],
    device: torch.device,
    progress: BatchedProgress,
) -> Iterator[tuple[int, TrainedNetworks]]:
    """Train models as one job; takes and yields what `train_quick_batched` does."""

    def begin(batch: Mapping[int, int]) -> FaithfulTraining:
        return _training_class(options)(keyframe, options, list(batch.values()), device)

    def finished(
        training: FaithfulTraining, batch: Mapping[int, int]
    ) -> Iterator[tuple[int, TrainedNetworks]]:
        done = training.iterations_done
        if done % REPORT_EVERY == 0 or training.is_over:
            for place, loss in zip(batch, training.curves[-1], strict=True):
                progress(place, done, training.iterations, loss)
        if training.is_over:
            for number, place in enumerate(batch):
                yield place, training.trained(number)

    yield from train_in_batches(seeds, MAX_BATCH, begin, finished)


def _training_class(options: FaithfulOptions) -> type[FaithfulTraining]:
    return PyramidTraining if isinstance(options, PyramidOptions) else FaithfulTraining


def pyramid_levels(real: torch.Tensor, options: PyramidOptions) -> list[torch.Tensor]:
    """`real` reduced to each level, coarsest first.

    The ratio is re-solved so that the coarsest level has exactly `coarsest_px` on its short side.
    The picture is not shrunk first: the published limit of 250 pixels would shrink the result with
    it.
    """
    short = min(real.shape[-2:])
    steps = int(log(short / options.coarsest_px) / log(options.step_ratio)) + 1
    # Exactly the coarsest size, with a whole number of steps near the ratio that is asked for.
    ratio = (options.coarsest_px / short) ** (1 / steps)
    sizes = [
        [round(side * ratio ** (steps - level)) for side in real.shape[-2:]]
        for level in range(steps + 1)
    ]
    return [resize(real, *size) for size in sizes]


def _published_networks(spec: NetworkSpec, seed: int) -> tuple[Generator, Critic]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Generator(spec), Critic(spec)
        # Both networks from the same seed, so that a model follows from its seed alone.
        init_as_published(generator)
        init_as_published(critic)
    return generator, critic


def _reduce_and_enlarge(real: torch.Tensor, step_ratio: float) -> torch.Tensor:
    height, width = real.shape[-2:]
    return resize(
        resize(real, round(height / step_ratio), round(width / step_ratio)), height, width
    )


FAITHFUL_BATCHED = BatchedMethod(lambda *_: True, train_faithful_batched)
