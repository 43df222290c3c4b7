"""Blur kernels on disk: numbers as JSON, which training reads again, and pictures to look at."""

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vsr.errors import OutputError, UsageError
from vsr.files import write_atomically
from vsr.image.blur import (
    FACTOR,
    KernelTaps,
    bicubic_kernel,
    center_of_mass,
    kernel_of_factor,
    taps_to_tensor,
)

MAX_FILE_BYTES = 2**20
MAX_SIDE = 63
SUM_TOLERANCE = 1e-3
PANEL_PX = 296
"""Side of the drawing of one kernel."""
GAP_PX = 12


@dataclass(frozen=True)
class KernelRecord:
    """A kernel, and where it was found."""

    clip: str
    keyframe: int
    """Frame number, from 0."""
    seed: int
    factor: int
    """Of the reduction that the kernel belongs to."""
    kernel: KernelTaps
    basis: str
    """What the kernel rests on: bicubic, where no blur explains the picture clearly better; else
    spectrum or game."""
    mismatch: float
    bicubic_mismatch: float
    """Root mean square of the natural logarithm by which the powers of the picture and of its
    reduction differ; the first is that of the best Gaussian where the kernel is bicubic."""
    accuracy: tuple[float, ...]
    """Of the discriminator, over equal parts of the game: near 0.5 where it could not tell the two
    apart."""
    seconds: float

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def read_kernel(path: Path) -> KernelTaps:
    """The kernel of a JSON file: an object with `kernel` and `factor`, or the square alone.

    Raises `UsageError` for anything but a square of at most 63 finite numbers a side whose sum is
    1.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the kernel {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise UsageError(
            f"the kernel {path} is not JSON. Write one with: vsr kernel CLIP -o FILE.json, or use "
            "--kernel auto."
        ) from None
    factor = found.get("factor", FACTOR) if isinstance(found, dict) else FACTOR
    square: Any = found.get("kernel") if isinstance(found, dict) else found
    if factor != FACTOR:
        raise UsageError(
            f"the kernel {path} is for a factor of {factor!r}; expected one of {FACTOR}."
        )
    if problem := _problem(square):
        raise UsageError(
            f"the kernel {path} {problem}; expected a square of at most {MAX_SIDE} numbers a side, "
            "of sum 1."
        )
    return tuple(tuple(float(value) for value in row) for row in square)


def _problem(square: object) -> str:
    """What is wrong with the numbers of a file, or an empty text."""
    if not isinstance(square, list) or not 1 <= len(square) <= MAX_SIDE:
        return "has no square of numbers"
    if any(not isinstance(row, list) or len(row) != len(square) for row in square):
        return "is not square"
    values = [value for row in square for value in row]
    if any(type(value) not in (int, float) or not isfinite(value) for value in values):
        return "holds what is not a finite number"
    total = sum(values)
    return "" if abs(total - 1) <= SUM_TOLERANCE else f"has a sum of {total:.4g}"


def check_kernel_name(path: Path) -> None:
    """Raise `UsageError` unless the name's ending says how to write a kernel."""
    if path.suffix.lower() not in (".json", ".png"):
        raise UsageError(
            f"{path} is neither a .json nor a .png file; give the kernel one of these names."
        )


def write_kernel(record: KernelRecord, path: Path) -> None:
    """As JSON or, by the name's ending, as a PNG drawing. Raises `UsageError` or `OutputError`."""
    check_kernel_name(path)
    try:
        if path.suffix.lower() == ".json":
            write_atomically(path, record.to_json().encode() + b"\n")
        else:
            write_atomically(path, cv2.imencode(".png", draw_kernel(record.kernel))[1].tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.") from None


def kernel_summary(kernel: KernelTaps) -> str:
    """One line on how far and which way a kernel blurs, beside the bicubic one."""
    wide, narrow, degrees = _spread(taps_to_tensor(kernel))
    bicubic, _, _ = _spread(bicubic_kernel())
    return (
        f"blur kernel of {len(kernel)}x{len(kernel)} taps: standard deviation {wide:.2f} pixels at "
        f"{degrees:.0f} degrees and {narrow:.2f} across (bicubic {bicubic:.2f})"
    )


def _spread(kernel: torch.Tensor) -> tuple[float, float, float]:
    """Standard deviations along the wider and the narrower axis, and the wider one's angle, 0 to
    180 degrees.

    Of the positive taps alone: the others sharpen, and would make the spread of the bicubic kernel
    nought.
    """
    kernel = kernel.clamp_min(0) / kernel.clamp_min(0).sum()
    offsets = torch.arange(len(kernel)) - center_of_mass(kernel)[:, None]
    down, right = offsets[0][:, None], offsets[1][None, :]
    moments = [
        float((kernel * moment).sum()) for moment in (right * right, -down * right, down * down)
    ]
    values, axes = torch.linalg.eigh(
        torch.tensor([[moments[0], moments[1]], [moments[1], moments[2]]])
    )
    narrow, wide = (float(value.clamp_min(0).sqrt()) for value in values)
    angle = torch.rad2deg(torch.atan2(axes[1, 1], axes[0, 1]))
    return wide, narrow, float(angle) % 180


def draw_kernel(kernel: KernelTaps) -> np.ndarray:
    """A picture of the kernel, left for half the size, right for a quarter of it: BGR, 8 bits, (H,
    W, 3)."""
    half = taps_to_tensor(kernel)
    panels = [_panel(half), _panel(kernel_of_factor(half, FACTOR**2))]
    gap = np.full((PANEL_PX, GAP_PX, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1)


def _panel(kernel: torch.Tensor) -> np.ndarray:
    """One kernel, its least value dark and its largest bright, each tap a square of pixels."""
    values = kernel.clamp_min(0).numpy()
    levels = np.rint(255 * values / max(float(values.max()), 1e-12)).astype(np.uint8)
    tap = max(1, PANEL_PX // len(levels))
    drawn = cv2.applyColorMap(levels.repeat(tap, 0).repeat(tap, 1), cv2.COLORMAP_VIRIDIS)
    spare = PANEL_PX - len(drawn)
    before, after = spare // 2, spare - spare // 2
    return np.asarray(
        cv2.copyMakeBorder(
            drawn, before, after, before, after, cv2.BORDER_CONSTANT, value=(84, 1, 68)
        )
    )
