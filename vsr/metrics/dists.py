"""DISTS (Ding et al., 2020): distance by structure and texture in the features of VGG16, on RGB; 0
for equal pictures.

Pictures are compared at their own size: the authors' demonstration reduces them to 256 px first,
which hides detail.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from vsr.metrics.backbones import FrozenNetwork, build_frozen, exact_inference, load_into
from vsr.metrics.metric import LoadedMetric, build_from, too_small_reason
from vsr.metrics.observation import Observation
from vsr.models.weights import DISTS_WEIGHTS, VGG16, load_weights

MIN_SIDE_PX = 32
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Channels of the picture itself and of the features at the end of VGG16's five stages."""
_STABILIZER = 1e-6


class StructureTextureDistance:
    """DISTS between two pictures."""

    def __init__(self, vgg_path: Path, weights_path: Path) -> None:
        """Read both files; raises ModelError where they do not hold VGG16's weights and those of
        DISTS."""
        from torchvision.models import vgg16

        layers = build_frozen(lambda: vgg16(weights=None).features)
        load_into(layers, vgg_path, "features.{}".format)
        self._layers = FrozenNetwork(layers)
        shape = torch.Size([1, sum(CHANNELS), 1, 1])
        weights = load_weights(weights_path, {"alpha": shape, "beta": shape})
        alpha, beta = weights["alpha"].flatten(), weights["beta"].flatten()
        # The authors make all weights together sum to 1, so that the distance of anything from
        # noise is 1 at most.
        total = alpha.sum() + beta.sum()
        self._texture_weights, self._structure_weights = alpha / total, beta / total

    def between(self, one: torch.Tensor, other: torch.Tensor) -> float | None:
        """Return the distance of two pictures (3, H, W) in [0, 1]; None below `MIN_SIDE_PX`."""
        if min(one.shape[-2:]) < MIN_SIDE_PX:
            return None
        with exact_inference():
            return float(self.with_gradient(one, other))

    def with_gradient(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return the distance as a scalar on the CPU that a training can descend."""
        pairs = zip(self._stages(one[None]), self._stages(other[None]), strict=True)
        similarities = [_similarity(first, second) for first, second in pairs]
        texture = torch.cat([of_means for of_means, _ in similarities]).cpu()
        structure = torch.cat([of_changes for _, of_changes in similarities]).cpu()
        return (
            1
            - (self._texture_weights * texture).sum()
            - (self._structure_weights * structure).sum()
        )

    def _stages(self, picture: torch.Tensor) -> list[torch.Tensor]:
        """Return the picture (1, 3, H, W), and the features where each stage ends, unpooled."""
        mean = picture.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        deviation = picture.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        stages, features = [picture], (picture - mean) / deviation
        for layer in self._layers.on(picture.device).children():
            if isinstance(layer, torch.nn.MaxPool2d):
                stages.append(features)
                features = _root_mean_square_pool(features)
            else:
                features = layer(features)
        return stages


def load() -> LoadedMetric:
    """Load DISTS; raises MetricUnavailableError without the weights of VGG16 or of DISTS."""
    distance = build_from((VGG16, DISTS_WEIGHTS), StructureTextureDistance)
    return LoadedMetric(partial(_measure, distance), missing_reason=too_small_reason(MIN_SIDE_PX))


def _measure(distance: StructureTextureDistance, observation: Observation) -> float | None:
    return distance.between(*observation.rgb_pair())


def _root_mean_square_pool(features: torch.Tensor) -> torch.Tensor:
    """Halve features (1, C, H, W) by a 3x3 Hann window over their squares."""
    # VGG16's own pooling aliases: a shift by one pixel would change the figure.
    window = features.new_tensor([0.25, 0.5, 0.25])
    channels = features.shape[1]
    kernel = (window[:, None] * window).expand(channels, 1, 3, 3)
    # Without the 1e-12 the root has no gradient at 0.
    return (F.conv2d(features**2, kernel, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _similarity(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each channel of (1, C, H, W) the similarity (C,) of the means (texture) and that
    of the deviations from them (structure)."""
    one, other = one[0].flatten(1), other[0].flatten(1)
    mean, other_mean = one.mean(dim=1), other.mean(dim=1)
    of_means = (2 * mean * other_mean + _STABILIZER) / (mean**2 + other_mean**2 + _STABILIZER)
    one, other = one - mean[:, None], other - other_mean[:, None]
    covariance, variances = (one * other).mean(dim=1), (one**2).mean(dim=1) + (other**2).mean(dim=1)
    return of_means, (2 * covariance + _STABILIZER) / (variances + _STABILIZER)
