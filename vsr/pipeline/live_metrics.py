"""Live metrics: frames are scored before they are encoded, and never altered."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vsr.metrics import with_sharpness
from vsr.metrics.scoreboard import Scoreboard, Values
from vsr.pipeline.options import Recipe
from vsr.video.align import Timeline
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader, open_clip
from vsr.video.write.segment_store import Json

LIVE_METRICS = ("flicker_live", "sharpness_live", "lr_psnr")
"""What a run measures unless metrics are named. They look at a sample of the frames, since the
motion between two frames takes most of the time in which one model makes one. Metrics that are
named look at every frame."""
LIVE_SAMPLE_INTERVAL = 8
"""The sample: the first frame, the second, and every so many after that, each with the frame before
it."""


@dataclass(frozen=True)
class LiveMetrics:
    """Scores frames before they are encoded; with a truth, only those that have one at their
    time."""

    board: Scoreboard
    reference: ClipReader | None
    truth: Timeline | None
    is_sample: bool
    unmatched: list[int]
    """Frames without a truth at their time."""
    counted: list[int]
    """How many frames, with and without a truth, a `memory` speaks of already."""

    def notes(self) -> list[str]:
        """What the user ought to know of the truth, once all frames are measured."""
        if self.reference is None:
            return []
        path = self.reference.info.path
        lines = [f"the reference {path} is damaged: {damage}" for damage in self.reference.damage]
        if self.unmatched:
            count, first = len(self.unmatched), self.unmatched[0]
            lines.append(
                f"{count} frames, the first of them {first}, have no truth at their time in "
                f"{path}: not scored"
            )
        return lines

    def memory(self) -> Json:
        """What was measured since the last call, as plain values."""
        observed, unmatched = self.counted
        values = self.board.state(observed)
        alone = self.unmatched[unmatched:]
        self.counted[:] = (
            observed + max((len(of_metric) for of_metric in values[0].values()), default=0),
            len(self.unmatched),
        )
        return {"values": values, "unmatched": alone}

    def load_state(self, memories: Sequence[Json]) -> None:
        """Take over what an earlier run measured."""
        known: list[Values] = [{} for _ in memories[0]["values"]]
        for memory in memories:
            self.unmatched.extend(memory["unmatched"])
            for sheet, more in zip(known, memory["values"], strict=True):
                for metric, values in more.items():
                    sheet.setdefault(metric, []).extend(values)
        self.board.load_state(known)
        observed = max((len(values) for values in known[0].values()), default=0)
        self.counted[:] = observed, len(self.unmatched)

    def set_previous(self, low: Frame, large: Frame) -> None:
        """Take the last frame that an earlier run measured as the one before the next."""
        if self.truth is None:
            self.board.set_previous(large, None, low.pixels)
        elif (true := self.truth.pop_nearest(large.seconds)) is not None:
            self.board.set_previous(large, true.pixels, low.pixels)

    def update(self, low: Frame, large: Frame) -> None:
        """Score a frame beside its source and, where there is one, its truth."""
        if self.is_sample and not (_in_sample(large.index) or _in_sample(large.index + 1)):
            self.board.skip()
        elif self.truth is None:
            measured = not self.is_sample or _in_sample(large.index)
            self.board.update(large, None, low.pixels, measured=measured)
        elif (true := self.truth.pop_nearest(large.seconds)) is not None:
            self.board.update(large, true.pixels, low.pixels)
        else:
            self.unmatched.append(large.index)


def _in_sample(frame: int) -> bool:
    return frame == 0 or frame % LIVE_SAMPLE_INTERVAL == 1


@contextmanager
def open_live_metrics(
    recipe: Recipe, reference: str | Path | None, default: Sequence[str]
) -> Iterator[LiveMetrics]:
    """Metrics of the recipe's, else `default`; against a truth where there is one."""
    with ExitStack() as stack:
        reader = None if reference is None else stack.enter_context(open_clip(reference))
        truth = None if reader is None else Timeline(reader.frames())
        names = default if recipe.metrics is None else recipe.metrics
        if reference is not None and recipe.metrics is None:
            names = [*default, *(name for name in ("lpips",) if name not in default)]
        board = Scoreboard(
            with_sharpness(names, has_truth=truth is not None),
            has_truth=truth is not None,
            has_low_resolution=True,
            with_baseline=True,
        )
        yield LiveMetrics(
            board, reader, truth, reference is None and recipe.metrics is None, [], [0, 0]
        )
