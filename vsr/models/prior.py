"""The prior of shot models: two networks that know pictures in general, from which those of a shot
begin. It comes with the product."""

import copy
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from vsr.errors import ModelError
from vsr.image.degradation import CLEAN_SHOT, KnownDegradation
from vsr.models.networks.modulated import DegradationKnots, ModulatedShotNetwork
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

PriorChoice = Literal["auto", "fast", "none"]
_PRIORS = Path(__file__).parent / "priors"
SHIPPED_PRIOR = _PRIORS / "shot.safetensors"
FAST_PRIOR = _PRIORS / "fast.safetensors"
"""Smaller networks, for `--quality fast`."""
PICTURES = _PRIORS / "pictures.toml"
"""Origin and license of every picture that the shipped ones were trained on."""

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
    knots: DegradationKnots | None = None
    """Degradations that the networks are changed for; None: they know clean shots alone."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The networks of a prior, in eval mode."""

    name: str
    """`shot-` and the first digits of the file's hash: models tell by it what they began from."""
    card: PriorCard
    networks: NetworkPair
    """For clean shots."""
    sha256: str
    path: Path = field(default=SHIPPED_PRIOR)
    modulated: tuple[ModulatedShotNetwork, ModulatedShotNetwork] | None = None
    """Both networks with their changes, where it has any."""

    def networks_for(self, known: KnownDegradation) -> NetworkPair:
        """Make the networks for a degradation; a prior without changes has one pair for all."""
        if self.modulated is None or known.is_clean:
            return self.networks
        first, second = self.modulated
        return first.for_degradation(known), second.for_degradation(known)

    def networks_with_changes(self, knots: DegradationKnots) -> NetworkPair:
        """Copy the networks, with their changes where these are at the same knots, else with none
        yet, in single precision."""
        made = []
        for number, network in enumerate(self.networks):
            changed = ModulatedShotNetwork(network.spec, knots)
            if self.modulated is not None and self.card.knots == knots:
                changed.load_state_dict(self.modulated[number].state_dict())
            else:
                changed.load_state_dict(network.state_dict(), strict=False)
            made.append(changed)
        return made[0], made[1]

    def as_shot_model(self, known: KnownDegradation = CLEAN_SHOT) -> ShotModel:
        """Make a shot model of it that was trained on no clip, for shots of a degradation."""
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
            degradation=known,
        )
        return ShotModel(f"prior {self.name}", card, self.networks_for(known))


def encode_prior(card: PriorCard, networks: NetworkPair) -> bytes:
    """Return the content of a prior's file; it holds changes of weights in half precision."""
    networks = copy.deepcopy(networks)
    for network in networks:
        if isinstance(network, ModulatedShotNetwork):
            network.changes.half()
    return encode_networks(card, networks_by_prefix(networks))


def shipped_prior_path(choice: PriorChoice) -> Path:
    """The file of a prior that comes with the product."""
    assert choice != "none", "without a prior there is no file"
    return FAST_PRIOR if choice == "fast" else SHIPPED_PRIOR


def load_shipped_prior(choice: PriorChoice = "auto") -> Prior:
    """Read a prior that comes with the product, once. Raises `ModelError` where it is missing or
    broken."""
    try:
        return _load_once(shipped_prior_path(choice))
    except ModelError as error:
        raise ModelError(
            f"the prior of shot models cannot be used: {error} Install vsr again, or give "
            "--prior none."
        ) from None


def load_prior(path: Path) -> Prior:
    """Read a prior and check everything, as `load_shot_model` does. Raises `ModelError`."""
    metadata, tensors = read_tensors(path)
    card = card_from_metadata(PriorCard, path, metadata)
    if card.first.neighbours != card.second.neighbours:
        raise ModelError(f"{path}: its two networks look at different numbers of neighbors.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"shot-{digest[:8]}"
    if card.knots is None:
        networks = ShotNetwork(card.first), ShotNetwork(card.second)
        fill_networks(path, tensors, networks_by_prefix(networks))
        return Prior(name, card, networks, digest, path)
    first, second = (ModulatedShotNetwork(spec, card.knots) for spec in (card.first, card.second))
    for network in (first, second):
        network.changes.half()
    fill_networks(path, tensors, networks_by_prefix((first, second)))
    networks = first.for_degradation(CLEAN_SHOT), second.for_degradation(CLEAN_SHOT)
    return Prior(name, card, networks, digest, path, (first, second))


@lru_cache(maxsize=2)
def _load_once(path: Path) -> Prior:
    return load_prior(path)
