"""Where a picture holds something to learn from: its gradients."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

WINDOW_PX = 5


def texture_map(picture: torch.Tensor) -> torch.Tensor:
    """Mean gradient of the grey picture around each pixel of (3, H, W), divided by its mean: (H, W), at least 0."""
    grey = picture.mean(dim=0)
    down, right = torch.gradient(grey)
    spread = F.pad(torch.hypot(down, right)[None, None], (WINDOW_PX // 2,) * 4, mode="replicate")
    texture = F.avg_pool2d(spread, WINDOW_PX, stride=1)[0, 0]
    return texture / texture.mean().clamp_min(1e-12)


def place_by_texture(texture: torch.Tensor, side: int, random: torch.Generator) -> Callable[[], tuple[slice, slice]]:
    """A function that draws rows and columns of a square crop of `side`, the likelier the more texture is in it."""
    likelihood = F.avg_pool2d(texture[None, None], side, stride=1)[0, 0]
    columns = likelihood.shape[-1]
    # A sum of doubles to search in: `torch.multinomial` takes no more than 2^24 places.
    up_to = likelihood.flatten().double().cumsum(0)

    def draw() -> tuple[slice, slice]:
        at = torch.rand((), dtype=torch.float64, generator=random) * up_to[-1]
        place = min(int(torch.searchsorted(up_to, at)), len(up_to) - 1)
        top, left = divmod(place, columns)
        return slice(top, top + side), slice(left, left + side)

    return draw
