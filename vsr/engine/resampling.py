"""`vsr.image.resample` for whole pictures on all cores, strip by strip, each piece in cache until
it is done."""

import torch

from vsr.engine.strips import Strips
from vsr.image.blur import KernelTaps, back_project_blurred
from vsr.image.resample import resize_strip


def resize_on_cores(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The same as `resample.resize` of (C, H, W), without a gradient."""
    resized = image.new_empty(len(image), height, width)

    @torch.inference_mode()
    def work(top: int, end: int) -> None:
        resized[:, top:end] = resize_strip(image, height, width, top, end)

    Strips(image.device).cover(work, height, width)
    return resized


def back_project_in_place(
    image: torch.Tensor,
    low: torch.Tensor,
    weight: float,
    kernel: KernelTaps | None = None,
    *,
    limited: bool = True,
) -> torch.Tensor:
    """`image`, (C, H, W), becomes its `resample.back_project` onto `low`, (C, h, w); in [0, 1]
    where `limited`.

    With a blur kernel it becomes its `blur.back_project_blurred`.
    """
    if kernel is not None:
        image.copy_(back_project_blurred(image, low, kernel, weight))
        return image.clamp_(0, 1) if limited else image
    height, width = image.shape[-2:]
    low_height, low_width = low.shape[-2:]
    residual = torch.empty_like(low)

    @torch.inference_mode()
    def compare(top: int, end: int) -> None:
        shown = resize_strip(image, low_height, low_width, top, end)
        torch.sub(low[:, top:end], shown, out=residual[:, top:end])

    @torch.inference_mode()
    def correct(top: int, end: int) -> None:
        strip = image[:, top:end].add_(
            resize_strip(residual, height, width, top, end), alpha=weight
        )
        if limited:
            strip.clamp_(0, 1)

    strips = Strips(image.device)
    strips.cover(compare, low_height, low_width)
    strips.cover(correct, height, width)
    return image
