"""The prior of shot models: two networks that know pictures in general, from which those of a shot
begin. It comes with the product."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from vsr.errors import ModelError
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.safetensors import (
    card_from_metadata,
    encode_networks,
    fill_networks,
    read_tensors,
)
from vsr.models.shot_model import (
    ARCH,
    NetworkPair,
    ShotCard,
    ShotModel,
    networks_by_prefix,
)

SHIPPED_PRIOR = Path(__file__).parent / "priors" / "shot.safetensors"
PICTURES = SHIPPED_PRIOR.with_name("pictures.toml")
"""Origin and license of every picture that the shipped one was trained on."""

PriorChoice = Literal["auto", "none"]
PriorArch = Literal["shot-prior"]
(PRIOR_ARCH,) = get_args(PriorArch)


@dataclass(frozen=True)
class PriorCard:
    """Origin of a prior. Every field stands in the file's metadata under its own name, as JSON."""

    arch: PriorArch
    first: ShotNetworkSpec
    """Shape of the network of the first doubling."""
    second: ShotNetworkSpec
    training: dict[str, Any]
    """Number and hash of the pictures, iterations, seed and options."""
    version: str
    """Version of vsr."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The networks of a prior, in eval mode."""

    name: str
    """`shot-` and the first digits of the file's hash: models tell by it what they began from."""
    card: PriorCard
    networks: NetworkPair
    sha256: str
    path: Path = field(default=SHIPPED_PRIOR)

    def as_shot_model(self) -> ShotModel:
        """Make a shot model of it that was trained on no clip."""
        card = ShotCard(
            arch=ARCH,
            network=self.card.first,
            second_network=self.card.second,
            prior=self.name,
            iterations=(0, 0),
            seed=0,
            clip="",
            clip_identity="",
            first_frame=0,
            last_frame=0,
            shot_start_seconds=0.0,
            shot_end_seconds=0.0,
            frames_trained_on=0,
            loss_curve=(),
            version=self.card.version,
        )
        return ShotModel(f"prior {self.name}", card, self.networks)


def encode_prior(card: PriorCard, networks: NetworkPair) -> bytes:
    """Return the content of a prior's file."""
    return encode_networks(card, networks_by_prefix(networks))


def load_shipped_prior() -> Prior:
    """Read the prior that comes with the product, once. Raises `ModelError` where it is missing or
    broken."""
    try:
        return _load_once(SHIPPED_PRIOR)
    except ModelError as error:
        raise ModelError(
            f"the prior of shot models cannot be used: {error} Install vsr again, or give "
            "--prior none."
        ) from None


def load_prior(path: Path) -> Prior:
    """Read a prior and check everything, as `load_shot_model` does. Raises `ModelError`."""
    metadata, tensors = read_tensors(path)
    card = card_from_metadata(PriorCard, path, metadata)
    networks = (ShotNetwork(card.first), ShotNetwork(card.second))
    if card.first.neighbours != card.second.neighbours:
        raise ModelError(f"{path}: its two networks look at different numbers of neighbors.")
    fill_networks(path, tensors, networks_by_prefix(networks))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Prior(f"shot-{digest[:8]}", card, networks, digest, path)


@lru_cache(maxsize=1)
def _load_once(path: Path) -> Prior:
    return load_prior(path)
