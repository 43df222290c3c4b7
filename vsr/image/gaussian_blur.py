"""A Gaussian that a clip's frames were blurred by as they were made.

Such a frame is taken for a bicubic reduction that was blurred afterwards, at its own size. So one
small kernel serves every scale, whole or not. Beside a reduction through the Gaussian itself it
errs by a gray level or less, where bicubic reduction errs by 5 to 20.
"""

from functools import lru_cache
from math import ceil, pi, radians

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vsr.image.degradation import GaussianBlur
from vsr.image.resample import resize

GRID_PX = 48
"""Side of the grid of frequencies that taps are made on."""
MAX_REACH_PX = GRID_PX // 2 - 1
SIGMAS = 3.5
"""Standard deviations beyond which taps are left out."""


def spread(low: torch.Tensor, blur: GaussianBlur) -> torch.Tensor:
    """Blur bicubically reduced planes (C, h, w) as a frame of a blur is; borders are repeated."""
    taps = _taps(blur)
    if low.device.type == "cpu":
        # OpenCV takes a third of torch's time for one kernel.
        blurred = [
            cv2.filter2D(plane, cv2.CV_32F, taps.numpy(), borderType=cv2.BORDER_REPLICATE)
            for plane in low.contiguous().numpy()
        ]
        return torch.from_numpy(np.stack(blurred))
    padded = F.pad(low[:, None], (len(taps) // 2,) * 4, mode="replicate")
    return F.conv2d(padded, taps.to(low.device)[None, None])[:, 0]


@lru_cache(maxsize=64)
def _taps(blur: GaussianBlur) -> torch.Tensor:
    """Make the kernel, of odd side and sum 1, that a bicubic reduction lacks."""
    cycles = torch.fft.fftfreq(GRID_PX, dtype=torch.float64)
    angle = torch.tensor(radians(blur.degrees), dtype=torch.float64)
    right, down = cycles[None, :], cycles[:, None]
    along = right * angle.cos() - down * angle.sin()
    across = right * angle.sin() + down * angle.cos()
    wanted = torch.exp(-2 * pi**2 * ((blur.wide_px * along) ** 2 + (blur.narrow_px * across) ** 2))
    bicubic = _bicubic_response(cycles)
    # Bicubic reduction has taken its part of fine detail already; more than that is given back to
    # none.
    lacking = (wanted / (bicubic[:, None] * bicubic)).clamp(max=1)
    taps = torch.fft.fftshift(torch.fft.ifft2(lacking).real)
    reach, middle = min(MAX_REACH_PX, ceil(SIGMAS * blur.wide_px) + 1), GRID_PX // 2
    kept = slice(middle - reach, middle + reach + 1)
    cut: torch.Tensor = taps[kept, kept]
    return (cut / cut.sum()).float()


def _bicubic_response(cycles: torch.Tensor) -> torch.Tensor:
    """Compute what bicubic reduction leaves of waves of these cycles per reduced pixel, (n,)."""
    factor, side = 8, 16
    # The weights of an output pixel far from every border; much the same for every factor.
    weights = resize(torch.eye(factor * side), side, factor * side)[side // 2].double()
    positions = (torch.arange(factor * side, dtype=torch.float64) + 0.5) / factor - 0.5
    waves = torch.cos(2 * pi * cycles[:, None] * (positions - side // 2))
    response: torch.Tensor = waves @ weights
    return response
