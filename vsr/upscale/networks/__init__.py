"""Per-frame upscalers from a file: anything that spandrel recognises, and the networks that `vsr train` makes."""

from vsr.upscale.networks.apply import enlarge, noise_planes
from vsr.upscale.networks.files import load_upscaler
from vsr.upscale.networks.network import Upscaler

__all__ = ["Upscaler", "enlarge", "load_upscaler", "noise_planes"]
