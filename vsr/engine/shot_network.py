"""A window network made ready to run: its scales folded into the convolutions, cut into strips."""

import torch
import torch.nn.functional as F
from torch import nn

from vsr.engine import strips
from vsr.engine.convolutions import ConvolutionStack, Layer
from vsr.engine.options import EngineOptions
from vsr.engine.strips import Strips, padded_strip
from vsr.errors import ModelError
from vsr.models.networks.shot_network import BLOCK, DIFFERENCE_GAIN, LEAK, ShotNetwork

MAX_STRIP_PX = BLOCK**2 * strips.MAX_STRIP_PX
"""Of a CPU's strips: the convolutions work on a grid with that many pixels fewer."""


class FastShotNetwork:
    """The same function as a `ShotNetwork`, within float rounding, for the planes of one frame."""

    def __init__(self, network: ShotNetwork, options: EngineOptions = EngineOptions()) -> None:
        self.spec = network.spec
        device = next(network.parameters()).device
        largest = options.max_strip_px or (MAX_STRIP_PX if device.type == "cpu" else None)
        self._strips = Strips(device, largest)
        self._stack = ConvolutionStack(_scaled_convolutions(network), LEAK, device, options.dtype)

    def missing_detail(self, planes: torch.Tensor) -> torch.Tensor:
        """(planes, H, W) -> (1, H, W), of even sides. Raises `ModelError` for values that are not
        finite."""
        detail = torch.empty_like(planes[:1])
        height, width = planes.shape[1:]

        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = padded_strip(
                lambda first, last: planes[:, first:last], height, top, end, self.spec.halo
            )
            found = self._stack(F.pixel_unshuffle(padded[None], BLOCK))
            if not torch.isfinite(found.sum()):
                raise ModelError(
                    "the shot model gave values that are not finite: it is broken. Train it again."
                )
            _write_blocks(detail[0, top:end], found[0])

        self._strips.cover(work, height, width, BLOCK)
        return detail


def _scaled_convolutions(network: ShotNetwork) -> list[Layer]:
    """Weights and biases with the amplification of the neighbours in the first and its inverse in
    the last."""
    layers = []
    for layer in network.body:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        layers.append((layer.weight.detach(), layer.bias.detach()))
    (first, bias), (last, last_bias) = layers[0], layers[-1]
    amplified = torch.cat([first[:, : BLOCK**2], first[:, BLOCK**2 :] * DIFFERENCE_GAIN], dim=1)
    return [(amplified, bias), *layers[1:-1], (last / DIFFERENCE_GAIN, last_bias / DIFFERENCE_GAIN)]


def _write_blocks(target: torch.Tensor, blocks: torch.Tensor) -> None:
    """Write (block, H / 2, W / 2) into (H, W): a pixel shuffle in one pass."""
    height, width = target.shape
    grid = target.view(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    grid.copy_(blocks.view(BLOCK, BLOCK, height // BLOCK, width // BLOCK).permute(2, 0, 3, 1))
