"""Shot models on disk: one `.safetensors` file beside the keyframe models of a bank, checked in
full before use."""

import json
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from vsr.errors import ModelError, OutputError
from vsr.files import write_atomically
from vsr.models.bank import SHOT_MODEL_SUFFIX
from vsr.models.networks import on_device
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.safetensors import check_tensors, encode_tensors, read_tensors

ARCH = "window"
MAX_NEIGHBORS = 8
MAX_WIDTH = 256
MAX_LAYERS = 16


@dataclass(frozen=True)
class ShotCard:
    """Where a shot model comes from. Every field stands in the file's metadata under its own name,
    as JSON."""

    arch: str
    network: ShotNetworkSpec
    iterations: tuple[int, int]
    """Of its two networks."""
    seed: int
    clip: str
    """File name of the clip, without its folder."""
    clip_identity: str
    first_frame: int
    """Of the shot, from 0."""
    last_frame: int
    shot_start_seconds: float
    shot_end_seconds: float
    """Time of the first frame after the shot."""
    frames_trained_on: int
    loss_curve: tuple[float, ...]
    """Mean absolute error of luma over equal parts of the training."""
    version: str
    """Of vsr."""


@dataclass(frozen=True, eq=False)
class ShotModel:
    """The two networks of one shot, in eval mode: of the first doubling and of those after it."""

    name: str
    """File name without its suffix."""
    card: ShotCard
    networks: tuple[ShotNetwork, ShotNetwork]

    def networks_on(self, device: torch.device) -> tuple[ShotNetwork, ShotNetwork]:
        """Return both networks on a device, as copies where the model lies on another."""
        first, second = self.networks
        return on_device(first, device), on_device(second, device)


def save_shot_model(path: Path, card: ShotCard, networks: tuple[ShotNetwork, ShotNetwork]) -> None:
    """Write a model under its name only when it is whole. Raises `OutputError` where the folder
    does not take it."""
    tensors = {
        f"stage{number}.{name}": tensor.contiguous()
        for number, network in enumerate(networks, start=1)
        for name, tensor in network.state_dict().items()
    }
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in asdict(card).items()}
    try:
        write_atomically(path, encode_tensors(tensors, metadata))
    except OSError as error:
        raise OutputError(
            f"the shot model {path} cannot be written: {error.strerror}; name another folder."
        ) from None


def shot_model_files(folder: Path) -> list[Path]:
    """The shot models of a bank, by name; hidden ones are unfinished and left out."""
    return sorted(
        path for path in folder.glob(f"*{SHOT_MODEL_SUFFIX}") if not path.name.startswith(".")
    )


def load_shot_models(folder: Path) -> list[ShotModel]:
    """All shot models of a bank. Raises `ModelError` for a broken file, or where there is none."""
    models = [load_shot_model(path) for path in shot_model_files(folder)]
    if not models:
        raise ModelError(
            f"there is no shot model in {folder}. Train one with: vsr train-shot CLIP --models "
            f"{folder}"
        )
    return models


def load_shot_model(path: Path) -> ShotModel:
    """Read one model and check everything: size, metadata, tensor names, shapes, types, finite
    values.

    Raises `ModelError` that names the file and what is wrong with it.
    """
    metadata, tensors = read_tensors(path)
    card = _card(path, metadata)
    networks = (ShotNetwork(card.network), ShotNetwork(card.network))
    expected = {
        f"stage{number}.{name}": tensor
        for number, network in enumerate(networks, start=1)
        for name, tensor in network.state_dict().items()
    }
    check_tensors(path, "", expected, tensors)
    for number, network in enumerate(networks, start=1):
        prefix = f"stage{number}."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(own)
        network.eval().requires_grad_(False)
    return ShotModel(path.name.removesuffix(SHOT_MODEL_SUFFIX), card, networks)


def _card(path: Path, metadata: dict[str, str]) -> ShotCard:
    try:
        values: dict[str, Any] = {
            field.name: json.loads(metadata[field.name]) for field in fields(ShotCard)
        }
        return ShotCard(
            arch=_checked(values["arch"], values["arch"] == ARCH),
            network=_network(values["network"]),
            iterations=_integer_pair(values["iterations"]),
            seed=int(values["seed"]),
            clip=_checked(values["clip"], isinstance(values["clip"], str)),
            clip_identity=_checked(
                values["clip_identity"], isinstance(values["clip_identity"], str)
            ),
            first_frame=int(values["first_frame"]),
            last_frame=int(values["last_frame"]),
            shot_start_seconds=_finite(values["shot_start_seconds"]),
            shot_end_seconds=_finite(values["shot_end_seconds"]),
            frames_trained_on=int(values["frames_trained_on"]),
            loss_curve=tuple(_finite(value) for value in values["loss_curve"]),
            version=_checked(values["version"], isinstance(values["version"], str)),
        )
    except KeyError as error:
        raise ModelError(
            f"{path} has no {error.args[0]} in its metadata; it is not a shot model of vsr."
        ) from None
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise ModelError(
            f"{path}: its metadata is not that of a shot model ({error}). Train it again."
        ) from None


def _network(value: Any) -> ShotNetworkSpec:
    if not isinstance(value, dict) or value.keys() != {
        field.name for field in fields(ShotNetworkSpec)
    }:
        raise ValueError("expected the fields of a window network")
    spec = ShotNetworkSpec(**value)
    limits = (
        (spec.neighbours, 0, MAX_NEIGHBORS),
        (spec.width, 1, MAX_WIDTH),
        (spec.layers, 2, MAX_LAYERS),
    )
    if not all(
        type(number) is int and minimum <= number <= maximum for number, minimum, maximum in limits
    ):
        raise ValueError(
            f"expected up to {MAX_NEIGHBORS} neighbours, {MAX_WIDTH} channels and {MAX_LAYERS} "
            "layers"
        )
    return spec


def _integer_pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)


def _finite(value: Any) -> float:
    if not isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


def _checked(value: Any, is_right: bool) -> Any:
    if not is_right:
        raise ValueError(f"{str(value)[:80]!r} was not expected")
    return value
