"""How steady pictures are along the motion of their source, and how sharp.

The motion is estimated apart from the one that pictures are fused along, whose errors would hide themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from vsr.image.motion import DIS_FAST, FloatArray, Motion, motion_between
from vsr.image.resample import resize

LEAST_CHANGE = 1e-4
"""Of a range of 1. A source that changes less along its motion is a still picture, and nothing is a share of it."""


def luma(picture: torch.Tensor) -> FloatArray:
    """BT.601 luma of float32 RGB (3, H, W), 0 to 1, as an array on the CPU."""
    red, green, blue = picture.unbind()
    array: FloatArray = (0.299 * red + 0.587 * green + 0.114 * blue).cpu().numpy()
    return array


def enlarged_luma(low: torch.Tensor, height: int, width: int) -> FloatArray:
    """Luma of the source (3, h, w), enlarged without detail of its own."""
    return luma(resize(low, height, width).clamp(0, 1))


def source_motion(now: FloatArray, before: FloatArray) -> Motion | None:
    """Motion between two lumas of the source; None where they are too small or show nothing in common."""
    motion = motion_between(_levels(now), _levels(before), DIS_FAST)
    return motion if motion is not None and motion.visible.any() else None


def change_along(motion: Motion, now: FloatArray, before: FloatArray) -> float:
    """Mean absolute change of luma along the motion where nothing is hidden."""
    return float(np.abs(motion.change(now, before))[motion.visible].mean())


def gradient(plane: FloatArray) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return fmean(float(np.abs(np.diff(plane, axis=axis)).mean()) for axis in (0, 1))


def share(value: float, of: float) -> float | None:
    """`value` over `of`; None where there is next to nothing to be a share of."""
    return value / of if of > LEAST_CHANGE else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one frame showed."""

    frame: int
    gradients: tuple[float, float]
    """Of what the upscaler made, and of what flicker control made of that."""
    changes: tuple[float, float, float] | None
    """Along the motion from the frame before: of the source, of what the upscaler made, and of what became of that."""


class Gauge:
    """Compares what an upscaler made of a shot with what flicker control made of that, on some of its frames."""

    def __init__(self, readings: list[Reading]) -> None:
        """What is observed is added to `readings`."""
        self._readings = readings
        self._before: tuple[FloatArray, FloatArray, FloatArray] | None = None

    def observe(self, frame: int, low: torch.Tensor, plain: torch.Tensor, steadied: torch.Tensor) -> None:
        """Measure a frame and, unless one was skipped in between, the change from the frame observed before it."""
        before = self._before
        now = self.remember(low, plain, steadied)
        motion = None if before is None else source_motion(now[0], before[0])
        changes = None
        if motion is not None and before is not None:
            source, *results = (change_along(motion, *pair) for pair in zip(now, before, strict=True))
            changes = (source, results[0], results[1])
        self._readings.append(Reading(frame, (gradient(now[1]), gradient(now[2])), changes))

    def remember(
        self, low: torch.Tensor, plain: torch.Tensor, steadied: torch.Tensor
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Take a frame as the one before the next, without measuring it."""
        self._before = (enlarged_luma(low, *plain.shape[-2:]), luma(plain), luma(steadied))
        return self._before

    def skip(self) -> None:
        """Pass over a frame."""
        self._before = None


def flicker_of(readings: Sequence[Reading]) -> tuple[float | None, float | None]:
    """Change along the motion over that of the source: before flicker control, and after."""
    changes = [reading.changes for reading in readings if reading.changes is not None]
    if not changes:
        return None, None
    source, before, after = (fmean(column) for column in zip(*changes, strict=True))
    return share(before, source), share(after, source)


def sharpness_kept(readings: Sequence[Reading]) -> float | None:
    """Mean gradient after flicker control over that before it."""
    before = sum(reading.gradients[0] for reading in readings)
    return share(sum(reading.gradients[1] for reading in readings), before)


def _levels(plane: FloatArray) -> np.ndarray:
    levels: np.ndarray = np.rint(plane * 255).astype(np.uint8)
    return levels
