"""Adam (Kingma and Ba, 2015) over all weights of a network as one vector.

`torch.optim` imports torch's compiler for its first optimiser, which costs seconds of processor
time in every training process, and then goes through small networks weight by weight.
"""

from collections.abc import Sequence
from math import cos, pi, sqrt

import torch
from torch import nn

EPSILON = 1e-8


class Adam:
    """Minimises losses of one network, whose weights become parts of one vector."""

    def __init__(
        self, network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.learning_rate = learning_rate
        self._betas = betas
        parameters = list(network.parameters())
        self._weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self._gradient = torch.zeros_like(self._weights)
        self._mean, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = 0
        sizes = [parameter.numel() for parameter in parameters]
        parts = zip(
            parameters, self._weights.split(sizes), self._gradient.split(sizes), strict=True
        )
        for parameter, weights, gradient in parts:
            parameter.data, parameter.grad = weights.view_as(parameter), gradient.view_as(parameter)

    def minimize(self, loss: torch.Tensor) -> None:
        """One step down the gradient of `loss`."""
        # What other losses left there, such as a generator's in its critic, does not count.
        self._gradient.zero_()
        loss.backward()
        self._steps += 1
        first, second = self._betas
        self._mean.lerp_(self._gradient, 1 - first)
        self._square.mul_(second).addcmul_(self._gradient, self._gradient, value=1 - second)
        spread = self._square.sqrt().div_(sqrt(1 - second**self._steps)).add_(EPSILON)
        self._weights.addcdiv_(
            self._mean, spread, value=-self.learning_rate / (1 - first**self._steps)
        )


class BatchedAdam:
    """The same for many networks whose weights are the rows of one matrix, each with its own rate
    and steps."""

    def __init__(self, weights: torch.Tensor, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        """`weights`, (M, P), are changed in place."""
        self._weights = weights
        self._betas = betas
        self._mean, self._square = torch.zeros_like(weights), torch.zeros_like(weights)
        self._steps = [0] * len(weights)

    def minimize(self, loss: torch.Tensor, rates: Sequence[float]) -> None:
        """One step down the gradient of `loss`, a sum over networks; one with a rate of 0 stays as
        it was."""
        (gradient,) = torch.autograd.grad(loss, self._weights)
        first, second = self._betas
        self._steps = [steps + (rate > 0) for steps, rate in zip(self._steps, rates, strict=True)]
        columns = [
            (1 - first, 1 - second, sqrt(1 - second**steps), rate / (1 - first**steps))
            if rate > 0
            else (0, 0, 1, 0)
            for steps, rate in zip(self._steps, rates, strict=True)
        ]
        to_mean, to_square, root, rate = gradient.new_tensor(columns).T[..., None]
        with torch.no_grad():
            self._mean.lerp_(gradient, to_mean)
            self._square.lerp_(gradient.square(), to_square)
            self._weights.sub_(self._mean * rate / self._square.sqrt().div_(root).add_(EPSILON))


def cosine_decay(highest: float, share_done: float) -> float:
    """A learning rate that falls from `highest` to 0 along half a cosine (Loshchilov and Hutter,
    2017)."""
    return highest * (1 + cos(pi * share_done)) / 2
