"""ZSSR's targets: crops of the keyframe as they are, flipped and turned, or warped."""

from math import cos, pi, sin

import torch
import torch.nn.functional as F

from vsr.training.crops import Place
from vsr.training.texture import place_by_texture, texture_map

AS_IS = 0.05
"""Share of the crops that are taken as they are."""
TURNED = 0.45
"""Share of those that are flipped and turned; the others are warped."""
LEAST_SCALE = 0.5
STRETCH = 0.25
"""Standard deviation of the difference between the scales of the two axes."""
SHEAR = 0.1


class FatherDraw:
    """Draws crops of `side` pixels out of one picture."""

    def __init__(self, picture: torch.Tensor, side: int, random: torch.Generator, *, free: bool) -> None:
        """With `free` False crops are taken as they are, the likelier and the heavier the more texture is in them."""
        self._picture, self._side, self._random, self._free = picture, side, random, free
        self._texture = texture_map(picture)
        self._by_texture = place_by_texture(self._texture, side, random)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, side, side) in [0, 1], and the weight of each pixel, (side, side)."""
        if not self._free:
            place = self._by_texture()
            return self._picture[:, *place], self._texture[place]
        chance = self._uniform(0, 1)
        crop = self._warped() if chance >= AS_IS + TURNED else self._turned(turn=chance >= AS_IS)
        return crop, torch.ones_like(crop[0])

    def _turned(self, *, turn: bool) -> torch.Tensor:
        height, width = self._picture.shape[-2:]
        turns, flip = (self._whole(4), self._whole(2)) if turn else (0, 0)
        top, left = self._whole(height - self._side + 1), self._whole(width - self._side + 1)
        place = Place(top, left, self._side, turns, flip)
        return place.turned(self._picture[:, top : top + self._side, left : left + self._side])

    def _warped(self) -> torch.Tensor:
        """A crop seen through an affine map; what lies outside the picture is mirrored in."""
        height, width = self._picture.shape[-2:]
        scale = self._uniform(LEAST_SCALE, 1)
        stretch = min(max(self._normal(STRETCH), -1.0), 1.0)
        down, right = scale * (1 + stretch / 2), scale * (1 - stretch / 2)
        angle = self._uniform(0, 2 * pi)
        turn = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
        shear = torch.tensor([[1.0, self._normal(SHEAR)], [self._normal(SHEAR), 1.0]])
        # From a pixel of the crop back to one of the picture, around their middles, x before y.
        back = torch.linalg.inv(turn @ shear @ torch.diag(torch.tensor([right, down])))
        offsets = torch.arange(self._side) - (self._side - 1) / 2
        grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1) @ back.T
        middle = torch.tensor([self._middle(width), self._middle(height)])
        sizes = torch.tensor([float(width), float(height)])
        places = (2 * (grid + middle) + 1) / sizes - 1
        warped = F.grid_sample(
            self._picture[None], places[None], mode="bicubic", padding_mode="reflection", align_corners=False
        )
        return warped[0].clamp(0, 1)

    def _middle(self, length: int) -> float:
        half = (self._side - 1) / 2
        return self._uniform(half, max(half, length - 1 - half))

    def _uniform(self, least: float, most: float) -> float:
        return least + (most - least) * float(torch.rand((), generator=self._random))

    def _normal(self, deviation: float) -> float:
        return deviation * float(torch.randn((), generator=self._random))

    def _whole(self, bound: int) -> int:
        return int(torch.randint(bound, (), generator=self._random))
