"""Runs the product on a clip and scores it; prints tables."""

import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean

from benchmarks.clips import Pair
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model, load_bank
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.pipeline.session import Session
from vsr.train.keyframe import train_keyframe
from vsr.upscale import Decision
from vsr.upscale.policy import ModelSet, ShotModelSource, no_shot_models
from vsr.video.frames import Frame

BORDER_PX = 8
"""Left off at each side, as the literature does for a scale of 4."""
SECONDS = "seconds"
COLUMNS = {
    "psnr_y": ("PSNR-Y dB", ".2f"),
    "ssim_y": ("SSIM-Y", ".3f"),
    "sharpness": ("sharpness", ".3f"),
    "lpips": ("LPIPS (squeeze)", ".3f"),
    "warping_error": ("warping error", ".2f"),
    "flicker": ("flicker", ".2f"),
    "lr_psnr": ("LR-PSNR dB", ".1f"),
    SECONDS: ("s/frame", ".2f"),
}
"""Label and format of each figure."""
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Outcome:
    """What one policy made of one clip."""

    figures: Figures
    """Means over the frames, by metric; `SECONDS` is the upscaling of one frame, flicker control
    included."""
    decision: Decision | None
    """The first one; None for a policy without models."""


def options_parser(purpose: str, count: int = 1) -> ArgumentParser:
    """The options that all of these commands share."""
    parser = ArgumentParser(description=purpose)
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="measure the first N frames of each clip (default all)",
    )
    parser.add_argument(
        "--count", type=int, default=count, help="models for each keyframe (default %(default)s)"
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(tempfile.gettempdir()) / "vsr-benchmarks",
        metavar="DIR",
        help=(
            "where banks are kept and used again, one folder a clip; take a new one when "
            "training has changed"
        ),
    )
    return parser


def train_bank(clip: Path, folder: Path, count: int) -> list[Model]:
    """The bank of a clip's keyframe with the default settings; models that are there already are
    kept."""
    workers = len(os.sched_getaffinity(0))
    start = cpu_seconds()
    report = train_keyframe(clip, folder, count=count, workers=workers)
    if report.trained:
        each = (cpu_seconds() - start) / len(report.trained)
        print(
            f"{folder.name}: {len(report.trained)} models trained, {each:.1f} CPU-seconds each",
            file=sys.stderr,
        )
    return load_bank(folder)[:count]


def cpu_seconds() -> float:
    """Processor time of this process and of its finished children, by all threads."""
    return sum(os.times()[:4])


def upscale(
    clip: Path,
    recipe: Recipe,
    bank: Sequence[Model],
    decisions: list[Decision],
    clock: StageClock,
    shot_models: ShotModelSource = no_shot_models,
) -> Iterator[tuple[Frame, Frame]]:
    """Each frame of a clip with its enlargement, as a run makes them before it encodes; choices go
    to `decisions`."""
    recipe = replace(recipe, metrics=())
    models = ModelSet(bank, shot_models)
    with Session.open(clip, recipe, clock=clock, models=models, writes=False) as session:
        for step in session.steps():
            decisions[:] = session.policy.decisions
            yield step.frame, step.result


def measure(
    pair: Pair,
    recipe: Recipe,
    bank: Sequence[Model],
    metrics: Iterable[str],
    frames: int | None = None,
    shot_models: ShotModelSource = no_shot_models,
    border: int = BORDER_PX,
) -> Outcome:
    """Run `recipe` on the first `frames` frames of a pair's clip and score them against the truth,
    unencoded."""
    clock, decisions = StageClock(), list[Decision]()
    board = Scoreboard(
        [name for name in metrics if name != SECONDS],
        has_truth=True,
        has_low_resolution=True,
        border=border,
    )
    upscaled = islice(upscale(pair.low, recipe, bank, decisions, clock, shot_models), frames)
    count = 0
    for (low, large), truth in zip(upscaled, pair.truth.pictures(), strict=False):
        board.update(large, truth, low.pixels)
        count += 1
    figures: Figures = {name: result.mean for name, result in board.compute().items()}
    seconds = clock.seconds()
    made_in = seconds["upscale"] + seconds.get("steady", 0.0)
    return Outcome(figures | {SECONDS: made_in / count}, decisions[0] if decisions else None)


def mean_figures(several: Sequence[Figures]) -> Figures:
    """Mean of each figure over clips; None where a clip lacks it."""
    columns = {name: [figures[name] for figures in several] for name in several[0]}
    return {name: None if None in values else fmean(values) for name, values in columns.items()}


def labels(names: Iterable[str]) -> list[str]:
    """Column heads of these figures."""
    return [COLUMNS[name][0] for name in names]


def cells(figures: Figures, names: Iterable[str]) -> list[str]:
    """These figures as text."""
    return [
        "-" if figures[name] is None else format(figures[name], COLUMNS[name][1]) for name in names
    ]


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table; the first column is text and the others are numbers."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()
