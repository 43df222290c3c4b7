"""Motion between two frames as tensors, on the device where they lie: optical flow, occlusion, and
warping. On a CPU OpenCV does the work (`vsr.image.motion`), elsewhere torch.

A flow F from picture a to picture b is float32 (2, H, W), x before y, in pixels: what is at p in a
is at p + F(p) in b. Flow is never taken from a picture under test: that would hide its flicker.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vsr.image import motion as opencv
from vsr.image.motion import (
    DIS_MEDIUM,
    FLOW_REFINEMENTS,
    MIN_SIDE_PX,
    FloatArray,
)
from vsr.image.pyramid_flow import (
    add_own_positions,
    filter_both_ways,
    pyramid_flow,
    resize_bilinear,
    sample_planes,
    window_mean,
)

INVERSION_ROUNDS = 4
MIN_AREA = 0.8
"""Least area, over its own, that a pixel is mapped to where a flow is trusted; the largest is the
inverse. With .6 a taxi that drives by left a rim: LPIPS .0527 in place of .0497."""
BORDER_PX = 1e-3
"""A flow that stands still to within rounding leads to no place outside the picture."""


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion from a frame back to the one before it, and where it can be trusted."""

    flow: torch.Tensor
    """Flow from the frame to the one before, (2, H, W)."""
    visible: torch.Tensor
    """(H, W): true where the pixel is seen in both frames (see `visible_mask`)."""

    @cached_property
    def positions(self) -> torch.Tensor:
        """Where the flow leads, (2, H, W)."""
        return sample_positions(self.flow)

    def change(self, now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Difference along the motion: now - W(before). Pictures are (H, W) or (C, H, W)."""
        planes = before if before.dim() == 3 else before[None]
        return now - sample(planes, self.positions).view_as(before)

    def to(self, device: torch.device) -> "Motion":
        """Bring the motion to a device."""
        if self.flow.device == device:
            return self
        return Motion(self.flow.to(device), self.visible.to(device))


def motion_between(
    now: torch.Tensor, before: torch.Tensor, preset: int = DIS_MEDIUM
) -> Motion | None:
    """Motion from `now` back to `before`, gray pictures (H, W) of 0 to 255; None for pictures too
    small for it (below `MIN_SIDE_PX`)."""
    if min(now.shape) < MIN_SIDE_PX:
        return None
    flow = preset_flow(now, before, preset)
    return Motion(flow, visible_mask(flow, preset_flow(before, now, preset)))


def preset_flow(source: torch.Tensor, target: torch.Tensor, preset: int) -> torch.Tensor:
    """Estimate the flow from `source` to `target`, gray pictures (H, W) of 0 to 255; on a CPU as
    finely as a preset of OpenCV's does, elsewhere down to single pixels."""
    if _on_cpu(source):
        return flow_planes(opencv.dis_flow(_levels(source), _levels(target), preset))
    return pyramid_flow(source, target, FLOW_REFINEMENTS)


def fine_flow(
    source: torch.Tensor, target: torch.Tensor, refinements: int = FLOW_REFINEMENTS
) -> torch.Tensor:
    """Estimate the flow from `source` to `target`, gray pictures (H, W) of 0 to 255, down to single
    pixels: for pictures small enough to afford it."""
    if _on_cpu(source):
        return flow_planes(opencv.fine_flow(_levels(source), _levels(target), refinements))
    return pyramid_flow(source, target, refinements)


def flow_planes(flow: FloatArray) -> torch.Tensor:
    """Turn OpenCV's flow (H, W, 2) into planes (2, H, W), on which all work is several times as
    fast."""
    return torch.from_numpy(np.stack(cv2.split(flow)))


def compose_flows(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Flow from picture a to c, made of those from a to b and from b to c."""
    return first + sample(second, sample_positions(first))


def invert_flow(flow: torch.Tensor) -> torch.Tensor:
    """Flow G from picture b to a, made of F from a to b, as the fixed point of G(q) = -F(q + G(q)).

    It means nothing where b shows what a does not; see `unfolded_mask`.
    """
    ahead = -flow
    back = ahead
    for _ in range(INVERSION_ROUNDS):
        back = sample(ahead, sample_positions(back))
    return back


def unfolded_mask(flow: torch.Tensor) -> torch.Tensor:
    """Pixels around which `flow` keeps areas by and large, (H, W).

    Where something comes into view or is hidden, a flow that was inverted lays many pixels on few
    or few on many. There and back again shows none of that: an inverted flow always returns.
    """
    # The determinant of p -> p + F(p), by central differences.
    by_x, by_y = torch.zeros_like(flow), torch.zeros_like(flow)
    torch.sub(flow[..., 2:], flow[..., :-2], out=by_x[..., 1:-1]).mul_(0.5)
    torch.sub(flow[:, 2:], flow[:, :-2], out=by_y[:, 1:-1]).mul_(0.5)
    area = (1 + by_x[0]) * (1 + by_y[1]) - by_y[0] * by_x[1]
    folded = (area < MIN_AREA) | (area > 1 / MIN_AREA)
    if _on_cpu(flow):
        grown = cv2.dilate(folded.view(torch.uint8).numpy(), np.ones((3, 3), np.uint8))
        return torch.from_numpy(grown) == 0
    return F.max_pool2d(folded[None].float(), 3, stride=1, padding=1)[0] == 0


def visible_mask(flow: torch.Tensor, flow_back: torch.Tensor) -> torch.Tensor:
    """Pixels of the frame that `flow` starts from which the other frame shows as well, (H, W).

    Left out, after Sundaram et al. (2010): where `flow` and `flow_back` disagree, motion boundaries
    (forward differences), and pixels whose target leaves the picture. Thresholds are on squared
    magnitudes, in px^2.
    """
    steepness = torch.zeros_like(flow[0])
    for plane in flow:
        steepness[:, :-1] += (plane[:, 1:] - plane[:, :-1]).square_()
        steepness[:-1] += (plane[1:] - plane[:-1]).square_()
    # Thresholds of Sundaram et al.: a relative part for fast motion, an absolute one for none.
    smooth = steepness <= 0.01 * _squared_length(flow) + 0.002
    return smooth & forward_backward_mask(flow, flow_back)


def forward_backward_mask(
    flow: torch.Tensor, flow_back: torch.Tensor, tolerance_px: float = 0.5**0.5
) -> torch.Tensor:
    """Pixels that `flow` takes inside the other frame and `flow_back` brings back to where they
    were, (H, W).

    `tolerance_px` is how far off they may be where nothing moves; it grows with the motion.
    """
    positions = sample_positions(flow)
    # There and back again should end where it began.
    returned = sample(flow_back, positions)
    lengths = _squared_length(flow) + _squared_length(returned)
    returning = _squared_length(flow + returned) <= 0.01 * lengths + tolerance_px**2
    for places, side in zip(positions, reversed(flow.shape[-2:]), strict=True):
        returning &= (places >= -BORDER_PX) & (places <= side - 1 + BORDER_PX)
    return returning


def sample_positions(flow: torch.Tensor) -> torch.Tensor:
    """Where each pixel's content is in the picture that `flow` leads to: columns and rows,
    (2, H, W)."""
    return add_own_positions(flow.clone())


def sample_positions_at(flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """`sample_positions` in pictures of another size: the flow is resized bilinearly, its lengths
    along with it."""
    positions = enlarge(flow, height, width)
    positions[0] *= width / flow.shape[-1]
    positions[1] *= height / flow.shape[-2]
    return add_own_positions(positions)


def sample(planes: torch.Tensor, positions: torch.Tensor, *, bicubic: bool = False) -> torch.Tensor:
    """The values of `planes` (C, H, W) at positions (2, H', W'), bilinear or bicubic, borders
    clamped."""
    if not _on_cpu(planes):
        return sample_planes(planes, positions, "bicubic" if bicubic else "bilinear")
    columns, rows = positions.numpy()
    interpolation = opencv.BICUBIC if bicubic else opencv.BILINEAR
    return torch.from_numpy(opencv.sample(planes.numpy(), (columns, rows), interpolation))


def enlarge(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize (C, h, w) bilinearly to (C, height, width), a new tensor."""
    if not _on_cpu(planes):
        return resize_bilinear(planes, height, width)
    enlarged = planes.new_empty(len(planes), height, width)
    # Plane by plane: twice as fast as all together.
    for plane, into in zip(planes.numpy(), enlarged.numpy(), strict=True):
        cv2.resize(plane, (width, height), dst=into, interpolation=cv2.INTER_LINEAR)
    return enlarged


def blur(planes: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Blur (C, H, W) by a Gaussian."""
    if _on_cpu(planes):
        blurred = [cv2.GaussianBlur(plane, (0, 0), sigma_px) for plane in planes.numpy()]
        return torch.from_numpy(np.stack(blurred))
    return filter_both_ways(planes, _gaussian(sigma_px, planes.device))


def box_mean(planes: torch.Tensor, window_px: int) -> torch.Tensor:
    """Mean of (C, H, W) over windows of an odd side; what lies beyond the border is like what lies
    at it."""
    if not _on_cpu(planes):
        return window_mean(planes, window_px)
    means = [
        cv2.blur(plane, (window_px, window_px), borderType=cv2.BORDER_REFLECT)
        for plane in planes.numpy()
    ]
    return torch.from_numpy(np.stack(means))


@lru_cache(maxsize=16)
def _gaussian(sigma_px: float, device: torch.device) -> torch.Tensor:
    # As far as OpenCV looks.
    reach = round(4 * sigma_px)
    with torch.inference_mode(False):
        distances = torch.arange(-reach, reach + 1, dtype=torch.float32)
        weights = torch.exp(-(distances**2) / (2 * sigma_px**2))
        return (weights / weights.sum()).to(device)


def _levels(gray: torch.Tensor) -> opencv.GrayArray:
    levels: opencv.GrayArray = (gray if gray.dtype == torch.uint8 else gray.round().byte()).numpy()
    return levels


def _on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu"


def _squared_length(flow: torch.Tensor) -> torch.Tensor:
    return (flow[0] * flow[0]).addcmul_(flow[1], flow[1])
