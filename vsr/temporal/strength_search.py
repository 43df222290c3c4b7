"""The closed loop: how much flicker control a shot needs, by a look at its first frames."""

from collections.abc import Callable, Sequence

import torch

from vsr.image.blur import KernelTaps
from vsr.temporal.fusion import FusionOptions, fuse_shot
from vsr.temporal.registration import ShotRegistrar
from vsr.temporal.statistics import change_along, enlarged_luma, luma, source_motion

PROBE_FRAMES = 8
"""How many frames are looked at; they wait until the strength is chosen."""
BISECTIONS = 5
SETTLING_FRAMES = 2
"""The first results of a shot have little to be fused with and say nothing of the rest."""

FramePairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""(low, large) of consecutive frames: float32 RGB (3, h, w) and (3, H, W)."""


def search_strength(
    probe: FramePairs,
    target: float,
    back_projection_weight: float,
    options: Callable[[float], FusionOptions],
    fallback: float,
    kernel: KernelTaps | None = None,
) -> float:
    """The least strength, 0 to 1, at which the change along the motion is `target` times the
    source's own.

    1 where none reaches it, and `fallback` where the look is too short or too still to tell.
    """
    first = max(1, min(SETTLING_FRAMES, len(probe) - 2))
    size = probe[0][1].shape[-2:]
    source = [enlarged_luma(low, *size) for low, _ in probe]
    motions = [(i, source_motion(source[i], source[i - 1])) for i in range(first, len(probe))]
    compared = [(i, motion) for i, motion in motions if motion is not None]
    registrar = ShotRegistrar()
    for index, (low, _) in enumerate(probe):
        registrar.add(index, low)

    def total_change(planes: Sequence[torch.Tensor]) -> float:
        lumas = [luma(plane) for plane in planes]
        return sum(change_along(motion, lumas[i], lumas[i - 1]) for i, motion in compared)

    def reaches(strength: float) -> bool:
        return (
            total_change(
                list(
                    fuse_shot(
                        probe, options(strength), back_projection_weight, registrar, kernel=kernel
                    )
                )
            )
            <= allowed
        )

    own_change = sum(change_along(motion, source[i], source[i - 1]) for i, motion in compared)
    allowed = target * own_change
    if own_change == 0:
        return fallback
    if total_change([large for _, large in probe]) <= allowed:
        return 0.0
    if not reaches(1.0):
        return 1.0
    too_weak, enough = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (too_weak + enough) / 2
        too_weak, enough = (too_weak, middle) if reaches(middle) else (middle, enough)
    return enough
