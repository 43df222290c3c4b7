"""Finds, checks and reads the weight files that metrics need. Nothing is ever downloaded, and no file runs code."""

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vsr.errors import ModelError

FOLDERS_VARIABLE = "VSR_WEIGHTS"
"""Environment variable: one folder of weight files, or several joined as in PATH."""


def weight_folders() -> list[Path]:
    """Where weight files are looked for, in this order: the folders of `VSR_WEIGHTS`, then torch's own cache."""
    named = [Path(part) for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    return [*named, Path(torch.hub.get_dir()) / "checkpoints"]


def find_weights(patterns: Sequence[str]) -> Path | None:
    """The first file that fits one of the glob patterns; folders count before patterns, names in alphabetical order."""
    for folder in weight_folders():
        for pattern in patterns:
            fitting = sorted(path for path in folder.glob(pattern) if path.is_file())
            if fitting:
                return fitting[0]
    return None


def where_to_put(file_name: str) -> str:
    """What to tell a user who lacks a weight file."""
    return f"put {file_name} into a folder named by {FOLDERS_VARIABLE}, or into {weight_folders()[-1]}"


def load_weights(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The tensors named by `shapes`, as float32 on the CPU; further tensors in the file are left out.

    Raises ModelError where the file cannot be read, or a tensor is missing, of another shape or not finite.
    """
    stored = _read(path)
    for name, shape in shapes.items():
        found = stored.get(name)
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"{path} lacks the tensor {name}, so it holds another network; replace it")
        if found.shape != shape:
            raise ModelError(f"{path}: {name} is {tuple(found.shape)}, expected {tuple(shape)}; replace the file")
        if not torch.isfinite(found).all():
            raise ModelError(f"{path}: {name} holds values that are not finite; replace the file")
    return {name: stored[name].float() for name in shapes}


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged or foreign file leads to depends on where its bytes go wrong.
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(stored, dict):
        raise ModelError(f"{path} holds a {type(stored).__name__}, expected a table of tensors (a state_dict)")
    return stored


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    return stored


def _unreadable(path: Path, error: Exception) -> ModelError:
    first_line = str(error).partition("\n")[0]
    return ModelError(f"{path} is not a readable weight file ({first_line}); replace it")
