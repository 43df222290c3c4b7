"""Film: brightness that flickers, and dirt that stands on one frame alone."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from vsr.image.motion import (
    DIS_FAST,
    MIN_FAST_SIDE_PX,
    FloatArray,
    GrayArray,
    backward_warp,
    dis_flow,
)

DIRT_LEVELS = 20.0
"""Gray levels by which dirt differs from both neighbors, to the same side."""
DIRT_BLUR_PX = 1.0
"""Dirt covers some pixels; noise that stands out alone is averaged away."""
DIRT_PAIRS = 4


def brightness_flicker(pictures: Sequence[torch.Tensor]) -> float:
    """Mean deviation of a frame's mean level from the mean of its neighbors', in gray levels.

    A fade changes evenly and has none; a flash counts once, so the median is taken.
    """
    if len(pictures) < 3:
        return 0.0
    means = np.array([255 * float(picture.mean()) for picture in pictures])
    return round(float(np.median(np.abs(means[1:-1] - (means[:-2] + means[2:]) / 2))), 3)


def dirt_share(pictures: Sequence[torch.Tensor]) -> float:
    """Share of the pixels that stand out on one frame alone, mean over some frames."""
    if len(pictures) < 3 or min(pictures[0].shape[-2:]) < MIN_FAST_SIDE_PX:
        return 0.0
    stride = max(1, (len(pictures) - 2) // DIRT_PAIRS)
    shares = [
        float(dirt_mask(*(luma_levels(pictures[i + k]) for k in (-1, 0, 1))).mean())
        for i in range(1, len(pictures) - 1, stride)
    ]
    return round(float(np.median(shares)), 6)


def dirt_mask(before: FloatArray, now: FloatArray, after: FloatArray) -> np.ndarray:
    """(H, W), true where `now` is lighter, or darker, than both neighbors along the motion while
    these agree."""
    views = [_view(plane) for plane in (before, now, after)]
    past = _blurred(backward_warp(before, dis_flow(views[1], views[0], DIS_FAST)))
    future = _blurred(backward_warp(after, dis_flow(views[1], views[2], DIS_FAST)))
    own = _blurred(now)
    above, below = own - np.maximum(past, future), np.minimum(past, future) - own
    agree = np.abs(past - future) < DIRT_LEVELS / 2
    mask: np.ndarray = (np.maximum(above, below) > DIRT_LEVELS) & agree
    return mask


def luma_levels(picture: torch.Tensor) -> FloatArray:
    """Luma (H, W) of RGB (3, H, W) in [0, 1], in gray levels."""
    red, green, blue = 255 * picture.numpy()
    levels: FloatArray = (0.299 * red + 0.587 * green + 0.114 * blue).astype(np.float32)
    return levels


def _view(plane: FloatArray) -> GrayArray:
    levels: GrayArray = np.rint(cv2.GaussianBlur(plane, (0, 0), 1.2)).clip(0, 255).astype(np.uint8)
    return levels


def _blurred(plane: FloatArray) -> FloatArray:
    blurred: FloatArray = cv2.GaussianBlur(plane, (0, 0), DIRT_BLUR_PX)
    return blurred
