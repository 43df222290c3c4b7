"""SinGAN's super-resolution made fast: enlarge by one step, add a generator's detail, back-project
onto the input, until the size is reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import torch

from vsr.engine.convolutions import (
    ConvolutionStack,
    check_finite,
    fold_convolutions,
    scale_ends,
    stack_networks,
)
from vsr.engine.options import EngineOptions
from vsr.engine.resampling import Keep, back_project_in_place
from vsr.engine.tiling import RowReader, Strips, padded_strip
from vsr.errors import ModelError
from vsr.image.blur import KernelTaps
from vsr.image.orientation import turned, turned_back
from vsr.image.resample import resize, resize_strip, scaled_size
from vsr.models.networks.singan import Generator

MIDPOINT = 0.5
"""Zero of a network's [-1, 1], in [0, 1]."""
RATIO_TOLERANCE = 0.2
"""Share by which a step may differ from the ratio that a generator was trained for."""


@dataclass(frozen=True)
class StepOptions:
    """Work that is done with a generator beyond adding its detail once."""

    self_ensemble: bool = False
    """Median over the eight flips and quarter turns of the picture, as ZSSR has it: eight times the
    work."""
    projections: int = 1
    """Rounds of back-projection onto the input after each step."""
    kernel: KernelTaps | None = None
    """Blur kernel that the generator was trained for, through which results are back-projected;
    None: bicubic."""
    noise: float = 0.0
    """Standard deviation, for [-1, 1] pictures, of noise that only the network sees, as in SinGAN's
    published inference; 0 for equal outputs of equal inputs."""


def can_batch(generators: Sequence[Generator], step_options: StepOptions) -> bool:
    """Tell whether one `FastGenerator` can run all of these on a GPU: two or more of one spec, with
    default `StepOptions`."""
    return (
        len(generators) > 1
        and all(generator.spec == generators[0].spec for generator in generators)
        and not step_options.self_ensemble
        and step_options.kernel is None
        and step_options.noise == 0
    )


class FastGenerator:
    """The function of a `Generator` in eval mode, within float rounding, for one picture in [0, 1];
    or those of M generators of one spec in one call, each with a picture of its own.

    The pictures of M generators are stacked to (3 M, H, W); an input of (3, H, W) serves them all.
    Many in one call keep a GPU busy, which a small network alone leaves idle. On a CPU they are
    slower than one after another, in strips that stay in cache.
    """

    def __init__(
        self,
        name: str,
        generators: Generator | Sequence[Generator],
        step_ratio: float,
        device: torch.device,
        step_options: StepOptions = StepOptions(),
        options: EngineOptions = EngineOptions(),
    ) -> None:
        """Copy the weights to `device`. `name` is for messages: that of the model, or "one of M
        models"."""
        networks = [generators] if isinstance(generators, Generator) else generators
        self.name = name
        self.step_ratio = step_ratio
        self.spec = networks[0].spec
        self.step_options = step_options
        self._count = len(networks)
        self._strips = Strips(device, options.max_strip_px)
        # A network's [-1, 1] is twice as wide as our [0, 1]: its input gain of 2 goes into the
        # first layer and its output gain of 1/2 into the last, unless a tanh comes in between.
        self._detail_gain = 0.5 if self.spec.tanh else 1.0
        layers = stack_networks([fold_convolutions(network.body) for network in networks])
        layers = scale_ends(layers, 2.0, 0.5 / self._detail_gain)
        self._stack = ConvolutionStack(
            layers, self.spec.leak, device, options.dtype, groups=self._count
        )

    def enlarge(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Resize and add the generator's detail: (3 M or 3, h, w) in [0, 1] -> (3 M, height, width)
        in [0, 1].

        Raises `ModelError` for values that are not finite.
        """
        if self.step_options.self_ensemble:
            return self.add_detail(resize(image, height, width)).clamp_(0, 1)
        rows = partial(resize_strip, image, height, width)
        return self._add_detail(rows, image, height, width, limited=True)

    def enlarge_noisy(
        self, image: torch.Tensor, height: int, width: int, random: torch.Generator, *, gray: bool
    ) -> torch.Tensor:
        """Enlarge as SinGAN's published code does: the network sees noise on the picture, and its
        detail is added to the picture without it. `gray` noise is the same in all colors.

        `random` draws on the CPU, so that the noise is the same on every device.
        """
        base = resize(image, height, width)
        noise = torch.randn(1 if gray else 3, height, width, generator=random).to(base.device)
        # A picture in [0, 1] is half as wide as one in [-1, 1].
        noise = (self.step_options.noise / 2 * noise).expand_as(base)
        return self.add_detail(base + noise).sub_(noise).clamp_(0, 1)

    def add_detail(self, base: torch.Tensor) -> torch.Tensor:
        """Add the generator's detail to a picture: (3 M or 3, H, W) in [0, 1] -> (3 M, H, W), not
        clamped.

        Raises `ModelError` for values that are not finite.
        """
        if not self.step_options.self_ensemble:
            return self._add_detail_to(base)
        variants = [
            turned_back(self._add_detail_to(turned(base, turns, flip)), turns, flip)
            for turns in range(4)
            for flip in (False, True)
        ]
        # The median of eight: the mean of the fourth and the fifth.
        return torch.stack(variants).sort(dim=0).values[3:5].mean(dim=0)

    def back_project(
        self, image: torch.Tensor, low: torch.Tensor, weight: float, keep: Keep | None = None
    ) -> torch.Tensor:
        """Back-project `image`, (3 M, H, W) in [0, 1], onto `low`, (3 M or 3, h, w), in place.
        `weight` scales the correction, `keep` filters the residual; the result is clamped to [0,
        1]."""
        lows = self._for_each(low)
        for _ in range(self.step_options.projections):
            back_project_in_place(image, lows, weight, self.step_options.kernel, keep=keep)
        return image

    def mean(self, image: torch.Tensor) -> torch.Tensor:
        """Average over the generators: (3 M or 3, H, W) -> (3, H, W)."""
        return self._for_each(image).view(self._count, 3, *image.shape[1:]).mean(dim=0)

    def _for_each(self, image: torch.Tensor) -> torch.Tensor:
        return image if len(image) == 3 * self._count else image.repeat(self._count, 1, 1)

    def _add_detail_to(self, base: torch.Tensor) -> torch.Tensor:
        return self._add_detail(
            lambda first, last: base[:, first:last], base, *base.shape[1:], limited=False
        )

    def _add_detail(
        self, base: RowReader, like: torch.Tensor, height: int, width: int, *, limited: bool
    ) -> torch.Tensor:
        """Add detail to the picture of which `base` gives rows, in the type and on the device of
        `like`; in [0, 1] where `limited`."""
        detailed = like.new_empty(3 * self._count, height, width)
        # Zeros around a network's picture are mid-gray in ours.
        halo, outside = self.spec.halo, MIDPOINT if self.spec.padding == "zeros" else None

        # Everything that is done to a strip is done while it is in cache.
        @torch.inference_mode()
        def work(top: int, end: int) -> None:
            padded = self._for_each(padded_strip(base, height, top, end, halo, outside))
            # Around zero, where half precision is finest.
            detail = self._stack((padded - MIDPOINT)[None])[0]
            if self.spec.tanh:
                detail.tanh_()
            check_finite(detail, self.name if self._count > 1 else f"model {self.name}")
            strip = detailed[:, top:end]
            inner = padded[:, halo:-halo, halo:-halo]
            torch.add(inner, detail, alpha=self._detail_gain, out=strip)
            if limited:
                strip.clamp_(0, 1)

        self._strips.cover(work, height, width)
        return detailed


def step_sizes(height: int, width: int, scale: float, step_ratio: float) -> list[tuple[int, int]]:
    """Return height and width after each step; the last is exactly `scaled_size`. None are needed
    for a scale of 1.

    The number of steps k makes scale^(1/k) nearest to `step_ratio`. Raises `ModelError` where even
    the nearest is more than a fifth away, since detail of another scale would be added.
    """
    if scale == 1:
        return []
    fewer = max(1, int(log(scale) / log(step_ratio)))
    # Nearest in the logarithm: a ratio, not a difference, is what a generator was trained for.
    steps = min(fewer, fewer + 1, key=lambda count: abs(log(scale) / count - log(step_ratio)))
    ratio = scale ** (1 / steps)
    if abs(ratio / step_ratio - 1) > RATIO_TOLERANCE:
        raise ModelError(
            f"the bank's models enlarge by {step_ratio:.2f} a step, which does not reach a scale "
            f"of {scale:g}. Use a scale of {step_ratio * (1 - RATIO_TOLERANCE):.2f} or more, or "
            "--policy bicubic."
        )
    between = [scaled_size(height, width, scale ** (step / steps)) for step in range(1, steps)]
    return [*between, scaled_size(height, width, scale)]


def progressive_upscale(
    low: torch.Tensor,
    generators: Sequence[FastGenerator],
    scale: float,
    back_projection_weight: float,
    keep: Keep | None = None,
    random: torch.Generator | None = None,
) -> torch.Tensor:
    """Enlarge step by step: (3, h, w) in [0, 1] -> (3, H, W) in [0, 1], or (3 M, H, W) by M models
    in one call; the generators take turns over the steps.

    `back_projection_weight`, 0 to 1, weighs the back-projection onto `low` after every step, and
    `keep` limits its residual. Without `random` no noise is used, so equal inputs give equal
    outputs; with it generators whose options have noise draw it. All must have one step ratio.
    Raises `ModelError` for values that are not finite.
    """
    image = low
    height, width = low.shape[-2:]
    with torch.inference_mode():
        for step, size in enumerate(step_sizes(height, width, scale, generators[0].step_ratio)):
            generator = generators[step % len(generators)]
            if random is not None and generator.step_options.noise > 0:
                # The published code draws one channel for all colors at the first step.
                image = generator.enlarge_noisy(image, *size, random, gray=step == 0)
            else:
                image = generator.enlarge(image, *size)
            if back_projection_weight > 0:
                image = generator.back_project(image, low, back_projection_weight, keep)
    return image
