"""Per-frame upscalers from a file: anything that spandrel recognises, and the networks that `vsr
train` makes."""

from vsr.upscale.networks.apply import apply_network, noise_planes
from vsr.upscale.networks.files import load_network
from vsr.upscale.networks.network import UpscalingNetwork

__all__ = ["UpscalingNetwork", "apply_network", "load_network", "noise_planes"]
