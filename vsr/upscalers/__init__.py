"""Per-frame upscalers from a file: anything that spandrel recognises, and the networks that `vsr train` makes."""

from vsr.upscalers.enlarging import enlarge, noise_planes
from vsr.upscalers.files import load_upscaler
from vsr.upscalers.upscaler import Upscaler

__all__ = ["Upscaler", "enlarge", "load_upscaler", "noise_planes"]
