"""Adam (Kingma and Ba, 2015) over all weights of a network as one vector.

`torch.optim` imports torch's compiler for its first optimiser, which costs seconds of processor time in every training
process, and then goes through small networks weight by weight.
"""

from math import cos, pi, sqrt

import torch
from torch import nn

EPSILON = 1e-8


class Adam:
    """Minimises losses of one network, whose weights become parts of one vector."""

    def __init__(self, network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.learning_rate = learning_rate
        self._betas = betas
        parameters = list(network.parameters())
        self._weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self._gradient = torch.zeros_like(self._weights)
        self._mean, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = 0
        sizes = [parameter.numel() for parameter in parameters]
        parts = zip(parameters, self._weights.split(sizes), self._gradient.split(sizes), strict=True)
        for parameter, weights, gradient in parts:
            parameter.data, parameter.grad = weights.view_as(parameter), gradient.view_as(parameter)

    def descend(self, loss: torch.Tensor) -> None:
        """One step down the gradient of `loss`."""
        # What other losses left there, such as a generator's in its critic, does not count.
        self._gradient.zero_()
        loss.backward()
        self._steps += 1
        first, second = self._betas
        self._mean.lerp_(self._gradient, 1 - first)
        self._square.mul_(second).addcmul_(self._gradient, self._gradient, value=1 - second)
        spread = self._square.sqrt().div_(sqrt(1 - second**self._steps)).add_(EPSILON)
        self._weights.addcdiv_(self._mean, spread, value=-self.learning_rate / (1 - first**self._steps))


def cosine_rate(highest: float, share_done: float) -> float:
    """A learning rate that falls from `highest` to 0 along half a cosine (Loshchilov and Hutter, 2017)."""
    return highest * (1 + cos(pi * share_done)) / 2
