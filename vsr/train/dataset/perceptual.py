"""Distances in the features of networks trained on ImageNet, with gradient; each needs its
weights."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from vsr.errors import ModelError
from vsr.metrics import METRICS
from vsr.metrics.backbones import build_frozen, load_into
from vsr.metrics.dists import StructureTextureDistance
from vsr.metrics.lpips import load_distance
from vsr.metrics.metric import MetricUnavailableError
from vsr.models.weights import (
    DISTS_WEIGHTS,
    LOSS_WEIGHTS,
    SQUEEZENET,
    VGG16,
    VGG19,
    WeightFile,
    find_weights,
)

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Result and truth, RGB (N, 3, H, W) in [0, 1] -> a scalar, 0 for equal ones."""

VGG_LAYERS = {"vgg22": 9, "vgg54": 36, "vgg54_esrgan": 35}
"""Layers of VGG19 up to conv2_2 and conv5_4 after their activations (SRGAN), and up to conv5_4
before its own (ESRGAN)."""
SRGAN_FEATURE_SCALE = 1 / 12.75
"""SRGAN divides features by this, so that the loss of VGG is of the order of that of pixels."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colors."""
MIN_PERCEPTUAL_PX = 32
"""The smallest crop that all of these networks can look at."""
DIVERSITY_LAYERS = 6
"""Layers of SqueezeNet's features: up to the second pooling, where texture still counts."""
RANDOM_WIDTHS = (32, 64, 128)
"""Channels of the stages of the network of random weights, each at half the size of the last."""
RANDOM_SEED = 19
"""Its weights are the same in every training: another seed would be another loss."""


def load_perceptual(name: str, device: torch.device) -> Distance:
    """Load one of `LossOptions.perceptual`. Raises `ModelError` that says where weights that are
    missing go."""
    try:
        return _LOADERS[name](name, device)
    except MetricUnavailableError as unavailable:
        raise ModelError(f"the perceptual loss {name} is not available: {unavailable}") from None


def missing_weights(name: str) -> str:
    """Advise a user who lacks the weights of a loss, one of `LossOptions.perceptual` or
    `diversity_features`; empty where nothing is missing."""
    if name in {"none", "random"}:
        return ""
    # Sets of files, any of which will do.
    sets = (LOSS_WEIGHTS[name],) if name in LOSS_WEIGHTS else METRICS[name].weights
    lacking = [[file for file in files if find_weights(file.patterns) is None] for files in sets]
    return "; ".join(file.missing for file in lacking[0]) if all(lacking) else ""


def load_classifier_features(
    name: str, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """RGB (N, 3, H, W) in [0, 1] -> features of `squeezenet` or of a network of `random` weights,
    for the diversity of samples."""
    if name == "random":
        # The second stage, where SqueezeNet is cut as well.
        stages = random_network().to(device)
        return lambda pictures: stages[:2](_normalize(pictures))
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
    # SRGAN squares the distance of scaled features; ESRGAN takes it as it is.
    compare, scale = (
        (F.l1_loss, 1.0) if name == "vgg54_esrgan" else (F.mse_loss, SRGAN_FEATURE_SCALE)
    )

    def distance(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        # Both normalized as the network was trained.
        of_result, of_truth = (network(_normalize(pictures)) for pictures in (result, truth))
        return compare(scale * of_result, scale * of_truth)

    return distance


def random_network() -> nn.Sequential:
    """Build stages of two convolutions, each at half the size of the last, with fixed random
    weights.

    Random filters keep what textures differ by (He, Wang, Hopcroft, NeurIPS 2016), so that
    comparing them asks for more than pixels do, though less than a trained network's.
    """
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    stages: list[nn.Module] = []
    channels = 3
    for width in RANDOM_WIDTHS:
        layers: list[nn.Module] = [nn.AvgPool2d(2)] if stages else []
        for inputs in (channels, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        stages.append(nn.Sequential(*layers))
        channels = width
    network = nn.Sequential(*stages).requires_grad_(False)
    for parameter in network.parameters():
        # As He et al. (2015): features keep the spread of the colors that come in.
        spread = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
        parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return network


def _random(_: str, device: torch.device) -> Distance:
    stages = random_network().to(device)

    def distance(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        one, other = _normalize(result), _normalize(truth)
        total = result.new_zeros(())
        for stage in stages:
            one, other = stage(one), stage(other)
            total = total + F.l1_loss(one, other)
        return total / len(stages)

    return distance


_LOADERS: dict[str, Callable[[str, torch.device], Distance]] = {
    "lpips": _lpips,
    "dists": _dists,
    "vgg22": _vgg,
    "vgg54": _vgg,
    "vgg54_esrgan": _vgg,
    "random": _random,
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
