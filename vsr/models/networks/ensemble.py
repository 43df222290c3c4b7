"""Many networks of one shape as one: each is a group of its convolutions, and a row of one matrix
of weights."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vsr.models.networks.singan import Critic, Generator

Network = Generator | Critic
StackedLayer = tuple[torch.Tensor, torch.Tensor | None]
"""Weights (M, out, in, 3, 3) and biases (M, out) of one layer of M networks."""


def grouped_convolutions(
    features: torch.Tensor, layers: Sequence[StackedLayer], leak: float
) -> torch.Tensor:
    """(N, M * in, H, W) -> (N, M * out, h, w): each network sees its own channels alone.

    No padding; a leaky ReLU after each layer but the last.
    """
    for number, (weight, bias) in enumerate(layers):
        if number:
            features = F.leaky_relu(features, leak)
        biases = None if bias is None else bias.flatten()
        features = F.conv2d(features, weight.flatten(0, 1), biases, groups=len(weight))
    return features


def to_grouped_channels(pictures: torch.Tensor, num_networks: int) -> torch.Tensor:
    """(members * N, C, H, W), those of a member one after another -> (N, members * C, H, W)."""
    apart: torch.Tensor = pictures.unflatten(0, (num_networks, -1))
    return apart.transpose(0, 1).flatten(1, 2)


def from_grouped_channels(pictures: torch.Tensor, num_networks: int) -> torch.Tensor:
    """What `to_grouped_channels` was given."""
    apart: torch.Tensor = pictures.unflatten(1, (num_networks, -1))
    return apart.transpose(0, 1).flatten(0, 1)


class Ensemble:
    """Generators without normalisation, or critics, of one spec, that are run and trained as
    one."""

    def __init__(self, networks: Sequence[Network], device: torch.device) -> None:
        assert not networks[0].spec.batch_norm, "statistics of normalisation are no weights"
        self._template = networks[0]
        self._shapes = [parameter.shape for parameter in self._template.parameters()]
        rows = [parameters_to_vector(network.parameters()).detach() for network in networks]
        self.weights = torch.stack(rows).to(device).requires_grad_()
        """(M, P), the weights of each in the order of its `parameters`."""

    def __call__(self, pictures: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """What each of the chosen makes of its pictures, (G * N, 3, H, W), those of a network one
        after another."""
        spec = self._template.spec
        weights = self.weights if len(chosen) == len(self.weights) else self.weights[list(chosen)]
        made = grouped_convolutions(
            to_grouped_channels(pictures, len(chosen)), self._layers(weights), spec.leak
        )
        if spec.tanh and isinstance(self._template, Generator):
            made = torch.tanh(made)
        return from_grouped_channels(made, len(chosen))

    def one(self, number: int) -> nn.Module:
        """A network of its own, on the CPU in eval mode."""
        network = copy.deepcopy(self._template)
        vector_to_parameters(self.weights[number].detach().cpu().clone(), network.parameters())
        return network.eval()

    def _layers(self, weights: torch.Tensor) -> list[StackedLayer]:
        parts = weights.split([shape.numel() for shape in self._shapes], dim=1)
        stacked = [
            part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)
        ]
        if not self._template.spec.bias:
            return [(weight, None) for weight in stacked]
        return list(zip(stacked[0::2], stacked[1::2], strict=True))
