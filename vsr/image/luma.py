"""Full-range BT.601 luma: the brightness by which pictures are compared."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Shares of red, green and blue; they add up to 1."""

Picture = TypeVar("Picture", torch.Tensor, NDArray[np.float32])


def luma(picture: Picture) -> Picture:
    """Compute the luma (H, W) of RGB (3, H, W), in the units of the picture."""
    red, green, blue = picture[0], picture[1], picture[2]
    # One after another: the order of the sum decides the last digit, and models learn from those.
    result: Picture = LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
    return result
