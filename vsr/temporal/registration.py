"""Registration of one frame onto another of its shot, with a confidence for each pixel.

Motion is estimated from low-resolution frames alone. Twice their size is the grid for it: finer
flow locks onto the alias of a reduced picture, coarser flow loses the outlines of what moves.

One flow is estimated for each frame, to the one before; the way back is its inverse, and the flow
between distant frames is made of those in between. With an estimate of its own for each direction
of each pair, four a frame, Vid4 was no better: .001 dB more PSNR-Y, .001 more LPIPS.
"""

from dataclasses import dataclass
from threading import RLock

import torch

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
from vsr.image.resample import resize

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


class PreparedFrame:
    """A low-resolution frame as registration looks at it."""

    def __init__(self, low: torch.Tensor) -> None:
        """`low` is float32 RGB (3, h, w) in [0, 1]; all is kept on its device."""
        gray = luma(low)[None]
        height, width = low.shape[-2:]
        enlarged = resize(gray, GRID_SCALE * height, GRID_SCALE * width).clamp(0, 1)
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

    def warp(self, picture: torch.Tensor) -> torch.Tensor:
        """A picture of the neighbor, float32 (C, H, W), as the frame would show it; bicubic, so it
        may overshoot.

        RGB is lit as the frame is; other numbers of channels keep their own light.
        """
        size = picture.shape[-2:]
        # Bicubic: bilinear would blur a little with every frame of the memory.
        warped = sample(picture, sample_positions_at(self.flow, *size), bicubic=True)
        if len(warped) == len(self.illumination):
            warped += enlarge(self.illumination, *size)
        return warped

    def weight(self, like: torch.Tensor) -> torch.Tensor:
        """The confidence at the size of a picture (C, H, W): (H, W)."""
        return enlarge(self.confidence[None], *like.shape[-2:])[0]


def _describe(
    frame: PreparedFrame,
    neighbor: PreparedFrame,
    flow: torch.Tensor,
    flow_back: torch.Tensor,
    tolerance_px: float,
) -> Registration:
    """Confidence is forward-backward consistency x exp(-(local mean difference along the motion /
    sigma)^2), where the motion keeps areas."""
    positions = sample_positions_at(flow, *frame.planes.shape[-2:])
    difference = frame.planes - sample(neighbor.planes, positions, bicubic=True)
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
        self._lock = RLock()
        """Guard of the three above."""

    def add(self, index: int, low: torch.Tensor) -> None:
        """Take in a frame, and estimate its motion from the one before it if that is held; `low` is
        float32 RGB (3, h, w) in [0, 1]."""
        frame = PreparedFrame(low)
        with self._lock:
            before = self._frames.get(index - 1)
        flows = {}
        # Most of all work is here, and nobody waits for it.
        if before is not None and min(frame.levels.shape) >= MIN_SIDE_PX:
            # To the past, which weighs most in fusion.
            back = fine_flow(frame.levels, before.levels, self._refinements)
            flows = {(index, index - 1): back, (index - 1, index): invert_flow(back)}
        with self._lock:
            self._frames[index] = frame
            self._flows |= flows

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

    def onto(self, frame: int, neighbor: int) -> Registration:
        """Register `neighbor` onto `frame`; both must be held, and all between them. Frames too
        small for flow are never trusted."""
        with self._lock:
            if (frame, neighbor) not in self._registrations:
                view, other = self._frames[frame], self._frames[neighbor]
                if min(view.levels.shape) < MIN_SIDE_PX:
                    known = _no_registration(view)
                else:
                    # A pixel is trusted only where the way back leads to it.
                    flows = self._flow(frame, neighbor), self._flow(neighbor, frame)
                    known = _describe(view, other, *flows, self._tolerance_px)
                self._registrations[frame, neighbor] = known
            return self._registrations[frame, neighbor]

    def _flow(self, frame: int, neighbor: int) -> torch.Tensor:
        """Return the flow from a frame to a neighbor, on the grid."""
        if (frame, neighbor) not in self._flows:
            between = neighbor - 1 if neighbor > frame else neighbor + 1
            self._flows[frame, neighbor] = compose_flows(
                self._flow(frame, between), self._flow(between, neighbor)
            )
        return self._flows[frame, neighbor]


def _no_registration(frame: PreparedFrame) -> Registration:
    size, like = frame.levels.shape, frame.planes
    return Registration(like.new_zeros(2, *size), like.new_zeros(size), torch.zeros_like(like))
