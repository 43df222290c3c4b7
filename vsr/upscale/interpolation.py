"""Interpolation without a model, to compare with."""

import torch

from vsr.engine.resampling import resize_on_cores
from vsr.image.resample import BICUBIC, LANCZOS, InterpolationKernel, scaled_size
from vsr.upscale.policy import PlainPolicy, PolicyContext, PolicyStage


def bicubic(context: PolicyContext) -> PolicyStage:
    """Bicubic interpolation."""
    return _interpolate(context, BICUBIC)


def lanczos(context: PolicyContext) -> PolicyStage:
    """Lanczos interpolation with three lobes."""
    return _interpolate(context, LANCZOS)


def unchanged(context: PolicyContext) -> PolicyStage:
    """Hand frames on as they are, for a scale of 1."""
    return PlainPolicy(context, lambda pixels: pixels)


def _interpolate(context: PolicyContext, kernel: InterpolationKernel) -> PolicyStage:
    def enlarge(pixels: torch.Tensor) -> torch.Tensor:
        size = scaled_size(pixels.shape[-2], pixels.shape[-1], context.scale)
        # Kernels with negative lobes overshoot at edges.
        return resize_on_cores(pixels, *size, kernel).clamp(0, 1)

    return PlainPolicy(context, enlarge)
