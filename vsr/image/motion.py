"""Optical flow and warping of arrays in main memory, by OpenCV. `vsr.image.dense_motion` has the
same, and more, for tensors on any device.

A flow F from picture a to picture b is float32 (H, W, 2), x before y, in pixels: what is at p in a
is at p + F(p) in b. Gray pictures are uint8 (H, W). Flow is never taken from a picture under test:
that would hide its flicker.
"""

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
MIN_FAST_SIDE_PX, MIN_MEDIUM_SIDE_PX = 32, 16
"""Below these `DIS_FAST` and `DIS_MEDIUM`, which begin at a part of the size, may read beyond a
picture and end the process (seen with 112x16 and with 112x15)."""
BAND_ROWS = 64
"""Rows of a picture of three planes that are brought to another place at once: a band stays in the
cache until its planes are apart again."""
BILINEAR: int = cv2.INTER_LINEAR
BICUBIC: int = cv2.INTER_CUBIC
"""Keys' cubic with a = -0.75: blurs least of what OpenCV does fast."""


def dis_flow(source: GrayArray, target: GrayArray, preset: int = DIS_MEDIUM) -> FloatArray:
    """Dense inverse search flow (Kroeger et al., 2016) from `source` to `target`; for pictures that
    are too small for the preset, `fine_flow`."""
    least = MIN_FAST_SIDE_PX if preset == DIS_FAST else MIN_MEDIUM_SIDE_PX
    if min(source.shape) < least:
        return fine_flow(source, target)
    flow: FloatArray = cv2.DISOpticalFlow.create(preset).calc(source, target, None)
    return flow


FLOW_REFINEMENTS = 5
"""Variational refinements of a fine flow, as in OpenCV's presets. They take three quarters of its
time."""


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
    """The values of `image`, float32 (H, W) or (C, H, W), at these places, borders clamped."""
    # OpenCV would write values of another type elsewhere, and say nothing.
    assert image.dtype == np.float32, image.dtype
    if image.ndim == 2:
        values: FloatArray = cv2.remap(
            image, *targets, interpolation, borderMode=cv2.BORDER_REPLICATE
        )
        return values
    columns, rows = targets
    sampled = np.empty((len(image), *columns.shape), np.float32)
    if len(image) == 3:
        # At once: half the time of plane by plane, and the very same values.
        together = cv2.merge([*image])
        for top in range(0, len(columns), BAND_ROWS):
            band = slice(top, top + BAND_ROWS)
            values = cv2.remap(
                together,
                columns[band],
                rows[band],
                interpolation,
                borderMode=cv2.BORDER_REPLICATE,
            )
            cv2.split(values, [*sampled[:, band]])
        return sampled
    # OpenCV rounds positions to 1/32 px for two channels and for more than four.
    for plane, into in zip(image, sampled, strict=True):
        cv2.remap(plane, *targets, interpolation, into, borderMode=cv2.BORDER_REPLICATE)
    return sampled
