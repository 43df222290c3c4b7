"""A large picture through a network in tiles whose seams are feathered."""

from dataclasses import dataclass

import torch

from vsr.engine.strips import cpu_pool
from vsr.errors import ModelError
from vsr.upscale.networks.network import ForwardFunction

CPU_TILE_PX = 256
GPU_TILE_PX = 768
MIN_TILE_PX = 32
FEATHER_PX = 16
"""Width of the ramp in which a tile gives way to the next, in input pixels."""


@dataclass(frozen=True)
class TileSpan:
    """A tile along one axis, in input pixels."""

    start: int
    stop: int
    """What the network sees."""
    rise: float | None
    """Middle of the ramp at its start; None at the picture's own border."""
    fall: float | None

    def weights(self, scale: int, device: torch.device) -> torch.Tensor:
        """Of the tile's output pixels; at each pixel those of all tiles add up to 1."""
        places = (torch.arange(self.start * scale, self.stop * scale, device=device) + 0.5) / scale
        weights = torch.ones_like(places)
        if self.rise is not None:
            weights = weights * ((places - self.rise) / FEATHER_PX + 0.5).clamp(0, 1)
        if self.fall is not None:
            weights = weights * ((self.fall - places) / FEATHER_PX + 0.5).clamp(0, 1)
        return weights


def run_in_tiles(
    run: ForwardFunction,
    planes: torch.Tensor,
    scale: int,
    receptive_radius_px: int,
    tile_px: int | None = None,
) -> torch.Tensor:
    """(C, h, w) -> (c, scale h, scale w).

    Pixels nearer than `receptive_radius_px` to a tile's inner edge get no weight, so a network that
    sees no further gives what it would give on the whole, within rounding. A tile that does not fit
    the memory is halved and tried again; raises `ModelError` where the smallest does not fit
    either.
    """
    tile = tile_px or (CPU_TILE_PX if planes.device.type == "cpu" else GPU_TILE_PX)
    while True:
        try:
            return _run(run, planes, scale, receptive_radius_px, tile)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if tile <= MIN_TILE_PX:
                raise ModelError(
                    f"the network does not fit into the memory of {planes.device}, even in tiles "
                    f"of {tile} pixels. Close other programs, or use --device cpu."
                ) from None
            tile //= 2
            if planes.device.type == "cuda":
                torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory is short; on a CPU it has no type of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def tile_spans(length: int, tile_px: int, receptive_radius_px: int) -> list[TileSpan]:
    """Tiles of an axis: equal shares, each with the ramp and the reach beyond it."""
    count = -(-length // tile_px)
    edges = [length * number // count for number in range(count + 1)]
    margin = receptive_radius_px + FEATHER_PX // 2
    return [
        TileSpan(
            max(0, edges[number] - margin),
            min(length, edges[number + 1] + margin),
            edges[number] if number else None,
            edges[number + 1] if number + 1 < count else None,
        )
        for number in range(count)
    ]


def _run(
    run: ForwardFunction, planes: torch.Tensor, scale: int, receptive_radius_px: int, tile_px: int
) -> torch.Tensor:
    _, height, width = planes.shape
    places = [
        (rows, columns)
        for rows in tile_spans(height, tile_px, receptive_radius_px)
        for columns in tile_spans(width, tile_px, receptive_radius_px)
    ]
    tiles = [
        planes[None, :, rows.start : rows.stop, columns.start : columns.stop]
        for rows, columns in places
    ]
    if len(tiles) == 1:
        return run(tiles[0])[0]
    outputs = cpu_pool().map(run, tiles) if planes.device.type == "cpu" else map(run, tiles)
    whole: torch.Tensor | None = None
    for (rows, columns), output in zip(places, outputs, strict=True):
        if whole is None:
            whole = planes.new_zeros(output.shape[1], height * scale, width * scale)
        weight = rows.weights(scale, planes.device)[:, None] * columns.weights(scale, planes.device)
        area = whole[
            :, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale
        ]
        area.addcmul_(output[0], weight)
    assert whole is not None
    return whole
