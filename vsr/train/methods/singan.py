"""SinGAN's published losses and schedule: the single-scale form and the full pyramid, with the
known crashes mended.

Mended: every inner generator step makes its own fake, so that the adversarial gradient survives and
no graph is used after its weights changed; the coarsest level's reconstruction noise is drawn once;
pictures stay float from level to level. Sources: Rott Shaham et al. (2019) and its public code; the
single-scale form is that code's SR_train mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.models.networks.singan import Critic, Generator, NetworkSpec, init_as_published
from vsr.records import option
from vsr.train.adversarial import critic_loss
from vsr.train.fit import loss_curve_summary
from vsr.train.methods.method import GeneratorTraining, TrainedNetworks
from vsr.train.optimizer import MIN_LEARNING_RATE, Adam

BETAS = (0.5, 0.999)


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


Inputs = tuple[torch.Tensor, torch.Tensor]
"""A generator's two inputs: the noisy base and the base, (1, 3, H, W) each."""


class FaithfulTraining(GeneratorTraining):
    """One scale of SinGAN: a generator and its critic, turn by turn."""

    kept = (
        "losses",
        "_random",
        "_generator",
        "_critic",
        "_generator_optimizer",
        "_critic_optimizer",
    )

    def __init__(
        self, pictures: Sequence[torch.Tensor], options: FaithfulOptions, seed: int
    ) -> None:
        """The one picture is the keyframe, (3, H, W) in [0, 1]."""
        super().__init__(options.iterations)
        (keyframe,) = pictures
        self._options = options
        self._random = torch.Generator().manual_seed(seed)
        # In [-1, 1]: the published generator ends in a tanh.
        self._real = (2 * keyframe - 1)[None]
        # The lost detail of one step is what there is to learn.
        base = _reduce_and_enlarge(self._real, options.step_ratio)
        self._reconstruction_inputs: Inputs = (base, base)
        self._amplitude = self._amplitude_for(base)
        self._begin(*_published_networks(options.network, seed))

    def _begin(self, generator: Generator, critic: Critic) -> None:
        """Train these networks from now on."""
        rate = self._options.learning_rate
        self._generator, self._critic = generator, critic
        self._generator_optimizer = Adam(generator, rate, BETAS)
        self._critic_optimizer = Adam(critic, rate, BETAS)

    def step(self) -> None:
        """Take some steps of the critic, then as many of the generator."""
        options = self._options
        is_late = self._iteration_of_level >= int(options.decay_at * options.iterations)
        rate = options.learning_rate * (0.1 if is_late else 1)
        self._generator_optimizer.learning_rate = self._critic_optimizer.learning_rate = rate
        # The critic first: a generator can only follow a critic that knows the present fakes.
        for _ in range(options.critic_steps):
            with torch.no_grad():
                # Without a graph: the critic's step must not reach the generator.
                fake = self._generator(*self._draw())
            # One place for all pixels, as published.
            mix = torch.rand((), generator=self._random)
            self._critic_optimizer.minimize(critic_loss(self._critic, self._real, fake, mix))
        for _ in range(options.generator_steps):
            # Without noise: one input of all must give the picture itself.
            restored = self._generator(*self._reconstruction_inputs)
            reconstruction = F.mse_loss(restored, self._real)
            # A fake of its own: one of before would have no gradient, or that of older weights.
            score = self._critic(self._generator(*self._draw())).mean()
            self._generator_optimizer.minimize(
                options.reconstruction_weight * reconstruction - score
            )
        # Of the last step: the adversarial term has no target that it could be judged by.
        self.losses.append(reconstruction.item())

    def trained(self) -> TrainedNetworks:
        """Hand over the networks of the last level."""
        return TrainedNetworks(
            self._generator.eval(),
            self._critic.eval(),
            self._amplitude,
            loss_curve_summary(self.losses),
        )

    @property
    def _iteration_of_level(self) -> int:
        return len(self.losses) % self._options.iterations

    def _amplitude_for(self, base: torch.Tensor) -> float:
        """Scale the noise with what is to be restored: a base that is nearly right needs little."""
        error = F.mse_loss(base, self._real).sqrt().item()
        return self._options.noise_share * error

    def _draw(self) -> Inputs:
        """Draw the inputs of a fake."""
        base = self._reconstruction_inputs[1]
        return base + self._amplitude * torch.randn(base.shape, generator=self._random), base


class PyramidTraining(FaithfulTraining):
    """The scales of SinGAN one after another, coarsest first; the finest is the model."""

    _options: PyramidOptions

    def __init__(
        self, pictures: Sequence[torch.Tensor], options: PyramidOptions, seed: int
    ) -> None:
        """The one picture is the keyframe, (3, H, W) in [0, 1]."""
        super().__init__(pictures, options, seed)
        self._seed = seed
        self._reals = pyramid_levels(self._real, options)
        self.iterations = len(self._reals) * options.iterations
        self._below: list[tuple[Generator, float]] = []
        """Generator and noise amplitude of each level that is trained."""
        self._begin_level(torch.zeros_like(self._reals[0]), None)

    def step(self) -> None:
        """Do one iteration of the level, and go up to the next one behind its last."""
        super().step()
        if self._iteration_of_level == 0 and not self.is_over:
            self._go_up()

    def state_dict(self) -> dict[str, Any]:
        """The state of the level, and the weights of those below it."""
        finished = [generator.state_dict() for generator, _ in self._below]
        return super().state_dict() | {"finished": finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go up to the level of a state, and go on from there."""
        # Each level's base and noise follow from those below: they are climbed through again.
        for weights in state["finished"]:
            self._generator.load_state_dict(weights)
            self._go_up()
        super().load_state_dict(state)

    def _go_up(self) -> None:
        """Keep the level's generator as it is, and begin the next level with what it restores."""
        # With its running statistics, which inference uses too: those of a batch differ by picture.
        self._generator.eval().requires_grad_(False)
        reconstruction = self._generator(*self._reconstruction_inputs)
        self._below.append((self._generator, self._amplitude))
        self._begin_level(reconstruction, (self._generator, self._critic.eval()))

    def _begin_level(
        self, reconstruction: torch.Tensor, below: tuple[Generator, Critic] | None
    ) -> None:
        options, level = self._options, len(self._below)
        self._real = self._reals[level]
        # Fine levels have more to draw, and cost the most: hence the limit.
        width = min(options.network.width * 2 ** (level // 4), options.widest)
        networks = _published_networks(replace(options.network, width=width), self._seed + level)
        # Levels of one width begin where the one below has ended.
        if below is not None and below[0].spec == networks[0].spec:
            for network, trained in zip(networks, below, strict=True):
                network.load_state_dict(trained.state_dict())
        base = resize(reconstruction, *self._real.shape[-2:])
        # Only the coarsest level restores its picture from noise, drawn once; the others start from
        # the one below.
        self._amplitude = self._amplitude_for(base) if level else 1.0
        self._reconstruction_inputs = (base, base) if level else (self._noise(0), base)
        self._begin(*networks)

    def _draw(self) -> Inputs:
        return self._draw_at(len(self._below), self._amplitude)

    def _draw_at(self, level: int, amplitude: float) -> Inputs:
        """Draw inputs of `level` made of a fresh random fake of all levels below it."""
        # The coarsest level has nothing below it: it makes its picture of noise alone.
        base = torch.zeros_like(self._reals[level])
        if level > 0:
            generator, amplitude_below = self._below[level - 1]
            with torch.no_grad():
                fake = generator(*self._draw_at(level - 1, amplitude_below))
                base = resize(fake, *base.shape[-2:])
        return base + amplitude * self._noise(level), base

    def _noise(self, level: int) -> torch.Tensor:
        """Draw unit noise; at the coarsest level one channel repeated to three."""
        like = self._reals[level]
        if level == 0:
            # As published: one noise for all three colors.
            return torch.randn((1, 1, *like.shape[-2:]), generator=self._random).expand_as(like)
        return torch.randn(like.shape, generator=self._random)


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
