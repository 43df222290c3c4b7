"""What an upscaler is: a network and what has to be known to feed it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from vsr.engine.options import name_of_dtype

DEFAULT_RECEPTIVE_RADIUS_PX = 16
"""Taken for networks that do not tell how far they see: what lies further away changes little."""

ForwardFunction = Callable[[torch.Tensor], torch.Tensor]
"""Planes (1, C, h, w) -> colours (1, c, H, W)."""


@dataclass(frozen=True)
class LumaRange:
    """Where black and white of BT.601 luma lie for a network that works on luma alone."""

    black: float
    white: float

    def from_rgb(self, picture: torch.Tensor) -> torch.Tensor:
        """Luma (..., 1, H, W) of RGB (..., 3, H, W) in [0, 1]."""
        weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device)
        luma = torch.einsum("c,...chw->...hw", weights, picture)[..., None, :, :]
        return self.black + (self.white - self.black) * luma

    def change(self, luma: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """What must be added to each colour of `picture` so that it has this luma and its own
        chroma."""
        return (luma - self.from_rgb(picture)) / (self.white - self.black)


FULL_RANGE = LumaRange(0.0, 1.0)
STUDIO_RANGE = LumaRange(16 / 255, 235 / 255)
"""What MATLAB's rgb2ycbcr gives, and with it most of the literature."""


@dataclass(frozen=True, eq=False)
class UpscalingNetwork:
    """One network, ready to run."""

    name: str
    """File name without its suffix."""
    arch: str
    scale: int
    """What the network itself enlarges by; 1 for one that only restores."""
    run: ForwardFunction
    num_parameters: int
    luma: LumaRange | None
    """Of a network that knows luma alone, chroma being left to bicubic interpolation; None for one
    that takes RGB."""
    enlarged_first: bool = False
    """Whether the network takes a bicubically enlarged picture, and keeps its size."""
    noise_channels: int = 0
    """Channels of noise that it takes beside the picture."""
    receptive_radius_px: int = DEFAULT_RECEPTIVE_RADIUS_PX
    """How far, in pixels of what the network takes, an output pixel sees."""
    consistency_passes: int = 0
    """Back-projections onto the input that belong to the method."""
    remark: str | None = None
    """What the user ought to know of its inputs."""
    dtype: torch.dtype = torch.float32
    """What it computes in."""

    def infer(self, planes: torch.Tensor) -> torch.Tensor:
        """float32 planes (1, C, h, w) -> float32 colours (1, c, H, W); what is given is left as it
        is."""
        # A copy: some networks, such as spandrel's RCAN, work on their input in place.
        return self.run(planes.to(self.dtype, copy=True)).float()

    @property
    def summary(self) -> str:
        """A few words for the record."""
        kind = "luma" if self.luma else "RGB"
        half = "" if self.dtype == torch.float32 else f", in {name_of_dtype(self.dtype)}"
        return (
            f"{self.arch} x{self.scale}, {kind}, {self.num_parameters / 1000:.0f} thousand "
            f"parameters{half}"
        )


def prepare_for_inference(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Change a network into one that only runs, on `device` and in `dtype`."""
    network.eval().requires_grad_(False).to(device, dtype)
    if all(parameter.ndim in (1, 4) for parameter in network.parameters()):
        # Convolutions alone: 1.1 to 2 times as fast on a CPU. Attention may want its features the
        # other way round.
        network.to(memory_format=torch.channels_last)
