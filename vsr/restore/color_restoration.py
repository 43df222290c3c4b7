"""Restoration of a compressed shot's colors, before anything is made of a frame.

Codecs keep color at half the size and round it coarsely. What that takes does not come back from
neighbors, since codecs carry it along the motion; a small network that was trained on pictures
reads it off luma.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from vsr.engine.color_network import FastColorNetwork
from vsr.engine.options import EngineOptions
from vsr.models.color import load_shipped_color_network
from vsr.models.networks.color_network import to_planes, to_rgb
from vsr.restore.data_term import is_coarse
from vsr.video.step import Degradation, State, Step

SHARE = 0.7
"""Share of what the network finds that is added. All of it changes the mean of nine clips by -.08
to +.06 dB, and that of four others by -.03 to -.36: pictures are more colorful than films."""
MIN_COLOR = 0.5 / 255
"""Largest difference of red and blue from luma up to which a picture is gray."""


class ColorRestoration:
    """Restores the colors of shots whose quantizer is known. Implements Stage.

    It looks at each frame by itself, so there is nothing to remember.
    """

    name = "color"
    rewind = 0

    def __init__(
        self,
        strength: float,
        device: torch.device,
        options: EngineOptions = EngineOptions(),
        *,
        has_full_color: bool = False,
    ) -> None:
        """A `strength`, 0 to 1, scales what is added to colors; 0 leaves all as it is. With
        `has_full_color` the stream stores color at the size of luma."""
        self._strength, self._device, self._options = strength, device, options
        self._has_full_color = has_full_color
        self._network: FastColorNetwork | None = None

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Restore the steps of a clip, those that come again as well: later stages look at
        them."""
        for step in steps:
            degradation = step.shot.degradation
            quantizer = (
                color_quantizer(degradation, has_full_color=self._has_full_color)
                if self._strength and degradation is not None
                else None
            )
            if quantizer is None:
                yield step
                continue
            pixels = self._restored(step.frame.pixels, quantizer)
            yield replace(step, frame=replace(step.frame, pixels=pixels))

    def state(self) -> State:
        """Nothing: each frame stands for itself."""
        return State()

    def restore(self, state: State) -> None:
        """Nothing was kept."""

    def _restored(self, pixels: torch.Tensor, quantizer: float) -> torch.Tensor:
        """Restore the colors of RGB (3, H, W); luma stays."""
        if self._network is None:
            # Read when the first shot asks for it: most clips of a kind are all clean or all coded.
            network = load_shipped_color_network()
            self._network = FastColorNetwork(network, self._device, self._options)
        planes = to_planes(pixels)
        # A gray film stays gray.
        if float(planes[1:].abs().max()) < MIN_COLOR:
            return pixels
        missing = self._network.missing_color(planes, quantizer)
        planes[1:] += SHARE * self._strength * missing
        return to_rgb(planes).clamp_(0, 1)


def color_quantizer(degradation: Degradation, *, has_full_color: bool) -> float | None:
    """Find the quantizer by which a shot lacks color; None: it lacks none that is known of.

    What a stream keeps at full size is left as it is: the network was trained on color of half the
    size, and takes up to .5 dB away there. An encoder of before may have kept less.
    """
    quantizer = degradation.earlier_qp if has_full_color else degradation.coarsest_qp
    return quantizer if is_coarse(quantizer) else None
