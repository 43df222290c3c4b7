"""Motion-compensated fusion: what was made of one frame, improved by what was made of its
neighbours.

Detail that the neighbours agree on stays, and what changes from frame to frame without a cause
averages out. Where a neighbour cannot be trusted, the frame's own picture stands.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from vsr.engine.resampling import back_project_in_place
from vsr.image.blur import KernelTaps
from vsr.image.motion import FLOW_REFINEMENTS
from vsr.temporal.registration import ShotRegistrar

SECOND_STEP_WEIGHT = 0.5
"""One step leaves an LR-PSNR of 44 to 49 dB after warping. A full second one gives 53 dB, better
PSNR and LPIPS, and 1 % more flicker (4 % on compressed input); half of it lies between."""


@dataclass(frozen=True)
class FusionOptions:
    """How much a frame takes from its neighbours where they are fully trusted."""

    memory: float = 0.98
    """Share of the frame before, fused already, in the mean with the frame's own picture; 0 to
    below 1."""
    future_weight: float = 1.0
    """Weight of each frame to come, where the frame's own picture has 1."""
    look_ahead: int = 1
    """How many frames to come are used; as many have to be waited for."""
    refinements: int = FLOW_REFINEMENTS
    """Of the motion: fewer cost less and fit less closely."""


def fuse(own: torch.Tensor, warped: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """(own + sum of w_k b_k) / (1 + sum of w_k) for pictures b_k (C, H, W) with weights w_k (H,
    W)."""
    total, weights = own.clone(), torch.ones_like(own[0])
    for picture, weight in warped:
        total.addcmul_(picture, weight)
        weights += weight
    return total.div_(weights)


def memory_weight(confidence: torch.Tensor, memory: float) -> torch.Tensor:
    """The weight with which a picture has a share of memory x confidence in a mean of two."""
    share = memory * confidence
    return share / (1 - share)


def fuse_shot(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    options: FusionOptions,
    back_projection_weight: float,
    known: ShotRegistrar | None = None,
    done: tuple[int, torch.Tensor] | None = None,
    kernel: KernelTaps | None = None,
) -> Iterator[torch.Tensor]:
    """The enlarged pictures of one shot, fused along its motion, as many as come in, `look_ahead`
    frames late.

    `pairs` are (low, large): float32 RGB (3, h, w), which motion and back-projection are taken
    from, and (3, H, W). Every result agrees with its `low` by back-projection of weight
    `back_projection_weight`, 0 to 1 (see `back_project_twice`), through the blur `kernel` that the
    pictures were enlarged for, or bicubically, and lies in [0, 1]. Memory does not grow with the
    shot. `known` holds all frames already, numbered from 0, and keeps them. `done` is the number of
    a pair and what was made of it when the frames before these were still there: that is handed out
    for it, nothing useful for those before it, and for those behind it what they would have become
    then.
    """
    registrar = known or ShotRegistrar(options.refinements)
    held: deque[tuple[int, torch.Tensor, torch.Tensor]] = deque()
    before: torch.Tensor | None = None
    for index, (low, large) in enumerate(pairs):
        if known is None:
            registrar.add(index, low)
            registrar.discard_before(index - options.look_ahead - 1)
        if done is not None and index <= done[0]:
            before = done[1] if index == done[0] else large
            yield before
            continue
        held.append((index, low, large))
        if len(held) > options.look_ahead:
            before = _fuse_first(held, before, registrar, options, back_projection_weight, kernel)
            yield before
    while held:
        before = _fuse_first(held, before, registrar, options, back_projection_weight, kernel)
        yield before


def _fuse_first(
    held: deque[tuple[int, torch.Tensor, torch.Tensor]],
    before: torch.Tensor | None,
    registrar: ShotRegistrar,
    options: FusionOptions,
    back_projection_weight: float,
    kernel: KernelTaps | None,
) -> torch.Tensor:
    """Take the first held frame out and fuse it with the result before it and the frames held after
    it."""
    index, low, large = held.popleft()
    warped = []
    if before is not None:
        past = registrar.onto(index, index - 1)
        warped.append((past.warp(before), memory_weight(past.weight(large), options.memory)))
    for other, _, picture in held:
        future = registrar.onto(index, other)
        warped.append((future.warp(picture), options.future_weight * future.weight(large)))
    return back_project_twice(fuse(large, warped), low, back_projection_weight, kernel)


def back_project_twice(
    fused: torch.Tensor,
    low: torch.Tensor,
    back_projection_weight: float,
    kernel: KernelTaps | None = None,
) -> torch.Tensor:
    """Two steps of back-projection, the second `SECOND_STEP_WEIGHT` as strong as trust in the input
    allows; in [0, 1].

    Overwrites `fused`.
    """
    once = back_project_in_place(fused, low, back_projection_weight, kernel, limited=False)
    return back_project_in_place(once, low, SECOND_STEP_WEIGHT * back_projection_weight, kernel)
