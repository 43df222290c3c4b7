"""Full-range BT.601 luma: the brightness by which pictures are compared."""

import torch

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Shares of red, green and blue; they add up to 1."""


def luma(picture: torch.Tensor) -> torch.Tensor:
    """Compute the luma (H, W) of RGB (3, H, W), in the units of the picture."""
    red, green, blue = picture.unbind()
    # One after another: the order of the sum decides the last digit, and models learn from those.
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
