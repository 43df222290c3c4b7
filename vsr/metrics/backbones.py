"""Networks with genuine weights from a file. Nothing is downloaded, and the caller's random state
stays as it is."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vsr.models.weights import load_weights

Module = torch.nn.Module


def build_frozen(architecture: Callable[[], Module]) -> Module:
    """The network that `architecture` makes, frozen for inference; its weights are random until
    they are filled in."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")
        return architecture().eval().requires_grad_(False)


def load_into(module: Module, path: Path, stored_name: Callable[[str], str] = str) -> None:
    """Give a module the weights of a file, in which `stored_name` tells what each of its tensors is
    called.

    Raises ModelError where the file does not hold all of them in their shapes.
    """
    state = module.state_dict()
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
    """Without gradients, and without TF32, so that a GPU's figures are the CPU's."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
