"""The adversarial family of seed 003: what discriminator and generator make of the logits of real and fake crops."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits of real and of fake crops, (N,) each -> a scalar."""


@dataclass(frozen=True)
class Game:
    """Both sides of a game."""

    discriminator: Loss
    generator: Loss
    penalised: bool = False
    """Whether the gradient penalty is added to the discriminator's loss."""


def gradient_penalty(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    """Mean of (||gradient of the logit||_2 - 1)^2 at mixtures of real and fake, the norm over a whole crop.

    The form of Gulrajani et al. (2017); `mix` is (N, 1, 1, 1) in [0, 1]. The seed writes the relativistic output in the
    place of the logit, whose gradient is the same wherever the sigmoid is not saturated.
    """
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    penalty: torch.Tensor = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    return penalty


def _log(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return F.softplus(-sign * logits).mean()


def _least_squares(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return (logits - sign).square().mean()


def _hinge(logits: torch.Tensor, sign: int) -> torch.Tensor:
    return F.relu(1 - sign * logits).mean()


Push = Callable[[torch.Tensor, int], torch.Tensor]
"""Logits, and +1 where they should be high or -1 where low -> loss."""


def _standard(push: Push) -> Game:
    return Game(
        lambda real, fake: (push(real, 1) + push(fake, -1)) / 2,
        lambda _, fake: push(fake, 1),
    )


def _relativistic(push: Push, penalised: bool = False) -> Game:
    """Against the mean of the other side (Jolicoeur-Martineau, 2018)."""

    def side(sign: int) -> Loss:
        return lambda real, fake: (push(real - fake.mean(), sign) + push(fake - real.mean(), -sign)) / 2

    return Game(side(1), side(-1), penalised)


def _centred(push: Push) -> Game:
    """Against the mean of both sides (Jolicoeur-Martineau, 2020)."""

    def side(sign: int) -> Loss:
        def loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
            centre = (real.mean() + fake.mean()) / 2
            return (push(real - centre, sign) + push(fake - centre, -sign)) / 2

        return loss

    return Game(side(1), side(-1))


GAMES: dict[str, Game] = {
    "gan": _standard(_log),
    "ragan": _relativistic(_log),
    "rals": _relativistic(_least_squares),
    "rahinge": _relativistic(_hinge),
    "rcgan": _centred(_log),
    "rcls": _centred(_least_squares),
    "rchinge": _centred(_hinge),
    "wgangp": Game(lambda real, fake: fake.mean() - real.mean(), lambda _, fake: -fake.mean(), penalised=True),
    "ragp": _relativistic(_log, penalised=True),
}
