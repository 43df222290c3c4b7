"""Removal of camera noise, before anything is made of a frame.

A frame is averaged with its neighbors along the motion, where they agree but for the noise. What
noise is left then is taken out of the coefficients of a transform of 8x8 blocks: first those below
a threshold, then, knowing what that left, each by its share of noise. (Sliding transforms: Yu and
Sapiro, DCT image denoising, 2011; the second pass: Dabov et al., BM3D, 2007.)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F

from vsr.image.block_transform import block_basis
from vsr.image.dense_motion import blur, preset_flow, sample, sample_positions
from vsr.image.motion import DIS_FAST, MIN_FAST_SIDE_PX
from vsr.restore.data_term import MIN_NOISE_SIGMA, trust_for
from vsr.video.step import Degradation, State, Step

REACH = 2
"""Frames on either side that a frame is averaged with."""
BLOCK_PX, BLOCK_STEP_PX = 8, 2
THRESHOLD = 2.7
"""Threshold of the first pass, in standard deviations of the noise."""
GRAY_AND_COLOR = (
    (1 / sqrt(3), 1 / sqrt(3), 1 / sqrt(3)),
    (1 / sqrt(2), 0.0, -1 / sqrt(2)),
    (1 / sqrt(6), -2 / sqrt(6), 1 / sqrt(6)),
)
"""Rows: the orthonormal planes of gray and of two colors that red, green and blue are taken apart
into. Equal noise of the three stays equal and independent."""
COLOR_SHARE = 1.016
"""Noise of R - Y and B - Y, as it is measured, over that of a plane of color."""
AGREEMENT_BLUR_PX = 2.0
"""Around each pixel so much is looked at to tell whether a neighbor agrees."""
MAX_DISAGREEMENT, DOUBT = 1.1, 6.0
"""Squared difference to a neighbor, over that of noise, from which on it is doubted, and how fast
its weight falls from there."""
MIN_WEIGHT = 0.05
SHADE_RANGE = (0.5, 1.3)
"""Limits of the noise at a brightness over that of the whole picture: bright and dark parts are
measured on few patches."""


class NoiseRemoval:
    """Removes the camera noise that was found in a shot. Implements Stage.

    A frame waits for `REACH` frames more of its shot. What comes out is trusted as if it had never
    been noisy.
    """

    name = "denoise"

    def __init__(
        self,
        strength: float,
        notify: Callable[[str], None] = lambda _: None,
        *,
        least_sigma: float = MIN_NOISE_SIGMA,
    ) -> None:
        """A `strength`, 0 to 1, scales the noise that is removed; 0 removes nothing. Shots with
        noise below `least_sigma`, in gray levels, are left alone."""
        self._strength, self._least_sigma = strength, least_sigma
        self._notify = notify

    @property
    def rewind(self) -> int:
        """Frames that the next ones are averaged with."""
        return REACH if self._strength else 0

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Clean the steps of a clip, shot by shot."""
        if not self._strength:
            yield from steps
            return
        kinds = groupby(steps, key=lambda step: (step.shot.first_frame, step.shot.degradation))
        for (_, degradation), shot in kinds:
            if degradation is None or not 0 < degradation.noise_sigma >= self._least_sigma:
                yield from shot
            else:
                yield from self._cleaned(shot, degradation)

    def state(self) -> State:
        """Nothing: the neighbors come again."""
        return State()

    def restore(self, state: State) -> None:
        """Nothing was kept."""

    def _cleaned(self, shot: Iterator[Step], degradation: Degradation) -> Iterator[Step]:
        trust = trust_for(without_noise(degradation), self._strength)
        waiting: deque[Step] = deque()

        def pictures() -> Iterator[torch.Tensor]:
            for step in shot:
                if step.frame.index == step.shot.first_frame and not step.is_done:
                    found = f"noise of {degradation.noise_sigma:.1f} levels is removed"
                    self._notify(f"shot from frame {step.frame.index}: {found}")
                waiting.append(step)
                yield step.frame.pixels

        for pixels in remove_noise(pictures(), degradation, self._strength):
            step = waiting.popleft()
            marked = replace(step.shot, trust=trust)
            yield replace(step, frame=replace(step.frame, pixels=pixels), shot=marked)


def without_noise(degradation: Degradation) -> Degradation:
    """Tell what is left to know of a shot once its noise is removed."""
    return replace(
        degradation,
        noise_sigma=0.0,
        luma_noise_sigma=0.0,
        chroma_noise_sigma=0.0,
        noise_by_brightness=(),
    )


def remove_noise(
    pictures: Iterable[torch.Tensor], degradation: Degradation, strength: float = 1.0
) -> Iterator[torch.Tensor]:
    """Clean consecutive pictures of one shot, (3, H, W) in [0, 1], of the noise that was found.

    As many come out, `REACH` pictures late.
    """
    behind: deque[_Noisy] = deque(maxlen=REACH)
    ahead: deque[_Noisy] = deque()
    # The end brings no more pictures.
    for pixels in chain(pictures, REACH * [None]):
        if pixels is not None:
            ahead.append(_Noisy(pixels, degradation, strength))
        if len(ahead) > REACH or (pixels is None and ahead):
            noisy = ahead.popleft()
            yield _clean(noisy, [*behind, *islice(ahead, REACH)])
            behind.append(noisy)


class _Noisy:
    """A picture as it came, and what is known of its noise."""

    def __init__(self, pixels: torch.Tensor, degradation: Degradation, strength: float) -> None:
        self.planes = _transformed(_to_gray_and_color(pixels), 255 * pixels)
        color = degradation.chroma_noise_sigma / COLOR_SHARE
        # The planes share the noise of the three channels.
        gray = sqrt(max(3 * degradation.noise_sigma**2 - 2 * color**2, 0.0))
        sigma = pixels.new_tensor([gray, color, color])
        shade = _share_by_brightness(self.planes[0] / sqrt(3), degradation)
        self.variance = (strength * sigma[:, None, None] * shade) ** 2
        """Variance of the noise, (3, H, W)."""
        # Flow is estimated on what the picture looks like by itself without noise.
        pilot = _Blocks(self.planes[:1], self.variance[:1]).shrunk()[0]
        self.view = (pilot / sqrt(3)).round().clamp(0, 255).byte()


def _clean(noisy: _Noisy, neighbors: Sequence[_Noisy]) -> torch.Tensor:
    """Average a picture with its neighbors, and take out the noise that is left."""
    total = noisy.planes.clone()
    weights = squares = torch.ones_like(total[:1])
    if min(noisy.view.shape) >= MIN_FAST_SIDE_PX:
        for other in neighbors:
            flow = preset_flow(noisy.view, other.view, DIS_FAST)
            moved = sample(other.planes, sample_positions(flow), bicubic=True)
            weight = _agreement(moved, noisy)
            total += weight * moved
            weights = weights + weight
            squares = squares + weight**2
    mean = total / weights
    variance = noisy.variance * (squares / weights**2)
    blocks = _Blocks(mean, variance)
    clean = blocks.shrunk(guide=blocks.shrunk())
    return (_transformed(_to_gray_and_color(clean).T, clean) / 255).clamp(0, 1)


def _agreement(moved: torch.Tensor, noisy: _Noisy) -> torch.Tensor:
    """Weight of a neighbor brought along the motion, (1, H, W): 1 where only noise differs."""
    # In each plane 2 variances are expected.
    differences = ((moved - noisy.planes) ** 2 / (2 * noisy.variance).clamp_min(1e-3)).mean(dim=0)
    excess = (blur(differences[None], AGREEMENT_BLUR_PX) - MAX_DISAGREEMENT).clamp_min(0)
    weight = torch.exp(-DOUBT * excess)
    return torch.where(weight < MIN_WEIGHT, 0.0, weight)


def _share_by_brightness(gray: torch.Tensor, degradation: Degradation) -> torch.Tensor:
    """Noise at each pixel's brightness over that of the whole picture, (H, W)."""
    known = degradation.noise_by_brightness
    if len(known) < 2:
        return torch.ones_like(gray)
    shares = [sigma / max(degradation.luma_noise_sigma, 1e-3) for _, sigma in known]
    levels = [level for level, _ in known]
    table = np.interp(np.arange(256), levels, np.clip(shares, *SHADE_RANGE)).astype(np.float32)
    smooth = blur(gray[None], AGREEMENT_BLUR_PX)[0]
    return gray.new_tensor(table)[smooth.round().clamp(0, 255).long()]


class _Blocks:
    """The transform of all blocks of some planes, a step apart, and the noise in each."""

    def __init__(self, planes: torch.Tensor, variance: torch.Tensor) -> None:
        """`planes` and the variance of their noise are (C, H, W)."""
        height, width = planes.shape[-2:]
        # With a margin, so that as many blocks lie over a pixel at the border.
        self._size = height + 2 * BLOCK_PX, width + 2 * BLOCK_PX
        self._basis = block_basis(BLOCK_PX, planes.device)
        self._coefficients = self._transform(planes)
        noise = F.avg_pool2d(_padded(variance), BLOCK_PX, BLOCK_STEP_PX)
        self._noise = noise.flatten(2).clamp_min(1e-6)

    def shrunk(self, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Return the planes with noise taken out of the coefficients.

        Without a `guide` those below the threshold go; with one each keeps the share that is no
        noise, if the guide is what is looked for.
        """
        if guide is None:
            kept = (self._coefficients.square() > THRESHOLD**2 * self._noise).float()
        else:
            power = self._transform(guide).square_()
            kept = power.div_(power + self._noise)
        # A block's mean is no noise.
        kept[:, 0] = 1
        # Blocks that needed few coefficients have less noise left, and count more.
        weight = 1 / (kept.square().sum(dim=1, keepdim=True) * self._noise)
        blocks = self._basis.T @ kept.mul_(self._coefficients).mul_(weight)
        told = F.fold(blocks, self._size, BLOCK_PX, stride=BLOCK_STEP_PX)
        weights = weight.unflatten(
            2, [1 + (side - BLOCK_PX) // BLOCK_STEP_PX for side in self._size]
        )
        counts = F.conv_transpose2d(
            weights, weights.new_ones(1, 1, BLOCK_PX, BLOCK_PX), stride=BLOCK_STEP_PX
        )
        # An odd side has a last line of its own that no block reaches; it lies in the margin.
        height, width = counts.shape[-2:]
        return (told[..., :height, :width] / counts)[
            :, 0, BLOCK_PX : self._size[0] - BLOCK_PX, BLOCK_PX : self._size[1] - BLOCK_PX
        ]

    def _transform(self, planes: torch.Tensor) -> torch.Tensor:
        """Coefficients of (C, H, W): (C, pixels of a block, blocks)."""
        return self._basis @ F.unfold(_padded(planes), BLOCK_PX, stride=BLOCK_STEP_PX)


def _padded(planes: torch.Tensor) -> torch.Tensor:
    """(C, 1, H, W) with a margin of repeated edges."""
    return F.pad(planes[:, None], (BLOCK_PX,) * 4, mode="replicate")


def _to_gray_and_color(like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(GRAY_AND_COLOR)


def _transformed(matrix: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,jhw->ihw", matrix, planes)
