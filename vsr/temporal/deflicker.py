"""Flicker control of a clip, shot by shot, with a record of what was done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch

from vsr.image.blur import KernelTaps
from vsr.temporal.fusion import FusionOptions, fuse_shot
from vsr.temporal.statistics import (
    FrameStatistics,
    TemporalStatistics,
    flicker_ratios,
    sharpness_kept,
)
from vsr.temporal.strength_search import PROBE_FRAMES, search_strength
from vsr.video.frames import Frame

Pair = tuple[Frame, Frame]
"""A frame of the source and the same frame enlarged."""

MAX_MEMORY = 0.99
"""Share of the frame before at full strength; a share of 1 would keep a shot's first frame for
ever."""
AUTO_STRENGTH = 0.99
"""A memory of 0.98. Less loses steadiness, detail and fidelity at once; more takes longer to forget
what was wrong."""
FLICKER_SAMPLE_INTERVAL = 8
"""The second of so many frames is measured, and the change from it to the third."""


def no_kernel_at(_: int) -> None:
    """Of pictures that were enlarged for a bicubic reduction."""


def fusion_options(strength: float) -> FusionOptions:
    """What a strength of 0 to 1 means."""
    return FusionOptions(memory=MAX_MEMORY * strength, future_weight=strength)


@dataclass(frozen=True)
class ShotFlickerReport:
    """What flicker control did with a shot. Figures are None where too few frames could be
    compared."""

    first_frame: int
    strength: float
    """0: left alone."""
    back_projection_weight: float
    """Weight of the back-projection onto the source."""
    target: float | None = None
    """The flicker that was asked for."""
    flicker_before: float | None = None
    """Change along the motion of what the upscaler made, over the source's own."""
    flicker_after: float | None = None
    """The same of what was handed on."""
    sharpness_kept: float | None = None
    """Mean gradient of what was handed on, over that of what the upscaler made."""

    def summary(self) -> str:
        """One line for the user."""
        line = f"shot from frame {self.first_frame}: flicker control {self.strength:.2f}"
        if self.flicker_before is not None and self.flicker_after is not None:
            line += (
                f", {self.flicker_after:.2f} times the source's own flicker "
                f"({self.flicker_before:.2f} without)"
            )
        if self.sharpness_kept is not None:
            line += f", {100 * self.sharpness_kept:.0f} % of the sharpness kept"
        if self.target is not None and (self.flicker_after or 0) > self.target * 1.1:
            line += f"; the target of {self.target:.2f} is not met"
        return line


@dataclass(frozen=True)
class ShotFlickerState:
    """What was chosen for a shot, and what was read of it so far: all that a later run needs beside
    one picture."""

    first_frame: int
    strength: float
    back_projection_weight: float
    target: float | None
    frame_statistics: list[FrameStatistics]

    def up_to(self, frame: int) -> "ShotFlickerState":
        """Without what was read of later frames."""
        return replace(
            self,
            frame_statistics=[entry for entry in self.frame_statistics if entry.frame <= frame],
        )

    def report(self) -> ShotFlickerReport:
        """What was done with the shot, as far as it was read."""
        before, after = flicker_ratios(self.frame_statistics)
        kept = sharpness_kept(self.frame_statistics)
        return ShotFlickerReport(
            self.first_frame,
            self.strength,
            self.back_projection_weight,
            self.target,
            before,
            after,
            kept,
        )


class FlickerControl:
    """Steadies the shots of a clip, one after the other."""

    def __init__(
        self,
        strength: float,
        target: float | None,
        back_projection_weight: Callable[[torch.Tensor], float],
        notify: Callable[[str], None],
        kernel_at: Callable[[int], KernelTaps | None] = no_kernel_at,
    ) -> None:
        """With a `target` the strength is chosen for each shot by a look at its first frames.

        `back_projection_weight` gives the weight of the back-projection for a shot whose source
        begins with a picture (3, h, w), `kernel_at` the blur kernel, where there is one, that a
        shot which begins with this frame was enlarged for.
        """
        self.strength = strength
        self._target = target
        self._back_projection_weight = back_projection_weight
        self._notify = notify
        self._kernel_at = kernel_at
        self.record: list[ShotFlickerReport] = []
        """Of the shots that are done."""
        self.begun: list[ShotFlickerState] = []
        """Of the shots that were begun, but for those that `discard_before` was told of."""

    def steady(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs of one shot, as many and in order, their second frames steadied; at least
        one."""
        pairs = iter(pairs)
        probe = list(islice(pairs, 1 if self._target is None else PROBE_FRAMES))
        first_frame, first_low = probe[0][0].index, probe[0][0].pixels
        back_projection_weight = self._back_projection_weight(first_low)
        if self._target is not None:
            pictures = [(low.pixels, large.pixels) for low, large in probe]
            kernel = self._kernel_at(first_frame)
            strength = search_strength(
                pictures,
                self._target,
                back_projection_weight,
                fusion_options,
                AUTO_STRENGTH,
                kernel,
            )
        else:
            strength = self.strength
        progress = ShotFlickerState(first_frame, strength, back_projection_weight, self._target, [])
        yield from self._through(chain(probe, pairs), progress, None)

    def resume(
        self, pairs: Iterable[Pair], progress: ShotFlickerState, done: torch.Tensor
    ) -> Iterator[Pair]:
        """As `steady` would for the rest of a shot whose pairs up to the first of `pairs` were
        steadied before.

        `done` is what the first pair's second frame became then; that pair is not handed out again.
        """
        yield from self._through(iter(pairs), progress, done)

    def discard_before(self, frame: int) -> None:
        """Shots that ended before this frame need not be gone on with."""
        # In place: shots are begun in another thread meanwhile.
        while len(self.begun) > 1 and self.begun[1].first_frame <= frame:
            self.begun.pop(0)

    def _through(
        self, pairs: Iterator[Pair], progress: ShotFlickerState, done: torch.Tensor | None
    ) -> Iterator[Pair]:
        self.begun.append(progress)
        if progress.strength == 0:
            yield from pairs if done is None else islice(pairs, 1, None)
        else:
            yield from _fused(pairs, progress, self._kernel_at(progress.first_frame), done)
        report = progress.report()
        self.record.append(report)
        self._notify(report.summary())


def _fused(
    pairs: Iterable[Pair],
    progress: ShotFlickerState,
    kernel: KernelTaps | None,
    done: torch.Tensor | None,
) -> Iterator[Pair]:
    gauge = TemporalStatistics(progress.frame_statistics)
    waiting: deque[Pair] = deque()

    def pictures() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for low, large in pairs:
            waiting.append((low, large))
            yield low.pixels, large.pixels

    known = None if done is None else (0, done)
    options = fusion_options(progress.strength)
    for picture in fuse_shot(
        pictures(), options, progress.back_projection_weight, done=known, kernel=kernel
    ):
        low, large = waiting.popleft()
        if done is not None and picture is done:
            if _is_measured(large.index, progress):
                gauge.set_previous(low.pixels, large.pixels, picture)
            continue
        if _is_measured(large.index, progress):
            gauge.update(large.index, low.pixels, large.pixels, picture)
        else:
            gauge.skip()
        yield low, replace(large, pixels=picture)


def _is_measured(frame: int, progress: ShotFlickerState) -> bool:
    return (frame - progress.first_frame) % FLICKER_SAMPLE_INTERVAL in (1, 2)
