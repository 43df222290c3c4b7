"""The view that a metric has of a clip: one frame of a result, what it is compared with, and the
same one frame earlier.

Everything derived (luma, motion) is worked out when first asked for and shared by all metrics.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.image.dense_motion import Motion, motion_between
from vsr.image.motion import DIS_MEDIUM, FloatArray, GrayArray, farneback_flow
from vsr.image.resample import resize

Scalar = TypeVar("Scalar", np.float32, np.bool_, np.uint8)
_Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class MetricImage:
    """Pixels that are only ever read, with their luma."""

    pixels: torch.Tensor
    """float32 RGB, (3, H, W), values in [0, 1]."""
    uncropped: torch.Tensor
    """The whole picture (3, H', W') from which the common part was cut."""

    @cached_property
    def luma(self) -> torch.Tensor:
        """BT.601 luma in grey levels 16..235, not rounded, float32 (H, W)."""
        # MATLAB's rgb2ycbcr, by whose luma papers on super-resolution report.
        red, green, blue = self.pixels.unbind()
        return (65.481 * red).add_(green, alpha=128.553).add_(blue, alpha=24.966).add_(16)

    @cached_property
    def luma_array(self) -> FloatArray:
        """`luma` as an array on the CPU."""
        array: FloatArray = self.luma.cpu().numpy()
        return array

    @cached_property
    def gray_bytes(self) -> GrayArray:
        """Full-range BT.601 grey, 0..255, rounded."""
        # From the luma that is there already, stretched to the full range.
        gray = (self.luma_array - 16) * np.float32(255 / 219)
        rounded: GrayArray = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
        return rounded


@dataclass(frozen=True)
class MotionEstimate:
    """The way in which a metric's motion is estimated."""

    preset: int = DIS_MEDIUM
    """Preset of the flow."""
    stays_on_device: bool = False
    """Whether it is estimated where the pictures lie. Else the CPU does it, by which all devices
    give one figure."""

    def between(self, now: torch.Tensor, before: torch.Tensor) -> Motion | None:
        """Motion from `now` back to `before`, lumas (H, W) in gray levels, on their device; None
        where there is none to estimate."""
        if self.stays_on_device:
            return motion_between(now, before, self.preset)
        motion = motion_between(now.cpu(), before.cpu(), self.preset)
        return None if motion is None else motion.to(now.device)


@dataclass(frozen=True, eq=False)
class FramePair:
    """A picture of a clip and the one before it, with the motion between them. It holds no more
    than these two."""

    current: MetricImage
    previous: MetricImage | None = None
    """None on the first frame."""
    estimate: MotionEstimate = MotionEstimate()
    _changes: dict[Motion, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def motion(self) -> Motion | None:
        """Motion from this picture back to the one before by DIS flow; None where there is none to
        estimate."""
        if self.previous is None:
            return None
        return self.estimate.between(self.current.luma, self.previous.luma)

    @cached_property
    def motion_forward(self) -> Motion | None:
        """Motion from the picture before to this one, and the pixels of the one before that can be
        trusted; None where there is none to estimate."""
        if self.previous is None:
            return None
        return self.estimate.between(self.previous.luma, self.current.luma)

    @cached_property
    def farneback(self) -> FloatArray | None:
        """Farneback's flow from the picture before to this one, (H, W, 2) in pixels."""
        return (
            None
            if self.previous is None
            else farneback_flow(self.previous.gray_bytes, self.current.gray_bytes)
        )

    def luma_change(self, motion: Motion) -> torch.Tensor:
        """Return Y_t - W(Y_t-1) in grey levels, (H, W), along a given motion."""
        assert self.previous is not None, "a change needs a picture before"
        # Flicker and warping error ask for the same change.
        if motion not in self._changes:
            self._changes[motion] = motion.change(self.current.luma, self.previous.luma)
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
        """The pair that motion is taken from: the truth's, without one the enlarged input's."""
        reference = self.truth or self.enlarged
        assert reference is not None, "the metric asked for a truth or a low-resolution input"
        return reference

    def rgb_pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return result and truth without the border, each float32 RGB (3, H, W) in [0, 1]."""
        assert self.truth is not None, "the metric asked for a truth"
        return self.inner(self.result.current.pixels), self.inner(self.truth.current.pixels)

    def luma_pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the luma of result and truth without the border, each float32 (H, W), 16..235."""
        assert self.truth is not None, "the metric asked for a truth"
        return self.inner(self.result.current.luma), self.inner(self.truth.current.luma)

    def inner(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (..., H, W) without the border."""
        height, width = planes.shape[-2:]
        return planes[..., self.border : height - self.border, self.border : width - self.border]

    def inner_array(self, planes: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return (H, W) without the border."""
        height, width = planes.shape
        return planes[self.border : height - self.border, self.border : width - self.border]


class FramePairCache:
    """Pairs of truth and enlarged input that several results are compared with, each made once, so
    that its motion is estimated once."""

    def __init__(self, capacity: int = 4) -> None:
        """Keep that many pairs: truth and enlarged input of one time, cropped in two ways."""
        self._capacity = capacity
        self._enlarged: OrderedDict[_Key, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._pairs: OrderedDict[_Key, FramePair] = OrderedDict()

    def enlarge(self, low_resolution: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return (3, h, w) enlarged by `vsr.image.resample.resize` and clamped to [0, 1]."""
        key = (*_tensor_key(low_resolution), height, width)
        if key not in self._enlarged:
            # The key is a place in memory: keeping the tensor keeps the place from other tensors.
            enlarged = resize(low_resolution, height, width).clamp(0, 1)
            self._remember(self._enlarged, key, (low_resolution, enlarged))
            return enlarged
        return self._enlarged[key][1]

    def pair(
        self,
        pixels: torch.Tensor,
        uncropped: torch.Tensor,
        previous: MetricImage | None,
        estimate: MotionEstimate,
    ) -> FramePair:
        """Return the pair of these pixels (3, H, W) and the picture before them."""
        # By identity: a pair holds the picture before, so that no other can get its number.
        key = (*_tensor_key(pixels), *_tensor_key(uncropped), id(previous), estimate)
        if key not in self._pairs:
            pair = FramePair(MetricImage(pixels, uncropped), previous, estimate)
            self._remember(self._pairs, key, pair)
            return pair
        return self._pairs[key]

    def _remember(self, known: OrderedDict[_Key, Any], key: _Key, value: Any) -> None:
        known[key] = value
        if len(known) > self._capacity:
            known.popitem(last=False)


def _tensor_key(pixels: torch.Tensor) -> _Key:
    return pixels.data_ptr(), pixels.device, pixels.shape, pixels.stride()
