"""`.safetensors` files of models: written the same each time, read only where they are whole.
Loading never runs code."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from vsr.errors import ModelError
from vsr.records import Origin, from_metadata

MAX_FILE_BYTES = 256 * 2**20
"""A model of the widest recipe takes 4 MB; anything near this limit is not one of ours."""

Card = TypeVar("Card")


def encode_networks(card: Any, networks: Mapping[str, nn.Module]) -> bytes:
    """Return the content of a model file: the networks' tensors under their prefixes, and every
    field of the card, a dataclass, in the metadata under its own name, as JSON.

    Equal models give equal bytes. safetensors itself writes the metadata in an order that changes
    from call to call; here it is sorted.
    """
    tensors = {
        prefix + name: tensor.detach().cpu().contiguous()
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in asdict(card).items()}
    content: bytes = save(tensors, metadata)
    # The format: eight bytes with the length of the header, the header as JSON, filled up with
    # spaces to whole words, the tensors.
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8:start]), sort_keys=True, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read metadata and tensors of a model file. Raises `ModelError` where it is too large, broken
    or cannot be read."""
    with _open(path) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata alone. Raises `ModelError` as `read_tensors` does."""
    with _open(path) as file:
        return file.metadata() or {}


def card_from_metadata(cls: type[Card], path: Path, metadata: Mapping[str, str]) -> Card:
    """Make the card of a model file, checked in full; names that the card does not have, as a newer
    version may write, are passed over. Raises `ModelError`."""
    own = {each.name for each in fields(cls)}  # type: ignore[arg-type]
    known = {name: text for name, text in metadata.items() if name in own}
    return from_metadata(cls, known, Origin(f"{path} is not a model that vsr can read", ModelError))


def fill_networks(
    path: Path, tensors: Mapping[str, torch.Tensor], networks: Mapping[str, nn.Module]
) -> None:
    """Load the tensors of a file, checked by `check_tensors`, into the networks of these prefixes,
    which are then in eval mode and need no gradients."""
    expected = {
        prefix + name: tensor
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    # Names are checked all together: a tensor of no network is one too many.
    check_tensors(path, expected, tensors)
    for prefix, network in networks.items():
        names = network.state_dict().keys()
        network.load_state_dict({name: tensors[prefix + name] for name in names})
        network.eval().requires_grad_(False)


def check_tensors(
    path: Path, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> None:
    """Raise `ModelError` unless the tensors found have the names, shapes and types expected, and
    finite values."""
    if missing := sorted(expected.keys() - found.keys()):
        raise ModelError(f"{path} lacks the tensor {missing[0]}. Delete the file and train again.")
    if extra := sorted(found.keys() - expected.keys()):
        raise ModelError(f"{path} holds an unknown tensor {extra[0]}. Its metadata do not name it.")
    for name, tensor in found.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise ModelError(
                f"{path}: tensor {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"its metadata say {want.dtype} {tuple(want.shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: tensor {name} holds values that are not finite. Train the model again."
            )


def _open(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is not a regular file; a model is a .safetensors file.")
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has {size} bytes; expected a model of vsr, of at most {MAX_FILE_BYTES} "
                "bytes."
            )
        with path.open("rb"):
            # safetensors reports any file that it may not read as one that is not there.
            pass
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {error.strerror}.") from None
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole .safetensors file ({error}). It may have been cut off: delete "
            "it and train again."
        ) from None
