"""One result on its way through scoring: its frames are met by those of the leading clip, measured and counted."""

import numpy as np

from vsr.evaluate.alignment import Placing
from vsr.evaluate.ranking import Interval, mean_interval
from vsr.evaluate.reference import Instant, damage_lines
from vsr.evaluate.results import ClipScores
from vsr.metrics.scoreboard import MetricResult, Scoreboard
from vsr.video.align import Clock, Timeline
from vsr.video.align.drift import ContentWatch, first_few
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader


class Entrant:
    """A result whose frames are taken by time, at most once each, and measured where nothing is missing."""

    def __init__(self, clip: ClipReader, timeline: Timeline, placing: Placing, board: Scoreboard) -> None:
        self._clip = clip
        self._timeline = timeline
        self._placing = placing
        self._board = board
        self._watch = ContentWatch()
        self._indices: list[int] = []
        self._seconds: list[float] = []
        self._partners: dict[str, list[int]] = {}
        self._left_out: dict[str, list[int]] = {}
        self._cuts: list[int] = []
        self._shot: int | None = None

    def meet(self, instant: Instant) -> Frame | None:
        """Measure the frame of this time and return it, if there is one; instants come in order."""
        frame = instant.partner(self._timeline, self._placing.clock)
        if frame is not None and instant.is_whole:
            self._measure(frame, instant)
            return frame
        for name, other in (instant.others | {"result": frame}).items():
            if other is not None:
                self._left_out.setdefault(name, []).append(other.index)
        return None

    def scores(self, clocks: dict[str, Clock], untaken: dict[str, list[int]]) -> ClipScores:
        """What was found, once all instants are over.

        By the names of the clips that it was compared with: their clocks onto the leader, and their frames that no
        instant held.
        """
        metrics = self._board.results()
        unmatched = self._unmatched(untaken)
        readings = [f"{self._clip.info.path}: {note}" for note in self._clip.notes]
        return ClipScores(
            file=str(self._clip.info.path),
            frame_indices=tuple(self._indices),
            frame_seconds=tuple(self._seconds),
            metrics=metrics,
            baseline=self._board.baseline_results(),
            unmatched=unmatched,
            notes=(*self._placing.notes, *self._match_notes(unmatched), *self._watch_notes(), *readings),
            damage=tuple(damage_lines(self._clip)),
            partners={name: tuple(numbers) for name, numbers in self._partners.items()},
            clocks={name: self._placing.clock.onto(clock) for name, clock in clocks.items()},
            crop=self._placing.crop,
            repeats=tuple(self._watch.repeats),
            cuts=tuple(self._cuts),
            intervals=_intervals(metrics),
        )

    def _measure(self, frame: Frame, instant: Instant) -> None:
        pixels = {name: other.pixels for name, other in instant.others.items() if other is not None}
        truth, crop = pixels.get("reference"), self._placing.crop
        if truth is None or crop is None:
            self._board.observe(frame, truth, pixels.get("low_resolution"))
        else:
            corner = crop.result_top, crop.result_left
            self._board.observe(frame, crop.of_reference(truth), pixels.get("low_resolution"), corner=corner)
        self._watch.observe(frame.index, frame.pixels, instant.leader.pixels)
        if self._shot not in (None, instant.shot):
            self._cuts.append(frame.index)
        self._shot = instant.shot
        self._indices.append(frame.index)
        self._seconds.append(frame.seconds)
        for name, other in instant.others.items():
            assert other is not None, "the instant is whole"
            self._partners.setdefault(name, []).append(other.index)

    def _unmatched(self, untaken: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
        never = {"result": self._timeline.untaken()} | untaken
        return {name: tuple(sorted(self._left_out.get(name, []) + numbers)) for name, numbers in never.items()}

    def _match_notes(self, unmatched: dict[str, tuple[int, ...]]) -> list[str]:
        lacking = [
            f"{len(numbers)} of the {name.replace('_', '-')} ({first_few(numbers)})"
            for name, numbers in unmatched.items()
            if numbers
        ]
        if not lacking:
            return []
        path, count = self._clip.info.path, len(self._indices)
        return [f"{path}: {count} frames were matched; without a partner: {', '.join(lacking)}"]

    def _watch_notes(self) -> list[str]:
        return [f"{self._clip.info.path}: {note}" for note in self._watch.notes()]


def _intervals(metrics: dict[str, MetricResult]) -> dict[str, Interval]:
    found = {}
    for name, result in metrics.items():
        values = np.array([value for value in result.per_frame or () if value is not None])
        if (interval := mean_interval(values)) is not None:
            found[name] = interval
    return found
