"""A shot network whose weights follow what is known of a shot's degradation.

The networks for degraded shots differ from the one for clean shots by changes of all weights, which
are interpolated between a few knots. For a shot they are worked into a plain network once, so a
frame costs what it costs without them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vsr.image.degradation import KnownDegradation
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec, apply_layers


@dataclass(frozen=True)
class DegradationKnots:
    """Degradations that changes of weights belong to, in rising order; the first has none."""

    quantizers: tuple[float, ...] = (16.0, 28.0, 36.0, 44.0)

    @property
    def count(self) -> int:
        """Number of changes."""
        return len(self.quantizers) - 1

    def shares(self, known: KnownDegradation) -> list[float]:
        """Weigh the changes, 0 to 1 each, linearly between the knots; beyond the last as there."""
        rows = np.eye(len(self.quantizers))[1:]
        return [float(np.interp(known.quantizer, self.quantizers, row)) for row in rows]


class ModulatedShotNetwork(ShotNetwork):
    """A network for clean shots with the changes of its weights at all knots but the first."""

    def __init__(self, spec: ShotNetworkSpec, knots: DegradationKnots) -> None:
        """The changes begin as zeros."""
        super().__init__(spec)
        self.knots = knots
        self.changes = nn.ModuleList(
            _LayerChanges(next(layer.parameters()).shape, knots.count) for layer in self.body
        )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Restore as `ShotNetwork` does; behind its planes there is a plane for each change, filled
        with its share. (N, planes + changes, H + 2 halo, W + 2 halo) -> (N, 1, H, W)."""
        shares = planes[:, self.spec.planes :, 0, 0]
        # One by one: each has weights of its own.
        return torch.cat(
            [
                apply_layers(planes[number : number + 1, : self.spec.planes], self._layers(own))
                for number, own in enumerate(shares)
            ]
        )

    def for_degradation(self, known: KnownDegradation) -> ShotNetwork:
        """Make the plain network for a degradation, in eval mode."""
        shares = torch.tensor(self.knots.shares(known))
        network = ShotNetwork(self.spec)
        with torch.no_grad():
            weights = [tensor for pair in self._weights(shares) for tensor in pair]
            for parameter, weight in zip(network.parameters(), weights, strict=True):
                parameter.copy_(weight)
        return network.to(weights[0].device).eval().requires_grad_(False)

    def _layers(self, shares: torch.Tensor) -> list[partial[torch.Tensor]]:
        return [
            partial(F.conv2d, weight=weight, bias=bias) for weight, bias in self._weights(shares)
        ]

    def _weights(self, shares: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight and bias of each layer at these shares of the changes."""
        weights = []
        for layer, changes in zip(self.body, self.changes, strict=True):
            weight, bias = (
                own + torch.tensordot(shares.to(own.device), change.float(), dims=1)
                for own, change in zip(layer.parameters(), changes.parameters(), strict=True)
            )
            weights.append((weight, bias))
        return weights


class _LayerChanges(nn.Module):
    """Changes of one layer's weight and bias."""

    def __init__(self, shape: torch.Size, count: int) -> None:
        """`shape` is that of the layer's weight, which comes before its bias."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, *shape))
        self.bias = nn.Parameter(torch.zeros(count, shape[0]))
