"""Inception v3 in the form that FID uses, with genuine weights from a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.models import Inception3, inception

from vsr.metrics.backbones import FrozenNetwork, build_frozen, exact_inference, load_into
from vsr.models.weights import FID_INCEPTION, IMAGENET_INCEPTION, WeightFile

NUM_FEATURES = 2048
_INPUT_PX = 299


class _EdgeAwareA(inception.InceptionA):  # type: ignore[misc] # torchvision has no types
    """Pools, as TensorFlow does, over the pixels that exist: torchvision counts the padding as
    black ones."""

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_neighborhood_mean(x))]


class _EdgeAwareC(inception.InceptionC):  # type: ignore[misc]
    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_neighborhood_mean(x))]


class _EdgeAwareE(inception.InceptionE):  # type: ignore[misc]
    """The last of these blocks takes the greatest neighbor instead of the mean, as in the published
    network."""

    def __init__(
        self, in_channels: int, conv_block: Callable[..., torch.nn.Module] | None = None
    ) -> None:
        super().__init__(in_channels, conv_block)
        is_last = in_channels == NUM_FEATURES
        self._pool = torch.nn.MaxPool2d(3, stride=1, padding=1) if is_last else _neighborhood_mean

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(self._pool(x))]


def _tensorflow_inception() -> torch.nn.Module:
    blocks = [
        inception.BasicConv2d,
        _EdgeAwareA,
        inception.InceptionB,
        _EdgeAwareC,
        inception.InceptionD,
        _EdgeAwareE,
        inception.InceptionAux,
    ]
    network = Inception3(
        num_classes=1008, aux_logits=False, inception_blocks=blocks, init_weights=False
    )
    return _without_classifier(network)


def _torchvision_inception() -> torch.nn.Module:
    return _without_classifier(
        Inception3(aux_logits=False, transform_input=True, init_weights=False)
    )


def _without_classifier(network: torch.nn.Module) -> torch.nn.Module:
    network.fc = torch.nn.Identity()
    return network


@dataclass(frozen=True)
class InceptionWeights:
    """One of the two sets of weights, with the network that they belong to."""

    name: str
    """Mark of its figures: those of different weights cannot be compared."""
    file: WeightFile
    architecture: Callable[[], torch.nn.Module]


INCEPTIONS = (
    InceptionWeights("inception-fid", FID_INCEPTION, _tensorflow_inception),
    InceptionWeights("inception-imagenet", IMAGENET_INCEPTION, _torchvision_inception),
)
"""Weights in order of preference: published FID figures are made with the first."""


class InceptionFeatures:
    """Features of a picture after the network's last pooling."""

    size = NUM_FEATURES

    def __init__(self, weights: InceptionWeights, path: Path) -> None:
        """Read the weights; raises ModelError where the file does not hold the network's
        weights."""
        self.name = weights.name
        network = build_frozen(weights.architecture)
        load_into(network, path)
        self._network = FrozenNetwork(network)

    def of(self, picture: torch.Tensor) -> torch.Tensor:
        """Return float64 (2048,) on the CPU for (3, H, W) in [0, 1], resized to 299x299 bilinearly
        as FID's programs do."""
        resized = F.interpolate(
            picture[None], size=(_INPUT_PX, _INPUT_PX), mode="bilinear", align_corners=False
        )
        with exact_inference():
            # The network was trained on [-1, 1].
            features: torch.Tensor = self._network.on(picture.device)(2 * resized - 1)
        return features[0].double().cpu()


def _neighborhood_mean(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
