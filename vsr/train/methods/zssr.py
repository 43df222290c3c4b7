"""ZSSR: a small network trained to restore one picture from its own reduction (Shocher, Cohen,
Irani, CVPR 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi, sin
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from vsr.errors import ModelError
from vsr.image.blur import FACTOR, KernelTaps, none_if_bicubic, reduce_blurred, taps_to_tensor
from vsr.image.resample import resize
from vsr.models.networks.singan import Generator, NetworkSpec, pad
from vsr.records import option
from vsr.train.crops import (
    MIN_CROP_PX,
    CropPlacement,
    integer_sampler,
    texture_map,
    texture_weighted_sampler,
)
from vsr.train.fit import loss_curve_summary
from vsr.train.methods.method import GeneratorTraining, TrainedNetworks
from vsr.train.optimizer import Adam
from vsr.train.state_file import Resumable

ZSSR_NETWORK = NetworkSpec(width=64, layers=8, leak=0.0, bias=False)
TEST_PX = 256
"""Side of the middle part of a large keyframe on which progress is tested."""
ASTRAY_FACTOR = 10
"""Multiple of the error before training: beyond, it does not come back."""


@dataclass(frozen=True)
class PlateauSchedule:
    """When the learning rate falls: once a line through the latest errors no longer clearly falls
    itself."""

    start: float = 1e-3
    end: float = 9e-6
    """Training stops once the rate is below."""
    test_every: int = 50
    """Iterations between two tests of the error."""
    check_every: int = 60
    window: int = 256
    """Iterations whose tests the line is fitted to, and the least number between two falls."""
    steepness: float = 1.5
    """The line must fall faster than its slope's standard deviation over this."""


@dataclass(frozen=True)
class ZssrOptions:
    """Settings that suit two cores; `ZSSR_AS_PUBLISHED` has those of the paper."""

    network: NetworkSpec = ZSSR_NETWORK
    step_ratio: ClassVar[float] = float(FACTOR)
    # The rate rule ends the training before.
    iterations: int = option(600, "Iterations at most.", at_least=1)
    crop_px: int = option(64, "Side of the crops.", at_least=MIN_CROP_PX)
    rate: PlateauSchedule = PlateauSchedule(test_every=25, check_every=30, window=128)
    noise: float = 0.0
    """Standard deviation, in [0, 1] units, of what is added to the reductions: 0.0125 suits noisy
    photographs."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size; None: bicubic. With another, crops are neither turned nor
    warped, since the kernel is not turned with them, and count by their texture."""


ZSSR_AS_PUBLISHED = ZssrOptions(iterations=3000, crop_px=128, rate=PlateauSchedule())


class RestorerTraining(GeneratorTraining):
    """A training whose model is a restorer, and ends as the restorer's schedule says.

    Where the restorer goes astray training stops, and the best network so far is kept.
    """

    restorer: "RestorerTrainer"

    @property
    def is_over(self) -> bool:
        return self.restorer.is_finished or super().is_over

    @property
    def has_diverged(self) -> bool:
        return self.restorer.is_astray

    def restore_best(self) -> None:
        self.restorer.restore_best()


class ZssrTraining(RestorerTraining):
    """A restorer that is trained on crops of one keyframe and nothing else."""

    kept = ("losses", "_sampler", "restorer")

    def __init__(self, pictures: Sequence[torch.Tensor], options: ZssrOptions, seed: int) -> None:
        """The one picture is the keyframe, (3, H, W) in [0, 1]."""
        super().__init__(options.iterations)
        (keyframe,) = pictures
        kernel = blur_kernel(options.kernel)
        self._kernel = options.kernel
        self._sampler = PairSampler(keyframe, options, kernel, seed)
        self.restorer = RestorerTrainer(keyframe, options, kernel, seed)

    def step(self) -> None:
        """Restore a crop."""
        base, hr, weights = self._sampler.draw()
        self.restorer.step(weighted_l1(self.restorer.restore(base), hr, weights))
        self.losses.append(self.restorer.losses[-1])
        self.restorer.judge()

    def trained(self) -> TrainedNetworks:
        """Hand over the restorer; there is no critic."""
        return self.restorer.trained(self._kernel)


def blur_kernel(rows: KernelTaps | None) -> torch.Tensor | None:
    """The kernel to learn with; None: bicubic."""
    other = none_if_bicubic(rows)
    return None if other is None else taps_to_tensor(other)


class PairSampler(Resumable):
    """Draws what to restore: a high-resolution crop of the keyframe, and its reduction enlarged
    again (the base)."""

    kept = ("_random",)

    def __init__(
        self, keyframe: torch.Tensor, options: ZssrOptions, kernel: torch.Tensor | None, seed: int
    ) -> None:
        self.kernel = kernel
        self._random = torch.Generator().manual_seed(seed)
        self._noise = options.noise
        side = min(options.crop_px, *keyframe.shape[-2:]) // FACTOR * FACTOR
        self._hr_crops = HrCropSampler(keyframe, side, self._random, augment=kernel is None)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw base and crop, (1, 3, h, w) in [-1, 1], and the weight of each pixel, (1, 1, h, w)
        of mean about 1."""
        # The crop is the truth: only its reduction is made up.
        hr, weights = self._hr_crops.draw()
        lr = downscale(hr, self.kernel)
        if self._noise:
            # The restorer learns to leave noise alone, not to sharpen it.
            lr = (lr + self._noise * torch.randn(lr.shape, generator=self._random)).clamp(0, 1)
        # As in ZSSR the network works at the target's size: it learns what enlarging has lost.
        base = resize(lr, *hr.shape[-2:])
        return (2 * base - 1)[None], (2 * hr - 1)[None], weights[None, None]


def weighted_l1(restored: torch.Tensor, hr: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, each pixel counted by its weight."""
    return (weights * (restored - hr).abs()).mean()


def downscale(picture: torch.Tensor, kernel: torch.Tensor | None) -> torch.Tensor:
    """(3, H, W) at half its size, by the kernel or bicubically, in [0, 1]."""
    height, width = (side // FACTOR for side in picture.shape[-2:])
    half = resize(picture, height, width) if kernel is None else reduce_blurred(picture, kernel)
    # Cubic weights overshoot at edges; decoded pictures stay in their range.
    return half.clamp(0, 1)


class RestorerTrainer(Resumable):
    """A generator in training, with the rule for its learning rate and the best of its states."""

    kept = (
        "losses",
        "generator",
        "is_finished",
        "_optimizer",
        "_errors",
        "_changed_at",
        "_best_error",
        "_best",
    )

    def __init__(
        self, keyframe: torch.Tensor, options: ZssrOptions, kernel: torch.Tensor | None, seed: int
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = Generator(options.network)
            # Small weights: the network begins near adding nothing.
            _initialize(self.generator)
        self.losses: list[float] = []
        self.is_finished = False
        """Whether the learning rate has come to its end."""
        self.is_astray = False
        """Whether errors have grown to where training does not come back from."""
        self._rule = options.rate
        self._optimizer = Adam(self.generator, options.rate.start)
        self._test = ReconstructionTest(keyframe, kernel)
        self._errors: list[float] = []
        self._changed_at = 0
        self._remark = ""
        # Before training the restorer adds almost nothing, so this is about the error of bicubic.
        self._best_error = self._untrained_error = self._test.error(self.generator)
        self._best = _copy_of_weights(self.generator)

    def use_kernel(self, kernel: torch.Tensor | None) -> None:
        """Test with another kernel from now on."""
        self._test.use_kernel(kernel)

    def restore(self, base: torch.Tensor) -> torch.Tensor:
        """Add the generator's detail to (1, 3, H, W) in [-1, 1]."""
        restored: torch.Tensor = self.generator(base, base)
        return restored

    def step(self, loss: torch.Tensor, reconstruction: float | None = None) -> None:
        """Move the generator down `loss`, of which `reconstruction` is the part to report (else
        all)."""
        self.losses.append(loss.item() if reconstruction is None else reconstruction)
        self._optimizer.minimize(loss)

    def judge(self) -> None:
        """Test now and then whether training still gains; call it after each step."""
        # Tests are for the rule and the best state; losses of single crops are too noisy for
        # either.
        done, rule = len(self.losses), self._rule
        self.is_astray = not isfinite(self.losses[-1])
        if done % rule.test_every == 0 and not self.is_astray:
            self._errors.append(self._test.error(self.generator))
            # An error that is not a number is not below anything either.
            self.is_astray = not self._errors[-1] < ASTRAY_FACTOR * self._untrained_error
            if self._errors[-1] < self._best_error:
                self._best_error = self._errors[-1]
                self._best = _copy_of_weights(self.generator)
        if self.is_astray:
            return
        if done % rule.check_every == 0 and done - self._changed_at > rule.window:
            # The tests that lie in the window.
            latest = self._errors[-(rule.window // rule.test_every) :]
            if not _is_decreasing(latest, rule.steepness):
                self._changed_at = done
                self._optimizer.learning_rate /= 10
        self.is_finished = self._optimizer.learning_rate < rule.end

    def restore_best(self) -> None:
        """Go back to the best state. Raises `ModelError` where it is no better than untrained."""
        done = len(self.losses)
        if not self._best_error < self._untrained_error:
            raise ModelError(
                f"training went astray at iteration {done}, before it was better than bicubic. Try "
                "another --seed or a lower learning rate (--set rate.start=1e-4)."
            )
        self.generator.load_state_dict(self._best)
        self._remark = (
            f"training went astray at iteration {done} and was stopped; the best state before "
            "is kept"
        )

    def trained(self, kernel: KernelTaps | None) -> TrainedNetworks:
        """Hand over the generator, trained with `kernel`."""
        # The curve goes into the model's card, which holds no infinity.
        losses = [loss for loss in self.losses if isfinite(loss)]
        return TrainedNetworks(
            self.generator.eval(), None, 0.0, loss_curve_summary(losses), kernel, self._remark
        )


def _copy_of_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _is_decreasing(errors: list[float], steepness: float) -> bool:
    """Whether a line through the errors falls clearly, by the standard deviation of its slope."""
    if len(errors) < 4:
        # Over so few tests a slope says nothing yet: training goes on.
        return True
    # The covariance of the fit says how far the slope may be chance.
    (slope, _), covariance = np.polyfit(np.arange(len(errors)), errors, 1, cov=True)
    # ZSSR's rule: a fall within the uncertainty of its own slope counts as none.
    return bool(-steepness * slope >= np.sqrt(covariance[0][0]))


class ReconstructionTest:
    """Restores the keyframe's middle from its own half."""

    def __init__(self, keyframe: torch.Tensor, kernel: torch.Tensor | None) -> None:
        # Even sides, for the halves; the middle, so that a test costs the same for every keyframe.
        height, width = (min(side, TEST_PX) // FACTOR * FACTOR for side in keyframe.shape[-2:])
        top, left = (
            (side - kept) // 2
            for side, kept in zip(keyframe.shape[-2:], (height, width), strict=True)
        )
        self._target = keyframe[:, top : top + height, left : left + width]
        self.use_kernel(kernel)

    def use_kernel(self, kernel: torch.Tensor | None) -> None:
        """Reduce by this kernel from now on."""
        # What the restorer sees in the test, enlarged once for all tests.
        self._base = resize(downscale(self._target, kernel), *self._target.shape[-2:])[None]

    def error(self, generator: Generator) -> float:
        """Mean square error, in [0, 1] units."""
        with torch.inference_mode():
            # The network works in [-1, 1], so its detail is twice as large as in [0, 1].
            detail = generator.residual(pad(2 * self._base - 1, generator.spec)) / 2
            return float(F.mse_loss((self._base + detail)[0].clamp(0, 1), self._target))


def _initialize(generator: Generator) -> None:
    """Weights from a normal distribution of variance 0.1 over the inputs of each convolution, as
    published."""
    for module in generator.modules():
        if isinstance(module, torch.nn.Conv2d):
            # Each output sums as many products as a filter has inputs.
            inputs = module.weight[0].numel()
            torch.nn.init.normal_(module.weight, 0.0, (0.1 / inputs) ** 0.5)


IDENTITY_SHARE = 0.05
"""Share of the crops that are taken as they are."""
FLIP_ROTATE_SHARE = 0.45
"""Share of those that are flipped and turned; the others are warped."""
MIN_SCALE = 0.5
STRETCH_STD = 0.25
"""Standard deviation of the difference between the scales of the two axes."""
SHEAR_STD = 0.1


class HrCropSampler:
    """Draws crops of `side` pixels out of one picture."""

    def __init__(
        self, picture: torch.Tensor, side: int, random: torch.Generator, *, augment: bool
    ) -> None:
        """With `augment` False crops are taken as they are, the likelier and the heavier the more
        texture is in them."""
        self._picture, self._side, self._random, self._augment = picture, side, random, augment
        self._integer = integer_sampler(random)
        self._texture = texture_map(picture)
        # With a blur kernel only sharp places tell how to undo it.
        self._by_texture = texture_weighted_sampler(self._texture, side, random)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, side, side) in [0, 1], and the weight of each pixel, (side, side)."""
        if not self._augment:
            place = self._by_texture()
            return self._picture[:, *place], self._texture[place]
        # Mostly bent and scaled crops: the picture has few scales, and the network must know more.
        chance = self._uniform(0, 1)
        crop = (
            self._warped()
            if chance >= IDENTITY_SHARE + FLIP_ROTATE_SHARE
            else self._flipped_and_rotated(turn=chance >= IDENTITY_SHARE)
        )
        return crop, torch.ones_like(crop[0])

    def _flipped_and_rotated(self, *, turn: bool) -> torch.Tensor:
        turns, flip = (self._integer(4), self._integer(2)) if turn else (0, 0)
        top, left = (self._integer(length - self._side + 1) for length in self._picture.shape[-2:])
        return CropPlacement(top, left, self._side, turns, flip).cut(self._picture)

    def _warped(self) -> torch.Tensor:
        """A crop seen through an affine map; what lies outside the picture is mirrored in."""
        height, width = self._picture.shape[-2:]
        # Reduced, never enlarged: that would teach the blur of the enlargement.
        scale = self._uniform(MIN_SCALE, 1)
        # Limited, since a normal draw has no end and a scale must stay above 0.
        stretch = min(max(self._normal(STRETCH_STD), -1.0), 1.0)
        down, right = scale * (1 + stretch / 2), scale * (1 - stretch / 2)
        angle = self._uniform(0, 2 * pi)
        turn = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
        shear = torch.tensor([[1.0, self._normal(SHEAR_STD)], [self._normal(SHEAR_STD), 1.0]])
        # From a pixel of the crop back to one of the picture, around their middles, x before y.
        back = torch.linalg.inv(turn @ shear @ torch.diag(torch.tensor([right, down])))
        offsets = torch.arange(self._side) - (self._side - 1) / 2
        grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1) @ back.T
        # A middle that keeps an unturned crop inside; what a turn brings in from outside is
        # mirrored.
        middle = torch.tensor([self._middle(width), self._middle(height)])
        sizes = torch.tensor([float(width), float(height)])
        # From pixel centers to the range of -1 to 1 between the picture's edges.
        places = (2 * (grid + middle) + 1) / sizes - 1
        warped = F.grid_sample(
            self._picture[None],
            places[None],
            mode="bicubic",
            # Zeros from outside would be black wedges, with edges that the picture does not have.
            padding_mode="reflection",
            align_corners=False,
        )
        return warped[0].clamp(0, 1)

    def _middle(self, length: int) -> float:
        half = (self._side - 1) / 2
        # A crop as wide as the picture leaves but one place for its middle.
        return self._uniform(half, max(half, length - 1 - half))

    def _uniform(self, least: float, most: float) -> float:
        return least + (most - least) * float(torch.rand((), generator=self._random))

    def _normal(self, deviation: float) -> float:
        return deviation * float(torch.randn((), generator=self._random))
