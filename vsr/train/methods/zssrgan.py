"""ZSSRGAN (seed 001): ZSSR that must please KernelGAN's discriminator as well, in three orders of training.

Mended against the published code: the discriminator sees both sides in one value range, so that it cannot tell them
apart by that; where it goes on learning beside the restorer, its learning rate starts anew, having fallen to nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from vsr.errors import UsageError
from vsr.image.blur import as_rows
from vsr.models.networks.kernelgan import against_label
from vsr.train.methods.kernelgan import LONG_GAME, Finding, KernelGame, KernelGan
from vsr.train.methods.method import Progress, TrainedPair, loss_curve_summary
from vsr.train.methods.zssr import ZSSR_AS_PUBLISHED, Lessons, Restorer, Zssr, blur_of, weighted_l1


@dataclass(frozen=True)
class ZssrGan(Zssr):
    """Settings that suit two cores; `ZSSRGAN_AS_PUBLISHED` has those of the source."""

    regime: Literal["fixed", "serial", "semi-e2e"] = "serial"
    """How the discriminator is trained: on the kernel's game alone, then on the restorer too, or on both at once."""
    game: KernelGan = KernelGan()
    """Of the kernel; its length counts where it is played first."""
    adversarial_share: float = 0.5
    """Of the loss at the first iteration that is the discriminator's; 0 to below 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.adversarial_share < 1:
            raise UsageError(f"adversarial_share is {self.adversarial_share:g}; expected 0 to below 1.")


ZSSRGAN_AS_PUBLISHED = ZssrGan(
    iterations=ZSSR_AS_PUBLISHED.iterations,
    crop_px=ZSSR_AS_PUBLISHED.crop_px,
    rate=ZSSR_AS_PUBLISHED.rate,
    game=LONG_GAME,
)


def train_zssrgan(keyframe: torch.Tensor, options: ZssrGan, seed: int, progress: Progress) -> TrainedPair:
    """Train on `keyframe`, (3, H, W) in [0, 1]. Deterministic for a seed and thread count.

    The kernel is the game's own unless the options give one. A restorer that diverges stops, and its best state is
    kept. Raises `ModelError` where there is none or where the game goes astray.
    """
    return _REGIMES[options.regime](KernelGame(keyframe, options.game, seed), keyframe, options, seed, progress)


def _train_after(
    game: KernelGame, keyframe: torch.Tensor, options: ZssrGan, seed: int, progress: Progress, *, goes_on: bool
) -> TrainedPair:
    """First the kernel's game, then the restorer; the discriminator goes on learning beside it or stays as it is."""
    total = options.game.iterations + options.iterations
    for iteration in range(options.game.iterations):
        game.generator_step()
        game.discriminator_step(game.pair_loss())
        progress(iteration + 1, total, game.generator_losses[-1])
    if goes_on:
        game.restart_discriminator()
    else:
        game.discriminator.eval().requires_grad_(False)
    play = _Play(game, keyframe, options, seed)
    for iteration in range(options.game.iterations, total):
        father, restored = play.restorer_step()
        loss = game.discriminator_loss(father, restored)
        if goes_on:
            game.discriminator_step(loss)
        progress(iteration + 1, total, play.restorer.losses[-1])
        if play.restorer.finished():
            progress(total, total, play.restorer.losses[-1])
            break
    return play.trained()


def _train_together(
    game: KernelGame, keyframe: torch.Tensor, options: ZssrGan, seed: int, progress: Progress
) -> TrainedPair:
    """In each iteration a step of the reducer, one of the restorer, and one of the discriminator against both."""
    play = _Play(game, keyframe, options, seed)
    for iteration in range(options.iterations):
        game.generator_step()
        play.follow_kernel()
        father, restored = play.restorer_step()
        game.discriminator_step((game.pair_loss() + game.discriminator_loss(father, restored)) / 2)
        progress(iteration + 1, options.iterations, play.restorer.losses[-1])
        if play.restorer.finished():
            progress(options.iterations, options.iterations, play.restorer.losses[-1])
            break
    return play.trained()


_REGIMES: dict[str, Callable[[KernelGame, torch.Tensor, ZssrGan, int, Progress], TrainedPair]] = {
    "fixed": partial(_train_after, goes_on=False),
    "serial": partial(_train_after, goes_on=True),
    "semi-e2e": _train_together,
}


class _Play:
    """The restorer's side: both of its losses, weighed as they were at the first iteration."""

    def __init__(self, game: KernelGame, keyframe: torch.Tensor, options: ZssrGan, seed: int) -> None:
        self._game, self._given = game, options.kernel
        self._finding: Finding | None = None
        kernel = self._kernel()
        self._lessons = Lessons(keyframe, options, kernel, seed)
        self.restorer = Restorer(keyframe, options, kernel, seed)
        self._share = options.adversarial_share / (1 - options.adversarial_share)
        self._weight: float | None = None
        self._adversarial: list[float] = []
        self._accuracies_before = len(game.accuracies)

    def follow_kernel(self) -> None:
        """Go on with the kernel that the game has come to, unless one was given or the picture is not blurred."""
        if self._given is None and self._game.blurred:
            self._lessons.kernel = kernel = self._kernel()
            self.restorer.use_kernel(kernel)

    def _kernel(self) -> torch.Tensor | None:
        """The given one or the game's; None: bicubic."""
        if self._given is not None:
            return blur_of(self._given)
        self._finding = self._game.finding()
        return None if self._finding.basis == "bicubic" else self._finding.kernel

    def restorer_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What should have come out, and what did, detached: (1, 3, h, w) in [-1, 1] both."""
        base, father, weights = self._lessons.draw()
        restored = self.restorer.restore(base)
        reconstruction = weighted_l1(restored, father, weights)
        adversarial = against_label(self._game.of_fake(father, restored), 1.0)
        if self._weight is None:
            self._weight = self._share * reconstruction.item() / max(adversarial.item(), 1e-6)
        self._adversarial.append(adversarial.item())
        self.restorer.step(reconstruction + self._weight * adversarial, reconstruction.item())
        return father, restored.detach()

    def trained(self) -> TrainedPair:
        game = self._game
        of_kernel, of_both = game.accuracies[: self._accuracies_before], game.accuracies[self._accuracies_before :]
        curves = {
            "reducer": loss_curve_summary(game.generator_losses),
            "discriminator": loss_curve_summary(game.discriminator_losses),
            "accuracy before": loss_curve_summary(of_kernel),
            "accuracy": loss_curve_summary(of_both),
            "adversarial": loss_curve_summary(self._adversarial),
        }
        kernel = self._lessons.kernel
        trained = self.restorer.trained(None if kernel is None else as_rows(kernel))
        remarks = [trained.remark, "" if self._finding is None else self._finding.words()]
        return replace(trained, curves=curves, remark="; ".join(filter(None, remarks)))
