"""The LPIPS network (Zhang et al., 2018), with genuine ImageNet weights or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from vsr.errors import ModelError
from vsr.metrics.backbones import build_frozen, exact_inference, load_into
from vsr.metrics.metric import MetricUnavailableError
from vsr.models.weights import ALEXNET, SQUEEZENET, VGG16, WeightFile, find_weights, placement_hint

MIN_SIDE_PX = 32
"""The smallest picture that every backbone can look at."""


@dataclass(frozen=True)
class Backbone:
    """A torchvision classifier that LPIPS has trained its weights on top of."""

    name: str
    """As `lpips` calls it."""
    file: WeightFile


BACKBONES = {
    name: Backbone(name, file)
    for name, file in (("alex", ALEXNET), ("vgg", VGG16), ("squeeze", SQUEEZENET))
}
"""In order of preference: alex is what most figures in papers were made with."""
ANY_BACKBONE = tuple(BACKBONES)
LPIPS_WEIGHTS = tuple((backbone.file,) for backbone in BACKBONES.values())


class PerceptualDistance:
    """LPIPS between two pictures, 0 for equal ones."""

    def __init__(self, backbone: Backbone, path: Path, is_spatial: bool = False) -> None:
        """`is_spatial` is for `map_between`. Raises ModelError where the file does not hold the
        backbone's weights."""
        self.network = backbone.name
        self._is_spatial = is_spatial
        self._model = _build(backbone, path, is_spatial)

    def between(self, one: torch.Tensor, other: torch.Tensor) -> float | None:
        """Distance of two pictures (3, H, W) in [0, 1]; None below `MIN_SIDE_PX`."""
        assert not self._is_spatial, "a spatial network gives maps"
        distance = self._forward(one, other)
        return None if distance is None else float(distance)

    def map_between(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor | None:
        """Distance at each pixel of two pictures, float32 (H, W); None below `MIN_SIDE_PX`."""
        assert self._is_spatial, "only a spatial network gives maps"
        distances = self._forward(one, other)
        return None if distances is None else distances[0, 0]

    def of_batch(self, ones: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Mean distance of pictures (N, 3, H, W) in [0, 1], as a scalar that a training can
        descend."""
        assert not self._is_spatial, "a spatial network gives maps"
        assert min(ones.shape[-2:]) >= MIN_SIDE_PX, "the network cannot look at smaller pictures"
        self._model.to(ones.device)
        distances: torch.Tensor = self._model(2 * ones - 1, 2 * others - 1)
        return distances.mean()

    def _forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor | None:
        if min(one.shape[-2:]) < MIN_SIDE_PX:
            return None
        self._model.to(one.device)
        with exact_inference():
            distance: torch.Tensor = self._model(_as_network_input(one), _as_network_input(other))
        return distance


def load_distance(
    networks: Sequence[str] = ANY_BACKBONE, is_spatial: bool = False
) -> PerceptualDistance:
    """LPIPS on the first of the named backbones whose weights are really here.

    Raises MetricUnavailableError with every reason.
    """
    reasons = []
    for backbone in map(BACKBONES.__getitem__, networks):
        path = find_weights(backbone.file.patterns)
        if path is None:
            continue
        try:
            return _load(backbone, path, is_spatial)
        except ModelError as error:
            reasons.append(str(error))
    wanted = " or ".join(BACKBONES[name].file.name for name in networks)
    reasons.append(
        f"no weights for LPIPS; expected {wanted} of {ALEXNET.source}: "
        f"{placement_hint('one of them')}"
    )
    raise MetricUnavailableError("; ".join(reasons))


@lru_cache(maxsize=len(BACKBONES))
def _load(backbone: Backbone, path: Path, is_spatial: bool) -> PerceptualDistance:
    """Kept, since lpips and tlpips share it."""
    return PerceptualDistance(backbone, path, is_spatial)


def _build(backbone: Backbone, path: Path, is_spatial: bool) -> torch.nn.Module:
    import lpips

    model = build_frozen(
        lambda: lpips.LPIPS(net=backbone.name, pnet_rand=True, spatial=is_spatial, verbose=False)
    )
    # lpips cuts the classifier into slices but keeps each layer's number: slice2.3.weight is
    # features.3.weight.
    load_into(model.get_submodule("net"), path, lambda key: "features." + key.partition(".")[2])
    return model.to(memory_format=torch.channels_last)


def _as_network_input(picture: torch.Tensor) -> torch.Tensor:
    """Values in [-1, 1]; channels last, in which torch convolves half again as fast on a CPU."""
    return (picture[None] * 2 - 1).contiguous(memory_format=torch.channels_last)
