"""Steps for tests, and policies run on a few frames."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import torch

from vsr.restore.data_term import DataTerm
from vsr.temporal.fusion import Enlarged, FusionOptions, fuse_shot
from vsr.upscale import Policy, PolicyContext
from vsr.upscale.policy import Decision
from vsr.video.frames import Frame
from vsr.video.step import ShotRef, Step


def frame_of(pixels: torch.Tensor, index: int) -> Frame:
    """A frame of 25 a second."""
    return Frame(pixels, index, index, Fraction(1, 25))


def steps_of(frames: Iterable[Frame], shot_index: int = 0) -> list[Step]:
    """The steps of one shot, as they are read."""
    frames = list(frames)
    shot = ShotRef(shot_index, frames[0].index if frames else 0)
    return [Step(frame, shot) for frame in frames]


def steps_of_pairs(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], kernel=None, first_frame: int = 0
) -> list[Step]:
    """The steps of one shot as they come out of a policy: (source, picture)."""
    shot = ShotRef(0, first_frame, kernel)
    return [
        Step(frame_of(low, first_frame + number), shot, large)
        for number, (low, large) in enumerate(pairs)
    ]


def fused_pictures(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    options: FusionOptions,
    back_projection_weight: float,
) -> Iterator[torch.Tensor]:
    """What fusion makes of the pictures of one shot: (source, picture)."""
    shot = (Enlarged(low, large, None) for low, large in pairs)
    return (one.picture for one in fuse_shot(shot, options, DataTerm(back_projection_weight)))


def upscale_frames(
    policy: Policy, context: PolicyContext, frames: Sequence[Frame]
) -> tuple[list[Frame], list[Decision]]:
    """What a policy makes of the frames of a shot, and its decisions."""
    stage = policy.make(context)
    return [step.result for step in stage.through(iter(steps_of(frames)))], stage.decisions
