"""Upscalers on disk: the `.safetensors` that `vsr train` writes, and what others publish. Loading
never runs code."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from vsr.errors import ModelError
from vsr.models.networks.classic import Espcn, EspcnSpec, Fsrcnn, FsrcnnSpec, Srcnn, SrcnnSpec
from vsr.models.networks.srgan import RrdbSpec, Srresnet, SrresnetSpec, rrdb
from vsr.models.safetensors import check_tensors, read_tensors
from vsr.records import SETTINGS, Origin, from_json, from_table, limits
from vsr.upscale.networks.network import (
    STUDIO_RANGE,
    LumaRange,
    UpscalingNetwork,
    count_parameters,
    prepare_for_inference,
)
from vsr.upscale.networks.third_party import read_third_party

CARD_KEY = "vsr_upscaler"
"""Metadata key of our own files; its value is the card."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class Architecture:
    """A family of networks that `vsr train` makes."""

    spec: type[Any]
    """A frozen dataclass with at least `scale` and `receptive_radius_px`."""
    build: Callable[[Any], nn.Module]
    luma: LumaRange | None = None
    """Range of luma that the networks take; None: RGB."""
    enlarged_first: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "srcnn": Architecture(SrcnnSpec, Srcnn, STUDIO_RANGE, enlarged_first=True),
    "fsrcnn": Architecture(FsrcnnSpec, Fsrcnn, STUDIO_RANGE),
    "espcn": Architecture(EspcnSpec, Espcn, STUDIO_RANGE),
    "srresnet": Architecture(SrresnetSpec, Srresnet),
    "rrdb": Architecture(RrdbSpec, rrdb),
}
"""Adding one takes its network in `vsr.models.networks` and one entry."""


@dataclass(frozen=True)
class NetworkCard:
    """Origin of a network of ours; stands in the file's metadata as JSON."""

    arch: str
    network: dict[str, Any]
    """Fields of the architecture's spec."""
    method: str
    """Method of `vsr train`."""
    training: dict[str, Any]
    """Pictures and settings of the training, and how good the network was then."""
    version: str
    """Version of vsr."""
    consistency_passes: int = field(default=0, metadata=limits(at_least=0, at_most=100))
    """Back-projections onto the input that belong to the method."""


def encode_network(card: NetworkCard, network: nn.Module) -> bytes:
    """Return the content of a file."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    content: bytes = save(tensors, {CARD_KEY: json.dumps(asdict(card), allow_nan=False)})
    return content


def load_network(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> UpscalingNetwork:
    """Read a file of ours or of others, check it, and make it ready on `device`.

    It computes in `dtype`, but in float32 where its architecture is known not to bear that. Raises
    `ModelError` that names the file and what is wrong: unreadable, broken, of an unknown
    architecture.
    """
    if path.is_dir():
        raise ModelError(
            f"{path} is a folder; expected one file. A bank of models is given by --models DIR."
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path}: expected an upscaler as {', '.join(SUFFIXES)}. {_advice(path)}")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a regular file; expected an upscaler.")
    if path.suffix.lower() == ".safetensors":
        card, tensors = read_own(path)
        if card is not None:
            network = build_network(path, card, tensors)
            prepare_for_inference(network, device, dtype)
            return replace(wrap_network(path.stem, card, network), dtype=dtype)
    return read_third_party(path, device, dtype)


def read_own(path: Path) -> tuple[NetworkCard | None, dict[str, torch.Tensor]]:
    """Return card and tensors of a `.safetensors` file; None for the card of a file that `vsr
    train` did not write."""
    metadata, tensors = read_tensors(path)
    if "keyframe_hash" in metadata or "frames_trained_on" in metadata:
        raise ModelError(
            f"{path} is a model of a clip, not an upscaler: put it in a folder and give --models "
            "DIR."
        )
    if CARD_KEY not in metadata:
        return None, tensors
    return _card(path, metadata[CARD_KEY]), tensors


def build_network(path: Path, card: NetworkCard, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Build the card's network with these tensors, which are checked against it."""
    build = ARCHITECTURES[card.arch].build
    try:
        # On this device a network has names and shapes and takes no memory, however large its card
        # makes it.
        with torch.device("meta"):
            planned = build(spec_of(card))
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise ModelError(
            f"{path}: no {card.arch} can be made as its card says ({error}). Train it again."
        ) from None
    check_tensors(path, planned.state_dict(), tensors)
    # Its initial weights, which are overwritten, must not advance the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        network = build(spec_of(card))
    network.load_state_dict(tensors)
    return network


def spec_of(card: NetworkCard, origin: Origin = SETTINGS) -> Any:
    """Make the shape of the card's network, checked in full. Raises the origin's error."""
    table = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in card.network.items()
    }
    return from_table(ARCHITECTURES[card.arch].spec, table, origin)


def wrap_network(name: str, card: NetworkCard, network: nn.Module) -> UpscalingNetwork:
    """Wrap a network of ours that is in evaluation mode, on its device and in its precision."""
    architecture, spec = ARCHITECTURES[card.arch], spec_of(card)
    return UpscalingNetwork(
        name=name,
        arch=card.arch,
        scale=spec.scale,
        run=network,
        num_parameters=count_parameters(network),
        luma=architecture.luma,
        enlarged_first=architecture.enlarged_first,
        noise_channels=getattr(spec, "noise_channels", 0),
        receptive_radius_px=spec.receptive_radius_px,
        consistency_passes=card.consistency_passes,
    )


def _card(path: Path, text: str) -> NetworkCard:
    origin = Origin(f"{path}: its card is not one of vsr train", ModelError)
    card = from_json(NetworkCard, text, origin)
    if card.arch not in ARCHITECTURES:
        raise ModelError(
            f"{origin.name}: unknown architecture {card.arch[:80]!r}; known are "
            f"{', '.join(ARCHITECTURES)}."
        )
    spec_of(card, origin)
    return card


def _advice(path: Path) -> str:
    if path.suffix.lower() == ".pb":
        return (
            "OpenCV 5 cannot run these TensorFlow graphs; look for the same network as a "
            "PyTorch file."
        )
    if path.suffix.lower() == ".onnx":
        return "ONNX is not read; look for the file that it was made from."
    return "Train one with vsr train."
