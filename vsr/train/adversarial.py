"""Adversarial losses of both sides, and the gradient penalties that keep a critic smooth.

SinGAN's critic scores every place of a picture; the discriminators of data-set training give one
logit for a whole crop.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

CriticFn = Callable[[torch.Tensor], torch.Tensor]
"""Pictures -> scores: a network, or many that are run as one."""
GRADIENT_PENALTY_WEIGHT = 0.1
"""Weight of the penalty, for the per-pixel form of `pixel_gradient_penalty`."""


def critic_loss(
    critic: CriticFn, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    """Wasserstein critic loss with gradient penalty. `fake` must be detached; `mix` in [0, 1] is
    the penalty's place between the two pictures."""
    # The penalty is wanted where the critic is used: between the fakes and the real picture.
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    penalty = pixel_gradient_penalty(critic, between)
    loss: torch.Tensor = (
        critic(fake).mean() - critic(real).mean() + GRADIENT_PENALTY_WEIGHT * penalty
    )
    return loss


def pixel_gradient_penalty(critic: CriticFn, image: torch.Tensor) -> torch.Tensor:
    """Mean over pixels of (|| d sum D(image) / d pixel ||_2 over channels - 1)^2.

    The norm is taken over the channels of each pixel, as in SinGAN's published code, not over the
    whole sample as in Gulrajani et al. (2017); the weight of 0.1 belongs to this form.
    """
    # With a graph, for the penalty has to be descended itself.
    (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    penalty: torch.Tensor = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
    return penalty


LogitPairLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits of real and of fake crops, (N,) each -> a scalar."""


@dataclass(frozen=True)
class GanLoss:
    """Losses of both sides of an adversarial training."""

    discriminator: LogitPairLoss
    generator: LogitPairLoss
    penalized: bool = False
    """Whether the gradient penalty is added to the discriminator's loss."""


def gradient_penalty(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    """Mean of (||gradient of the logit||_2 - 1)^2 at mixtures of real and fake, the norm over a
    whole crop.

    The form of Gulrajani et al. (2017); `mix` is (N, 1, 1, 1) in [0, 1]. Some write the
    relativistic output in the place of the logit, whose gradient is the same wherever the sigmoid
    is not saturated.
    """
    # Detached: the penalty shapes the discriminator, and must not move the generator.
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    penalty: torch.Tensor = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    return penalty


def _cross_entropy(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return F.softplus(-sign * logits).mean()


def _least_squares(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return (logits - sign).square().mean()


def _hinge(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return F.relu(1 - sign * logits).mean()


LogitLoss = Callable[[torch.Tensor, int], torch.Tensor]
"""Logits, and +1 where they should be high or -1 where low -> loss."""


def _standard(criterion: LogitLoss) -> GanLoss:
    return GanLoss(
        lambda real, fake: (criterion(real, 1) + criterion(fake, -1)) / 2,
        lambda _, fake: criterion(fake, 1),
    )


def _relativistic(criterion: LogitLoss, penalized: bool = False) -> GanLoss:
    """Against the mean of the other side (Jolicoeur-Martineau, 2018)."""

    def side(sign: int) -> LogitPairLoss:
        return lambda real, fake: (
            (criterion(real - fake.mean(), sign) + criterion(fake - real.mean(), -sign)) / 2
        )

    return GanLoss(side(1), side(-1), penalized)


def _relativistic_centered(criterion: LogitLoss) -> GanLoss:
    """Against the mean of both sides (Jolicoeur-Martineau, 2020)."""

    def side(sign: int) -> LogitPairLoss:
        def loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
            # One center for both sides: neither can win by moving its own mean.
            center = (real.mean() + fake.mean()) / 2
            return (criterion(real - center, sign) + criterion(fake - center, -sign)) / 2

        return loss

    return GanLoss(side(1), side(-1))


GAN_LOSSES: dict[str, GanLoss] = {
    "gan": _standard(_cross_entropy),
    "ragan": _relativistic(_cross_entropy),
    "rals": _relativistic(_least_squares),
    "rahinge": _relativistic(_hinge),
    "rcgan": _relativistic_centered(_cross_entropy),
    "rcls": _relativistic_centered(_least_squares),
    "rchinge": _relativistic_centered(_hinge),
    "wgangp": GanLoss(
        lambda real, fake: fake.mean() - real.mean(), lambda _, fake: -fake.mean(), penalized=True
    ),
    "ragp": _relativistic(_cross_entropy, penalized=True),
}
