"""SinGAN's generator and patch critic of one scale (Rott Shaham, Dekel, Michaeli, ICCV 2019), and
many of them trained as one.

Pictures are in [-1, 1]. Both networks are stacks of valid 3x3 convolutions:
with five of them each output pixel sees 11x11 input pixels.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vsr.records import limits

LEAK = 0.2
"""SinGAN's slope of LeakyReLU below zero."""


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of a generator and of its critic, which share width and depth."""

    width: int = field(default=32, metadata=limits(at_least=1, at_most=256))
    """Channels of every hidden layer."""
    layers: int = field(default=5, metadata=limits(at_least=2, at_most=16))
    """Number of 3x3 convolutions; each shrinks an unpadded picture by 2 pixels."""
    batch_norm: bool = False
    """Batch normalization after every convolution but the last. Always in eval mode at inference:
    statistics of the frame at hand would make the output flicker."""
    tanh: bool = False
    """Tanh after the generator's last convolution, as published."""
    padding: Literal["zeros", "replicate"] = "replicate"
    """Extension of the generator's input, once, by `halo` pixels; the published code uses zeros,
    which show as a frame around the picture."""
    leak: float = field(default=LEAK, metadata=limits(at_least=0, at_most=1))
    """Slope of the activation below zero; 0 is ReLU, as in ZSSR."""
    bias: bool = True
    """Biases of the convolutions; those of ZSSR have none."""

    @property
    def halo(self) -> int:
        """Pixels that the generator needs around each output pixel."""
        return self.layers


def pad(image: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """Extend (N, C, H, W) by the generator's halo on all four sides."""
    mode = "constant" if spec.padding == "zeros" else "replicate"
    return F.pad(image, (spec.halo,) * 4, mode=mode)


class Generator(nn.Module):
    """Network that adds the detail of one step: out = base + residual(noisy base)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = _stack(spec, out_channels=3)

    def forward(self, noisy: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) twice -> (N, 3, H, W), not clamped. `noisy` is `base` plus noise, or `base`
        itself."""
        return base + self.residual(pad(noisy, self.spec))

    def residual(self, padded: torch.Tensor) -> torch.Tensor:
        """Find the detail of an input that is already extended: (N, 3, H + 2 halo, W + 2 halo) ->
        (N, 3, H, W)."""
        detail: torch.Tensor = self.body(padded)
        return torch.tanh(detail) if self.spec.tanh else detail


class Critic(nn.Module):
    """Wasserstein patch critic: one unbounded number per 11x11 patch, higher for what looks like
    the keyframe."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = _stack(spec, out_channels=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1, H - 2 halo, W - 2 halo)."""
        scores: torch.Tensor = self.body(image)
        return scores


def _stack(spec: NetworkSpec, out_channels: int) -> nn.Sequential:
    # No layer pads: the input is extended once, by `pad`, as in the published code.
    blocks: list[nn.Module] = []
    channels = 3
    for _ in range(spec.layers - 1):
        blocks.append(_block(channels, spec))
        channels = spec.width
    blocks.append(nn.Conv2d(channels, out_channels, kernel_size=3, bias=spec.bias))
    return nn.Sequential(*blocks)


def _block(in_channels: int, spec: NetworkSpec) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, spec.width, kernel_size=3, bias=spec.bias)
    norm = [nn.BatchNorm2d(spec.width)] if spec.batch_norm else []
    return nn.Sequential(convolution, *norm, nn.LeakyReLU(spec.leak))


def init_as_published(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and normalization weights from N(1, 0.02), as
    SinGAN's code does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


class Ensemble:
    """Generators, or critics, of one spec, run and trained as one: each is a group of the
    convolutions' channels, and a row of one matrix of weights."""

    def __init__(self, networks: Sequence[Generator | Critic], device: torch.device) -> None:
        """Copy the weights to `device`."""
        self._template = networks[0]
        self._shapes = [parameter.shape for parameter in self._template.parameters()]
        rows = [parameters_to_vector(network.parameters()).detach() for network in networks]
        self.weights = torch.stack(rows).to(device).requires_grad_()
        """(M, P), the weights of each in the order of its `parameters`."""
        # By the place of each normalization: mean and variance of all networks' channels.
        self._statistics = [
            torch.stack([torch.cat(each) for each in zip(*members, strict=True)]).to(device)
            for members in zip(*map(_running_statistics, networks), strict=True)
        ]
        self.normalizes_by_batch = True
        """Whether normalization takes the statistics of the batch, and keeps their average, as in
        training, or takes that average."""

    @property
    def spec(self) -> NetworkSpec:
        return self._template.spec

    def __call__(self, pictures: torch.Tensor, chosen: Sequence[int] | None = None) -> torch.Tensor:
        """Run each of the G chosen networks, or all, on its own pictures, (G * N, 3, H, W), those
        of a network one after another -> (G * N, C, h, w). Nothing is padded."""
        spec = self.spec
        count = len(self.weights) if chosen is None else len(chosen)
        assert count == len(self.weights) or not spec.batch_norm, "statistics are kept of all"
        # Indexing copies: not where all take part.
        weights = self.weights if count == len(self.weights) else self.weights[list(chosen or ())]
        parts, statistics = iter(self._parts(weights)), iter(self._statistics)
        features = to_grouped_channels(pictures, count)
        for layer in self._template.body.modules():
            if isinstance(layer, nn.Conv2d):
                weight, bias = next(parts), next(parts) if spec.bias else None
                features = F.conv2d(features, weight, bias, groups=count)
            elif isinstance(layer, nn.BatchNorm2d):
                # A group has its own channels, so each network is normalized by itself.
                mean, variance = next(statistics)
                features = F.batch_norm(
                    features,
                    mean,
                    variance,
                    next(parts),
                    next(parts),
                    self.normalizes_by_batch,
                    layer.momentum or 0.0,
                    layer.eps,
                )
            elif isinstance(layer, nn.LeakyReLU):
                features = F.leaky_relu(features, spec.leak)
        if spec.tanh and isinstance(self._template, Generator):
            features = torch.tanh(features)
        return from_grouped_channels(features, count)

    def one(self, number: int) -> nn.Module:
        """Make a network of its own of one of them, on the CPU in eval mode."""
        network = copy.deepcopy(self._template)
        vector_to_parameters(self.weights[number].detach().cpu().clone(), network.parameters())
        own = _running_statistics(network)
        for kept, statistics in zip(own, self._statistics, strict=True):
            for value, values in zip(kept, statistics, strict=True):
                value.copy_(values.unflatten(0, (len(self.weights), -1))[number])
        return network.eval()

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """The weights and the averages of normalization."""
        kept = [statistics.clone() for statistics in self._statistics]
        return {"weights": [self.weights.detach().clone()], "statistics": kept}

    def load_state_dict(self, state: Mapping[str, Sequence[torch.Tensor]]) -> None:
        """Go on from a state of an ensemble of the same spec and size."""
        own = [self.weights.detach(), *self._statistics]
        for value, saved in zip(own, [*state["weights"], *state["statistics"]], strict=True):
            value.copy_(saved)

    def _parts(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """Cut rows of weights, (G, P), into the parameters of grouped layers: weights of
        convolutions (G out, in, 3, 3), and all others (G out)."""
        parts = weights.split([shape.numel() for shape in self._shapes], dim=1)
        return [
            part.unflatten(1, shape).flatten(0, 1)
            for part, shape in zip(parts, self._shapes, strict=True)
        ]


def _running_statistics(network: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The averages of mean and variance of each normalization of a network."""
    return [
        (layer.running_mean, layer.running_var)
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm2d)
        and layer.running_mean is not None
        and layer.running_var is not None
    ]


def to_grouped_channels(pictures: torch.Tensor, num_networks: int) -> torch.Tensor:
    """(M * N, C, H, W), those of a network one after another -> (N, M * C, H, W)."""
    apart: torch.Tensor = pictures.unflatten(0, (num_networks, -1))
    return apart.transpose(0, 1).flatten(1, 2)


def from_grouped_channels(pictures: torch.Tensor, num_networks: int) -> torch.Tensor:
    """(N, M * C, H, W) -> (M * N, C, H, W), the inverse of `to_grouped_channels`."""
    apart: torch.Tensor = pictures.unflatten(1, (num_networks, -1))
    return apart.transpose(0, 1).flatten(0, 1)
