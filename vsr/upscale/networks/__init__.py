"""Per-frame upscalers from a file: anything that spandrel recognizes, and the networks that `vsr
train` makes."""

from vsr.upscale.networks.files import load_network
from vsr.upscale.networks.network import UpscalingNetwork, apply_network, noise_planes

__all__ = ["UpscalingNetwork", "apply_network", "load_network", "noise_planes"]
