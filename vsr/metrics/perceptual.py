"""The LPIPS network (Zhang et al., 2018), with genuine ImageNet weights or not at all."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from vsr.errors import ModelError
from vsr.metrics.metric import MetricUnavailableError
from vsr.weights import find_weights, load_weights, where_to_put

MIN_SIDE_PX = 32
"""The smallest picture that every backbone can look at."""


@dataclass(frozen=True)
class Backbone:
    """A torchvision classifier that LPIPS has trained its weights on top of."""

    name: str
    """As `lpips` calls it."""
    patterns: tuple[str, ...]
    """What its weight files are called."""
    usual_file: str
    """The file that torchvision's model zoo offers."""


BACKBONES = (
    Backbone("alex", ("alexnet-owt*.pth", "alexnet*.safetensors"), "alexnet-owt-7be5be79.pth"),
    Backbone("vgg", ("vgg16-*.pth", "vgg16.pth", "vgg16*.safetensors"), "vgg16-397923af.pth"),
    Backbone("squeeze", ("squeezenet1_1*.pth", "squeezenet1_1*.safetensors"), "squeezenet1_1-b8a52dc0.pth"),
)
"""In order of preference: alex is what most figures in papers were made with."""


class PerceptualDistance:
    """LPIPS between two pictures, 0 for equal ones."""

    def __init__(self, backbone: Backbone, path: Path) -> None:
        """Raises ModelError where the file does not hold the backbone's weights."""
        self.network = backbone.name
        self._model = _build(backbone, path)

    def between(self, one: torch.Tensor, other: torch.Tensor) -> float | None:
        """Distance of two pictures (3, H, W) in [0, 1]; None below `MIN_SIDE_PX`."""
        if min(one.shape[-2:]) < MIN_SIDE_PX:
            return None
        self._model.to(one.device)
        # Without TF32, so that a GPU's figures are the CPU's.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return float(self._model(_as_network_input(one), _as_network_input(other)))


def load_distance() -> PerceptualDistance:
    """LPIPS on the first backbone whose weights are really here; raises MetricUnavailableError with every reason."""
    reasons = []
    for backbone in BACKBONES:
        path = find_weights(backbone.patterns)
        if path is None:
            continue
        try:
            return _load(backbone, path)
        except ModelError as error:
            reasons.append(str(error))
    wanted = " or ".join(backbone.usual_file for backbone in BACKBONES)
    reasons.append(f"no weights for LPIPS; expected {wanted} of torchvision's model zoo: {where_to_put('one of them')}")
    raise MetricUnavailableError("; ".join(reasons))


@lru_cache(maxsize=1)
def _load(backbone: Backbone, path: Path) -> PerceptualDistance:
    """Kept, since lpips and tlpips share it."""
    return PerceptualDistance(backbone, path)


def _build(backbone: Backbone, path: Path) -> torch.nn.Module:
    import lpips

    # The package first fills the backbone with random numbers: that must not move the caller's random state.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        model: torch.nn.Module = lpips.LPIPS(net=backbone.name, pnet_rand=True, verbose=False)
    trunk = model.get_submodule("net")
    # lpips cuts the classifier into slices but keeps each layer's number: slice2.3.weight is features.3.weight.
    names = {key: "features." + key.partition(".")[2] for key in trunk.state_dict()}
    shapes = {names[key]: tensor.shape for key, tensor in trunk.state_dict().items()}
    weights = load_weights(path, shapes)
    trunk.load_state_dict({key: weights[name] for key, name in names.items()})
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _as_network_input(picture: torch.Tensor) -> torch.Tensor:
    """Values in [-1, 1]; channels last, in which torch convolves half again as fast on a CPU."""
    return (picture[None] * 2 - 1).contiguous(memory_format=torch.channels_last)
