"""Networks that enlarge one frame: what has to be known to feed one, and a picture through it to
any size."""

from dataclasses import dataclass
from math import ceil, log

import torch
from torch import nn

from vsr.engine.options import name_of_dtype
from vsr.engine.tiling import ForwardFunction, run_in_tiles
from vsr.errors import ModelError
from vsr.image.luma import LUMA_WEIGHTS
from vsr.image.resample import back_project, resize

DEFAULT_RECEPTIVE_RADIUS_PX = 16
"""Reach taken for networks that do not tell how far they see: what lies further away changes
little."""


@dataclass(frozen=True)
class LumaRange:
    """Black and white of BT.601 luma for a network that works on luma alone."""

    black: float
    white: float

    def from_rgb(self, picture: torch.Tensor) -> torch.Tensor:
        """RGB (..., 3, H, W) in [0, 1] -> luma (..., 1, H, W) in [black, white]."""
        weights = torch.tensor(LUMA_WEIGHTS, device=picture.device)
        luma = torch.einsum("c,...chw->...hw", weights, picture)[..., None, :, :]
        return self.black + (self.white - self.black) * luma

    def change(self, luma: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Return what must be added to each color of `picture` so that it has this luma and its own
        chroma."""
        # Luma's weights add up to 1: what is added to all three colors is added to luma.
        return (luma - self.from_rgb(picture)) / (self.white - self.black)


FULL_RANGE = LumaRange(0.0, 1.0)
STUDIO_RANGE = LumaRange(16 / 255, 235 / 255)
"""Range of MATLAB's rgb2ycbcr, and with it of most of the literature."""


@dataclass(frozen=True, eq=False)
class UpscalingNetwork:
    """One network, ready to run."""

    name: str
    """File name without its suffix."""
    arch: str
    scale: int
    """Factor by which the network itself enlarges; 1 for one that only restores."""
    run: ForwardFunction
    num_parameters: int
    luma: LumaRange | None
    """Range of a network that knows luma alone, chroma being left to bicubic interpolation; None
    for one that takes RGB."""
    enlarged_first: bool = False
    """True for a network that takes a bicubically enlarged picture, and keeps its size."""
    noise_channels: int = 0
    """Channels of noise that it takes beside the picture."""
    receptive_radius_px: int = DEFAULT_RECEPTIVE_RADIUS_PX
    """Distance, in pixels of what the network takes, that an output pixel sees."""
    consistency_passes: int = 0
    """Back-projections onto the input that belong to the method."""
    remark: str | None = None
    """Note for the user on its inputs."""
    dtype: torch.dtype = torch.float32
    """Precision that it computes in."""

    def infer(self, planes: torch.Tensor) -> torch.Tensor:
        """float32 planes (1, C, h, w) -> float32 colors (1, c, H, W); the planes are left as they
        are."""
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
    """Change a network that nobody else holds into one that only runs, on `device` in `dtype`."""
    network.eval().requires_grad_(False).to(device, dtype)
    if all(parameter.ndim in (1, 4) for parameter in network.parameters()):
        # Convolutions alone: 1.1 to 2 times as fast on a CPU. Attention may want its features the
        # other way round.
        network.to(memory_format=torch.channels_last)


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that a network learned."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.inference_mode()
def apply_network(
    upscaler: UpscalingNetwork,
    picture: torch.Tensor,
    height: int,
    width: int,
    seed: int = 0,
    tile_px: int | None = None,
) -> torch.Tensor:
    """Enlarge RGB (3, h, w) in [0, 1] to (3, height, width) in [0, 1].

    The network is applied until the size is reached; what is too large then is reduced by
    `vsr.image.resample`. `seed` is that of the noise of a stochastic network. Raises `ModelError`
    for values that are not finite.
    """
    result = picture
    wanted = max(height / picture.shape[-2], width / picture.shape[-1])
    for step in range(num_passes(upscaler.scale, wanted)):
        # A noise of its own for each pass.
        noise = noise_planes(upscaler, result, 16 * seed + step)
        result = _apply_once(upscaler, result, noise, tile_px)
    result = resize(result, height, width)
    for _ in range(upscaler.consistency_passes):
        result = back_project(result.clamp(0, 1), picture)
    return result.clamp(0, 1)


def num_passes(own_scale: int, wanted: float) -> int:
    """Count how often a network is applied to enlarge by `wanted` or more; once for one that does
    not enlarge."""
    if own_scale == 1:
        return 1
    # A little less than the quotient: rounded sides may ask for a hair more than a power.
    return max(1, ceil(log(wanted) / log(own_scale) - 1e-6))


def scale_note(upscaler: UpscalingNetwork, scale: float) -> str | None:
    """Tell the user how a network of another scale than the wanted one is applied; None for one of
    that scale."""
    if upscaler.scale == scale:
        return None
    count = num_passes(upscaler.scale, scale)
    made = upscaler.scale**count
    times = "once" if count == 1 else f"{count} times"
    resized = (
        ""
        if made == scale
        else f", and its result resized from x{made} to x{scale:g} by bicubic interpolation"
    )
    return (
        f"{upscaler.name} enlarges by {upscaler.scale}, and x{scale:g} is wanted: it is "
        f"applied {times}{resized}"
    )


def noise_planes(
    upscaler: UpscalingNetwork, picture: torch.Tensor, seed: int
) -> torch.Tensor | None:
    """Draw noise (channels, h, w) from N(0, 1), the same for the same seed and size; None where the
    network takes none."""
    if upscaler.noise_channels == 0:
        return None
    # On the CPU, so that every device gets the same.
    random = torch.Generator().manual_seed(seed)
    return torch.randn(upscaler.noise_channels, *picture.shape[-2:], generator=random).to(
        picture.device
    )


def _apply_once(
    upscaler: UpscalingNetwork,
    picture: torch.Tensor,
    noise: torch.Tensor | None,
    tile_px: int | None,
) -> torch.Tensor:
    scale = 1 if upscaler.enlarged_first else upscaler.scale
    if upscaler.luma is None:
        planes = picture if noise is None else torch.cat([picture, noise])
        return _run(upscaler, planes, scale, tile_px).clamp(0, 1)
    height, width = picture.shape[-2:]
    enlarged = resize(picture, upscaler.scale * height, upscaler.scale * width).clamp(0, 1)
    planes = upscaler.luma.from_rgb(enlarged if upscaler.enlarged_first else picture)
    luma = _run(upscaler, planes, scale, tile_px)
    # The network's luma with the chroma of bicubic interpolation.
    return (enlarged + upscaler.luma.change(luma, enlarged)).clamp(0, 1)


def _run(
    upscaler: UpscalingNetwork, planes: torch.Tensor, scale: int, tile_px: int | None
) -> torch.Tensor:
    """Return the network's own result, checked before a limit would turn infinity into white."""
    made = run_in_tiles(upscaler.infer, planes, scale, upscaler.receptive_radius_px, tile_px)
    if not torch.isfinite(made).all():
        reason = "the network or its file is broken"
        if upscaler.dtype == torch.float16:
            reason = "its features may be beyond the range of fp16, use --dtype fp32"
        raise ModelError(f"{upscaler.name} gave values that are not finite: {reason}.")
    return made
