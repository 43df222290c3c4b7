"""Losses of the adversarial game, as SinGAN uses them."""

from collections.abc import Callable

import torch

CriticFn = Callable[[torch.Tensor], torch.Tensor]
"""Pictures -> scores: a network, or many that are run as one."""
GRADIENT_PENALTY_WEIGHT = 0.1
"""Belongs to the per-pixel form of `pixel_gradient_penalty`."""


def critic_loss(
    critic: CriticFn, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    """Wasserstein critic loss with gradient penalty. `fake` must be detached; `mix` in [0, 1] is
    the penalty's place between the two pictures."""
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
    (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    penalty: torch.Tensor = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
    return penalty
