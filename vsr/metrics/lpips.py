"""LPIPS (Zhang et al., 2018), the perceptual distance between result and truth on RGB, and tLPIPS
(Chu et al., 2020), that of its change from frame to frame. With genuine ImageNet weights or not at
all."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch

from vsr.metrics.backbones import FrozenNetwork, build_frozen, exact_inference, load_into
from vsr.metrics.metric import LoadedMetric, build_from_first
from vsr.metrics.observation import FramePair, Observation
from vsr.models.weights import ALEXNET, SQUEEZENET, VGG16, placement_hint

MIN_SIDE_PX = 32
"""The smallest picture that every backbone can look at."""
BACKBONES = {"alex": ALEXNET, "vgg": VGG16, "squeeze": SQUEEZENET}
"""Files of the torchvision classifiers that LPIPS has trained its weights on top of, by the names
that `lpips` gives them, in order of preference: most figures in papers were made with alex."""
ANY_BACKBONE = tuple(BACKBONES)
LPIPS_WEIGHTS = tuple((file,) for file in BACKBONES.values())


class PerceptualDistance:
    """LPIPS between two pictures, 0 for equal ones."""

    def __init__(self, network: str, path: Path, is_spatial: bool = False) -> None:
        """Read the weights of one of `BACKBONES`; `is_spatial` is for `map_between`.

        Raises ModelError where the file does not hold the backbone's weights.
        """
        self.network = network
        self._is_spatial = is_spatial
        self._model = FrozenNetwork(_build(network, path, is_spatial))

    def between(self, one: torch.Tensor, other: torch.Tensor) -> float | None:
        """Return the distance of two pictures (3, H, W) in [0, 1]; None below `MIN_SIDE_PX`."""
        assert not self._is_spatial, "a spatial network gives maps"
        distance = self._forward(one, other)
        return None if distance is None else float(distance)

    def map_between(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor | None:
        """Return the distance at each pixel, float32 (H, W), of two pictures as in `between`."""
        assert self._is_spatial, "only a spatial network gives maps"
        distances = self._forward(one, other)
        return None if distances is None else distances[0, 0]

    def of_batch(self, ones: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Return the mean distance of pictures (N, 3, H, W) in [0, 1], a scalar that a training
        can descend."""
        assert not self._is_spatial, "a spatial network gives maps"
        assert min(ones.shape[-2:]) >= MIN_SIDE_PX, "the network cannot look at smaller pictures"
        distances: torch.Tensor = self._model.on(ones.device)(2 * ones - 1, 2 * others - 1)
        return distances.mean()

    def _forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor | None:
        if min(one.shape[-2:]) < MIN_SIDE_PX:
            return None
        model = self._model.on(one.device)
        with exact_inference():
            distance: torch.Tensor = model(_as_network_input(one), _as_network_input(other))
        return distance


def load_distance(
    networks: Sequence[str] = ANY_BACKBONE, is_spatial: bool = False
) -> PerceptualDistance:
    """Load LPIPS on the first of the named backbones whose weights are really here.

    Raises MetricUnavailableError with every reason.
    """
    names = " or ".join(BACKBONES[network].name for network in networks)
    return build_from_first(
        {BACKBONES[network]: partial(_load, network, is_spatial) for network in networks},
        f"no weights for LPIPS; expected {names} of {ALEXNET.source}: "
        f"{placement_hint('one of them')}",
    )


def load(networks: Sequence[str] = ANY_BACKBONE) -> LoadedMetric:
    """Load LPIPS as `load_distance` does."""
    distance = load_distance(networks)
    return LoadedMetric(partial(_measure, distance), distance.network)


def load_temporal(networks: Sequence[str] = ANY_BACKBONE) -> LoadedMetric:
    """Load tLPIPS, |LPIPS(T_t-1, T_t) - LPIPS(Y_t-1, Y_t)|: how far the perceived change differs
    from the truth's."""
    distance = load_distance(networks)
    return LoadedMetric(partial(_measure_change, distance), distance.network)


def _measure(distance: PerceptualDistance, observation: Observation) -> float | None:
    return distance.between(*observation.rgb_pair())


def _measure_change(distance: PerceptualDistance, observation: Observation) -> float | None:
    assert observation.truth is not None
    true_change = _perceived_change(distance, observation, observation.truth)
    change = _perceived_change(distance, observation, observation.result)
    return None if true_change is None or change is None else abs(true_change - change)


def _perceived_change(
    distance: PerceptualDistance, observation: Observation, pair: FramePair
) -> float | None:
    if pair.previous is None:
        return None
    return distance.between(
        observation.inner(pair.previous.pixels), observation.inner(pair.current.pixels)
    )


@lru_cache(maxsize=2 * len(BACKBONES))
def _load(network: str, is_spatial: bool, path: Path) -> PerceptualDistance:
    """Load each network once for the process: lpips and tlpips share it."""
    return PerceptualDistance(network, path, is_spatial)


def _build(network: str, path: Path, is_spatial: bool) -> torch.nn.Module:
    import lpips

    # With `pnet_rand`, lpips downloads no backbone; the weights come from our file.
    model = build_frozen(
        lambda: lpips.LPIPS(net=network, pnet_rand=True, spatial=is_spatial, verbose=False)
    )
    # lpips cuts the classifier into slices but keeps each layer's number: slice2.3.weight is
    # features.3.weight.
    load_into(model.get_submodule("net"), path, lambda key: "features." + key.partition(".")[2])
    return model.to(memory_format=torch.channels_last)


def _as_network_input(picture: torch.Tensor) -> torch.Tensor:
    # Channels last: torch convolves half again as fast on a CPU.
    return (picture[None] * 2 - 1).contiguous(memory_format=torch.channels_last)
