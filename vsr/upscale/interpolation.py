"""Interpolation without a model, to compare with."""

from vsr.image.resample import BICUBIC, LANCZOS, InterpolationKernel, resize, scaled_size
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
    def size(height: int, width: int) -> tuple[int, int]:
        return scaled_size(height, width, context.scale)

    # Kernels with negative lobes overshoot at edges.
    return PlainPolicy(
        context, lambda pixels: resize(pixels, *size(*pixels.shape[-2:]), kernel).clamp(0, 1)
    )
