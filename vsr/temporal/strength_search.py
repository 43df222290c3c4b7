"""Strength search of flicker control: tries strengths on the first frames of a shot.

Flicker is measured along a motion of its own: errors of the motion used for fusion would hide
themselves.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from vsr.image.blur import Blur
from vsr.image.dense_motion import Motion, motion_between
from vsr.image.luma import luma
from vsr.image.motion import DIS_FAST
from vsr.image.resample import resize
from vsr.restore.data_term import DataTerm
from vsr.temporal.fusion import Enlarged, FusionOptions, fuse_shot
from vsr.temporal.registration import ShotRegistrar

PROBE_FRAMES = 8
"""Length of the probe; its frames wait until the strength is chosen."""
BISECTIONS = 5
SETTLING_FRAMES = 2
"""The first results of a shot have little to be fused with and say nothing of the rest."""


class Strength(NamedTuple):
    """The outcome of a search."""

    value: float
    """0 to 1."""
    reaches_target: bool = True


def search_strength(
    probe: Sequence[Enlarged[None]],
    target: float,
    data_term: DataTerm,
    options: Callable[[float], FusionOptions],
    fallback: float,
    kernel: Blur | None = None,
) -> Strength:
    """Find the least strength at which the change along the motion is `target` times the source's
    own.

    `probe` holds consecutive frames. The strength is 1 where none reaches the target, and
    `fallback` where the probe is too short or too still to tell.
    """
    first = max(1, min(SETTLING_FRAMES, len(probe) - 2))
    size = probe[0].picture.shape[-2:]
    source = [luma(resize(one.low, *size).clamp(0, 1)) for one in probe]
    motions = [(i, source_motion(source[i], source[i - 1])) for i in range(first, len(probe))]
    compared = [(i, motion) for i, motion in motions if motion is not None]
    registrar = ShotRegistrar(noise=data_term.trust.noise)
    for index, one in enumerate(probe):
        registrar.add(index, one.low)

    def total_change(lumas: Sequence[torch.Tensor]) -> float:
        return sum(change_along(motion, lumas[i], lumas[i - 1]) for i, motion in compared)

    def reaches(strength: float) -> bool:
        fused = fuse_shot(probe, options(strength), data_term, registrar, kernel=kernel)
        return total_change([luma(one.picture) for one in fused]) <= allowed

    # Change along the motion that the source has itself (noise, light) is no fault of the result.
    own_change = total_change(source)
    allowed = target * own_change
    if own_change == 0:
        return Strength(fallback)
    if total_change([luma(one.picture) for one in probe]) <= allowed:
        return Strength(0.0)
    if not reaches(1.0):
        return Strength(1.0, reaches_target=False)
    # More strength never flickers more, so halving the interval finds the least that is enough.
    too_weak, enough = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (too_weak + enough) / 2
        too_weak, enough = (too_weak, middle) if reaches(middle) else (middle, enough)
    return Strength(enough)


def source_motion(now: torch.Tensor, before: torch.Tensor) -> Motion | None:
    """Estimate the motion between two lumas of the source; None where they are too small or show
    nothing in common."""
    motion = motion_between(255 * now, 255 * before, DIS_FAST)
    return motion if motion is not None and bool(motion.visible.any()) else None


def change_along(motion: Motion, now: torch.Tensor, before: torch.Tensor) -> float:
    """Mean absolute change of luma along the motion where nothing is hidden."""
    return float(motion.change(now, before)[motion.visible].abs().mean())
