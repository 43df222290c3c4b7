"""The color network that comes with the product, and its file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from vsr.errors import ModelError
from vsr.models.networks.color_network import ColorNetwork, ColorNetworkSpec
from vsr.models.safetensors import (
    card_from_metadata,
    encode_networks,
    fill_networks,
    read_tensors,
)

SHIPPED_COLOR_NETWORK = Path(__file__).parent / "priors" / "color.safetensors"

ColorArch = Literal["color"]
(COLOR_ARCH,) = get_args(ColorArch)


@dataclass(frozen=True)
class ColorCard:
    """Origin of a color network. Every field stands in the file's metadata under its own name, as
    JSON."""

    arch: ColorArch
    network: ColorNetworkSpec
    training: dict[str, Any]
    """Number and hash of the pictures, steps, seed and options."""
    version: str
    """Version of vsr."""


def encode_color_network(card: ColorCard, network: ColorNetwork) -> bytes:
    """Return the content of a file; it holds weights in half precision."""
    return encode_networks(card, {"network.": _halved(network)})


def load_color_network(path: Path) -> tuple[ColorCard, ColorNetwork]:
    """Read a color network, in eval mode and single precision. Raises `ModelError` as
    `load_shot_model` does."""
    metadata, tensors = read_tensors(path)
    card = card_from_metadata(ColorCard, path, metadata)
    network = ColorNetwork(card.network).half()
    fill_networks(path, tensors, {"network.": network})
    return card, network.float()


@lru_cache(maxsize=1)
def load_shipped_color_network() -> ColorNetwork:
    """Read the network that comes with the product, once. Raises `ModelError` where it is missing
    or broken."""
    try:
        return load_color_network(SHIPPED_COLOR_NETWORK)[1]
    except ModelError as error:
        raise ModelError(
            f"the color network cannot be used: {error} Install vsr again, or give --restore 0."
        ) from None


def _halved(network: ColorNetwork) -> ColorNetwork:
    halved = ColorNetwork(network.spec)
    halved.load_state_dict(network.state_dict())
    return halved.half()
