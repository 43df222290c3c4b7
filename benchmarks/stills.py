"""Photographs as clips of one frame, reduced in known ways, and figures of what is made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.clips import CLIPS, Excerpt, write_lossless
from benchmarks.measure import Figures, upscale
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.upscale import PolicyOptions

FACTOR = 2
METRICS = ("psnr_y", "ms_ssim", "ssim_y", "sharpness")


@dataclass(frozen=True, eq=False)
class Still:
    """A photograph and its low resolution."""

    name: str
    low: Path
    """A clip of one frame."""
    truth: torch.Tensor


def make_still(
    name: str, folder: Path, degradation: str, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> Still:
    """The photograph `set/file` of the shared stills, sides cut to multiples of 4, and what
    `reduce` makes of it."""
    group, file = name.split("/")
    excerpt = Excerpt(f"../stills/{group}/HR/{file}.png")
    if not excerpt.path.is_file():
        raise SystemExit(f"there is no {excerpt.path.relative_to(CLIPS.parent.parent)}")
    truth = next(excerpt.pictures())
    folder.mkdir(parents=True, exist_ok=True)
    low = folder / f"{file}-{degradation}.mkv"
    write_lossless(low, [reduce(truth)])
    return Still(file, low, truth)


def figures_of(
    still: Still, policy: str, bank: Sequence[Model], options: PolicyOptions = PolicyOptions()
) -> Figures:
    """Figures of a policy at twice the size, without the 2 pixels of the border, as the literature
    has it."""
    board = Scoreboard(METRICS, has_truth=True, has_low_resolution=True, border=FACTOR)
    recipe = Recipe(policy, scale=FACTOR, steady=0.0, policies=options)
    for low, large in upscale(still.low, recipe, bank, [], StageClock()):
        board.update(large, still.truth, low.pixels)
    return {name: result.mean for name, result in board.compute().items()}
