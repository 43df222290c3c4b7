"""Report of a training on a data set, and checks of the name that its network gets."""

import os
from dataclasses import dataclass
from pathlib import Path

from vsr.errors import OutputError
from vsr.files import MAX_NAME_BYTES


@dataclass(frozen=True)
class DatasetReport:
    """The outcome of `train`."""

    file: str
    method: str
    steps: int
    resumed_at_step: int
    pictures: int
    seconds: float
    """Duration of this run of the command."""
    loss_curve: list[float]
    """Distance from the truth over windows of steps."""
    validation: list[dict[str, float]]


def check_output_path(output: Path) -> None:
    """Raise `OutputError`, before any work, where a network of this name could not be written."""
    if output.suffix != ".safetensors":
        raise OutputError(
            f"cannot write a network to {output}: expected a name that ends in .safetensors."
        )
    if len(os.fsencode(output.name)) > MAX_NAME_BYTES:
        raise OutputError(
            f"cannot write {output}: its name has more than {MAX_NAME_BYTES} bytes. Choose another."
        )
    folder = output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"cannot write {output}: its folder is missing or read-only. Choose another place."
        )


def check_overwrite(output: Path, overwrite: bool) -> None:
    """Raise `OutputError` where something has the output's name already."""
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give -y to replace it, or name another file.")
