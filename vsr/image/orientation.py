"""Quarter turns and mirrorings of pictures: the eight of a square, and those of the display matrix
of ISO/IEC 14496-12."""

from dataclasses import dataclass
from typing import Self

import torch


def turned(picture: torch.Tensor, turns: int, mirrored: bool) -> torch.Tensor:
    """Turn (..., H, W) by quarter turns, then mirror it across where asked for."""
    picture = torch.rot90(picture, turns, (-2, -1))
    return picture.flip(-1) if mirrored else picture


def turned_back(picture: torch.Tensor, turns: int, mirrored: bool) -> torch.Tensor:
    """Undo `turned` of the same arguments."""
    return torch.rot90(picture.flip(-1) if mirrored else picture, -turns, (-2, -1))


@dataclass(frozen=True)
class Orientation:
    """Way in which a stored picture is shown: first transposed, then mirrored."""

    transposed: bool = False
    mirrored_across: bool = False
    mirrored_down: bool = False

    @classmethod
    def from_matrix(cls, matrix: tuple[int, ...] | None) -> Self:
        """Read a display matrix; what turns a picture by no quarter leaves it as it is."""
        # Shown x is a * x + c * y, and shown y is b * x + d * y, of stored x and y.
        a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else matrix[:5]
        if b == c == 0 and a and d:
            return cls(False, a < 0, d < 0)
        if a == d == 0 and b and c:
            return cls(True, c < 0, b < 0)
        return cls()

    def __bool__(self) -> bool:
        """Tell whether anything is to be done."""
        return self != Orientation()

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture of these once it is upright."""
        return (width, height) if self.transposed else (height, width)

    def turn(self, picture: torch.Tensor) -> torch.Tensor:
        """Show (..., H, W) upright, as a view where nothing is mirrored."""
        if self.transposed:
            picture = picture.transpose(-2, -1)
        flips = [
            axis for axis, is_on in ((-1, self.mirrored_across), (-2, self.mirrored_down)) if is_on
        ]
        return picture.flip(flips) if flips else picture
