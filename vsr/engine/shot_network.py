"""The shot network made fast: its scales folded into the convolutions, cut into strips."""

import torch
import torch.nn.functional as F

from vsr.engine import tiling
from vsr.engine.convolutions import (
    ConvolutionStack,
    check_finite,
    fold_convolutions,
    scale_ends,
)
from vsr.engine.options import EngineOptions
from vsr.engine.tiling import Strips, padded_strip
from vsr.models.networks.shot_network import BLOCK, DIFFERENCE_GAIN, LEAK, ShotNetwork

MAX_STRIP_PX = BLOCK**2 * tiling.MAX_STRIP_PX
"""Pixels of a CPU's strip: the convolutions work on a grid with `BLOCK`^2 times fewer."""
FLAT_LEVELS = 0.25 / 255
"""Spread of luma, of a range of 1, up to which a part is of one shade."""
FLAT_COLUMNS_PX, MIN_FLAT_PX = 16, 32
"""Columns of a strip that are looked at together, and between two runs of others the least that are
left out: fewer would spend what they save on the halo of these."""
LOOK_ROWS_PX = 16
"""Distance of the rows that are looked at first: most pictures show there that nothing is flat."""


class FastShotNetwork:
    """The function of a `ShotNetwork`, within float rounding, for the planes of one frame."""

    def __init__(self, network: ShotNetwork, options: EngineOptions = EngineOptions()) -> None:
        """Copy the weights, on the device where they lie."""
        self.spec = network.spec
        device = next(network.parameters()).device
        largest = options.max_strip_px or (MAX_STRIP_PX if device.type == "cpu" else None)
        self._strips = Strips(device, largest)
        # The amplification of the neighbors' differences, whose planes come after the frame's
        # own, goes into the first layer and its inverse into the last.
        gains = torch.full((BLOCK**2 * self.spec.planes,), DIFFERENCE_GAIN)
        gains[: BLOCK**2] = 1
        layers = scale_ends(fold_convolutions(network.body), gains, 1 / DIFFERENCE_GAIN)
        self._stack = ConvolutionStack(layers, LEAK, device, options.dtype)

    def missing_detail(self, planes: torch.Tensor) -> torch.Tensor:
        """Find the detail that a frame lacks: (planes, H, W) -> (1, H, W), of even sides.

        Where the network sees nothing but one flat shade, as in black bars and around titles, it is
        not asked again and again. Raises `ModelError` for values that are not finite.
        """
        detail = torch.empty_like(planes[:1])
        height, width = planes.shape[1:]
        first, last = _rows_with_content(planes)
        # As far as the network sees and a block more, which tells what it makes of all beyond.
        margin = self.spec.halo + BLOCK
        first, last = max(0, first - margin), min(height, last + margin)
        first, last = (0, BLOCK) if first >= last else (first - first % BLOCK, last + last % BLOCK)

        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            top, end = first + top, first + end
            padded = padded_strip(
                lambda first, last: planes[:, first:last], height, top, end, self.spec.halo
            )
            halo, filled = 2 * self.spec.halo, 0
            for left, right in _columns_with_content(padded, halo):
                seen = padded[None, ..., left : right + halo]
                found = self._stack(F.pixel_unshuffle(seen, BLOCK))[0]
                check_finite(found, "the shot model")
                _write_blocks(detail[0, top:end, left:right], found)
                # What was left out before it is like the edge of the run before, or its own.
                edge = filled - BLOCK if filled else left
                _repeat_columns(detail[0, top:end], edge, filled, left)
                filled = right
            _repeat_columns(detail[0, top:end], filled - BLOCK, filled, width)

        # Strips of whole blocks: each has its own grid.
        self._strips.cover(work, last - first, width, BLOCK)
        above, below = (
            part.view(-1, BLOCK, width) for part in (detail[0, :first], detail[0, last:])
        )
        above.copy_(detail[0, first : first + BLOCK].expand_as(above))
        below.copy_(detail[0, last - BLOCK : last].expand_as(below))
        return detail


def _rows_with_content(planes: torch.Tensor) -> tuple[int, int]:
    """Find the first row that is not of one shade with all above it or shows a neighbor to differ,
    and the row after the last such one; the height and 0 where there is none."""
    return _flat_rows(planes), planes.shape[1] - _flat_rows(planes, turned=True)


def _flat_rows(planes: torch.Tensor, *, turned: bool = False) -> int:
    """Count the rows from the first, or if `turned` from the last, that are of one shade and in
    which no neighbor differs."""
    edge = planes[0, -1 if turned else 0]
    # Few pictures have bars, and one row tells.
    if edge.max() - edge.min() > FLAT_LEVELS:
        return 0
    own, *others = planes.flip(1) if turned else planes
    low, high = own.amin(dim=1).cummin(0).values, own.amax(dim=1).cummax(0).values
    flat = int((high - low <= FLAT_LEVELS).sum())
    for other in others:
        differs = (other[:flat].abs() > FLAT_LEVELS).any(dim=1).nonzero()
        flat = int(differs[0]) if len(differs) else flat
    return flat


def _columns_with_content(padded: torch.Tensor, seen_px: int) -> list[tuple[int, int]]:
    """Find the columns for which a network must be asked that makes (H - seen_px, W - seen_px) of a
    strip (planes, H, W): start and end of each run, from left to right, one run at least.

    All columns between two runs are of one shade, and so is the outermost block of columns of each
    run, which tells what the network makes of them.
    """
    width = padded.shape[2] - seen_px
    # On a GPU the host would wait for the answer.
    if padded.device.type != "cpu" or not _has_flat_part(padded[:1, ::LOOK_ROWS_PX], seen_px):
        return [(0, width)]
    runs: list[tuple[int, int]] = []
    left_out: list[tuple[float, float]] = []
    for number, shades in enumerate(_shades(padded, seen_px)):
        # All that is left out together, so that a slope is no flat part.
        left_out.append(shades)
        if max(high for _, high in left_out) - min(low for low, _ in left_out) <= FLAT_LEVELS:
            continue
        left_out.clear()
        left = max(0, number * FLAT_COLUMNS_PX - BLOCK)
        right = min(width, (number + 1) * FLAT_COLUMNS_PX + BLOCK)
        if runs and left - runs[-1][1] < MIN_FLAT_PX:
            left, _ = runs.pop()
        runs.append((left, right))
    return runs or [(0, BLOCK)]


def _has_flat_part(padded: torch.Tensor, seen_px: int) -> bool:
    return any(high - low <= FLAT_LEVELS for low, high in _shades(padded, seen_px))


def _shades(padded: torch.Tensor, seen_px: int) -> list[tuple[float, float]]:
    """Find the darkest and the lightest luma that a network sees for each `FLAT_COLUMNS_PX` columns
    of its output; minus and plus infinity where it sees a neighbor to differ."""
    own, others = padded[0], padded[1:]
    low, high = own.amin(dim=0), own.amax(dim=0)
    if len(others):
        differs = others.abs().amax(dim=(0, 1)) > FLAT_LEVELS
        low, high = low.masked_fill(differs, -torch.inf), high.masked_fill(differs, torch.inf)
    # The last part may be narrower: the edge is repeated.
    missing = -(len(low) - seen_px) % FLAT_COLUMNS_PX
    lows, highs = F.pad(torch.stack([low, high]), (0, missing), mode="replicate").unfold(
        1, FLAT_COLUMNS_PX + seen_px, FLAT_COLUMNS_PX
    )
    return list(zip(lows.amin(dim=1).tolist(), highs.amax(dim=1).tolist(), strict=True))


def _repeat_columns(rows: torch.Tensor, edge: int, start: int, end: int) -> None:
    """Repeat the block of columns at `edge` from `start` to before `end` of (H, W)."""
    if start < end:
        blocks = rows[:, start:end].unflatten(1, (-1, BLOCK))
        blocks.copy_(rows[:, None, edge : edge + BLOCK].expand_as(blocks))


def _write_blocks(target: torch.Tensor, blocks: torch.Tensor) -> None:
    """Write (BLOCK^2, H / 2, W / 2) into (H, W): a pixel shuffle in one pass over the memory."""
    height, width = target.shape
    grid = target.view(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    grid.copy_(blocks.view(BLOCK, BLOCK, height // BLOCK, width // BLOCK).permute(2, 0, 3, 1))
