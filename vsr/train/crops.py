"""Pairs of pictures to train on, and crops of them that are flipped and turned alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F

from vsr.image.blur import FACTOR, KernelTaps, reduce_blurred, taps_to_tensor
from vsr.image.orientation import turned, turned_back
from vsr.image.resample import resize
from vsr.models.networks.singan import NetworkSpec, pad

MIN_CROP_PX = 16
MIN_PAIR_SCALE = 0.4
"""Size of a keyframe: the smallest that may be trained on then still holds a critic's patch."""


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A picture that a generator sees and the one it should make of it, both in [-1, 1]."""

    padded: torch.Tensor
    """The blurred base, extended by the network's halo, (3, h + 2 halo, w + 2 halo)."""
    target: torch.Tensor
    """(3, h, w)."""


@dataclass(frozen=True)
class CropPlacement:
    """Where a square crop lies in a pair, and how it is turned."""

    top: int
    left: int
    side: int
    turns: int
    """Quarter turns."""
    flip: int
    """1: mirrored after the turns."""

    def cut(self, picture: torch.Tensor, halo: int = 0) -> torch.Tensor:
        """Cut the crop out of (..., H + 2 halo, W + 2 halo), with its halo, and turn it."""
        rows = slice(self.top, self.top + self.side + 2 * halo)
        columns = slice(self.left, self.left + self.side + 2 * halo)
        return self.augmented(picture[..., rows, columns])

    def enlarged(self, scale: int) -> "CropPlacement":
        """Enlarge the placement to a picture `scale` times as large."""
        top, left, side = (scale * length for length in (self.top, self.left, self.side))
        return CropPlacement(top, left, side, self.turns, self.flip)

    def augmented(self, crop: torch.Tensor) -> torch.Tensor:
        """Turn and mirror (..., side, side)."""
        return turned(crop, self.turns, bool(self.flip))

    def undo_augmentation(self, crop: torch.Tensor) -> torch.Tensor:
        """Give back what `augmented` was given."""
        return turned_back(crop, self.turns, bool(self.flip))


def multiscale_pairs(
    picture: torch.Tensor,
    network: NetworkSpec,
    step_ratio: float,
    scales: Sequence[float],
    kernel: KernelTaps | None = None,
) -> list[TrainingPair]:
    """Make a pair for each of `scales`: the (3, H, W) picture in [0, 1] reduced by it, and that
    reduced by one step.

    The reduced picture is rounded to 8 bits, as a clip's own frames are. With a blur `kernel` a
    step is one of half the size through it.
    """
    assert kernel is None or step_ratio == FACTOR, "a kernel is one of half the size"
    height, width = picture.shape[-2:]
    pairs = []
    for scale in scales:
        # Several sizes: the model is applied step by step, and sees pictures of each.
        target = resize(picture, round(height * scale), round(width * scale)).clamp(0, 1)
        if kernel is None:
            low_height, low_width = (round(side / step_ratio) for side in target.shape[-2:])
            low = resize(target, low_height, low_width)
        else:
            # Every other pixel is kept, so both sides must be even.
            even = [side // FACTOR * FACTOR for side in target.shape[-2:]]
            target = target[:, : even[0], : even[1]]
            low = reduce_blurred(target, taps_to_tensor(kernel))
        # Rounded, as what a clip hands over is: else the model would learn from digits that are not
        # there.
        base = resize((low.clamp(0, 1) * 255).round() / 255, *target.shape[-2:])
        pairs.append(TrainingPair(pad((2 * base - 1)[None], network)[0], 2 * target - 1))
    return pairs


def draw_placement(
    size: Sequence[int],
    side: int,
    draw: Callable[[int], int],
    *,
    augmented: bool = True,
    grid: int = 1,
) -> CropPlacement:
    """Place a crop of at most `side` pixels a side at random in a picture of `size`, height and
    width, on a multiple of `grid`; turn and flip it at random where asked for."""
    height, width = size
    side = min(side, height, width)
    top, left = (grid * draw((length - side) // grid + 1) for length in (height, width))
    turns, flip = (draw(4), draw(2)) if augmented else (0, 0)
    return CropPlacement(top, left, side, turns, flip)


def crop_batch(
    pair: TrainingPair, places: Sequence[CropPlacement]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of matching crops at places of one side: inputs with their halo, and targets."""
    halo = (pair.padded.shape[-1] - pair.target.shape[-1]) // 2
    inputs = [place.cut(pair.padded, halo) for place in places]
    return torch.stack(inputs), torch.stack([place.cut(pair.target) for place in places])


def without_halo(padded: torch.Tensor, halo: int) -> torch.Tensor:
    """(..., H + 2 halo, W + 2 halo) -> (..., H, W)."""
    return padded[..., halo:-halo, halo:-halo]


class DeviceCropper:
    """Pictures of several sizes on a device, of which many turned squares are cut in one step."""

    def __init__(self, pictures: Sequence[torch.Tensor], side: int, device: torch.device) -> None:
        """(C, H, W) each; all squares are of one `side`."""
        # All pictures in one row of pixels, so that one gather reaches them all.
        self._samples = torch.cat([picture.flatten(1) for picture in pictures], dim=1).to(device)
        self._starts = [0, *accumulate(picture[0].numel() for picture in pictures)]
        self._widths = [picture.shape[-1] for picture in pictures]
        # One table of positions for each of the eight ways that a square can be turned.
        ways = [CropPlacement(0, 0, side, turns, flip) for turns in range(4) for flip in range(2)]
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        self._rows, self._columns = (
            torch.stack([way.augmented(positions) for way in ways]).to(device)
            for positions in (rows, columns)
        )

    def crop_batch(self, places: Sequence[tuple[int, CropPlacement]]) -> torch.Tensor:
        """Cut (N, C, side, side) at each place in the picture of that number, turned."""
        numbers = [
            (
                self._starts[number] + place.top * width + place.left,
                width,
                2 * place.turns + place.flip,
            )
            for number, place in places
            for width in [self._widths[number]]
        ]
        # Three numbers for each crop go to the device, not its pixels.
        first, width, way = torch.tensor(numbers).to(self._samples.device).T
        positions = (
            first[:, None, None] + width[:, None, None] * self._rows[way] + self._columns[way]
        )
        return self._samples[:, positions].transpose(0, 1)


def integer_sampler(random: torch.Generator) -> Callable[[int], int]:
    """Make a function that draws a whole number from 0 up to, without, its argument."""
    return lambda bound: int(torch.randint(bound, (), generator=random))


SMOOTHING_PX = 5


def texture_map(picture: torch.Tensor) -> torch.Tensor:
    """Mean gradient of the gray picture around each pixel of (3, H, W), divided by its mean: (H,
    W), at least 0."""
    gray = picture.mean(dim=0)
    down, right = torch.gradient(gray)
    spread = F.pad(torch.hypot(down, right)[None, None], (SMOOTHING_PX // 2,) * 4, mode="replicate")
    # Averaged: a single edge pixel does not make a place textured.
    texture = F.avg_pool2d(spread, SMOOTHING_PX, stride=1)[0, 0]
    return texture / texture.mean().clamp_min(1e-12)


def texture_weighted_sampler(
    texture: torch.Tensor, side: int, random: torch.Generator
) -> Callable[[], tuple[slice, slice]]:
    """Make a function that draws rows and columns of a square crop of `side`, the likelier the more
    texture is in it."""
    # A place counts with the texture of the whole square that would begin there.
    likelihood = F.avg_pool2d(texture[None, None], side, stride=1)[0, 0]
    columns = likelihood.shape[-1]
    # A sum of doubles to search in: `torch.multinomial` takes no more than 2^24 places.
    up_to = likelihood.flatten().double().cumsum(0)

    def draw() -> tuple[slice, slice]:
        # The inverse of the cumulative sum; in doubles, since floats would skip places of large
        # pictures.
        at = torch.rand((), dtype=torch.float64, generator=random) * up_to[-1]
        place = min(int(torch.searchsorted(up_to, at)), len(up_to) - 1)
        top, left = divmod(place, columns)
        return slice(top, top + side), slice(left, left + side)

    return draw
