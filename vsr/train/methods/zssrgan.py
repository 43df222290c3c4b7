"""ZSSRGAN: ZSSR with an adversarial loss by KernelGAN's discriminator, in three training regimes.

Mended against the published code: the discriminator sees both sides in one value range, so that it
cannot tell them apart by that; where it goes on learning beside the restorer, its learning rate
starts anew, having fallen to nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from vsr.image.blur import taps_from_tensor
from vsr.models.networks.kernelgan import label_loss
from vsr.records import option
from vsr.train.fit import loss_curve_summary
from vsr.train.methods.kernelgan import (
    LONG_KERNELGAN,
    KernelFit,
    KernelGanOptions,
    KernelGanTrainer,
)
from vsr.train.methods.method import TrainedNetworks
from vsr.train.methods.zssr import (
    ZSSR_AS_PUBLISHED,
    PairSampler,
    RestorerTrainer,
    RestorerTraining,
    ZssrOptions,
    blur_kernel,
    weighted_l1,
)


@dataclass(frozen=True)
class ZssrGanOptions(ZssrOptions):
    """Settings that suit two cores; `ZSSRGAN_AS_PUBLISHED` has those of the source."""

    regime: Literal["fixed", "serial", "semi-e2e"] = option(
        "serial",
        "Training of the discriminator: on the kernel's game alone, then on the restorer too, or "
        "on both at once.",
    )
    game: KernelGanOptions = KernelGanOptions()
    """Settings of the kernel; their length counts where it is played first."""
    adversarial_share: float = option(
        0.5, "Discriminator's share of the loss at the first iteration.", at_least=0, below=1
    )


ZSSRGAN_AS_PUBLISHED = ZssrGanOptions(
    iterations=ZSSR_AS_PUBLISHED.iterations,
    crop_px=ZSSR_AS_PUBLISHED.crop_px,
    rate=ZSSR_AS_PUBLISHED.rate,
    game=LONG_KERNELGAN,
)


def begin_zssrgan(
    pictures: Sequence[torch.Tensor], options: ZssrGanOptions, seed: int
) -> "_ZssrGanTraining":
    """Begin the regime that the options ask for. The one picture is the keyframe.

    The kernel is the game's own unless the options give one. A restorer that diverges stops, and
    its best state is kept; training raises `ModelError` where there is none or where the game goes
    astray.
    """
    regime = _JointTraining if options.regime == "semi-e2e" else _SequentialTraining
    return regime(pictures, options, seed)


class _ZssrGanTraining(RestorerTraining):
    """A restorer with both of its losses, weighed as they were at its first iteration, and the game
    whose discriminator it plays against."""

    kept = ("losses", "_game", "_sampler", "restorer", "_weight", "_adversarial", "_judged_before")

    def __init__(
        self, pictures: Sequence[torch.Tensor], options: ZssrGanOptions, seed: int
    ) -> None:
        super().__init__(options.iterations)
        (self._keyframe,) = pictures
        self._options, self._seed = options, seed
        self._game = KernelGanTrainer(self._keyframe, options.game, seed)
        self._weight: float | None = None
        self._adversarial: list[float] = []
        self._begin_restorer()

    def _begin_restorer(self) -> None:
        self._kernel_fit: KernelFit | None = None
        kernel = self._kernel()
        self._judged_before = len(self._game.accuracies)
        self._sampler = PairSampler(self._keyframe, self._options, kernel, self._seed)
        self.restorer = RestorerTrainer(self._keyframe, self._options, kernel, self._seed)

    def _kernel(self) -> torch.Tensor | None:
        """Choose the given kernel or the game's; None: bicubic."""
        if self._options.kernel is not None:
            return blur_kernel(self._options.kernel)
        self._kernel_fit = self._game.kernel_fit()
        return None if self._kernel_fit.basis == "bicubic" else self._kernel_fit.kernel

    def _restorer_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step of the restorer; what should have come out, and what did, detached:
        (1, 3, h, w) in [-1, 1] both."""
        base, hr, weights = self._sampler.draw()
        restored = self.restorer.restore(base)
        reconstruction = weighted_l1(restored, hr, weights)
        # As for the reducer: real is 1, and the crop itself sets the scale of the normalization.
        adversarial = label_loss(self._game.score_fake(hr, restored), 1.0)
        if self._weight is None:
            # By this ratio each term begins at the share of the sum that the option asks for.
            share = self._options.adversarial_share / (1 - self._options.adversarial_share)
            # Fixed from here on: the balance then moves as the two losses do.
            self._weight = share * reconstruction.item() / max(adversarial.item(), 1e-6)
        self._adversarial.append(adversarial.item())
        self.restorer.step(reconstruction + self._weight * adversarial, reconstruction.item())
        self.losses.append(self.restorer.losses[-1])
        # Detached: the discriminator's loss must not move the restorer.
        return hr, restored.detach()

    def trained(self) -> TrainedNetworks:
        """Hand over the restorer, with the curves of the game and a word on its kernel."""
        game = self._game
        curves = {
            "reducer": game.generator_losses,
            "discriminator": game.discriminator_losses,
            "accuracy before": game.accuracies[: self._judged_before],
            "accuracy": game.accuracies[self._judged_before :],
            "adversarial": self._adversarial,
        }
        kernel = self._sampler.kernel
        trained = self.restorer.trained(None if kernel is None else taps_from_tensor(kernel))
        remarks = [trained.remark, "" if self._kernel_fit is None else self._kernel_fit.summary()]
        return replace(
            trained,
            curves={name: loss_curve_summary(curve) for name, curve in curves.items()},
            remark="; ".join(filter(None, remarks)),
        )


class _SequentialTraining(_ZssrGanTraining):
    """First the kernel's game, then the restorer; the discriminator goes on learning beside it, or
    stays as it is."""

    def __init__(
        self, pictures: Sequence[torch.Tensor], options: ZssrGanOptions, seed: int
    ) -> None:
        super().__init__(pictures, options, seed)
        self._discriminator_learns = options.regime == "serial"
        self.iterations = options.game.iterations + options.iterations
        if not options.game.iterations:
            self._end_game()

    def step(self) -> None:
        """Take a step of the game, or of the restorer and the discriminator once it is over."""
        game = self._game
        if len(self.losses) < self._options.game.iterations:
            self.losses.append(game.step())
            if len(self.losses) == self._options.game.iterations:
                self._end_game()
            return
        # Also where it does not learn: its accuracy is part of the record.
        loss = game.discriminator_loss(*self._restorer_step())
        if self._discriminator_learns:
            game.discriminator_step(loss)
        self.restorer.judge()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the part of the training that a state is of."""
        if len(state["losses"]) >= self._options.game.iterations:
            # The restorer's kernel is what the game had come to.
            self._game.load_state_dict(state["_game"])
            self._end_game()
        super().load_state_dict(state)

    def _end_game(self) -> None:
        """Begin the restorer with the kernel that the game has found."""
        if self._discriminator_learns:
            # Its rate has fallen with the game's; beside the restorer it would learn nothing more.
            self._game.restart_discriminator()
        else:
            # Frozen with its statistics: it judges the restorer by what it knows of the picture.
            self._game.discriminator.eval().requires_grad_(False)
        self._begin_restorer()


class _JointTraining(_ZssrGanTraining):
    """In each iteration a step of the reducer, one of the restorer, and one of the discriminator
    against both."""

    def step(self) -> None:
        """Take a step of each of the three."""
        game = self._game
        game.generator_step()
        # A given kernel stands, and a picture without blur stays with bicubic reduction.
        if self._options.kernel is None and game.blurred:
            # Go on with the kernel that the game has come to.
            self._sampler.kernel = kernel = self._kernel()
            self.restorer.use_kernel(kernel)
        hr, restored = self._restorer_step()
        # One step on the mean of both losses, as published, not one on each.
        game.discriminator_step((game.pair_loss() + game.discriminator_loss(hr, restored)) / 2)
        self.restorer.judge()
