"""Distances in the features of networks trained on ImageNet, with gradient; each needs its
weights."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from vsr.errors import ModelError
from vsr.metrics.backbones import build_frozen, load_into
from vsr.metrics.dists import StructureTextureDistance
from vsr.metrics.lpips import load_distance
from vsr.metrics.metric import MetricUnavailableError
from vsr.models.weights import DISTS_WEIGHTS, SQUEEZENET, VGG16, VGG19, WeightFile, find_weights

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Result and truth, RGB (N, 3, H, W) in [0, 1] -> a scalar, 0 for equal ones."""

VGG_LAYERS = {"vgg22": 9, "vgg54": 35}
"""Layers of VGG19 up to conv2_2 after its activation (SRGAN), and up to conv5_4 before its own
(ESRGAN)."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colors."""
MIN_PERCEPTUAL_PX = 32
"""The smallest crop that all of these networks can look at."""
DIVERSITY_LAYERS = 6
"""Of SqueezeNet's features: up to the second pooling, where texture still counts."""


def load_perceptual(name: str, device: torch.device) -> Distance:
    """`lpips`, `dists`, `vgg22` or `vgg54`. Raises `ModelError` that says where weights that are
    missing go."""
    try:
        return _LOADERS[name](name, device)
    except MetricUnavailableError as unavailable:
        raise ModelError(f"the perceptual loss {name} is not available: {unavailable}") from None


def load_classifier_features(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """RGB (N, 3, H, W) in [0, 1] -> features of SqueezeNet, for the diversity of samples."""
    from torchvision.models import squeezenet1_1

    network = _pretrained(lambda: squeezenet1_1(weights=None).features, SQUEEZENET)[
        :DIVERSITY_LAYERS
    ].to(device)
    # Frozen networks: the gradient goes through them to the pictures.
    return lambda pictures: network(_normalize(pictures))


def _lpips(_: str, __: torch.device) -> Distance:
    return load_distance().of_batch


def _dists(_: str, __: torch.device) -> Distance:
    distance = StructureTextureDistance(_require_weights(VGG16), _require_weights(DISTS_WEIGHTS))
    return lambda result, truth: torch.stack(
        [distance.with_gradient(one, other) for one, other in zip(result, truth, strict=True)]
    ).mean()


def _vgg(name: str, device: torch.device) -> Distance:
    from torchvision.models import vgg19

    network = _pretrained(lambda: vgg19(weights=None).features, VGG19)[: VGG_LAYERS[name]].to(
        device
    )
    # SRGAN squares the distance and ESRGAN takes it as it is, each for its own layer.
    compare = F.mse_loss if name == "vgg22" else F.l1_loss
    # Both normalized as the network was trained.
    return lambda result, truth: compare(network(_normalize(result)), network(_normalize(truth)))


_LOADERS: dict[str, Callable[[str, torch.device], Distance]] = {
    "lpips": _lpips,
    "dists": _dists,
    "vgg22": _vgg,
    "vgg54": _vgg,
}


def _pretrained(architecture: Callable[[], nn.Module], file: WeightFile) -> nn.Sequential:
    network = build_frozen(architecture)
    load_into(network, _require_weights(file), "features.{}".format)
    assert isinstance(network, nn.Sequential)
    return network


def _require_weights(file: WeightFile) -> Path:
    path = find_weights(file.patterns)
    if path is None:
        raise ModelError(
            f"a loss of this training needs a weight file that is missing: {file.missing}."
        )
    return path


def _normalize(pictures: torch.Tensor) -> torch.Tensor:
    mean, deviation = (
        pictures.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (pictures - mean) / deviation
