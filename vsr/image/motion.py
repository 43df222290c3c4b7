"""Motion between two frames: optical flow, occlusion, and warping, by OpenCV.

A flow F from picture a to picture b is float32 (H, W, 2), x before y, in pixels: what is at p in a
is at p + F(p) in b. Gray pictures are uint8 (H, W). Flow is never taken from a picture under test:
that would hide its flicker.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
GrayArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
SamplePositions = tuple[FloatArray, FloatArray]
"""Columns and rows in another picture, (H, W) each, in pixels."""

DIS_FAST: int = cv2.DISOPTICAL_FLOW_PRESET_FAST
DIS_MEDIUM: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
MIN_SIDE_PX = 12
"""Below this OpenCV's DIS flow refuses a picture."""
MIN_FAST_SIDE_PX = 32
"""Below this `DIS_FAST`, which begins at a quarter of the size, may read beyond a small picture and
end the process (seen with 112x16)."""
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
    def targets(self) -> "SamplePositions":
        """Where the flow leads."""
        return sample_positions(self.flow)

    def change(self, now: FloatArray, before: FloatArray) -> FloatArray:
        """Difference along the motion: now - W(before). Pictures are (H, W) or (C, H, W)."""
        return np.subtract(now, sample(before, self.targets))


def motion_between(now: GrayArray, before: GrayArray, preset: int = DIS_MEDIUM) -> Motion | None:
    """Motion from `now` back to `before` by DIS flow; None for pictures too small for it (below
    `MIN_SIDE_PX`)."""
    if min(now.shape) < MIN_SIDE_PX:
        return None
    flow = dis_flow(now, before, preset)
    return Motion(flow, visible_mask(flow, dis_flow(before, now, preset)))


def dis_flow(source: GrayArray, target: GrayArray, preset: int = DIS_MEDIUM) -> FloatArray:
    """Dense inverse search flow (Kroeger et al., 2016) from `source` to `target`."""
    flow: FloatArray = cv2.DISOpticalFlow.create(preset).calc(source, target, None)
    return flow


FLOW_REFINEMENTS = 5
"""Variational refinements of a fine flow, as in OpenCV's presets. They take three quarters of its
time."""
INVERSION_ROUNDS = 4
MIN_AREA = 0.8
"""Least area, over its own, that a pixel is mapped to where a flow is trusted; the largest is the
inverse. With .6 a taxi that drives by left a rim: LPIPS .0527 in place of .0497."""


def fine_flow(
    source: GrayArray, target: GrayArray, refinements: int = FLOW_REFINEMENTS
) -> FloatArray:
    """DIS flow down to single pixels, which its presets leave out: for pictures small enough to
    afford it.

    Patches lie wider apart and are moved less often than in `DIS_FAST`; the refinement that follows
    makes up for it.
    """
    flow_engine = cv2.DISOpticalFlow.create(DIS_FAST)
    flow_engine.setFinestScale(0)
    flow_engine.setPatchStride(6)
    flow_engine.setGradientDescentIterations(8)
    flow_engine.setVariationalRefinementIterations(refinements)
    flow: FloatArray = flow_engine.calc(source, target, None)
    return flow


def farneback_flow(source: GrayArray, target: GrayArray) -> FloatArray:
    """Farneback's flow from `source` to `target`, with the parameters of tOF (Chu et al., TecoGAN,
    2020)."""
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


def compose_flows(first: FloatArray, second: FloatArray) -> FloatArray:
    """Flow from picture a to c, made of those from a to b and from b to c."""
    targets = sample_positions(first)
    onward = cv2.merge([sample(plane, targets) for plane in cv2.split(second)])
    composed: FloatArray = cv2.add(first, onward)
    return composed


def invert_flow(flow: FloatArray) -> FloatArray:
    """Flow G from picture b to a, made of F from a to b, as the fixed point of G(q) = -F(q + G(q)).

    It means nothing where b shows what a does not; see `unfolded_mask`.
    """
    ahead = cv2.split(cv2.multiply(flow, (-1.0, -1.0, 0.0, 0.0)))
    back: FloatArray = cv2.merge(ahead)
    for _ in range(INVERSION_ROUNDS):
        targets = sample_positions(back)
        back = cv2.merge([sample(plane, targets) for plane in ahead])
    return back


def unfolded_mask(flow: FloatArray) -> BoolArray:
    """Pixels around which `flow` keeps areas by and large, (H, W).

    Where something comes into view or is hidden, a flow that was inverted lays many pixels on few
    or few on many. There and back again shows none of that: an inverted flow always returns.
    """
    across, down = cv2.split(flow)
    # The determinant of p -> p + F(p), by central differences.
    x_by_x, x_by_y, y_by_x, y_by_y = (
        cv2.Sobel(plane, cv2.CV_32F, *axis, ksize=1, scale=0.5)
        for plane in (across, down)
        for axis in ((1, 0), (0, 1))
    )
    area = (1 + x_by_x) * (1 + y_by_y) - x_by_y * y_by_x
    folded = (area < MIN_AREA) | (area > 1 / MIN_AREA)
    kept: BoolArray = cv2.dilate(folded.view(np.uint8), np.ones((3, 3), np.uint8)) == 0
    return kept


def sample_positions_at(flow: FloatArray, height: int, width: int) -> SamplePositions:
    """`sample_positions` in pictures of another size: the flow is resized bilinearly, its lengths
    along with it."""
    starts = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    positions = []
    # Plane by plane: twice as fast as both together.
    for plane, start, ratio in zip(
        cv2.split(flow), starts, (width / flow.shape[1], height / flow.shape[0]), strict=True
    ):
        targets: FloatArray = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        targets *= np.float32(ratio)
        targets += start
        positions.append(targets)
    return positions[0], positions[1]


def backward_warp(image: FloatArray, flow: FloatArray, interpolation: int = BILINEAR) -> FloatArray:
    """Bring `image` onto the frame that `flow` starts from: W(p) = image(p + flow(p)), borders
    clamped.

    `image` is float32 (H, W) or (C, H, W); a new array of the same shape is returned.
    """
    return sample(image, sample_positions(flow), interpolation)


def sample_positions(flow: FloatArray) -> SamplePositions:
    """Where each pixel's content is in the picture that `flow` leads to."""
    height, width = flow.shape[:2]
    columns = np.add(flow[..., 0], np.arange(width, dtype=np.float32), dtype=np.float32)
    rows = np.add(flow[..., 1], np.arange(height, dtype=np.float32)[:, None], dtype=np.float32)
    return columns, rows


def sample(
    image: FloatArray, targets: SamplePositions, interpolation: int = BILINEAR
) -> FloatArray:
    """The values of `image` (H, W) or (C, H, W) at these places, borders clamped."""
    if image.ndim == 2:
        values: FloatArray = cv2.remap(
            image, *targets, interpolation, borderMode=cv2.BORDER_REPLICATE
        )
        return values
    if len(image) == 3:
        # At once: half the time of plane by plane, and the very same values.
        together = cv2.remap(
            cv2.merge([*image]), *targets, interpolation, borderMode=cv2.BORDER_REPLICATE
        )
        return np.ascontiguousarray(together.transpose(2, 0, 1))
    # OpenCV rounds positions to 1/32 px for two channels and for more than four.
    return np.stack([sample(plane, targets, interpolation) for plane in image])


def visible_mask(flow: FloatArray, flow_back: FloatArray) -> BoolArray:
    """Pixels of the frame that `flow` starts from which the other frame shows as well, (H, W).

    Left out, after Sundaram et al. (2010): where `flow` and `flow_back` disagree, motion boundaries
    (forward differences), and pixels whose target leaves the picture. Thresholds are on squared
    magnitudes, in px^2.
    """
    across, down = _planes(flow)
    steepness = np.zeros_like(across)
    for plane in (across, down):
        steepness[:, :-1] += _squared(plane[:, 1:] - plane[:, :-1])
        steepness[:-1] += _squared(plane[1:] - plane[:-1])
    # Thresholds of Sundaram et al.: a relative part for fast motion, an absolute one for none.
    smooth = steepness <= 0.01 * _squared_length(across, down) + 0.002
    smooth &= forward_backward_mask(flow, flow_back)
    return smooth


def forward_backward_mask(
    flow: FloatArray, flow_back: FloatArray, tolerance_px: float = 0.5**0.5
) -> BoolArray:
    """Pixels that `flow` takes inside the other frame and `flow_back` brings back to where they
    were, (H, W).

    `tolerance_px` is how far off they may be where nothing moves; it grows with the motion.
    """
    across, down = _planes(flow)
    targets = sample_positions(flow)
    # There and back again should end where it began.
    returned_across, returned_down = (sample(plane, targets) for plane in _planes(flow_back))
    lengths = _squared_length(across, down) + _squared_length(returned_across, returned_down)
    disagreement = _squared_length(across + returned_across, down + returned_down)
    returning: BoolArray = disagreement <= 0.01 * lengths + tolerance_px**2
    for positions, side in zip(targets, reversed(across.shape), strict=True):
        returning &= (positions >= 0) & (positions <= side - 1)
    return returning


def _planes(flow: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Its parts across and down, each in one piece, on which all work is several times as fast."""
    return flow[..., 0].copy(), flow[..., 1].copy()


def _squared_length(across: FloatArray, down: FloatArray) -> FloatArray:
    squared = across * across
    squared += down * down
    return squared


def _squared(values: FloatArray) -> FloatArray:
    """Square the values in place."""
    values *= values
    return values
