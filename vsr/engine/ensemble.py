"""Many generators of one shape as one call, for a GPU, which a small network alone leaves idle.

On a CPU they are slower so than one after another in strips that stay in cache.
"""

from collections.abc import Sequence

import torch

from vsr.engine.generator import MIDPOINT, StepOptions, check_finite, folded_convolutions
from vsr.engine.options import EngineOptions
from vsr.engine.resampling import back_project_in_place
from vsr.engine.strips import Strips, padded_strip
from vsr.image.resample import resize_strip
from vsr.models.networks.ensemble import StackedLayer, grouped_convolutions
from vsr.models.networks.singan import Generator


def can_batch(generators: Sequence[Generator], step_options: StepOptions) -> bool:
    """Whether `FastEnsemble` takes them: more than one, of one spec, and nothing special done with
    them."""
    alike = all(generator.spec == generators[0].spec for generator in generators)
    return (
        len(generators) > 1
        and alike
        and not step_options.self_ensemble
        and step_options.kernel is None
    )


class FastEnsemble:
    """The same as a `FastGenerator` for each, each with a picture of its own.

    Their pictures are one of (M * 3, H, W); what is given may be one of (3, H, W), for all.
    """

    def __init__(
        self,
        name: str,
        generators: Sequence[Generator],
        step_ratio: float,
        device: torch.device,
        step_options: StepOptions = StepOptions(),
        options: EngineOptions = EngineOptions(),
    ) -> None:
        assert can_batch(generators, step_options)
        self.name = name
        self.step_ratio = step_ratio
        self._spec = generators[0].spec
        self._step_options = step_options
        self._count = len(generators)
        self._strips = Strips(device, options.max_strip_px)
        self._dtype = options.dtype
        layers = zip(*(folded_convolutions(generator) for generator in generators), strict=True)
        self._layers = [_stack_layer(layer, device, options.dtype) for layer in layers]

    def enlarge(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(M * 3 or 3, h, w) in [0, 1] -> (M * 3, height, width), resized and with detail, in [0,
        1].

        Raises `ModelError` for values that are not finite.
        """
        halo, outside = self._spec.halo, MIDPOINT if self._spec.padding == "zeros" else None
        detailed = image.new_empty(3 * self._count, height, width)

        def rows(first: int, last: int) -> torch.Tensor:
            return resize_strip(image, height, width, first, last)

        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = self._for_each(padded_strip(rows, height, top, end, halo, outside))
            features = (2 * padded - 1)[None].to(self._dtype, memory_format=torch.channels_last)
            detail = grouped_convolutions(features, self._layers, self._spec.leak)[0].float()
            if self._spec.tanh:
                detail.tanh_()
            check_finite(detail, self.name)
            strip = torch.add(
                padded[:, halo:-halo, halo:-halo], detail, alpha=0.5, out=detailed[:, top:end]
            )
            strip.clamp_(0, 1)

        self._strips.cover(work, height, width)
        return detailed

    def back_project(self, image: torch.Tensor, low: torch.Tensor, weight: float) -> torch.Tensor:
        """`image`, in [0, 1], pulled by `weight` towards agreement with `low`, in [0, 1] again;
        overwrites `image`."""
        lows = self._for_each(low)
        for _ in range(self._step_options.projections):
            image = back_project_in_place(image, lows, weight)
        return image

    def mean(self, image: torch.Tensor) -> torch.Tensor:
        """(M * 3 or 3, H, W) -> (3, H, W)."""
        return self._for_each(image).view(self._count, 3, *image.shape[1:]).mean(dim=0)

    def _for_each(self, image: torch.Tensor) -> torch.Tensor:
        return image if len(image) == 3 * self._count else image.repeat(self._count, 1, 1)


def _stack_layer(
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]], device: torch.device, dtype: torch.dtype
) -> StackedLayer:
    """The same layer of each network."""
    weights, biases = (torch.stack(parts).to(device, dtype) for parts in zip(*layers, strict=True))
    return weights, biases
