"""Live metrics: frames are scored before they are encoded, and never altered."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vsr.alignment import Timeline
from vsr.frames import Frame
from vsr.metrics import beside_sharpness
from vsr.metrics.scoreboard import Scoreboard
from vsr.reader import ClipReader, open_clip
from vsr.recipe import Recipe

LIVE_METRICS = ("flicker_live", "sharpness_live", "lr_psnr")
"""What a run measures unless metrics are named. They look at a sample of the frames, since the motion between two
frames takes most of the time in which one model makes one. Metrics that are named look at every frame."""
MEASURED_EVERY = 8
"""The sample: the first frame, the second, and every so many after that, each with the frame before it."""


@dataclass(frozen=True)
class Measuring:
    """Scores frames before they are encoded; with a truth, only those that have one at their time."""

    board: Scoreboard
    reference: ClipReader | None
    truth: Timeline | None
    is_sample: bool
    unmatched: list[int]
    """Frames without a truth at their time."""

    def remarks(self) -> list[str]:
        """What the user ought to know of the truth, once all frames are measured."""
        if self.reference is None:
            return []
        path = self.reference.info.path
        lines = [f"the reference {path} is damaged: {damage}" for damage in self.reference.damage]
        if self.unmatched:
            count, first = len(self.unmatched), self.unmatched[0]
            lines.append(
                f"{count} frames, the first of them {first}, have no truth at their time in {path}: not scored"
            )
        return lines

    def observe(self, low: Frame, large: Frame) -> None:
        """Score a frame beside its source and, where there is one, its truth."""
        measured = not self.is_sample or large.index == 0 or large.index % MEASURED_EVERY == 1
        if self.truth is None:
            self.board.observe(large, None, low.pixels, measured=measured)
        elif (true := self.truth.take_nearest(large.seconds)) is not None:
            self.board.observe(large, true.pixels, low.pixels)
        else:
            self.unmatched.append(large.index)


@contextmanager
def measuring(recipe: Recipe, reference: str | Path | None, default: Sequence[str]) -> Iterator[Measuring]:
    """Metrics of the recipe's, else `default`; against a truth where there is one."""
    with ExitStack() as stack:
        reader = None if reference is None else stack.enter_context(open_clip(reference))
        truth = None if reader is None else Timeline(reader.frames())
        names = default if recipe.metrics is None else recipe.metrics
        if reference is not None and recipe.metrics is None:
            names = [*default, *(name for name in ("lpips",) if name not in default)]
        board = Scoreboard(
            beside_sharpness(names, has_truth=truth is not None),
            has_truth=truth is not None,
            has_low_resolution=True,
            with_baseline=True,
        )
        yield Measuring(board, reader, truth, reference is None and recipe.metrics is None, [])
