"""The color network made fast: its scales folded into the convolutions, cut into strips."""

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
from vsr.models.networks.color_network import (
    COLOR_GAIN,
    NUM_PLANES,
    QUANTIZER_RANGE,
    ColorNetwork,
)
from vsr.models.networks.shot_network import BLOCK, LEAK

MAX_STRIP_PX = BLOCK**2 * tiling.MAX_STRIP_PX
"""Pixels of a CPU's strip: the convolutions work on a grid with `BLOCK`^2 times fewer."""


class FastColorNetwork:
    """The function of a `ColorNetwork`, within float rounding, for the planes of one frame."""

    def __init__(
        self,
        network: ColorNetwork,
        device: torch.device,
        options: EngineOptions = EngineOptions(),
    ) -> None:
        """Copy the weights to `device`."""
        self._halo = network.spec.halo
        largest = options.max_strip_px or (MAX_STRIP_PX if device.type == "cpu" else None)
        self._strips = Strips(device, largest)
        gains = torch.full((BLOCK**2 * NUM_PLANES + 1,), COLOR_GAIN)
        gains[: BLOCK**2], gains[-1] = 1, 1 / QUANTIZER_RANGE
        layers = scale_ends(fold_convolutions(network.body), gains, 1 / COLOR_GAIN)
        self._stack = ConvolutionStack(layers, LEAK, device, options.dtype)

    def missing_color(self, planes: torch.Tensor, quantizer: float) -> torch.Tensor:
        """Find what color lacks: luma, R - Y and B - Y (3, H, W) -> (2, H, W), to be added to the
        latter two.

        Raises `ModelError` for values that are not finite.
        """
        height, width = planes.shape[1:]
        # Whole blocks: an odd side gets its last line twice.
        even = F.pad(planes[None], (0, width % BLOCK, 0, height % BLOCK), mode="replicate")[0]
        missing = torch.empty_like(even[:2])

        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = padded_strip(
                lambda first, last: even[:, first:last], even.shape[1], top, end, self._halo
            )
            blocks = F.pixel_unshuffle(padded[None], BLOCK)
            known = torch.full_like(blocks[:, :1], quantizer)
            found = self._stack(torch.cat([blocks, known], dim=1))
            check_finite(found, "the color network")
            missing[:, top:end] = F.pixel_shuffle(found, BLOCK)[0]

        self._strips.cover(work, even.shape[1], even.shape[2], BLOCK)
        return missing[:, :height, :width]
