"""The last touch to finished pictures: limited overshoot, and grain.

Both come after flicker control, and no metric of a run sees them. Grain hides what is left of
blocks and ringing, and makes smoothed surfaces look like material; it is random from frame to
frame.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from vsr.image.luma import luma
from vsr.image.resample import resize
from vsr.restore.edges import limit_overshoot
from vsr.video.step import Degradation, State, Step

FULL_GRAIN_LEVELS = 4.0
"""Standard deviation in gray levels at a strength of 1."""
GRAIN_PX = 2
"""Size of a grain in pixels of the output, where that is enlarged at least as much: single pixels
look electronic, and an encoder drops them first."""
SHADOW_SHARE = 0.5
"""Strength of grain in black and in white, over that in the middle of the range."""
SEED_STRIDE = 1_000_003


class Finishing:
    """Limits and grains the finished pictures. Implements Stage.

    Whatever comes before it goes on from pictures without them: its state is the last of these.
    """

    name = "finish"
    rewind = 0

    def __init__(
        self,
        grain: float | Literal["keep"],
        scale: float,
        *,
        limits_overshoot: bool = False,
    ) -> None:
        """A grain of `keep` follows the noise that was found in the source."""
        self._grain, self._limits_overshoot = grain, limits_overshoot
        self._size_px = GRAIN_PX if scale >= GRAIN_PX else 1
        self.before: torch.Tensor | None = None
        """The last picture as it was before, where it was changed."""

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Finish the steps of a clip that are not done."""
        for step in steps:
            if step.is_done or step.picture is None:
                yield step
                continue
            levels = _levels_by_brightness(self._grain, step.shot.degradation)
            picture = step.picture
            if self._limits_overshoot:
                picture = limit_overshoot(picture, step.frame.pixels)
            if levels:
                picture = add_grain(picture, levels, step.frame.index, self._size_px)
            self.before = None if picture is step.picture else step.picture
            yield replace(step, picture=picture)

    def state(self) -> State:
        """The last picture before it was changed."""
        return State(tensors={} if self.before is None else {"before": self.before})

    def restore(self, state: State) -> None:
        """Know that picture again."""
        self.before = state.tensors.get("before")


def add_grain(
    picture: torch.Tensor, levels: tuple[tuple[float, float], ...], seed: int, size_px: int = 1
) -> torch.Tensor:
    """A picture (3, H, W) with grain of luma, in [0, 1].

    `levels` are brightness and standard deviation there, in gray levels, in rising order. Equal
    seeds give equal grain.
    """
    height, width = picture.shape[-2:]
    random = torch.Generator().manual_seed(SEED_STRIDE * (seed + 1))
    coarse = torch.randn(1, max(1, height // size_px), max(1, width // size_px), generator=random)
    noise = resize(coarse.to(picture.device), height, width)
    # Interpolation averages: the strength asked for is that of the result.
    noise = noise / noise.std().clamp_min(1e-6)
    known = [brightness for brightness, _ in levels]
    table = np.interp(np.arange(256), known, [sigma for _, sigma in levels]) / 255
    sigma = torch.from_numpy(table.astype(np.float32)).to(picture.device)
    strength = sigma[(255 * luma(picture)).round().clamp(0, 255).long()]
    return (picture + noise * strength).clamp(0, 1)


def _levels_by_brightness(
    strength: float | Literal["keep"], degradation: Degradation | None
) -> tuple[tuple[float, float], ...]:
    """Brightness and standard deviation of the grain there; empty where there is to be none."""
    if strength == "keep":
        if degradation is None or not degradation.noise_sigma:
            return ()
        return degradation.noise_by_brightness or ((128, degradation.luma_noise_sigma),)
    full = strength * FULL_GRAIN_LEVELS
    return ((0, SHADOW_SHARE * full), (128, full), (255, SHADOW_SHARE * full)) if full else ()
