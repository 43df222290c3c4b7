"""A picture through an upscaler, to any size."""

from math import ceil, log

import torch

from vsr.engine.tiling import run_in_tiles
from vsr.errors import ModelError
from vsr.image.resample import back_project, resize
from vsr.upscale.networks.network import UpscalingNetwork


@torch.inference_mode()
def apply_network(
    upscaler: UpscalingNetwork,
    picture: torch.Tensor,
    height: int,
    width: int,
    seed: int = 0,
    tile_px: int | None = None,
) -> torch.Tensor:
    """RGB (3, h, w) in [0, 1] -> (3, height, width) in [0, 1].

    The network is applied until the size is reached; what is too large then is reduced by
    `vsr.image.resample`. `seed` is that of the noise of a stochastic network. Raises `ModelError`
    for values that are not finite.
    """
    result = picture
    for step in range(
        num_passes(upscaler.scale, max(height / picture.shape[-2], width / picture.shape[-1]))
    ):
        result = _apply_once(
            upscaler, result, noise_planes(upscaler, result, 16 * seed + step), tile_px
        )
    result = resize(result, height, width)
    for _ in range(upscaler.consistency_passes):
        result = back_project(result.clamp(0, 1), picture)
    return result.clamp(0, 1)


def num_passes(own_scale: int, wanted: float) -> int:
    """How often a network is applied to enlarge by `wanted` or more; once for one that does not
    enlarge."""
    if own_scale == 1:
        return 1
    return max(1, ceil(log(wanted) / log(own_scale) - 1e-6))


def scale_note(upscaler: UpscalingNetwork, scale: float) -> str | None:
    """What the user ought to know of an upscaler whose scale is not the wanted one."""
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
    """Noise (channels, h, w) from N(0, 1), the same for the same seed and size; None where the
    network takes none."""
    if upscaler.noise_channels == 0:
        return None
    random = torch.Generator().manual_seed(seed)
    return torch.randn(upscaler.noise_channels, *picture.shape[-2:], generator=random).to(
        picture.device
    )


def _not_finite_reason(dtype: torch.dtype) -> str:
    if dtype == torch.float16:
        return "its features may be beyond the range of fp16, use --dtype fp32"
    return "the network or its file is broken"


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
    return (enlarged + upscaler.luma.change(luma, enlarged)).clamp(0, 1)


def _run(
    upscaler: UpscalingNetwork, planes: torch.Tensor, scale: int, tile_px: int | None
) -> torch.Tensor:
    """What the network itself makes, before a limit would turn infinity into white."""
    made = run_in_tiles(upscaler.infer, planes, scale, upscaler.receptive_radius_px, tile_px)
    if not torch.isfinite(made).all():
        raise ModelError(
            f"{upscaler.name} gave values that are not finite: "
            f"{_not_finite_reason(upscaler.dtype)}."
        )
    return made
