"""A loss for steadiness: a generator's errors on the keyframe should be its errors on the frames
around it.

Taken along the motion and of the errors, not of the pictures: where both are right it asks for
nothing, and the blur of the warp itself is not rewarded. It is the training form of the metric
`flicker`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vsr.image.dense_motion import motion_between
from vsr.image.pyramid_flow import add_own_positions, sample_planes
from vsr.image.resample import resize
from vsr.models.networks.singan import Generator
from vsr.train.crops import CropPlacement, TrainingPair, crop_batch, without_halo

MARGIN_PX = 6
"""Margin of a neighbor's crop on each side, for motion that differs from that of its middle."""


@dataclass(frozen=True, eq=False)
class NeighborFrame:
    """A frame near the keyframe at one of the sizes that are trained on, and where the keyframe's
    pixels are in it."""

    pair: TrainingPair
    flow: torch.Tensor
    """From the keyframe to this frame, (2, h, w), x before y, in pixels."""
    visible: torch.Tensor
    """1 where the keyframe's pixel is seen in this frame too, else 0, (h, w)."""


def align_neighbor(
    keyframe: torch.Tensor, frame: torch.Tensor, pairs: Sequence[TrainingPair]
) -> list[NeighborFrame]:
    """Align `frame` with `keyframe`, (3, H, W) in [0, 1] each, at the size of each of the frame's
    own `pairs`."""
    # At full size once: flow of small pictures loses what is thin.
    motion = motion_between(_to_gray(keyframe), _to_gray(frame))
    assert motion is not None, "a keyframe is large enough for optical flow"
    flow, visible = motion.flow, motion.visible.float()
    height, width = visible.shape
    neighbors = []
    for pair in pairs:
        size = pair.target.shape[-2:]
        # Flow is in pixels, so it shrinks in length as well as in size.
        shrink = flow.new_tensor([size[1] / width, size[0] / height])[:, None, None]
        # Seen only where all that goes into a smaller pixel is seen.
        whole = resize(visible, *size) > 1 - 1e-3
        neighbors.append(NeighborFrame(pair, resize(flow, *size) * shrink, whole.float()))
    return neighbors


def temporal_loss(
    generator: Generator, neighbor: NeighborFrame, place: CropPlacement, error: torch.Tensor
) -> torch.Tensor:
    """Mean absolute change along the motion of the generator's error, over what both frames show.

    `error` is output minus target, (3, side, side), of the keyframe's crop at `place`, turned as
    that crop is.
    """
    # Flow is not turned with the crops: its directions would have to turn as well.
    upright = replace(place, turns=0, flip=0)
    flow, visible = upright.cut(neighbor.flow), upright.cut(neighbor.visible)
    there = _placement_along(place, flow, neighbor.pair.target.shape[-2:])
    padded, target = crop_batch(neighbor.pair, [there])
    base = without_halo(padded, generator.spec.halo)
    error_there = base + generator.residual(padded) - target
    # Both errors are compared upright, where the flow says what lies where.
    warped, inside = _warp(
        there.undo_augmentation(error_there[0]),
        flow,
        (place.left - there.left, place.top - there.top),
    )
    counted = visible * inside
    # Of the errors: where both frames are right there is nothing to pay, however much moves.
    change = (place.undo_augmentation(error) - warped).abs().mean(dim=0)
    # Mean over what both show; at least 1, so that a crop without any costs nothing.
    return (change * counted).sum() / counted.sum().clamp(min=1)


def _placement_along(
    place: CropPlacement, flow: torch.Tensor, size: Sequence[int]
) -> CropPlacement:
    """Place the crop where the median of its flow has moved it, with the margin, inside a picture
    of `size`."""
    side = min(place.side + 2 * MARGIN_PX, *size)
    # The median: a few wrong vectors at an edge do not move the crop.
    across, down = (round(float(component.median())) for component in flow)
    spare = (side - place.side) // 2
    # Pushed inside where the motion leads out; what is then not covered is not counted.
    top = min(max(place.top + down - spare, 0), size[0] - side)
    left = min(max(place.left + across - spare, 0), size[1] - side)
    return CropPlacement(top, left, side, place.turns, place.flip)


def _warp(
    picture: torch.Tensor, flow: torch.Tensor, offset: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample `picture`, (C, S, S), at p + offset + flow(p) for each pixel p of `flow`, bilinear;
    also 1 where that is inside, else 0."""
    # In pixels of the neighbor's crop.
    positions = add_own_positions(flow + flow.new_tensor(offset)[:, None, None])
    inside = ((positions >= 0) & (positions <= picture.shape[-1] - 1)).all(dim=0)
    return sample_planes(picture, positions, "bilinear"), inside.float()


def _to_gray(pixels: torch.Tensor) -> torch.Tensor:
    """Mean of the channels in 8 bits, (H, W), on the CPU, so that all devices train alike."""
    return (pixels.mean(dim=0) * 255).round().clamp(0, 255).to(torch.uint8).cpu()
