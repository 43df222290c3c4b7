"""Interpolation without a model, to compare with."""

from vsr.image.resample import BICUBIC, LANCZOS, InterpolationKernel, resize, scaled_size
from vsr.upscale.policy import Policy, PolicyContext, per_frame


def bicubic(context: PolicyContext) -> Policy:
    """Bicubic interpolation."""
    return _interpolate(context.scale, BICUBIC)


def lanczos(context: PolicyContext) -> Policy:
    """Lanczos interpolation with three lobes."""
    return _interpolate(context.scale, LANCZOS)


def _interpolate(scale: float, kernel: InterpolationKernel) -> Policy:
    def size(height: int, width: int) -> tuple[int, int]:
        return scaled_size(height, width, scale)

    return per_frame(lambda pixels: resize(pixels, *size(*pixels.shape[-2:]), kernel).clamp(0, 1))
