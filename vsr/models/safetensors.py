"""`.safetensors` files: written the same each time, read only where they are whole. Loading never
runs code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vsr.errors import ModelError

MAX_FILE_BYTES = 256 * 2**20
"""A model of the widest recipe takes 4 MB; anything near this limit is not one of ours."""


def encode_tensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The content of a .safetensors file: the same bytes for the same tensors and metadata.

    safetensors itself writes the metadata in an order that changes from call to call; sorted, it
    may be compared.
    """
    content: bytes = save(tensors, metadata)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8:start]), sort_keys=True, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a model file. Raises `ModelError` where it is too large, broken or
    cannot be read."""
    with _open(path) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone. Raises `ModelError` likewise."""
    with _open(path) as file:
        return file.metadata() or {}


def check_tensors(
    path: Path, prefix: str, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    """Raise `ModelError` unless the tensors found have the names, shapes and types expected, and
    finite values."""
    if missing := sorted(expected.keys() - found.keys()):
        raise ModelError(
            f"{path} lacks the tensor {prefix}{missing[0]}. Delete the file and train again."
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise ModelError(
            f"{path} holds an unknown tensor {prefix}{extra[0]}. It does not fit its own "
            "description."
        )
    for name, tensor in found.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise ModelError(
                f"{path}: tensor {prefix}{name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"its description asks for {want.dtype} {tuple(want.shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: tensor {prefix}{name} holds values that are not finite. Train the model "
                "again."
            )


def _open(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is not an ordinary file; a model is a .safetensors file.")
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has {size} bytes; a model has at most {MAX_FILE_BYTES}. It is not one of "
                "ours."
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
