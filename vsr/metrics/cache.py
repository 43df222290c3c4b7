"""Work that several results share because they are compared with the same frames."""

from collections import OrderedDict
from typing import Any

import torch

from vsr.image.resample import resize
from vsr.metrics.observation import FramePair, MetricImage

Key = tuple[Any, ...]


class FramePairCache:
    """Makes the step of the same pixels after the same picture once; its motion is then worked out
    once.

    Pixels are the same where they lie at one place in memory, which holds as long as they are
    remembered.
    """

    def __init__(self, capacity: int = 4) -> None:
        """Room for the truth and the enlarged input of one time, cropped in two ways."""
        self._capacity = capacity
        self._enlarged: OrderedDict[Key, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._steps: OrderedDict[Key, FramePair] = OrderedDict()

    def enlarge(self, low_resolution: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """By `vsr.image.resample.resize`, clamped to [0, 1]."""
        key = (*_tensor_key(low_resolution), height, width)
        known = self._enlarged.get(key)
        if known is None:
            known = (low_resolution, resize(low_resolution, height, width).clamp(0, 1))
            self._enlarged[key] = known
            self._evict_oldest(self._enlarged)
        return known[1]

    def step(
        self,
        pixels: torch.Tensor,
        uncropped: torch.Tensor,
        previous: MetricImage | None,
        flow_preset: int,
    ) -> FramePair:
        """The picture of these pixels (3, H, W) and the one before it."""
        key = (*_tensor_key(pixels), *_tensor_key(uncropped), id(previous), flow_preset)
        step = self._steps.get(key)
        if step is None:
            step = FramePair(MetricImage(pixels, uncropped), previous, flow_preset=flow_preset)
            self._steps[key] = step
            self._evict_oldest(self._steps)
        return step

    def _evict_oldest(self, capacity: OrderedDict[Key, Any]) -> None:
        if len(capacity) > self._capacity:
            capacity.popitem(last=False)


def _tensor_key(pixels: torch.Tensor) -> Key:
    return pixels.data_ptr(), pixels.device, pixels.shape, pixels.stride()
