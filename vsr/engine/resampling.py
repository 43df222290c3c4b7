"""`vsr.image.resample` for whole pictures on all cores: strip by strip, each piece in cache until
it is done. Without gradients."""

from collections.abc import Callable

import torch

from vsr.engine.tiling import Strips, on_one_core
from vsr.image.blur import Blur, back_project_blurred
from vsr.image.degradation import GaussianBlur
from vsr.image.gaussian_blur import spread
from vsr.image.resample import (
    BICUBIC,
    InterpolationKernel,
    resize_strip,
    resize_there_and_back,
)

Keep = Callable[[torch.Tensor], torch.Tensor]
"""Filter of a residual (C, h, w): returns the part that back-projection feeds back."""


def resize_on_cores(
    image: torch.Tensor, height: int, width: int, kernel: InterpolationKernel = BICUBIC
) -> torch.Tensor:
    """Resize as `resample.resize` does: (C, h, w) -> (C, height, width), overshoots kept."""
    resized = image.new_empty(len(image), height, width)

    @torch.inference_mode()
    def work(top: int, end: int) -> None:
        resized[:, top:end] = resize_strip(image, height, width, top, end, kernel)

    Strips(image.device).cover(work, height, width)
    return resized


def back_project_in_place(
    image: torch.Tensor,
    low: torch.Tensor,
    weight: float,
    kernel: Blur | None = None,
    *,
    twice: bool = False,
    keep: Keep | None = None,
) -> torch.Tensor:
    """Back-project `image`, (C, H, W), onto `low`, (C, h, w), in place, as `resample.back_project`
    or, with a blur kernel, `blur.back_project_blurred` does; clamp to [0, 1]. Returns `image`.

    `keep` filters the residual, (C, h, w), before it is fed back (None: no filter). `twice` asks
    for a second step before values are clamped, and goes with no filter. Raises `ModelError` for a
    ratio of sizes that the kernel does not cover.
    """
    if isinstance(kernel, GaussianBlur):
        for _ in range(2 if twice else 1):
            _back_project_once(image, low, weight, kernel, keep)
        return image.clamp_(0, 1)
    if kernel is not None:
        image.copy_(back_project_blurred(image, low, kernel, weight, keep))
        if twice:
            image.copy_(back_project_blurred(image, low, kernel, weight, keep))
        return image.clamp_(0, 1)
    height, width = image.shape[-2:]
    low_height, low_width = low.shape[-2:]
    residual = torch.empty_like(low)

    @torch.inference_mode()
    def compare(top: int, end: int) -> None:
        reduced = resize_strip(image, low_height, low_width, top, end)
        torch.sub(low[:, top:end], reduced, out=residual[:, top:end])

    @torch.inference_mode()
    def filtered() -> torch.Tensor:
        trusted = residual if keep is None else keep(residual)
        if not twice:
            return trusted
        # What the first step leaves, without a look at the picture: resizing is linear.
        left = trusted - weight * resize_there_and_back(trusted, height, width)
        return trusted + left

    @torch.inference_mode()
    def correct(top: int, end: int) -> None:
        change = resize_strip(residual, height, width, top, end)
        image[:, top:end].add_(change, alpha=weight).clamp_(0, 1)

    strips = Strips(image.device)
    # One after the other: the first strip of the correction may need any row of the residual.
    strips.cover(compare, low_height, low_width)
    residual = on_one_core(filtered, image.device)
    strips.cover(correct, height, width)
    return image


@torch.inference_mode()
def _back_project_once(
    image: torch.Tensor, low: torch.Tensor, weight: float, blur: GaussianBlur, keep: Keep | None
) -> None:
    """Correct `image`, (C, H, W), in place by what it differs from `low` through a blur."""
    reduced = resize_on_cores(image, *low.shape[-2:])

    @torch.inference_mode()
    def compared() -> torch.Tensor:
        residual = low - spread(reduced, blur)
        return residual if keep is None else keep(residual)

    residual = on_one_core(compared, image.device)
    image.add_(resize_on_cores(residual, *image.shape[-2:]), alpha=weight)
