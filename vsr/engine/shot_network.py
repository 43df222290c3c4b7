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

        Raises `ModelError` for values that are not finite.
        """
        detail = torch.empty_like(planes[:1])
        height, width = planes.shape[1:]

        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = padded_strip(
                lambda first, last: planes[:, first:last], height, top, end, self.spec.halo
            )
            found = self._stack(F.pixel_unshuffle(padded[None], BLOCK))[0]
            check_finite(found, "the shot model")
            _write_blocks(detail[0, top:end], found)

        # Strips of whole blocks: each has its own grid.
        self._strips.cover(work, height, width, BLOCK)
        return detail


def _write_blocks(target: torch.Tensor, blocks: torch.Tensor) -> None:
    """Write (BLOCK^2, H / 2, W / 2) into (H, W): a pixel shuffle in one pass over the memory."""
    height, width = target.shape
    grid = target.view(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    grid.copy_(blocks.view(BLOCK, BLOCK, height // BLOCK, width // BLOCK).permute(2, 0, 3, 1))
