"""Adam over all weights of a network as one vector, schedules of its rate, and the moving average
of the weights.

`torch.optim` imports torch's compiler for its first optimizer, which costs seconds of processor
time in every training process, and then goes through small networks weight by weight.
"""

import copy
from collections.abc import Callable, Sequence
from math import cos, pi, sqrt
from typing import Generic, TypeVar

import torch
from torch import nn

from vsr.engine.tiling import cpu_pool
from vsr.train.state_file import Resumable

MIN_LEARNING_RATE = 1e-9
"""A rate below 0 would ascend the loss."""
EPSILON = 1e-8

Network = TypeVar("Network", bound=nn.Module)


class Adam(Resumable):
    """Minimizes losses of one network, whose weights become parts of one vector (Kingma and Ba,
    2015)."""

    kept = ("learning_rate", "_mean", "_square", "_steps")

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        factors: Sequence[float] | None = None,
    ) -> None:
        """`factors` of the learning rate are for each of the network's parameters, in their order;
        1 where not given."""
        self.learning_rate = learning_rate
        self._betas = betas
        # One vector: a small network has many tiny tensors, and a step costs by their number.
        parameters = list(network.parameters())
        self._parameters = parameters
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
        self._factors = (
            None
            if factors is None or set(factors) == {1.0}
            else torch.cat(
                [
                    self._weights.new_full((size,), factor)
                    for size, factor in zip(sizes, factors, strict=True)
                ]
            )
        )

    def minimize(self, loss: torch.Tensor) -> None:
        """Go one step down the gradient of `loss`."""
        # What other losses left there, such as a generator's in its critic, does not count.
        self._gradient.zero_()
        loss.backward()
        self._descend()

    def minimize_mean(self, losses: Sequence[Callable[[], torch.Tensor]]) -> float:
        """Go one step down the gradient of the mean of some losses, which are computed on all cores
        of the CPU, each on one. Returns the mean; nothing depends on the number of cores."""
        parts = list(cpu_pool().map(self._loss_and_gradient, losses))
        self._gradient.zero_()
        # In their order, whichever was ready first: a sum of floats depends on it.
        for _, gradient in parts:
            self._gradient.add_(gradient, alpha=1 / len(parts))
        self._descend()
        return sum(loss for loss, _ in parts) / len(parts)

    def _loss_and_gradient(self, compute: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        loss = compute()
        gradients = torch.autograd.grad(loss, self._parameters)
        return loss.item(), torch.cat([gradient.flatten() for gradient in gradients])

    def _descend(self) -> None:
        """Go one step down the gradient."""
        self._steps += 1
        first, second = self._betas
        # Moving averages of the gradient and of its square.
        self._mean.lerp_(self._gradient, 1 - first)
        self._square.mul_(second).addcmul_(self._gradient, self._gradient, value=1 - second)
        # Both moments begin at 0, so early ones are too small by 1 - beta^steps.
        spread = self._square.sqrt().div_(sqrt(1 - second**self._steps)).add_(EPSILON)
        step = self._mean if self._factors is None else self._mean * self._factors
        self._weights.addcdiv_(step, spread, value=-self.learning_rate / (1 - first**self._steps))


class BatchedAdam(Resumable):
    """Adam for many networks whose weights are the rows of one matrix, each with its own rate and
    number of steps."""

    kept = ("_mean", "_square", "_steps")

    def __init__(self, weights: torch.Tensor, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        """`weights`, (M, P), are changed in place."""
        self._weights = weights
        self._betas = betas
        self._mean, self._square = torch.zeros_like(weights), torch.zeros_like(weights)
        self._steps = [0] * len(weights)

    def minimize(self, loss: torch.Tensor, rates: Sequence[float]) -> None:
        """Go one step down the gradient of `loss`, a sum over networks; one with a rate of 0 stays
        as it was."""
        (gradient,) = torch.autograd.grad(loss, self._weights)
        first, second = self._betas
        self._steps = [steps + (rate > 0) for steps, rate in zip(self._steps, rates, strict=True)]
        # A network that rests keeps its moments: nothing of the gradient enters them.
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


class AveragedNetwork(Resumable, Generic[Network]):
    """A network in training, with its optimizer and the exponential moving average of its weights,
    which is less noisy than any of the states it is taken of."""

    kept = ("network", "average", "_optimizer")

    def __init__(
        self,
        network: Network,
        betas: tuple[float, float] = (0.9, 0.999),
        factors: Sequence[float] | None = None,
    ) -> None:
        """`betas` and `factors` are Adam's."""
        self.network = network
        self._optimizer = Adam(network, 0.0, betas, factors)
        # Copied after the optimizer has moved the weights into a vector of its own.
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        states = self.average.state_dict().values(), network.state_dict().values()
        self._pairs = list(zip(*states, strict=True))

    def descend(self, loss: torch.Tensor, learning_rate: float, decay: float) -> None:
        """Take a step down `loss`; then move the average by 1 - `decay` of its way to the
        weights."""
        self._optimizer.learning_rate = learning_rate
        self._optimizer.minimize(loss)
        self._average(decay)

    def descend_mean(
        self, losses: Sequence[Callable[[], torch.Tensor]], learning_rate: float, decay: float
    ) -> float:
        """Take a step down the mean of `losses`, as `Adam.minimize_mean` does, and move the average
        likewise. Returns the mean."""
        self._optimizer.learning_rate = learning_rate
        loss = self._optimizer.minimize_mean(losses)
        self._average(decay)
        return loss

    def _average(self, decay: float) -> None:
        with torch.no_grad():
            for kept, fresh in self._pairs:
                if kept.is_floating_point():
                    kept.lerp_(fresh, 1 - decay)
                else:
                    # A count, such as that of batches seen.
                    kept.copy_(fresh)


def warm_decay(decay: float, updates: int) -> float:
    """The decay of an average after `updates`, from 1: smaller at first, since the random beginning
    would stay in it for long."""
    return min(decay, updates / (updates + 9))


def cosine_decay(highest: float, share_done: float) -> float:
    """A learning rate that falls from `highest` to 0 along half a cosine (Loshchilov and Hutter,
    2017)."""
    return highest * (1 + cos(pi * share_done)) / 2
