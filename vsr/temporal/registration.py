"""Registration of one frame onto another of its shot, with a confidence for each pixel.

Motion is estimated from low-resolution frames alone. Twice their size is the grid for it: finer
flow locks onto the alias of a reduced picture, coarser flow loses the outlines of what moves.

Where nothing changes from one frame to the next, nothing moves: only the box around all that
changes is looked at.

One flow is estimated for each frame, to the one before; the way back is its inverse, and the flow
between distant frames is made of those in between. With an estimate of its own for each direction
of each pair, four a frame, Vid4 was no better: .001 dB more PSNR-Y, .001 more LPIPS.
"""

from dataclasses import dataclass
from threading import RLock

import torch

from vsr.engine.resampling import resize_on_cores
from vsr.image.dense_motion import (
    blur,
    box_mean,
    compose_flows,
    enlarge,
    fine_flow,
    forward_backward_mask,
    invert_flow,
    sample,
    sample_positions_at,
    unfolded_mask,
)
from vsr.image.luma import luma
from vsr.image.motion import FLOW_REFINEMENTS, MIN_SIDE_PX
from vsr.image.pyramid_flow import add_own_positions
from vsr.temporal.boxes import Box, box_of_changes, united, whole_box

GRID_SCALE = 2
"""Sides of the grid that motion is estimated on, over those of the low-resolution frame."""
FLOW_BLUR_PX, PHOTOMETRIC_BLUR_PX = 1.0, 0.6
"""Standard deviations, on the grid and on the low-resolution frame, of the blur that takes alias
out of them."""
PHOTOMETRIC_WINDOW_PX = 3
PHOTOMETRIC_SIGMA = 0.04
"""Mean difference along the motion, of a range of 1, at which confidence has fallen to 1/e."""
ILLUMINATION_WINDOW_PX = 9
"""Over which differences are taken to be of the light, as in a fade, or of what flow has missed."""
NOISE_TOLERANCE, MAX_NOISE_TOLERANCE = 0.45, 4.0
"""By how much of itself the tolerance below grows with each gray level of noise, and how often it
is taken at most. Noise leads flow astray where a picture is flat, and there it does no harm: with 6
levels on Vid4 walk LPIPS fell from .196 to .187 and flicker from 3.5 to 3.3."""
RETURN_TOLERANCE_PX = 0.18 * GRID_SCALE
"""Distance at which a pixel may come back, on the grid, where nothing moves (0.7 px of a result
enlarged 4 times)."""

FLOW_MARGIN_PX = 12
"""Low-resolution pixels around what changes in which motion is estimated as well."""
MAX_BOX_SHARE = 0.6
"""Share of the frame up to which it pays to work on a box of it."""
KEPT_CHANGES = 8
"""Frames back of which it is remembered what changed: more than networks look at."""
BOX_MARGIN_PX = 8
"""Low-resolution pixels around what changes that are made anew as well: there networks see it."""
EDGE_PX = 12
"""Low-resolution pixels at the sides of a box in which results are wrong: networks, resampling and
back-projection would have seen what lies outside."""


class PreparedFrame:
    """A low-resolution frame as registration looks at it."""

    def __init__(self, low: torch.Tensor) -> None:
        """`low` is float32 RGB (3, h, w) in [0, 1]; all is kept on its device."""
        self.low = low
        gray = luma(low)[None]
        height, width = low.shape[-2:]
        enlarged = resize_on_cores(gray, GRID_SCALE * height, GRID_SCALE * width).clamp(0, 1)
        self.levels: torch.Tensor = (blur(enlarged, FLOW_BLUR_PX)[0] * 255).round().byte()
        """Luma on the grid, uint8 (h', w')."""
        self.planes: torch.Tensor = blur(low, PHOTOMETRIC_BLUR_PX)
        """RGB of the frame itself, (3, h, w), 0 to 1."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Position of a neighbor on a frame; serves pictures of any size that were made of the two."""

    flow: torch.Tensor
    """From the frame to the neighbor, on the grid, (2, h', w')."""
    confidence: torch.Tensor
    """(h', w'), from 0, where the neighbor does not show what the frame shows, to 1."""
    illumination: torch.Tensor
    """By how much the frame is lighter than the neighbor, widely averaged, (3, h, w)."""

    def warp(
        self, picture: torch.Tensor, box: Box | None = None, shown: Box | None = None
    ) -> torch.Tensor:
        """A picture of the neighbor, float32 (C, H, W), as the frame would show it; bicubic, so it
        may overshoot. With a `box`, that part of it; with `shown`, the picture is one of that part.

        RGB is lit as the frame is; other numbers of channels keep their own light.
        """
        if box is None and shown is None:
            height, width = picture.shape[-2:]
            # Bicubic: bilinear would blur a little with every frame of the memory.
            warped = sample(picture, sample_positions_at(self.flow, height, width), bicubic=True)
            if len(warped) == len(self.illumination):
                # One after the other: pictures are large.
                for number, lighter in enumerate(self.illumination):
                    warped[number] += enlarge(lighter[None], height, width)[0]
            return warped
        whole = whole_box(self.illumination)
        box, shown = box or whole, shown or whole
        ratio = picture.shape[-2] // shown.height
        positions = self._enlarged(self.flow, box, ratio) * (ratio / GRID_SCALE)
        add_own_positions(positions)
        positions[0] += ratio * (box.left - shown.left)
        positions[1] += ratio * (box.top - shown.top)
        warped = sample(picture, positions, bicubic=True)
        if len(warped) == len(self.illumination):
            warped += self._enlarged(self.illumination, box, ratio)
        return warped

    def weight(self, like: torch.Tensor, box: Box | None = None) -> torch.Tensor:
        """The confidence at the size of a picture (C, H, W), (H, W); with a `box`, for a picture of
        that part."""
        if box is None:
            return enlarge(self.confidence[None], *like.shape[-2:])[0]
        return self._enlarged(self.confidence[None], box, like.shape[-2] // box.height)[0]

    def _enlarged(self, planes: torch.Tensor, box: Box, ratio: int) -> torch.Tensor:
        """Enlarge a part of planes of the frame, or of the grid, to pictures of that ratio."""
        whole = whole_box(self.illumination)
        # One pixel more on each side, which interpolation needs.
        seen = box.grown(1, whole)
        part = seen.cut(planes, planes.shape[-2] // whole.bottom).contiguous()
        enlarged = enlarge(part, ratio * seen.height, ratio * seen.width)
        return box.seen_from(seen).cut(enlarged, ratio).contiguous()


def _describe(
    frame: torch.Tensor,
    neighbor: torch.Tensor,
    flow: torch.Tensor,
    flow_back: torch.Tensor,
    tolerance_px: float,
) -> Registration:
    """Confidence is forward-backward consistency x exp(-(local mean difference along the motion /
    sigma)^2), where the motion keeps areas. Frames are RGB as `PreparedFrame` has them."""
    positions = sample_positions_at(flow, *frame.shape[-2:])
    difference = frame - sample(neighbor, positions, bicubic=True)
    local = box_mean(difference.abs().mean(dim=0, keepdim=True), PHOTOMETRIC_WINDOW_PX)
    alike = torch.exp(-((local / PHOTOMETRIC_SIGMA) ** 2))
    # What is hidden in the neighbor does not come back.
    shown = forward_backward_mask(flow, flow_back, tolerance_px) & unfolded_mask(flow)
    # Widely averaged differences are of the light, as in a fade; detail is not taken over.
    illumination = box_mean(difference, ILLUMINATION_WINDOW_PX)
    return Registration(flow, enlarge(alike, *flow.shape[-2:])[0] * shown, illumination)


class ShotRegistrar:
    """Registers frames of one shot onto each other, each pair once, while it holds them.

    Stages that work beside each other may share one.
    """

    def __init__(self, refinements: int = FLOW_REFINEMENTS, noise: float = 0.0) -> None:
        """`refinements` of each flow: what its quality costs; `noise` of each frame's luma, in gray
        levels."""
        self._refinements = refinements
        self._tolerance_px = RETURN_TOLERANCE_PX * min(
            1 + NOISE_TOLERANCE * noise, MAX_NOISE_TOLERANCE
        )
        self._frames: dict[int, PreparedFrame] = {}
        self._flows: dict[tuple[int, int], torch.Tensor] = {}
        self._registrations: dict[tuple[int, int], Registration] = {}
        self._changes: dict[int, Box | None] = {}
        """Box of the changes from the frame before to each; None where there are none."""
        self._lock = RLock()
        """Guard of the four above."""

    def add(self, index: int, low: torch.Tensor) -> None:
        """Take in a frame, and estimate its motion from the one before it if that is held; `low` is
        float32 RGB (3, h, w) in [0, 1]."""
        frame = PreparedFrame(low)
        with self._lock:
            before = self._frames.get(index - 1)
        flows = {}
        changes: Box | None = whole_box(low)
        # Most of all work is here, and nobody waits for it.
        if before is not None and min(frame.levels.shape) >= MIN_SIDE_PX:
            changes = box_of_changes(low, before.low)
            # To the past, which weighs most in fusion.
            there, back = self._flows_within(_part_to_look_at(changes, low), frame, before)
            flows = {(index, index - 1): there, (index - 1, index): back}
        with self._lock:
            self._frames[index] = frame
            self._changes[index] = changes
            self._flows |= flows

    def _flows_within(
        self, part: Box | None, frame: PreparedFrame, before: PreparedFrame
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimate the flow from a frame to the one before, and its inverse, in a part; zero
        elsewhere."""
        whole = whole_box(frame.planes)
        if part is None:
            still = frame.planes.new_zeros(2, *frame.levels.shape)
            return still, still
        now, then = (part.cut(one.levels, GRID_SCALE).contiguous() for one in (frame, before))
        there = fine_flow(now, then, self._refinements)
        flows = there, invert_flow(there)
        if part == whole:
            return flows
        return _filled(flows[0], 0.0, part, whole), _filled(flows[1], 0.0, part, whole)

    def work_box(self, index: int, reach: int) -> Box | None:
        """The part of a frame outside of which it stands still, an empty box where all of it does;
        None where that is too large to pay.

        A place stands still where the `reach` frames before and after the frame, all that a network
        looks at, show it as the frame does, to the last digit. Those after it must have been added,
        as far as there are any.
        """
        with self._lock:
            whole = whole_box(self._frames[index].low)
            moving: Box | None = None
            for near in range(index - reach, index + reach + 1):
                # Beyond the end of a shot nothing changes; before what is known all may have.
                moving = united(moving, self._changes.get(near, whole if near <= index else None))
        if moving is None:
            return Box(0, 0, 0, 0)
        box = moving.grown(BOX_MARGIN_PX + EDGE_PX, whole)
        return box if box.area <= MAX_BOX_SHARE * whole.area else None

    def frame_box(self, index: int) -> Box:
        """The box of all of a frame."""
        with self._lock:
            return whole_box(self._frames[index].low)

    def discard_before(self, index: int) -> None:
        """Let go of frames before this one."""
        with self._lock:
            self._discard_before(index)

    def _discard_before(self, index: int) -> None:
        self._frames = {held: view for held, view in self._frames.items() if held >= index}
        self._flows = {pair: flow for pair, flow in self._flows.items() if min(pair) >= index}
        self._registrations = {
            pair: known for pair, known in self._registrations.items() if min(pair) >= index
        }
        self._changes = {
            held: box for held, box in self._changes.items() if held >= index - KEPT_CHANGES
        }

    def onto(self, frame: int, neighbor: int) -> Registration:
        """Register `neighbor` onto `frame`; both must be held, and all between them. Frames too
        small for flow are never trusted."""
        with self._lock:
            if (frame, neighbor) not in self._registrations:
                self._registrations[frame, neighbor] = self._registered(frame, neighbor)
            return self._registrations[frame, neighbor]

    def _registered(self, frame: int, neighbor: int) -> Registration:
        view, other = self._frames[frame], self._frames[neighbor]
        size, like, whole = view.levels.shape, view.planes, whole_box(view.planes)
        if min(size) < MIN_SIDE_PX:
            return Registration(
                like.new_zeros(2, *size), like.new_zeros(size), torch.zeros_like(like)
            )
        part = self._moving_part(frame, neighbor)
        # A pixel is trusted only where the way back leads to it.
        there, back = self._flow(frame, neighbor), self._flow(neighbor, frame)
        if part is None:
            return Registration(there, like.new_ones(size), torch.zeros_like(like))
        known = _describe(
            part.cut(view.planes).contiguous(),
            part.cut(other.planes).contiguous(),
            part.cut(there, GRID_SCALE).contiguous(),
            part.cut(back, GRID_SCALE).contiguous(),
            self._tolerance_px,
        )
        if part == whole:
            return known
        return Registration(
            there,
            _filled(known.confidence[None], 1.0, part, whole)[0],
            _filled(known.illumination, 0.0, part, whole),
        )

    def _flow(self, frame: int, neighbor: int) -> torch.Tensor:
        """Return the flow from a frame to a neighbor, on the grid."""
        if (frame, neighbor) not in self._flows:
            between = neighbor - 1 if neighbor > frame else neighbor + 1
            first, second = self._flow(frame, between), self._flow(between, neighbor)
            whole = whole_box(self._frames[frame].planes)
            part = self._moving_part(frame, neighbor)
            if part is None:
                composed = first
            else:
                parts = (part.cut(flow, GRID_SCALE).contiguous() for flow in (first, second))
                composed = compose_flows(*parts)
                composed = composed if part == whole else _filled(composed, 0.0, part, whole)
            self._flows[frame, neighbor] = composed
        return self._flows[frame, neighbor]

    def _moving_part(self, frame: int, neighbor: int) -> Box | None:
        """The part of the frames in which anything changes between two of them."""
        changes: Box | None = None
        for later in range(min(frame, neighbor) + 1, max(frame, neighbor) + 1):
            changes = united(changes, self._changes[later])
        return _part_to_look_at(changes, self._frames[frame].low)


def _part_to_look_at(changes: Box | None, low: torch.Tensor) -> Box | None:
    """The part of a frame in which its motion is estimated: what changes, with its surroundings, or
    all of the frame; None where nothing changes."""
    if changes is None:
        return None
    whole = whole_box(low)
    part = changes.grown(FLOW_MARGIN_PX, whole)
    return part if part.area <= MAX_BOX_SHARE * whole.area else whole


def _filled(planes: torch.Tensor, value: float, part: Box, whole: Box) -> torch.Tensor:
    """Lay planes of a part, (C, h, w), into those of the whole, which has `value` elsewhere."""
    ratio = planes.shape[-2] // part.height
    filled = planes.new_full((len(planes), ratio * whole.height, ratio * whole.width), value)
    part.cut(filled, ratio).copy_(planes)
    return filled
