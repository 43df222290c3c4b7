"""Estimates of a shot's degradation, by a look at its first frames."""

from collections.abc import Sequence
from dataclasses import replace
from math import log2, sqrt
from statistics import fmean

import numpy as np
import torch

from vsr.image.degradation import GaussianBlur
from vsr.image.luma import LUMA_WEIGHTS
from vsr.restore.brightness import brightness_flicker
from vsr.restore.camera_noise import NoiseLevels, noise_along_motion
from vsr.restore.cross_scale import QUANTIZATION_POWER, CrossScaleSpectrum
from vsr.restore.data_term import is_coarse, is_noisy
from vsr.restore.dirt import dirt_share
from vsr.restore.earlier_coding import earlier_quantizer
from vsr.video.frames import Frame
from vsr.video.read.fields import FieldStatistics, field_statistics
from vsr.video.read.quantizers import h264_step
from vsr.video.step import Degradation

MIN_PROBE_FRAMES, MAX_PROBE_FRAMES = 4, 16
"""Frames looked at, from a shot's start; they wait until they have been, so of large frames there
are fewer."""
NOISE_PAIRS = 5
"""Pairs of frames whose difference along the motion is measured."""
BLUR_KERNEL_SIDE = 13
CODING_ERROR_SHARE = 0.3
"""Power of coding errors over that of rounding to the quantizer's steps: most coefficients err
less. With 0 clips blurred by 1.2 pixels read .5 to .6 at crf 18 and 23, with .1, .3 and 1 they read
1.0, 1.2 and 1.2; sharp ones read .57, .60, .64 and .72 at most (walk and street)."""
BLUR_PICTURES = 4
"""Frames of a shot whose mean spectrum shows its blur."""
MIN_BLUR_SIDE_PX = 64
"""Smaller pictures have too few windows for a spectrum."""
MAX_PROBE_PIXELS = 1280 * 720
"""Larger frames are looked at in their middle only."""


def step_to_qp(step: float) -> float:
    """Inverse of `h264_step`; 0 at the least."""
    return max(0.0, 6 * log2(max(step, 0.1) / 0.625))


def num_probe_frames(frame: Frame) -> int:
    """Count the frames to look at in a shot that begins with `frame`."""
    held = MAX_PROBE_FRAMES * MAX_PROBE_PIXELS // (frame.height * frame.width)
    return min(max(held, MIN_PROBE_FRAMES), MAX_PROBE_FRAMES)


def estimate_degradation(frames: Sequence[Frame], *, looks_back: bool = True) -> Degradation:
    """Look at consecutive frames of one shot, at most `MAX_PROBE_FRAMES` of them; at least one.

    With `looks_back` also for an earlier encoder, which is seen in the shot's first frame.
    """
    frames = frames[:MAX_PROBE_FRAMES]
    steps = [frame.quantizer_step for frame in frames if frame.quantizer_step is not None]
    pictures = [_middle(frame.pixels) for frame in frames]
    seen = field_statistics([_luma_levels(picture) for picture in pictures])
    noise = _noise(pictures, seen)
    qp = None if not steps else round(step_to_qp(fmean(steps)), 2)
    found = Degradation(
        qp=qp,
        earlier_qp=earlier_quantizer(_luma_levels(frames[0].pixels.cpu()))
        if looks_back and not is_coarse(qp)
        else None,
        noise_sigma=noise.rgb,
        luma_noise_sigma=noise.luma,
        chroma_noise_sigma=noise.chroma,
        noise_by_brightness=noise.by_brightness,
        interlaced=seen.interlaced,
        top_field_first=seen.top_field_first,
        telecined=seen.telecined,
        brightness_flicker=brightness_flicker(pictures),
        dirt=dirt_share(pictures),
    )
    blur = None if seen.interlaced else estimate_blur(pictures, _error_power(found))
    if blur is None:
        return found
    return replace(found, blur=blur.wide_px, narrow_blur=blur.narrow_px, blur_degrees=blur.degrees)


def _noise(pictures: Sequence[torch.Tensor], seen: FieldStatistics) -> NoiseLevels:
    """Measure some pairs of neighbors, and take the least; nothing where motion cannot be followed.

    Noise is the same in each pair, and what flow misses is not: water and leaves look like noise in
    most pairs.
    """
    if len(pictures) < 2 or seen.interlaced:
        return NoiseLevels()
    stride = max(1, (len(pictures) - 1) // NOISE_PAIRS)
    measured = [_noise_of_pair(pictures, first) for first in range(0, len(pictures) - 1, stride)]
    # A repeated frame shows no noise, and says nothing.
    told = [levels for levels in measured if levels is not None]
    least = min(told, key=lambda levels: levels.rgb, default=NoiseLevels())
    return least.rounded()


def _noise_of_pair(pictures: Sequence[torch.Tensor], first: int) -> NoiseLevels | None:
    """Measure what differs from one picture to the next, less what flow has missed.

    That grows with the distance in time, twice from the next picture to the one behind it, and
    noise does not.
    """
    near = noise_along_motion(pictures[first], pictures[first + 1])
    if near is None or not near.rgb or first + 2 >= len(pictures):
        return near
    far = noise_along_motion(pictures[first], pictures[first + 2])
    # Neither tells more than the other where the far one sees nothing.
    if far is None or far.rgb <= near.rgb:
        return near
    # near^2 = noise^2 + missed^2, and far^2 = noise^2 + 4 missed^2.
    share = sqrt(max(0.0, (4 - (far.rgb / near.rgb) ** 2) / 3))
    return near.scaled(share)


def _middle(pixels: torch.Tensor) -> torch.Tensor:
    """(3, H, W) on the CPU, cut to `MAX_PROBE_PIXELS` around its middle, at even rows."""
    height, width = pixels.shape[-2:]
    shrink = max(1.0, (height * width / MAX_PROBE_PIXELS) ** 0.5)
    kept = [int(side / shrink) // 2 * 2 or side for side in (height, width)]
    top, left = ((side - keep) // 4 * 2 for side, keep in zip((height, width), kept, strict=True))
    return pixels[:, top : top + kept[0], left : left + kept[1]].cpu()


def _luma_levels(picture: torch.Tensor) -> np.ndarray:
    weights = torch.tensor(LUMA_WEIGHTS)
    levels: np.ndarray = (255 * torch.einsum("c,chw->hw", weights, picture)).numpy()
    return levels


def _error_power(found: Degradation) -> float:
    """Power of coding errors and noise at each frequency of luma, in gray levels squared."""
    qp = found.coarsest_qp
    step = 0.0 if qp is None else h264_step(qp)
    coded = CODING_ERROR_SHARE * QUANTIZATION_POWER * step**2
    return coded + (found.luma_noise_sigma**2 if is_noisy(found) else 0.0)


def estimate_blur(
    pictures: Sequence[torch.Tensor], error_power: float = 0.0
) -> GaussianBlur | None:
    """Estimate the blur of pictures (3, H, W) of one shot by how they resemble themselves at half
    their size; errors of `error_power` at every frequency, in gray levels squared, hide it.

    Return the Gaussian that they suffered, in their own pixels; None for pictures that are not
    blurred, or too small to tell.
    """
    if min(pictures[0].shape[-2:]) < MIN_BLUR_SIDE_PX:
        return None
    stride = max(1, len(pictures) // BLUR_PICTURES)
    seen = [picture.cpu() for picture in pictures[stride // 2 :: stride][:BLUR_PICTURES]]
    fit = CrossScaleSpectrum(*seen, error_power=error_power).fit(BLUR_KERNEL_SIDE)
    if not fit.is_blur:
        return None
    # Halving a picture of blur s takes a further 3 s^2 of variance to blur it alike.
    wide, narrow = (round(sigma / sqrt(3), 3) for sigma in (fit.wide_sigma_px, fit.narrow_sigma_px))
    return GaussianBlur(wide, narrow, round(fit.degrees, 1))
