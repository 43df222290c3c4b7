"""Blur kernels on disk: numbers as JSON, which training reads again, and pictures to look at."""

from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vsr.errors import OutputError, UsageError
from vsr.files import strict_json, write_atomically
from vsr.image.blur import (
    FACTOR,
    KernelTaps,
    bicubic_kernel,
    center_of_mass,
    kernel_of_factor,
    taps_to_tensor,
)
from vsr.records import Origin, from_json

MAX_FILE_BYTES = 2**20
MAX_SIDE = 63
"""Taps of a side of a kernel."""
SUM_TOLERANCE = 1e-3
"""Largest difference of a kernel's sum from 1."""
PANEL_PX = 296
"""Side of the drawing of one kernel."""
GAP_PX = 12
"""Width between the drawings of two kernels."""


@dataclass(frozen=True)
class KernelRecord:
    """Kernel, and where it was found."""

    clip: str
    keyframe: int
    """Frame number, from 0."""
    seed: int
    factor: int
    """Factor of the reduction that the kernel belongs to."""
    kernel: KernelTaps
    basis: str
    """Source of the kernel: `bicubic`, where no blur explains the picture clearly better; else
    `spectrum`, or `game` for KernelGAN's adversarial training."""
    mismatch: float
    """Root mean square of the natural logarithm by which the powers of the picture and of its
    reduction through the kernel differ; that of the best Gaussian where the kernel is bicubic."""
    bicubic_mismatch: float
    """Mismatch of the bicubic kernel."""
    accuracy: tuple[float, ...]
    """Accuracy of the discriminator, over equal parts of the adversarial training: near 0.5 where
    it could not tell the two apart."""
    seconds: float

    def to_json(self) -> str:
        """Strict JSON."""
        return strict_json(asdict(self))


@dataclass(frozen=True)
class _KernelFile:
    """Part of a record that training reads; what else stands there is passed over."""

    kernel: KernelTaps
    factor: int = FACTOR

    def __post_init__(self) -> None:
        if self.factor != FACTOR:
            raise ValueError(f"factor is {self.factor}; expected {FACTOR}")
        if not {len(row) for row in self.kernel} == {len(self.kernel)} <= set(range(MAX_SIDE + 1)):
            raise ValueError(f"kernel is not a square of 1 to {MAX_SIDE} numbers a side")
        total = sum(map(sum, self.kernel))
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"kernel has a sum of {total:.4g}; expected 1")


def read_kernel(path: Path) -> KernelTaps:
    """Read the kernel of a JSON file: an object with `kernel` and `factor`, or the square alone.

    Raises `UsageError` for anything but a square of at most 63 finite numbers a side whose sum is
    1.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(
                f"the kernel {path} is larger than {MAX_FILE_BYTES} bytes; expected at most "
                f"{MAX_SIDE} numbers a side."
            )
        content = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"the kernel {path} cannot be read: {error.strerror}.") from None
    if content.startswith(b"["):
        content = b'{"kernel": ' + content + b"}"
    return from_json(_KernelFile, content, Origin(f"the kernel {path}", lenient=True)).kernel


def check_kernel_name(path: Path) -> None:
    """Raise `UsageError` unless the name's ending says how to write a kernel."""
    if path.suffix.lower() not in (".json", ".png"):
        raise UsageError(
            f"{path} is neither a .json nor a .png file; give the kernel one of these names."
        )


def write_kernel(record: KernelRecord, path: Path) -> None:
    """Write a record as JSON or, by the name's ending, its kernel as a PNG drawing. Raises
    `UsageError` or `OutputError`."""
    check_kernel_name(path)
    try:
        if path.suffix.lower() == ".json":
            write_atomically(path, record.to_json().encode() + b"\n")
        else:
            write_atomically(path, cv2.imencode(".png", draw_kernel(record.kernel))[1].tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.") from None


def kernel_summary(kernel: KernelTaps) -> str:
    """Describe in one line how far and which way a kernel blurs, beside the bicubic one."""
    wide, narrow, degrees = _spread(taps_to_tensor(kernel))
    bicubic, _, _ = _spread(bicubic_kernel())
    return (
        f"blur kernel of {len(kernel)}x{len(kernel)} taps: standard deviation {wide:.2f} pixels at "
        f"{degrees:.0f} degrees and {narrow:.2f} across (bicubic {bicubic:.2f})"
    )


def _spread(kernel: torch.Tensor) -> tuple[float, float, float]:
    """Measure the standard deviations, in pixels, along the wider and the narrower axis, and the
    wider one's angle, 0 to 180 degrees counter-clockwise."""
    # The positive taps alone: the others sharpen, and would make the bicubic kernel's spread zero.
    kernel = kernel.clamp_min(0) / kernel.clamp_min(0).sum()
    offsets = torch.arange(len(kernel)) - center_of_mass(kernel)[:, None]
    down, right = offsets[0][:, None], offsets[1][None, :]
    # Second moments about the center: the covariance matrix. Rows count downwards, angles upwards.
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
    """Draw the kernel, left for half the size, right for a quarter of it: BGR, 8 bits, (H, W,
    3)."""
    half = taps_to_tensor(kernel)
    panels = [_panel(half), _panel(kernel_of_factor(half, FACTOR**2))]
    gap = np.full((PANEL_PX, GAP_PX, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1)


def _panel(kernel: torch.Tensor) -> np.ndarray:
    """Draw one kernel, its least value dark and its largest bright, each tap a square of pixels."""
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
