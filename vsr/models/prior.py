"""The prior of shot models: two networks that know pictures in general, from which those of a shot
begin. It comes with the product."""

import copy
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

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
    Quality,
    ShotCard,
    ShotModel,
    networks_by_prefix,
)

PriorChoice = Literal["auto", "fast", "balanced", "best", "none"]
_PRIORS = Path(__file__).parent / "priors"
SHIPPED_PRIORS: dict[Quality, Path] = {
    "fast": _PRIORS / "fast.safetensors",
    "balanced": _PRIORS / "shot.safetensors",
    "best": _PRIORS / "best.safetensors",
}
"""The prior of each quality: small networks, the usual ones, large ones."""
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
    path: Path
    modulated: tuple[ModulatedShotNetwork, ModulatedShotNetwork] | None = None
    """Both networks with their changes, where it has any."""

    def networks_for(self, known: KnownDegradation) -> NetworkPair:
        """Make the networks for a degradation; a prior without changes has one pair for all. A blur
        changes none: what sharpens it comes before them."""
        if self.modulated is None or not known.quantizer:
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
    """Return the content of a prior's file, which holds all weights in half precision."""
    first, second = (copy.deepcopy(network).half() for network in networks)
    return encode_networks(card, networks_by_prefix((first, second)))


def quality_of(choice: PriorChoice) -> Quality:
    """The quality whose prior a choice means."""
    assert choice != "none", "without a prior there is no quality of its own"
    return "balanced" if choice == "auto" else choice


def shipped_prior_path(choice: PriorChoice) -> Path:
    """The file of a prior that comes with the product."""
    return SHIPPED_PRIORS[quality_of(choice)]


def kind_suffix(choice: PriorChoice) -> str:
    """End of the names of models that begin from a prior, and of the kind of their banks; those of
    the usual one have none."""
    return f"-{choice}" if choice in ("fast", "best") else ""


def names_of_other_priors(choice: PriorChoice) -> set[str]:
    """Read the names of the shipped priors of other qualities. Raises `ModelError`."""
    others = SHIPPED_PRIORS.keys() - {quality_of(choice)}
    return {load_shipped_prior(quality).name for quality in others}


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


def load_prior_for(choice: PriorChoice, known: KnownDegradation) -> Prior:
    """Read the shipped prior for a shot: where that of the choice knows no compressed shots, these
    have the usual one. Raises `ModelError`."""
    prior = load_shipped_prior(choice)
    if not known.quantizer or prior.modulated is not None:
        return prior
    return load_shipped_prior("balanced")


def load_prior(path: Path) -> Prior:
    """Read a prior and check everything, as `load_shot_model` does. Raises `ModelError`."""
    metadata, tensors = read_tensors(path)
    # Changes stay as small as they lie in the file; files of before hold all else in single
    # precision.
    tensors = {
        name: tensor.float() if tensor.dtype == torch.half and ".changes." not in name else tensor
        for name, tensor in tensors.items()
    }
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


@lru_cache(maxsize=len(SHIPPED_PRIORS))
def _load_once(path: Path) -> Prior:
    return load_prior(path)
