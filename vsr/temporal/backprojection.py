"""Multi-frame back-projection: a frame of the result is back-projected onto its neighbors' inputs
as well.

Irani and Peleg (1991), over several registered frames: what the result would look like in each
low-resolution frame is compared with that frame, and the differences come back along the motion,
weighted by confidence on both grids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vsr.engine.resampling import resize_on_cores
from vsr.temporal.registration import ShotRegistrar


@dataclass(frozen=True)
class MultiframeOptions:
    """Strength of the pull."""

    iterations: int = 4
    """More of them gain little."""
    reach: int = 2
    """Neighbors on each side."""
    variation_step: float = 0.0005
    """Step of the descent of total variation in each iteration, in units of a range of 1."""


def back_project_multiframe(
    luma: torch.Tensor,
    index: int,
    low_lumas: Mapping[int, torch.Tensor],
    registrar: ShotRegistrar,
    options: MultiframeOptions,
) -> torch.Tensor:
    """Bring the luma (1, H, W) of frame `index` nearer to what `low_lumas`, (1, h, w) by frame,
    show; values are not clamped.

    `low_lumas` holds the frame itself and those of its neighbors that there are.
    """
    low = low_lumas[index]
    size, low_size = luma.shape[-2:], low.shape[-2:]
    near = [other for other in low_lumas if 0 < abs(other - index) <= options.reach]
    # Confidence is needed on both grids: where the result may take from a neighbor, and where the
    # neighbor's input says anything about the result.
    weights = {other: registrar.onto(index, other).weight(luma) for other in near}
    low_weights = {other: registrar.onto(other, index).weight(low) for other in near}
    for _ in range(options.iterations):
        total, weight = (
            resize_on_cores(low - resize_on_cores(luma, *low_size), *size),
            torch.ones_like(luma[0]),
        )
        for other in near:
            # The result as the neighbor's camera would have seen it, against what that did see.
            shown = resize_on_cores(registrar.onto(other, index).warp(luma), *low_size)
            missing = low_weights[other] * (low_lumas[other] - shown)
            total = total + weights[other] * registrar.onto(index, other).warp(
                resize_on_cores(missing, *size)
            )
            weight = weight + weights[other]
        # A mean, so that many neighbors do not overshoot.
        luma = luma + total / weight
        # Iterations add noise to the result; a little less variation damps it.
        luma = luma - options.variation_step * _variation_gradient(luma)
    # The frame's own input comes last, so that the result matches it best.
    return luma + _missing(luma, low)


def _missing(luma: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Enlarge what a picture (1, H, W) lacks of its input (1, h, w)."""
    return resize_on_cores(low - resize_on_cores(luma, *low.shape[-2:]), *luma.shape[-2:])


def _variation_gradient(luma: torch.Tensor) -> torch.Tensor:
    """Subgradient of the anisotropic total variation (Rudin, Osher and Fatemi, 1992)."""
    across, down = torch.sign(luma.diff(dim=-1)), torch.sign(luma.diff(dim=-2))
    gradient = torch.zeros_like(luma)
    gradient[..., 1:] += across
    gradient[..., :-1] -= across
    gradient[..., 1:, :] += down
    gradient[..., :-1, :] -= down
    return gradient
