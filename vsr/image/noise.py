"""Noise of a frame, and the back-projection weight that suits it: less for a noisy frame.

Exact back-projection also reproduces the input's noise: on Vid4 with Gaussian noise of 6 gray
levels it raised LPIPS.
"""

import torch
import torch.nn.functional as F

CLEAN_NOISE_LEVEL = 3.0
"""Gray levels of noise up to which the input is trusted in full; clean textured clips measure below
it."""
NOISY_LEVEL = 6.0
"""Gray levels of noise from which on `MIN_BACK_PROJECTION_WEIGHT` holds."""
MIN_BACK_PROJECTION_WEIGHT = 0.3
PATCH_PX = 8
QUIET_SHARE = 0.1
"""Share of the patches, the quietest, that are taken to hold noise alone."""


def back_projection_weight_for_noise(noise: float) -> float:
    """Compute the weight of the back-projection, falling from 1 to `MIN_BACK_PROJECTION_WEIGHT` as
    noise (gray levels) grows."""
    excess = min(max((noise - CLEAN_NOISE_LEVEL) / (NOISY_LEVEL - CLEAN_NOISE_LEVEL), 0.0), 1.0)
    return 1 - excess * (1 - MIN_BACK_PROJECTION_WEIGHT)


def noise_level(pixels: torch.Tensor) -> float:
    """Estimate the standard deviation of the noise of a (3, H, W) frame in [0, 1], in gray levels.

    Root mean square response of the second-difference mask of Immerkaer (1996) over the quietest
    patches of each channel's picture, so that texture does not count as noise where some part of
    the picture is flat. Taking the quietest makes it low by about a fifth. 0 for a frame too small
    to tell.
    """
    if min(pixels.shape[-2:]) < 3:
        return 0.0
    mask = pixels.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6
    response = F.conv2d(pixels[:, None], mask[None, None])
    patch = min(PATCH_PX, *response.shape[-2:])
    energy = F.avg_pool2d(response**2, patch).mean(dim=1).flatten()
    # Texture raises the energy of its patches: the quietest hold noise alone.
    quiet = energy.sort().values[: max(1, int(energy.numel() * QUIET_SHARE))]
    return 255 * float(quiet.mean().sqrt())
