"""ZSSRGAN: ZSSR with an adversarial loss by KernelGAN's discriminator, in three training regimes.

Mended against the published code: the discriminator sees both sides in one value range, so that it
cannot tell them apart by that; where it goes on learning beside the restorer, its learning rate
starts anew, having fallen to nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from vsr.image.blur import taps_from_tensor
from vsr.models.networks.kernelgan import label_loss
from vsr.records import option
from vsr.train.methods.kernelgan import (
    LONG_KERNELGAN,
    KernelFit,
    KernelGanOptions,
    KernelGanTrainer,
)
from vsr.train.methods.method import IterationProgress, TrainedNetworks, loss_curve_summary
from vsr.train.methods.zssr import (
    ZSSR_AS_PUBLISHED,
    PairSampler,
    RestorerTrainer,
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
    """Of the kernel; its length counts where it is played first."""
    adversarial_share: float = option(
        0.5, "Discriminator's share of the loss at the first iteration.", at_least=0, below=1
    )


ZSSRGAN_AS_PUBLISHED = ZssrGanOptions(
    iterations=ZSSR_AS_PUBLISHED.iterations,
    crop_px=ZSSR_AS_PUBLISHED.crop_px,
    rate=ZSSR_AS_PUBLISHED.rate,
    game=LONG_KERNELGAN,
)


def train_zssrgan(
    keyframe: torch.Tensor, options: ZssrGanOptions, seed: int, progress: IterationProgress
) -> TrainedNetworks:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread count.

    The kernel is the game's own unless the options give one. A restorer that diverges stops, and
    its best state is kept. Raises `ModelError` where there is none or where the game goes astray.
    """
    return _REGIMES[options.regime](
        KernelGanTrainer(keyframe, options.game, seed), keyframe, options, seed, progress
    )


def _train_sequentially(
    game: KernelGanTrainer,
    keyframe: torch.Tensor,
    options: ZssrGanOptions,
    seed: int,
    progress: IterationProgress,
    *,
    trains_discriminator: bool,
) -> TrainedNetworks:
    """First the kernel's game, then the restorer; the discriminator goes on learning beside it or
    stays as it is."""
    total = options.game.iterations + options.iterations
    for iteration in range(options.game.iterations):
        game.generator_step()
        game.discriminator_step(game.pair_loss())
        progress(iteration + 1, total, game.generator_losses[-1])
    if trains_discriminator:
        game.restart_discriminator()
    else:
        game.discriminator.eval().requires_grad_(False)
    trainer = _AdversarialTrainer(game, keyframe, options, seed)
    for iteration in range(options.game.iterations, total):
        hr, restored = trainer.restorer_step()
        loss = game.discriminator_loss(hr, restored)
        if trains_discriminator:
            game.discriminator_step(loss)
        progress(iteration + 1, total, trainer.restorer.losses[-1])
        if trainer.restorer.should_stop():
            progress(total, total, trainer.restorer.losses[-1])
            break
    return trainer.trained()


def _train_jointly(
    game: KernelGanTrainer,
    keyframe: torch.Tensor,
    options: ZssrGanOptions,
    seed: int,
    progress: IterationProgress,
) -> TrainedNetworks:
    """In each iteration a step of the reducer, one of the restorer, and one of the discriminator
    against both."""
    trainer = _AdversarialTrainer(game, keyframe, options, seed)
    for iteration in range(options.iterations):
        game.generator_step()
        trainer.update_kernel()
        hr, restored = trainer.restorer_step()
        game.discriminator_step((game.pair_loss() + game.discriminator_loss(hr, restored)) / 2)
        progress(iteration + 1, options.iterations, trainer.restorer.losses[-1])
        if trainer.restorer.should_stop():
            progress(options.iterations, options.iterations, trainer.restorer.losses[-1])
            break
    return trainer.trained()


_REGIMES: dict[
    str,
    Callable[
        [KernelGanTrainer, torch.Tensor, ZssrGanOptions, int, IterationProgress], TrainedNetworks
    ],
] = {
    "fixed": partial(_train_sequentially, trains_discriminator=False),
    "serial": partial(_train_sequentially, trains_discriminator=True),
    "semi-e2e": _train_jointly,
}


class _AdversarialTrainer:
    """The restorer's side: both of its losses, weighed as they were at the first iteration."""

    def __init__(
        self, game: KernelGanTrainer, keyframe: torch.Tensor, options: ZssrGanOptions, seed: int
    ) -> None:
        self._game, self._given = game, options.kernel
        self._kernel_fit: KernelFit | None = None
        kernel = self._kernel()
        self._sampler = PairSampler(keyframe, options, kernel, seed)
        self.restorer = RestorerTrainer(keyframe, options, kernel, seed)
        self._share = options.adversarial_share / (1 - options.adversarial_share)
        self._weight: float | None = None
        self._adversarial: list[float] = []
        self._accuracies_before = len(game.accuracies)

    def update_kernel(self) -> None:
        """Go on with the kernel that the game has come to, unless one was given or the picture is
        not blurred."""
        if self._given is None and self._game.blurred:
            self._sampler.kernel = kernel = self._kernel()
            self.restorer.use_kernel(kernel)

    def _kernel(self) -> torch.Tensor | None:
        """The given one or the game's; None: bicubic."""
        if self._given is not None:
            return blur_kernel(self._given)
        self._kernel_fit = self._game.kernel_fit()
        return None if self._kernel_fit.basis == "bicubic" else self._kernel_fit.kernel

    def restorer_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What should have come out, and what did, detached: (1, 3, h, w) in [-1, 1] both."""
        base, hr, weights = self._sampler.draw()
        restored = self.restorer.restore(base)
        reconstruction = weighted_l1(restored, hr, weights)
        adversarial = label_loss(self._game.score_fake(hr, restored), 1.0)
        if self._weight is None:
            self._weight = self._share * reconstruction.item() / max(adversarial.item(), 1e-6)
        self._adversarial.append(adversarial.item())
        self.restorer.step(reconstruction + self._weight * adversarial, reconstruction.item())
        return hr, restored.detach()

    def trained(self) -> TrainedNetworks:
        game = self._game
        of_kernel, of_both = (
            game.accuracies[: self._accuracies_before],
            game.accuracies[self._accuracies_before :],
        )
        curves = {
            "reducer": loss_curve_summary(game.generator_losses),
            "discriminator": loss_curve_summary(game.discriminator_losses),
            "accuracy before": loss_curve_summary(of_kernel),
            "accuracy": loss_curve_summary(of_both),
            "adversarial": loss_curve_summary(self._adversarial),
        }
        kernel = self._sampler.kernel
        trained = self.restorer.trained(None if kernel is None else taps_from_tensor(kernel))
        remarks = [trained.remark, "" if self._kernel_fit is None else self._kernel_fit.summary()]
        return replace(trained, curves=curves, remark="; ".join(filter(None, remarks)))
