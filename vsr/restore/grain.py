"""Grain: noise of film or camera, made anew at the output's size after the picture is clean.

It hides what is left of blocks and ringing, and makes smoothed surfaces look like material. It is
random from frame to frame, so it comes after flicker control, and no metric sees it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from vsr.image.resample import resize
from vsr.video.step import Degradation, State, Step

FULL_GRAIN_LEVELS = 4.0
"""Standard deviation in grey levels at a strength of 1."""
GRAIN_PX = 2
"""Size of a grain in pixels of the output, where that is enlarged at least as much: single pixels
look electronic, and an encoder drops them first."""
SHADOW_SHARE = 0.5
"""Of the grain's strength in black and in white, over that in the middle of the range."""
SEED_STRIDE = 1_000_003


class Grain:
    """Adds grain to the finished pictures. Implements Stage.

    Equal frames get equal grain in every run, so it has nothing to remember.
    """

    name = "grain"
    rewind = 0

    def __init__(self, strength: float | Literal["keep"], scale: float) -> None:
        """`keep` follows the noise that was found in the source."""
        self._strength = strength
        self._size_px = GRAIN_PX if scale >= GRAIN_PX else 1

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Add grain to the steps of a clip that are not done."""
        for step in steps:
            levels = _levels_by_brightness(self._strength, step.shot.degradation)
            if step.is_done or step.picture is None or not levels:
                yield step
            else:
                picture = add_grain(step.picture, levels, step.frame.index, self._size_px)
                yield replace(step, picture=picture)

    def state(self) -> State:
        """Nothing."""
        return State()

    def restore(self, state: State) -> None:
        """Go on without a memory."""


def add_grain(
    picture: torch.Tensor, levels: tuple[tuple[float, float], ...], seed: int, size_px: int = 1
) -> torch.Tensor:
    """A picture (3, H, W) with grain of luma, in [0, 1].

    `levels` are brightness and standard deviation there, in grey levels, in rising order. Equal
    seeds give equal grain.
    """
    height, width = picture.shape[-2:]
    random = torch.Generator().manual_seed(SEED_STRIDE * (seed + 1))
    coarse = torch.randn(1, max(1, height // size_px), max(1, width // size_px), generator=random)
    noise = resize(coarse, height, width)
    # Interpolation averages: the strength asked for is that of the result.
    noise = (noise / noise.std().clamp_min(1e-6)).to(picture.device)
    weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device)
    luma = torch.einsum("c,chw->hw", weights, picture)
    known = [brightness for brightness, _ in levels]
    table = np.interp(np.arange(256), known, [sigma for _, sigma in levels]) / 255
    sigma = torch.from_numpy(table.astype(np.float32)).to(picture.device)
    strength = sigma[(255 * luma).round().clamp(0, 255).long()]
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
