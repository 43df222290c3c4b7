"""Networks with genuine weights from a file. Nothing is downloaded here, and the caller's random
state stays as it is."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch

from vsr.models.weights import load_weights

Module = torch.nn.Module


class FrozenNetwork:
    """A network for inference, with a copy of its own on each device that pictures lie on.

    Metrics keep their networks for the whole process. Moving the one network there and back would
    take it away from whoever uses it on another device at the same time.
    """

    def __init__(self, network: Module) -> None:
        self._copies = {torch.device("cpu"): network}

    def on(self, device: torch.device) -> Module:
        """Return the network on a device, always the same one."""
        if device not in self._copies:
            self._copies[device] = deepcopy(self._copies[torch.device("cpu")]).to(device)
        return self._copies[device]


def build_frozen(architecture: Callable[[], Module]) -> Module:
    """Build a network for inference; its weights are random until they are filled in."""
    # Weights that are drawn only to be replaced must not move the caller's random state.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")
        return architecture().eval().requires_grad_(False)


def load_into(module: Module, path: Path, stored_name: Callable[[str], str] = str) -> None:
    """Give a module the weights of a file; `stored_name` turns a tensor's name into the file's.

    Raises ModelError where the file does not hold all of them in their shapes.
    """
    state = module.state_dict()
    # Whole numbers are counters of batch normalization, which inference does not read.
    shapes = {
        stored_name(key): tensor.shape
        for key, tensor in state.items()
        if tensor.is_floating_point()
    }
    weights = load_weights(path, shapes)
    module.load_state_dict(
        {key: weights.get(stored_name(key), tensor) for key, tensor in state.items()}
    )


@contextmanager
def exact_inference() -> Iterator[None]:
    """Switch off gradients, and TF32, so that a GPU's figures are the CPU's."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
