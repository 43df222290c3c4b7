"""Shot models on disk: one `.safetensors` file beside the keyframe models of a bank, checked in
full before use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from vsr.errors import ModelError, OutputError
from vsr.files import write_atomically
from vsr.image.blur import Blur, KernelTaps, none_if_bicubic
from vsr.image.degradation import CLEAN_SHOT, KnownDegradation
from vsr.models.bank import SHOT_MODEL_SUFFIX, check_kernel
from vsr.models.networks import on_device
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.safetensors import (
    card_from_metadata,
    encode_networks,
    fill_networks,
    read_tensors,
)

Quality = Literal["fast", "balanced", "best"]
"""Time that policy shot spends on a frame; each has networks of its own size."""
Arch = Literal["window"]
"""The shot network's name in files."""
(ARCH,) = get_args(Arch)


@dataclass(frozen=True)
class ShotCard:
    """Origin of a shot model. Every field stands in the file's metadata under its own name, as
    JSON."""

    arch: Arch
    network: ShotNetworkSpec
    """Shape of both networks, or of the first."""
    iterations: tuple[int, int]
    """Iterations that its two networks were trained for; 0: the prior's network stands."""
    seed: int
    clip: str
    """File name of the clip, without its folder."""
    clip_identity: str
    first_frame: int
    """First frame of the shot, from 0."""
    last_frame: int
    """Last frame of the shot."""
    shot_start_seconds: float
    shot_end_seconds: float
    """Time of the first frame after the shot."""
    frames_trained_on: int
    loss_curve: tuple[float, ...]
    """Mean absolute error of luma over equal parts of the training."""
    version: str
    """Version of vsr."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size that the model was trained for; None: bicubic."""
    second_network: ShotNetworkSpec | None = None
    """Shape of the second network, where it is another."""
    prior: str = ""
    """Name of the prior that the training began from; empty: it knows the clip alone."""
    degradation: KnownDegradation = CLEAN_SHOT
    """Degradation that the prior's networks were made for."""

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    @property
    def blur(self) -> Blur | None:
        """Blur that results are back-projected through; None: bicubic."""
        return none_if_bicubic(self.kernel) or self.degradation.blur


NetworkPair = tuple[ShotNetwork, ShotNetwork]
"""For the first doubling, and for those after it."""


@dataclass(frozen=True, eq=False)
class ShotModel:
    """The two networks of one shot, in eval mode: for the first doubling and for those after it."""

    name: str
    """File name without its suffix."""
    card: ShotCard
    networks: NetworkPair

    def networks_on(self, device: torch.device) -> NetworkPair:
        """Return both networks on a device, as copies where the model lies on another."""
        first, second = self.networks
        return on_device(first, device), on_device(second, device)


def save_shot_model(path: Path, card: ShotCard, networks: NetworkPair) -> None:
    """Write a model under its name only when it is whole. Raises `OutputError` where the folder
    does not take it."""
    try:
        write_atomically(path, encode_networks(card, networks_by_prefix(networks)))
    except OSError as error:
        raise OutputError(
            f"the shot model {path} cannot be written: {error.strerror}; name another folder."
        ) from None


def shot_model_files(folder: Path) -> list[Path]:
    """List the shot models of a bank, by name; hidden ones are unfinished and left out."""
    return sorted(
        path for path in folder.glob(f"*{SHOT_MODEL_SUFFIX}") if not path.name.startswith(".")
    )


def load_shot_models(folder: Path) -> list[ShotModel]:
    """Read all shot models of a bank. Raises `ModelError` for a broken file, or where there is
    none."""
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
    card = card_from_metadata(ShotCard, path, metadata)
    networks = (ShotNetwork(card.network), ShotNetwork(card.second_network or card.network))
    fill_networks(path, tensors, networks_by_prefix(networks))
    return ShotModel(path.name.removesuffix(SHOT_MODEL_SUFFIX), card, networks)


def networks_by_prefix(networks: NetworkPair) -> dict[str, nn.Module]:
    """Name the networks as the tensors of a file begin."""
    return {f"stage{number}.": network for number, network in enumerate(networks, start=1)}
