"""What a metric looks at: one frame of a result, what it is compared with, and the same one frame
earlier.

Everything derived (luma, motion) is worked out when first asked for and shared by all metrics.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.image.motion import (
    DIS_MEDIUM,
    FloatArray,
    GrayArray,
    Motion,
    farneback_flow,
    motion_between,
)

MAX_CROP_PX = 7
Scalar = TypeVar("Scalar", np.float32, np.bool_, np.uint8)


@dataclass(frozen=True, eq=False)
class MetricImage:
    """Pixels that are only ever read, with their luma."""

    pixels: torch.Tensor
    """float32 RGB, (3, H, W), values in [0, 1]."""
    uncropped: torch.Tensor
    """The same before it was cropped to the common size, (3, H', W')."""

    @cached_property
    def luma(self) -> torch.Tensor:
        """BT.601 luma in grey levels 16..235, not rounded, float32 (H, W)."""
        red, green, blue = self.pixels.unbind()
        return (65.481 * red).add_(green, alpha=128.553).add_(blue, alpha=24.966).add_(16)

    @cached_property
    def luma_array(self) -> FloatArray:
        """`luma` as an array on the CPU."""
        array: FloatArray = self.luma.cpu().numpy()
        return array

    @cached_property
    def luma_bytes(self) -> GrayArray:
        """`luma` rounded to whole grey levels."""
        return np.rint(self.luma_array).astype(np.uint8)

    @cached_property
    def gray_bytes(self) -> GrayArray:
        """Full-range BT.601 grey, 0..255, rounded."""
        gray = (self.luma_array - 16) * np.float32(255 / 219)
        rounded: GrayArray = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
        return rounded


@dataclass(frozen=True, eq=False)
class FramePair:
    """A picture of a clip and the one before it, with the motion between them. It holds no more
    than these two."""

    current: MetricImage
    previous: MetricImage | None = None
    """None on the first frame."""
    known_motion: Motion | None = None
    """The motion, where somebody has worked it out already."""
    flow_preset: int = DIS_MEDIUM
    """Of the flow that is estimated otherwise."""
    _changes: dict[Motion, FloatArray] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def motion(self) -> Motion | None:
        """Motion from this picture back to the one before by DIS flow; None where there is none to
        estimate."""
        if self.previous is None:
            return None
        return self.known_motion or motion_between(
            self.current.luma_bytes, self.previous.luma_bytes, self.flow_preset
        )

    @cached_property
    def farneback(self) -> FloatArray | None:
        """Farneback's flow from the picture before to this one."""
        return (
            None
            if self.previous is None
            else farneback_flow(self.previous.gray_bytes, self.current.gray_bytes)
        )

    def luma_change(self, motion: Motion) -> FloatArray:
        """Y_t - W(Y_t-1) in grey levels, (H, W), along a given motion."""
        assert self.previous is not None, "a change needs a picture before"
        if motion not in self._changes:
            self._changes[motion] = motion.change(self.current.luma_array, self.previous.luma_array)
        return self._changes[motion]


@dataclass(frozen=True, eq=False)
class Observation:
    """One frame of a result beside what it is compared with, all of one size and on one device."""

    result: FramePair
    truth: FramePair | None = None
    enlarged: FramePair | None = None
    """The low-resolution input, enlarged by `vsr.image.resample.resize` and clamped."""
    low_resolution: torch.Tensor | None = None
    """float32 RGB, (3, h, w)."""
    border: int = 0
    """Pixels on each side that no figure counts."""

    @property
    def reference(self) -> FramePair:
        """What motion is taken from: the truth, without one the enlarged input."""
        reference = self.truth or self.enlarged
        assert reference is not None, "the metric asked for a truth or a low-resolution input"
        return reference

    def inner(self, planes: torch.Tensor) -> torch.Tensor:
        """(..., H, W) without the border."""
        height, width = planes.shape[-2:]
        return planes[..., self.border : height - self.border, self.border : width - self.border]

    def inner_array(self, planes: NDArray[Scalar]) -> NDArray[Scalar]:
        """(H, W) without the border."""
        height, width = planes.shape
        return planes[self.border : height - self.border, self.border : width - self.border]
