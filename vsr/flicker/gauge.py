"""How steady pictures are along the motion of their source, and how sharp.

The motion is estimated apart from the one that pictures are fused along, whose errors would hide themselves.
"""

from statistics import fmean

import numpy as np
import torch

from vsr.motion import DIS_FAST, FloatArray, Motion, motion_between
from vsr.resample import resize

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


class Gauge:
    """Compares what an upscaler made of a shot with what flicker control made of that, on some of its frames."""

    def __init__(self) -> None:
        self._before: tuple[FloatArray, FloatArray, FloatArray] | None = None
        self._changes: list[tuple[float, float, float]] = []
        self._gradients: list[tuple[float, float]] = []

    def observe(self, low: torch.Tensor, plain: torch.Tensor, steadied: torch.Tensor) -> None:
        """Measure a frame and, unless one was skipped in between, the change from the frame observed before it."""
        now = (enlarged_luma(low, *plain.shape[-2:]), luma(plain), luma(steadied))
        self._gradients.append((gradient(now[1]), gradient(now[2])))
        motion = None if self._before is None else source_motion(now[0], self._before[0])
        if motion is not None and self._before is not None:
            source, *results = (change_along(motion, *pair) for pair in zip(now, self._before, strict=True))
            self._changes.append((source, results[0], results[1]))
        self._before = now

    def skip(self) -> None:
        """Pass over a frame."""
        self._before = None

    def flicker(self) -> tuple[float | None, float | None]:
        """Change along the motion over that of the source: before flicker control, and after."""
        if not self._changes:
            return None, None
        source, before, after = (fmean(column) for column in zip(*self._changes, strict=True))
        return share(before, source), share(after, source)

    def sharpness_kept(self) -> float | None:
        """Mean gradient after flicker control over that before it."""
        before = sum(pair[0] for pair in self._gradients)
        return share(sum(pair[1] for pair in self._gradients), before)


def _levels(plane: FloatArray) -> np.ndarray:
    levels: np.ndarray = np.rint(plane * 255).astype(np.uint8)
    return levels
