"""How steady pictures are along the motion of their source, and how sharp.

The motion is estimated apart from the one that pictures are fused along, whose errors would hide
themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from vsr.image.motion import DIS_FAST, FloatArray, Motion, motion_between
from vsr.image.resample import resize

MIN_SOURCE_CHANGE = 1e-4
"""Of a range of 1. A source that changes less along its motion is a still picture, and nothing is a
share of it."""


def luma(picture: torch.Tensor) -> FloatArray:
    """BT.601 luma of float32 RGB (3, H, W), 0 to 1, as an array on the CPU."""
    red, green, blue = picture.unbind()
    array: FloatArray = (0.299 * red + 0.587 * green + 0.114 * blue).cpu().numpy()
    return array


def enlarged_luma(low: torch.Tensor, height: int, width: int) -> FloatArray:
    """Luma of the source (3, h, w), enlarged without detail of its own."""
    return luma(resize(low, height, width).clamp(0, 1))


def source_motion(now: FloatArray, before: FloatArray) -> Motion | None:
    """Motion between two lumas of the source; None where they are too small or show nothing in
    common."""
    motion = motion_between(_levels(now), _levels(before), DIS_FAST)
    return motion if motion is not None and motion.visible.any() else None


def change_along(motion: Motion, now: FloatArray, before: FloatArray) -> float:
    """Mean absolute change of luma along the motion where nothing is hidden."""
    return float(np.abs(motion.change(now, before))[motion.visible].mean())


def mean_gradient(plane: FloatArray) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return fmean(float(np.abs(np.diff(plane, axis=axis)).mean()) for axis in (0, 1))


def ratio_or_none(value: float, of: float) -> float | None:
    """`value` over `of`; None where there is next to nothing to be a share of."""
    return value / of if of > MIN_SOURCE_CHANGE else None


@dataclass(frozen=True, slots=True)
class FrameStatistics:
    """What one frame showed."""

    frame: int
    gradients: tuple[float, float]
    """Of what the upscaler made, and of what flicker control made of that."""
    changes: tuple[float, float, float] | None
    """Along the motion from the frame before: of the source, of what the upscaler made, and of what
    became of that."""


class TemporalStatistics:
    """Compares what an upscaler made of a shot with what flicker control made of that, on some of
    its frames."""

    def __init__(self, frame_statistics: list[FrameStatistics]) -> None:
        """What is observed is added to `frame_statistics`."""
        self._frame_statistics = frame_statistics
        self._before: tuple[FloatArray, FloatArray, FloatArray] | None = None

    def update(
        self, frame: int, low: torch.Tensor, plain: torch.Tensor, steadied: torch.Tensor
    ) -> None:
        """Measure a frame and, unless one was skipped in between, the change from the frame
        observed before it."""
        before = self._before
        now = self.set_previous(low, plain, steadied)
        motion = None if before is None else source_motion(now[0], before[0])
        changes = None
        if motion is not None and before is not None:
            source, *results = (
                change_along(motion, *pair) for pair in zip(now, before, strict=True)
            )
            changes = (source, results[0], results[1])
        self._frame_statistics.append(
            FrameStatistics(frame, (mean_gradient(now[1]), mean_gradient(now[2])), changes)
        )

    def set_previous(
        self, low: torch.Tensor, plain: torch.Tensor, steadied: torch.Tensor
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Take a frame as the one before the next, without measuring it."""
        self._before = (enlarged_luma(low, *plain.shape[-2:]), luma(plain), luma(steadied))
        return self._before

    def skip(self) -> None:
        """Pass over a frame."""
        self._before = None


def flicker_ratios(
    frame_statistics: Sequence[FrameStatistics],
) -> tuple[float | None, float | None]:
    """Change along the motion over that of the source: before flicker control, and after."""
    changes = [entry.changes for entry in frame_statistics if entry.changes is not None]
    if not changes:
        return None, None
    source, before, after = (fmean(column) for column in zip(*changes, strict=True))
    return ratio_or_none(before, source), ratio_or_none(after, source)


def sharpness_kept(frame_statistics: Sequence[FrameStatistics]) -> float | None:
    """Mean gradient after flicker control over that before it."""
    before = sum(entry.gradients[0] for entry in frame_statistics)
    return ratio_or_none(sum(entry.gradients[1] for entry in frame_statistics), before)


def _levels(plane: FloatArray) -> np.ndarray:
    levels: np.ndarray = np.rint(plane * 255).astype(np.uint8)
    return levels
