"""SinGAN's super-resolution: enlarge by one step, add detail, agree with the input again, until the
size is reached."""

from collections.abc import Sequence
from math import log
from typing import Protocol

import torch

from vsr.errors import ModelError
from vsr.image.resample import scaled_size

RATIO_TOLERANCE = 0.2
"""How far, as a share, a step may be from the ratio that a generator was trained for."""


class StepUpscaler(Protocol):
    """What makes a step: a `FastGenerator`, or many as one."""

    step_ratio: float

    def enlarge(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor: ...

    def back_project(
        self, image: torch.Tensor, low: torch.Tensor, weight: float
    ) -> torch.Tensor: ...


def step_sizes(height: int, width: int, scale: float, step_ratio: float) -> list[tuple[int, int]]:
    """Height and width after each step; the last is exactly `scaled_size`. None are needed for a
    scale of 1.

    The number of steps k makes scale^(1/k) nearest to `step_ratio`. Raises `ModelError` where even
    the nearest is more than a fifth away, since detail of another scale would be added.
    """
    if scale == 1:
        return []
    fewer = max(1, int(log(scale) / log(step_ratio)))
    steps = min(fewer, fewer + 1, key=lambda count: abs(log(scale) / count - log(step_ratio)))
    ratio = scale ** (1 / steps)
    if abs(ratio / step_ratio - 1) > RATIO_TOLERANCE:
        raise ModelError(
            f"the bank's models enlarge by {step_ratio:.2f} a step, which does not reach a scale "
            f"of {scale:g}. Use a scale of {step_ratio * (1 - RATIO_TOLERANCE):.2f} or more, or "
            "--policy bicubic."
        )
    between = [scaled_size(height, width, scale ** (step / steps)) for step in range(1, steps)]
    return [*between, scaled_size(height, width, scale)]


def progressive_upscale(
    low: torch.Tensor,
    generators: Sequence[StepUpscaler],
    scale: float,
    back_projection_weight: float,
) -> torch.Tensor:
    """(3, h, w) in [0, 1] -> (3, H, W) in [0, 1]; the generators take turns over the steps.

    `back_projection_weight`, 0 to 1, weighs the back-projection onto `low` after every step. No
    noise is used, so equal inputs give equal outputs. All generators must have one step ratio.
    Raises `ModelError` for values that are not finite.
    """
    image = low
    height, width = low.shape[-2:]
    with torch.inference_mode():
        for step, size in enumerate(step_sizes(height, width, scale, generators[0].step_ratio)):
            generator = generators[step % len(generators)]
            image = generator.enlarge(image, *size)
            if back_projection_weight > 0:
                image = generator.back_project(image, low, back_projection_weight)
    return image
