"""Live metrics: pictures are scored before they are encoded, and never altered."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from vsr.metrics import perceptual_metric, with_sharpness
from vsr.metrics.observation import FramePairCache
from vsr.metrics.scoreboard import Scoreboard, Values
from vsr.pipeline.options import Recipe
from vsr.records import from_table, to_table
from vsr.temporal.deflicker import is_sampled
from vsr.video.align import Timeline
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader, as_result, open_clip
from vsr.video.step import State, Steadying, Step

CLIP = "clip/"
"""Before the names of tensors that figures of the whole clip are gathered in."""
FLICKER, SHARPNESS = "flicker_live", "sharpness_live"
LIVE_METRICS = (FLICKER, SHARPNESS, "lr_psnr")
"""Measured by a run unless metrics are named, beside a perceptual figure, on a sample of the frames
(see `is_sampled`). Metrics that are named look at every frame."""


@dataclass(frozen=True)
class ShotFlicker:
    """The work of flicker control on one shot. Figures are None where too few frames could be
    compared."""

    first_frame: int
    strength: float
    """0: left alone."""
    back_projection_weight: float
    """Weight of the back-projection onto the source."""
    target: float | None = None
    """Flicker over the source's own that the user asked for."""
    flicker_before: float | None = None
    """`flicker_live` of the upscaler's pictures, in grey levels."""
    flicker_after: float | None = None
    """The run's own figure: `flicker_live` of the pictures handed on."""
    sharpness_kept: float | None = None
    """`sharpness_live` of what was handed on, over that of the upscaler's pictures."""

    def summary(self) -> str:
        """One line for the user."""
        line = f"shot from frame {self.first_frame}: flicker control {self.strength:.2f}"
        if self.flicker_before is not None and self.flicker_after is not None:
            line += (
                f", flicker {self.flicker_after:.2f} grey levels ({self.flicker_before:.2f} "
                "without it)"
            )
        if self.sharpness_kept is not None:
            line += f", {100 * self.sharpness_kept:.0f} % of the sharpness kept"
        return line


class LiveMetrics:
    """Scores each picture beside its source and, where there is one, its truth. Implements Stage.

    To resume it needs the figures so far, and the last measured frame with its picture.
    """

    name = "metrics"
    rewind = 1

    def __init__(
        self,
        names: Sequence[str],
        reference: ClipReader | None,
        notify: Callable[[str], None],
        *,
        is_sample: bool,
    ) -> None:
        """With `is_sample`, frames that `is_sampled` does not name are left out."""
        self._reference = reference
        self._truth = None if reference is None else Timeline(reference.frames())
        self._notify = notify
        self._is_sample = is_sample
        self._unmatched: list[int] = []
        """Frames without a truth at their time."""
        # The boards look at one enlarged input: it and its motion are worked out once.
        shared = FramePairCache(capacity=1)
        self.board = Scoreboard(
            names,
            has_truth=reference is not None,
            has_low_resolution=True,
            with_baseline=True,
            stays_on_device=True,
            shared=shared,
        )
        pair = (FLICKER, SHARPNESS)
        # Two more boards cost nothing until something is measured on them.
        before, after = (
            Scoreboard(
                pair, has_truth=False, has_low_resolution=True, stays_on_device=True, shared=shared
            )
            for _ in range(2)
        )
        # Against a truth frames may be cropped and left out, so those figures are others.
        if reference is None and set(pair) <= set(names):
            after = self.board
        self._before, self._after = before, after
        """Flicker and sharpness of each picture before and after flicker control, where it is
        on."""
        self._shots: list[Steadying] = []
        """The shots that flicker control has begun."""
        self._num_frames = 0
        self._upscaled: torch.Tensor | None = None
        """The last picture before flicker control, where the next frame is measured with it."""

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Score the steps of a clip, and report each shot that was steadied."""
        for step in steps:
            if step.is_done:
                self._look_back(step)
            else:
                self._begin_shot(step.shot.steadying)
                self.update(step)
            yield step
        self._tell_of_shot()

    def update(self, step: Step) -> None:
        """Score one picture."""
        result, low = step.result, step.frame.pixels
        # By the clip's count, so that shots end where they do, measured or not.
        self._num_frames = result.index + 1
        if self._truth is None:
            if self._is_sample:
                _update_sample(self.board, result, low)
            else:
                self.board.update(result, None, low)
        elif (true := self._truth.pop_nearest(result.seconds)) is not None:
            self.board.update(result, true.pixels, low)
        else:
            self._unmatched.append(result.index)
        # As large as the result, so it is kept, and put into checkpoints, only where it counts.
        self._upscaled = step.upscaled if is_sampled(result.index + 1) else None
        if step.shot.steadying is None:
            return
        _update_sample(self._before, _with_pixels(result, step.upscaled), low)
        # The board's own columns serve where they hold the figure already.
        if self._after is not self.board:
            _update_sample(self._after, result, low)

    def state(self) -> State:
        """All figures so far, and the last picture before flicker control where it is needed."""
        log: dict[str, list[Any]] = {
            "shots": [to_table(shot) for shot in self._shots],
            "unmatched": self._unmatched,
        }
        for name, sheet in self._sheets():
            log |= {f"{name}/{metric}": values for metric, values in sheet.items()}
        tensors = {} if self._upscaled is None else {"upscaled": self._upscaled}
        # Metrics of the whole clip are on the board of the results alone.
        tensors |= {f"{CLIP}{name}": each for name, each in self.board.clip_state().items()}
        return State({"num_frames": self._num_frames}, tensors, log)

    def restore(self, state: State) -> None:
        """Take over the figures of an earlier run."""
        self._num_frames = state.record["num_frames"]
        self._upscaled = state.tensors.get("upscaled")
        self._shots = [from_table(Steadying, shot) for shot in state.log.get("shots", ())]
        self._unmatched = list(state.log.get("unmatched", ()))
        gathered = {
            name.removeprefix(CLIP): each
            for name, each in state.tensors.items()
            if name.startswith(CLIP)
        }
        # An empty board has the same columns; a metric that was out of reach then has no values.
        for name, board in self._boards().items():
            board.load_state(
                [
                    {metric: state.log.get(f"{name}/{number}/{metric}", []) for metric in sheet}
                    for number, sheet in enumerate(board.state(0))
                ],
                gathered if board is self.board else None,
            )

    def begin_at(self, frame: int, state: State | None = None) -> None:
        """Begin in the middle of a clip, whose frames before `frame` others measure.

        Of the `state` of the frame before only what the next frames need is taken over.
        """
        for board in self._boards().values():
            board.load_state(
                [{metric: [None] * frame for metric in sheet} for sheet in board.state(0)]
            )
        self._num_frames = frame
        if state is not None:
            self._upscaled = state.tensors.get("upscaled")
            self._shots = [from_table(Steadying, shot) for shot in state.log["shots"]]

    def shots(self) -> list[ShotFlicker]:
        """The work of flicker control on each shot."""
        # A shot ends where the next begins; the last of these is the end of all.
        ends = [*(shot.first_frame for shot in self._shots[1:]), self._num_frames]
        return [self._shot(shot, end) for shot, end in zip(self._shots, ends, strict=False)]

    def notes(self) -> list[str]:
        """Tell what the user ought to know of the truth, once all frames are measured."""
        if self._reference is None:
            return []
        path = self._reference.info.path
        lines = [f"the reference {path} is damaged: {damage}" for damage in self._reference.damage]
        if self._unmatched:
            lines.append(
                f"{len(self._unmatched)} frames, the first of them {self._unmatched[0]}, have no "
                f"truth at their time in {path}: not scored"
            )
        return lines

    def _look_back(self, step: Step) -> None:
        """Take the last frame of an earlier run as the one before the next."""
        if step.picture is None:
            return
        result, low = step.result, step.frame.pixels
        if self._truth is None:
            self.board.set_previous(result, None, low)
        # The truth is read up to here as well, so that the next frame finds its own.
        elif (true := self._truth.pop_nearest(result.seconds)) is not None:
            self.board.set_previous(result, true.pixels, low)
        if self._shots:
            before = None if self._upscaled is None else self._upscaled.to(low.device)
            self._before.set_previous(_with_pixels(result, before), None, low)
            if self._after is not self.board:
                self._after.set_previous(result, None, low)

    def _boards(self) -> dict[str, Scoreboard]:
        boards = {"result": self.board, "before": self._before, "after": self._after}
        if self._after is self.board:
            del boards["after"]
        return boards

    def _sheets(self) -> Iterator[tuple[str, Values]]:
        for name, board in self._boards().items():
            for number, sheet in enumerate(board.state(0)):
                yield f"{name}/{number}", sheet

    def _begin_shot(self, steadying: Steadying | None) -> None:
        if steadying is None:
            return
        if not self._shots or self._shots[-1].first_frame != steadying.first_frame:
            self._tell_of_shot()
            self._shots.append(steadying)

    def _tell_of_shot(self) -> None:
        if self._shots:
            self._notify(self._shot(self._shots[-1], self._num_frames).summary())

    def _shot(self, shot: Steadying, end: int) -> ShotFlicker:
        """Sum up the sampled frames of a shot that ends before frame `end`."""
        first = shot.first_frame
        columns = [board.state(first)[0] for board in (self._before, self._after)]
        # The first frame of a shot changes from another shot's last.
        sampled = [frame - first for frame in range(first, end) if is_sampled(frame)]
        before, after = (
            _mean(column[FLICKER][at] for at in sampled if at > 0) for column in columns
        )
        sharp, sharp_after = (_mean(column[SHARPNESS][at] for at in sampled) for column in columns)
        return ShotFlicker(
            first,
            shot.strength,
            shot.back_projection_weight,
            shot.target,
            before,
            after,
            sharp_after / sharp if sharp and sharp_after is not None else None,
        )


def _update_sample(board: Scoreboard, picture: Frame, low: torch.Tensor) -> None:
    """Measure a frame of the sample with the frame before it; leave out the others."""
    if is_sampled(picture.index) or is_sampled(picture.index + 1):
        board.update(picture, None, low, measured=is_sampled(picture.index))
    else:
        board.skip()


def _with_pixels(frame: Frame, pixels: torch.Tensor | None) -> Frame:
    return frame if pixels is None else replace(frame, pixels=pixels)


def _mean(values: Iterable[float | None]) -> float | None:
    existing = [value for value in values if value is not None]
    return fmean(existing) if existing else None


@contextmanager
def open_live_metrics(
    recipe: Recipe,
    reference: str | Path | None,
    default: Sequence[str],
    notify: Callable[[str], None],
) -> Iterator[LiveMetrics]:
    """Open the metrics of the recipe, else `default`; against a truth where there is one."""
    names = list(default if recipe.metrics is None else recipe.metrics)
    # One perceptual figure: NIQE is weak, but needs neither a truth nor weights.
    if recipe.metrics is None:
        perceptual = perceptual_metric(has_truth=reference is not None)
        names += [perceptual] if perceptual not in names else []
    # Blur lowers flicker: one figure is never shown without the other.
    names = with_sharpness(names, has_truth=reference is not None)
    is_sample = reference is None and recipe.metrics is None
    with (
        nullcontext()
        if reference is None
        else open_clip(reference, as_result(recipe.read)) as reader
    ):
        yield LiveMetrics(names, reader, notify, is_sample=is_sample)
