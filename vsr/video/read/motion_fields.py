"""Fields made into whole frames along the motion.

A deinterlacer makes up the lines that a field lacks. The fields before and after have just these
lines, a moment off: brought here along the motion they replace what was made up, where they fit the
lines that the field itself has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from vsr.image.dense_motion import flow_planes, forward_backward_mask
from vsr.image.luma import luma
from vsr.image.motion import (
    BICUBIC,
    DIS_MEDIUM,
    MIN_FAST_SIDE_PX,
    FloatArray,
    backward_warp,
    dis_flow,
)
from vsr.video.frames import Frame

FLOW_BLUR_PX = 1.0
"""Hides the made-up lines from the motion's estimate."""
OWN_WEIGHT = 0.25
"""Weight of the lines that the deinterlacer made up, beside 1 for a neighbor's own."""
MADE_UP_WEIGHT, REFINED_WEIGHT = 0.1, 0.4
"""Weights of a neighbor's made-up lines, before and after they were replaced themselves."""
FIT_WINDOW_PX = 5
FIT_SIGMA = 0.06
"""Mean difference from the field's own lines, of a range of 1, at which a neighbor's weight has
fallen to 1/e."""
RETURN_TOLERANCE_PX = 0.7


@dataclass(frozen=True)
class _Field:
    """A frame made of a field, and which of its lines are the field's own."""

    frame: Frame
    pixels: FloatArray
    """(3, H, W) in [0, 1]."""
    first_row: int
    """0 where the top lines are its own, else 1."""
    view: np.ndarray
    made_up_weight: float = MADE_UP_WEIGHT

    def own_lines(self) -> FloatArray:
        """(H, W), 1 on its own lines and what the others are worth."""
        lines = np.full(self.view.shape, self.made_up_weight, np.float32)
        lines[self.first_row :: 2] = 1
        return lines


def refine_fields(frames: Iterable[Frame], top_field_first: bool) -> Iterator[Frame]:
    """Replace made-up lines of frames that are fields in turn; a frame late, as many come out."""
    before: _Field | None = None
    now: _Field | None = None
    for number, frame in enumerate(frames):
        if min(frame.height, frame.width) < MIN_FAST_SIDE_PX:
            yield frame
            continue
        after = _as_field(frame, number % 2 if top_field_first else 1 - number % 2)
        if now is not None:
            before = _refined(now, [each for each in (before, after) if each is not None])
            yield before.frame
        now = after
    if now is not None:
        yield _refined(now, [] if before is None else [before]).frame


def _as_field(frame: Frame, first_row: int) -> _Field:
    pixels = frame.pixels.numpy()
    gray = 255 * luma(pixels)
    view = np.rint(cv2.GaussianBlur(gray, (0, 0), FLOW_BLUR_PX)).clip(0, 255).astype(np.uint8)
    return _Field(frame, pixels, first_row, view)


def _refined(field: _Field, neighbors: list[_Field]) -> _Field:
    """Bring the neighbors' lines to a field."""
    weights = np.full(field.view.shape, OWN_WEIGHT, np.float32)
    total = OWN_WEIGHT * field.pixels
    for neighbor in neighbors:
        flow = dis_flow(field.view, neighbor.view, DIS_MEDIUM)
        back = dis_flow(neighbor.view, field.view, DIS_MEDIUM)
        moved = backward_warp(neighbor.pixels, flow, BICUBIC)
        returns = forward_backward_mask(flow_planes(flow), flow_planes(back), RETURN_TOLERANCE_PX)
        weight = _fit(field, moved) * returns.numpy()
        weight = weight * backward_warp(neighbor.own_lines(), flow)
        total = total + weight * moved
        weights += weight
    made = (total / weights).clip(0, 1).astype(np.float32)
    # What the field itself has is the truth.
    made[:, field.first_row :: 2] = field.pixels[:, field.first_row :: 2]
    frame = replace(field.frame, pixels=torch.from_numpy(made))
    return replace(field, frame=frame, pixels=made, made_up_weight=REFINED_WEIGHT)


def _fit(field: _Field, moved: FloatArray) -> FloatArray:
    """Rate how well a moved neighbor fits a field's own lines around each pixel, (H, W), 0 to 1."""
    difference = np.abs(field.pixels - moved).mean(axis=0)
    own = np.zeros_like(difference)
    own[field.first_row :: 2] = 1
    window = (FIT_WINDOW_PX, FIT_WINDOW_PX)
    mean = cv2.blur(difference * own, window) / np.maximum(cv2.blur(own, window), 1e-6)
    fit: FloatArray = np.exp(-((mean / np.float32(FIT_SIGMA)) ** 2))
    return fit
