"""Fields made into whole frames along the motion.

A deinterlacer makes up the lines that a field lacks. The fields before and after have other lines
of the scene, a moment off: brought here along the motion they replace what was made up.

Each way to fill a line weighs the inverse of its mean squared error, which the field's own lines
tell: the deinterlacer's by how well lines are foretold from those two above and below, a moved
field's by how well it fits them. So fields that are moved wrong, or that plain surfaces do not
need, change nothing.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from vsr.image.luma import luma
from vsr.image.motion import (
    BICUBIC,
    BILINEAR,
    DIS_MEDIUM,
    MIN_FAST_SIDE_PX,
    FloatArray,
    GrayArray,
    backward_warp,
    dis_flow,
    sample_positions,
)
from vsr.video.frames import Frame

FLOW_BLUR_PX = 1.0
"""Hides the made-up lines from the motion's estimate."""
REACH = 2
"""Fields before and after that are brought here. The second ones' lines are the field's own while
nothing moves up or down; at half a line a field they are those that all others lack."""
MADE_UP_SHARE = 0.25
"""Squared error of a made-up line over that of a line foretold from twice as far. Measured: .02 to
.3, and .6 where details are finer than the lines of a field."""
NEIGHBOR_ERROR_SHARE, MIN_MOTION_SHARE = 0.5, 0.25
"""Share of a neighbor's own errors that its misfit is relieved of, since they are added where its
made-up lines are used; and what always stays."""
ROUNDING = np.float32(1 / 12 / 255**2)
"""Squared error of 8 bits, below which none is known."""
ERROR_WINDOW_PX = 5


@dataclass(frozen=True)
class _Field:
    """A frame made of a field, and which of its lines are the field's own."""

    frame: Frame
    pixels: FloatArray
    """(3, H, W) in [0, 1]."""
    first_row: int
    """0 where the top lines are its own, else 1."""
    view: GrayArray
    errors: FloatArray
    """Mean squared error that is expected, (H, W), 0 on its own lines."""
    flow_back: FloatArray | None = None
    """To the field before, (H, W, 2)."""
    flow_on: FloatArray | None = None
    """To the next one."""


def refine_fields(frames: Iterable[Frame], top_field_first: bool) -> Iterator[Frame]:
    """Replace made-up lines of frames that are fields in turn; two late, as many come out."""
    past: deque[_Field] = deque(maxlen=REACH)
    coming: deque[_Field] = deque()
    for frame in frames:
        if min(frame.height, frame.width) < MIN_FAST_SIDE_PX:
            yield frame
            continue
        # By its place in the clip: reading may begin with a second field.
        field = _as_field(frame, frame.index % 2 if top_field_first else 1 - frame.index % 2)
        if coming:
            flow_on = dis_flow(coming[-1].view, field.view, DIS_MEDIUM)
            coming[-1] = replace(coming[-1], flow_on=flow_on)
        coming.append(field)
        if len(coming) > REACH:
            yield _refine_next(past, coming)
    while coming:
        yield _refine_next(past, coming)


def _refine_next(past: deque[_Field], coming: deque[_Field]) -> Frame:
    """Refine the first field that is coming, and make it the last of the past."""
    now = coming.popleft()
    if past:
        now = replace(now, flow_back=dis_flow(now.view, past[-1].view, DIS_MEDIUM))
    before, after = list(reversed(past)), list(coming)
    flows = _chained([each.flow_back for each in (now, *before)], len(before))
    flows += _chained([each.flow_on for each in (now, *after)], len(after))
    past.append(_refined(now, list(zip(before + after, flows, strict=True))))
    return past[-1].frame


def _chained(steps: list[FloatArray | None], count: int) -> list[FloatArray]:
    """Add up flows from each field to the next into flows from the first one."""
    flows: list[FloatArray] = []
    for step in steps[:count]:
        assert step is not None
        if not flows:
            flows.append(step)
            continue
        positions = sample_positions(flows[-1])
        farther = cv2.remap(step, *positions, BILINEAR, borderMode=cv2.BORDER_REPLICATE)
        flows.append(np.add(flows[-1], farther, dtype=np.float32))
    return flows


def _as_field(frame: Frame, first_row: int) -> _Field:
    pixels = frame.pixels.numpy()
    # Twice as far apart as a made-up line is from its neighbors.
    framed = np.pad(pixels, ((0, 0), (2, 2), (0, 0)), "reflect")
    foretold = (framed[:, :-4] + framed[:, 4:]) / 2
    errors = MADE_UP_SHARE * _mean_on_lines(_squared_error(pixels, foretold), first_row)
    errors[first_row::2] = 0
    return _Field(frame, pixels, first_row, _view(pixels), errors)


def _view(pixels: FloatArray) -> GrayArray:
    blurred = cv2.GaussianBlur(255 * luma(pixels), (0, 0), FLOW_BLUR_PX)
    view: GrayArray = np.rint(blurred).clip(0, 255).astype(np.uint8)
    return view


def _refined(field: _Field, neighbors: list[tuple[_Field, FloatArray]]) -> _Field:
    """Bring the lines of neighbors, each with the flow to it, to a field."""
    weights = np.reciprocal(field.errors + ROUNDING)
    total = weights * field.pixels
    for neighbor, flow in neighbors:
        moved = backward_warp(neighbor.pixels, flow, BICUBIC)
        misfit = _mean_on_lines(_squared_error(field.pixels, moved), field.first_row)
        errors = backward_warp(neighbor.errors, flow)
        # What the neighbor itself made up on these lines is no fault of the motion.
        known = NEIGHBOR_ERROR_SHARE * _mean_on_lines(errors, field.first_row)
        motion = np.maximum(misfit - known, MIN_MOTION_SHARE * misfit)
        weight = np.reciprocal(motion + errors + ROUNDING)
        if neighbor.first_row == field.first_row:
            # It lacks the same lines: what was made up errs there as it does here, and is no news.
            own = np.zeros(field.view.shape, np.float32)
            own[neighbor.first_row :: 2] = 1
            weight = weight * backward_warp(own, flow)
        total += weight * moved
        weights += weight
    made = (total / weights).clip(0, 1).astype(np.float32)
    errors = np.reciprocal(weights)
    # What the field itself has is the truth.
    made[:, field.first_row :: 2] = field.pixels[:, field.first_row :: 2]
    errors[field.first_row :: 2] = 0
    frame = replace(field.frame, pixels=torch.from_numpy(made))
    return replace(field, frame=frame, pixels=made, view=_view(made), errors=errors)


def _squared_error(pixels: FloatArray, other: FloatArray) -> FloatArray:
    """(H, W), mean of the colors."""
    squared: FloatArray = np.square(pixels - other).mean(axis=0)
    return squared


def _mean_on_lines(values: FloatArray, first_row: int) -> FloatArray:
    """Mean of a field's own lines around each pixel, (H, W)."""
    own, chosen = np.zeros_like(values), np.zeros_like(values)
    own[first_row::2] = 1
    chosen[first_row::2] = values[first_row::2]
    window = (ERROR_WINDOW_PX, ERROR_WINDOW_PX)
    mean: FloatArray = cv2.blur(chosen, window) / np.maximum(cv2.blur(own, window), 1e-6)
    return mean
