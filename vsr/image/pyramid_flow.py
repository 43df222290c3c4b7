"""Optical flow in torch, for devices that OpenCV does not reach: coarse to fine, a step of windowed
least squares and a variational refinement on each level.

The step (Lucas and Kanade, 1981) takes the mean out of its window, so that light may change. The
refinement minimizes robust deviations from constant brightness and constant gradients, and of the
flow from smoothness, linearized once a level (Brox et al., 2004; solved by over-relaxation as in
DeepFlow, Weinzaepfel et al., 2013). No random numbers, no sums whose order varies: equal pictures
give equal flow.
"""

from dataclasses import dataclass
from math import log2

import torch
import torch.nn.functional as F

COARSEST_SIDE_PX = 16
"""The shorter side of the coarsest level has at least as many pixels."""
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
COARSEST_STEPS, STEPS = 8, 1
"""Least-squares steps on the coarsest level, which must find what moves far, and on all others: two
there lose .009 dB of Vid4 (8 frames), none lose .7."""
WINDOW_PX, SMOOTHING_PX = 9, 5
"""Windows of the least-squares step and of the mean that smooths it."""
MIN_TEXTURE = 1.0
"""Added to the window's squared gradients, in gray levels squared: nothing moves where nothing
shows."""
MAX_STEP_PX = 1.0
SWEEPS, OVER_RELAXATION = 3, 1.6
"""Sweeps of the solver in each refinement. Two lose .005 dB of Vid4 (8 frames), five gain
nothing."""
SMOOTHNESS, BRIGHTNESS, GRADIENTS = 20.0, 5.0, 10.0
"""Weights of the three terms, for gray levels of 0 to 255."""
ROBUSTNESS, MIN_GRADIENT = 1e-3, 0.1
"""Deviation below which a term counts squares, and gradient below which it counts less."""


def pyramid_flow(source: torch.Tensor, target: torch.Tensor, refinements: int) -> torch.Tensor:
    """Estimate the flow from `source` to `target`, gray pictures (H, W) of 0 to 255: (2, H, W), x
    before y, in pixels, with so many `refinements` on each level."""
    depth = int(log2(max(1.0, min(source.shape) / COARSEST_SIDE_PX)))
    levels = [(source.float()[None], target.float()[None])]
    for _ in range(depth):
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    flow = source.new_zeros(2, *levels[-1][0].shape[-2:], dtype=torch.float32)
    for one, other in reversed(levels):
        flow = resize_flow(flow, *one.shape[-2:])
        for _ in range(COARSEST_STEPS if one is levels[-1][0] else STEPS):
            flow = _least_squares_step(one, other, flow)
        flow = _Refinement(one, other, flow).refined(refinements)
    return flow


def sample_planes(planes: torch.Tensor, positions: torch.Tensor, mode: str) -> torch.Tensor:
    """Return the values of `planes` (C, H, W) at `positions` (2, H', W'), columns before rows;
    `mode` is bilinear or bicubic (Keys' cubic with a = -0.75), borders clamped."""
    # The corners of the picture lie at -1 and 1.
    extent = positions.new_tensor([max(1, side - 1) for side in planes.shape[:0:-1]])
    grid = positions * (2 / extent)[:, None, None] - 1
    return F.grid_sample(
        planes[None],
        grid.permute(1, 2, 0)[None],
        mode=mode,
        padding_mode="border",
        align_corners=True,
    )[0]


def add_own_positions(flow: torch.Tensor) -> torch.Tensor:
    """Add the column and the row of each pixel to a flow (2, H, W), in place: where it leads."""
    height, width = flow.shape[-2:]
    flow[0] += torch.arange(width, dtype=flow.dtype, device=flow.device)
    flow[1] += torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    return flow


def resize_flow(flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize a flow (2, h, w) bilinearly, its lengths along with it."""
    if flow.shape[-2:] == (height, width):
        return flow
    ratios = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])
    return resize_bilinear(flow, height, width) * ratios[:, None, None]


def resize_bilinear(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize (C, h, w) bilinearly, half-pixel centers, borders repeated."""
    return F.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)[0]


def window_mean(planes: torch.Tensor, window_px: int) -> torch.Tensor:
    """Mean of (C, H, W) over windows of an odd side, borders repeated."""
    padded = F.pad(planes[None], (window_px // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, window_px, stride=1)[0]


def filter_both_ways(planes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Filter (C, H, W) across and down by the same weights, an odd number, borders repeated."""
    padded = F.pad(planes[:, None], (len(weights) // 2,) * 4, mode="replicate")
    across = F.conv2d(padded, weights[None, None, None])
    return F.conv2d(across, weights[None, None, :, None])[:, 0]


def _halved(picture: torch.Tensor) -> torch.Tensor:
    """Halve (1, H, W), sides rounded up, with little alias: flow would follow it."""
    height, width = picture.shape[-2:]
    smooth = filter_both_ways(picture, picture.new_tensor(BINOMIAL))
    return F.interpolate(smooth[None], ((height + 1) // 2, (width + 1) // 2), mode="area")[0]


def _gradient(plane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of (H, W) across and down, borders repeated."""
    padded = F.pad(plane[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return (
        (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2,
        (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2,
    )


def _least_squares_step(
    source: torch.Tensor, target: torch.Tensor, flow: torch.Tensor
) -> torch.Tensor:
    """Move `flow` by what explains the difference in each window best."""
    difference = (sample_planes(target, add_own_positions(flow.clone()), "bilinear") - source)[0]
    across, down = _gradient(source[0])
    means = window_mean(
        torch.stack(
            [
                across,
                down,
                difference,
                across * across,
                across * down,
                down * down,
                across * difference,
                down * difference,
            ]
        ),
        WINDOW_PX,
    )
    mean_across, mean_down, mean_difference = means[:3]
    # Variances and covariances in the window: what its mean does is of the light.
    a_a = means[3] - mean_across * mean_across + MIN_TEXTURE
    a_d = means[4] - mean_across * mean_down
    d_d = means[5] - mean_down * mean_down + MIN_TEXTURE
    a_x = means[6] - mean_across * mean_difference
    d_x = means[7] - mean_down * mean_difference
    step = torch.stack([d_d * a_x - a_d * d_x, a_a * d_x - a_d * a_x]) / (a_a * d_d - a_d * a_d)
    return window_mean(flow - step.clamp_(-MAX_STEP_PX, MAX_STEP_PX), SMOOTHING_PX)


@dataclass(frozen=True)
class _Neighbors:
    """Weights with which a pixel holds on to those beside it, (H, W) each; zero over the border."""

    right: torch.Tensor
    left: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor

    def sum_of(self, flow: torch.Tensor) -> torch.Tensor:
        """Sum of the neighbors of each pixel by their weights, (2, H, W)."""
        total = torch.zeros_like(flow)
        total[..., :-1] += self.right[:, :-1] * flow[..., 1:]
        total[..., 1:] += self.left[:, 1:] * flow[..., :-1]
        total[:, :-1] += self.below[:-1] * flow[:, 1:]
        total[:, 1:] += self.above[1:] * flow[:, :-1]
        return total

    @property
    def total(self) -> torch.Tensor:
        return self.right + self.left + self.below + self.above


class _Refinement:
    """The variational refinement of a flow on one level."""

    def __init__(self, source: torch.Tensor, target: torch.Tensor, flow: torch.Tensor) -> None:
        moved = sample_planes(target, add_own_positions(flow.clone()), "bilinear")[0]
        self._flow = flow
        # Spatial derivatives of the mean of both, temporal ones of their difference.
        self._x, self._y = _gradient((source[0] + moved) / 2)
        self._t = moved - source[0]
        self._xx, self._xy = _gradient(self._x)
        self._yy = _gradient(self._y)[1]
        self._xt, self._yt = _gradient(self._t)
        least = MIN_GRADIENT**2
        # A residual over its gradient is a distance, whatever the contrast.
        self._per_gradient = 1 / (self._x**2 + self._y**2 + least)
        self._per_xx = 1 / (self._xx**2 + self._xy**2 + least)
        self._per_yy = 1 / (self._yy**2 + self._xy**2 + least)
        columns, rows = add_own_positions(torch.zeros_like(flow))
        self._is_even = ((columns + rows) % 2 == 0).to(flow.dtype)

    def refined(self, times: int) -> torch.Tensor:
        """Return the flow after so many rounds: weights by the flow so far, then some sweeps."""
        change = torch.zeros_like(self._flow)
        for _ in range(times):
            change = self._solved(change)
        return self._flow + change

    def _solved(self, change: torch.Tensor) -> torch.Tensor:
        a11, a12, a22, pull = self._data_term(change)
        neighbors = self._smoothness(self._flow + change)
        hold = neighbors.total
        pull = pull + neighbors.sum_of(self._flow) - hold * self._flow
        a11, a22 = a11 + hold, a22 + hold
        per_determinant = 1 / (a11 * a22 - a12 * a12)
        own = torch.stack([a22 * per_determinant, a11 * per_determinant])
        other = -a12 * per_determinant
        # Pixels of one color have neighbors of the other color only, so they move at once.
        shares = OVER_RELAXATION * self._is_even, OVER_RELAXATION * (1 - self._is_even)
        for _ in range(SWEEPS):
            for share in shares:
                wanted = pull + neighbors.sum_of(change)
                solved = own * wanted + other * wanted.flip(0)
                change = change + share * (solved - change)
        return change

    def _data_term(
        self, change: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the three entries of each pixel's 2x2 matrix, (H, W), and its pull, (2, H, W)."""
        across, down = change
        left_over = self._t + self._x * across + self._y * down
        gradient_x = self._xt + self._xx * across + self._xy * down
        gradient_y = self._yt + self._xy * across + self._yy * down
        least = ROBUSTNESS**2
        bright = (BRIGHTNESS / 2 * self._per_gradient) * torch.rsqrt(
            left_over**2 * self._per_gradient + least
        )
        steep = (GRADIENTS / 2) * torch.rsqrt(
            gradient_x**2 * self._per_xx + gradient_y**2 * self._per_yy + least
        )
        steep_x, steep_y = steep * self._per_xx, steep * self._per_yy
        damping = MIN_GRADIENT**2
        a11 = bright * self._x**2 + steep_x * self._xx**2 + steep_y * self._xy**2 + damping
        a22 = bright * self._y**2 + steep_x * self._xy**2 + steep_y * self._yy**2 + damping
        a12 = bright * self._x * self._y + self._xy * (steep_x * self._xx + steep_y * self._yy)
        pull = -torch.stack(
            [
                bright * self._x * self._t
                + steep_x * self._xx * self._xt
                + steep_y * self._xy * self._yt,
                bright * self._y * self._t
                + steep_x * self._xy * self._xt
                + steep_y * self._yy * self._yt,
            ]
        )
        return a11, a12, a22, pull

    @staticmethod
    def _smoothness(flow: torch.Tensor) -> _Neighbors:
        across = F.pad(flow[..., 1:] - flow[..., :-1], (0, 1))
        down = F.pad(flow[:, 1:] - flow[:, :-1], (0, 0, 0, 1))
        steepness = (across**2 + down**2).sum(dim=0)
        hold = (SMOOTHNESS / 2) * torch.rsqrt(steepness + ROBUSTNESS**2)
        right, below = F.pad(hold[:, :-1], (0, 1)), F.pad(hold[:-1], (0, 0, 0, 1))
        return _Neighbors(
            right,
            F.pad(right[:, :-1], (1, 0)),
            below,
            F.pad(below[:-1], (0, 0, 1, 0)),
        )
