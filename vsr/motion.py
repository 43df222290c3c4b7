"""Motion between two frames: optical flow, what it hides, and warping along it, by OpenCV.

A flow F from picture a to picture b is float32 (H, W, 2), x before y, in pixels: what is at p in a is at p + F(p) in b.
Grey pictures are uint8 (H, W). Flow is never taken from a picture under test: that would hide its flicker.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
GreyArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

DIS_ULTRAFAST: int = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
DIS_FAST: int = cv2.DISOPTICAL_FLOW_PRESET_FAST
DIS_MEDIUM: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
MIN_SIDE_PX = 12
"""Below this OpenCV's DIS flow refuses a picture."""
BILINEAR: int = cv2.INTER_LINEAR
BICUBIC: int = cv2.INTER_CUBIC
"""Keys' cubic with a = -0.75: blurs least of what OpenCV does fast."""


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion from a frame back to the one before it, and where it can be trusted."""

    flow: FloatArray
    """Flow from the frame to the one before, (H, W, 2)."""
    visible: BoolArray
    """(H, W): true where the pixel is seen in both frames (see `visible_mask`)."""

    @cached_property
    def kept_share(self) -> float:
        """Share of pixels that are visible in both frames, 0 to 1."""
        return float(self.visible.mean())

    def change(self, now: FloatArray, before: FloatArray) -> FloatArray:
        """What changed along the motion: now - W(before). Pictures are (H, W) or (C, H, W)."""
        return np.subtract(now, backward_warp(before, self.flow))


def motion_between(now: GreyArray, before: GreyArray, preset: int = DIS_MEDIUM) -> Motion | None:
    """Motion from `now` back to `before` by DIS flow; None for pictures too small for it (below `MIN_SIDE_PX`)."""
    if min(now.shape) < MIN_SIDE_PX:
        return None
    flow = dis_flow(now, before, preset)
    return Motion(flow, visible_mask(flow, dis_flow(before, now, preset)))


def dis_flow(source: GreyArray, target: GreyArray, preset: int = DIS_MEDIUM) -> FloatArray:
    """Dense inverse search flow (Kroeger et al., 2016) from `source` to `target`."""
    flow: FloatArray = cv2.DISOpticalFlow.create(preset).calc(source, target, None)
    return flow


def fine_flow(source: GreyArray, target: GreyArray) -> FloatArray:
    """DIS flow down to single pixels, which its presets leave out: for pictures small enough to afford it.

    Patches lie wider apart and are moved less often than in `DIS_FAST`; the refinement that follows makes up for it.
    """
    flow_engine = cv2.DISOpticalFlow.create(DIS_FAST)
    flow_engine.setFinestScale(0)
    flow_engine.setPatchStride(6)
    flow_engine.setGradientDescentIterations(8)
    flow: FloatArray = flow_engine.calc(source, target, None)
    return flow


def farneback_flow(source: GreyArray, target: GreyArray) -> FloatArray:
    """Farneback's flow from `source` to `target`, with the parameters that tOF is defined by (method-spec 7.3)."""
    return np.asarray(
        cv2.calcOpticalFlowFarneback(
            source,
            target,
            None,
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        ),
        dtype=np.float32,
    )


def enlarge_flow(flow: FloatArray, height: int, width: int) -> FloatArray:
    """The same motion on a picture of another size: resized bilinearly, its lengths along with it."""
    ratios = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    enlarged: FloatArray = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * ratios
    return enlarged


def backward_warp(image: FloatArray, flow: FloatArray, interpolation: int = BILINEAR) -> FloatArray:
    """Bring `image` onto the frame that `flow` starts from: W(p) = image(p + flow(p)), borders clamped.

    `image` is float32 (H, W) or (C, H, W); a new array of the same shape is returned.
    """
    height, width = flow.shape[:2]
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    # Plane by plane: OpenCV rounds positions to 1/32 px for two channels and for more than four.
    planes = image.reshape(-1, *image.shape[-2:])
    warped = [cv2.remap(plane, columns, rows, interpolation, borderMode=cv2.BORDER_REPLICATE) for plane in planes]
    return np.stack(warped).astype(np.float32, copy=False).reshape(*image.shape[:-2], height, width)


def visible_mask(flow: FloatArray, flow_back: FloatArray) -> BoolArray:
    """Pixels of the frame that `flow` starts from which the other frame shows as well, (H, W).

    Left out, after Sundaram et al. (2010): where `flow` and `flow_back` disagree, motion boundaries (forward
    differences), and pixels whose target leaves the picture. Thresholds are on squared magnitudes, in px^2.
    """
    across, down = flow[..., 0].copy(), flow[..., 1].copy()
    boundary = _squared_gradient(across) + _squared_gradient(down) > 0.01 * (across**2 + down**2) + 0.002
    visible: BoolArray = returning_mask(flow, flow_back) & ~boundary
    return visible


def returning_mask(flow: FloatArray, flow_back: FloatArray, tolerance_px: float = 0.5**0.5) -> BoolArray:
    """Pixels that `flow` takes inside the other frame and `flow_back` brings back to where they were, (H, W).

    `tolerance_px` is how far off they may be where nothing moves; it grows with the motion.
    """
    across, down = flow[..., 0], flow[..., 1]
    returned_across, returned_down = backward_warp(np.stack([flow_back[..., 0], flow_back[..., 1]]), flow)
    lengths = across**2 + down**2 + returned_across**2 + returned_down**2
    disagreement = (across + returned_across) ** 2 + (down + returned_down) ** 2
    returning: BoolArray = (disagreement <= 0.01 * lengths + tolerance_px**2) & _stays_inside(flow)
    return returning


def _squared_gradient(plane: FloatArray) -> FloatArray:
    """Sum of the squared forward differences to the right and below; zero past the last column and row."""
    squared = np.zeros_like(plane)
    squared[:, :-1] = (plane[:, 1:] - plane[:, :-1]) ** 2
    squared[:-1] += (plane[1:] - plane[:-1]) ** 2
    return squared


def _stays_inside(flow: FloatArray) -> BoolArray:
    height, width = flow.shape[:2]
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside: BoolArray = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
    return inside
