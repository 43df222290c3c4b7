"""One result on its way through scoring: its frames are matched with those of the leader, measured
and counted."""

import numpy as np

from vsr.evaluate.alignment import Alignment
from vsr.evaluate.ranking import Interval, mean_interval
from vsr.evaluate.reference import FrameSet, damage_lines
from vsr.evaluate.results import ClipScores
from vsr.metrics.scoreboard import MetricResult, Scoreboard
from vsr.video.align import Timeline, TimeMap
from vsr.video.align.drift import DriftDetector, format_first
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader


class Candidate:
    """A result whose frames are taken by time, at most once each, and measured where nothing is
    missing."""

    def __init__(
        self, clip: ClipReader, timeline: Timeline, alignment: Alignment, board: Scoreboard
    ) -> None:
        self._clip = clip
        self._timeline = timeline
        self._alignment = alignment
        self._board = board
        self._drift = DriftDetector()
        self._indices: list[int] = []
        self._seconds: list[float] = []
        self._partners: dict[str, list[int]] = {}
        self._left_out: dict[str, list[int]] = {}
        self._cuts: list[int] = []
        self._shot: int | None = None

    def match(self, frame_set: FrameSet) -> Frame | None:
        """Measure the frame of this time and return it, if there is one; times come in order."""
        frame = frame_set.partner(self._timeline, self._alignment.time_map)
        # All metrics are of the same frames: one that lacks a partner is counted, not measured.
        if frame is not None and frame_set.is_whole:
            self._measure(frame, frame_set)
            return frame
        for name, other in (frame_set.others | {"result": frame}).items():
            if other is not None:
                self._left_out.setdefault(name, []).append(other.index)
        return None

    def scores(
        self, clocks: dict[str, TimeMap], unmatched_frames: dict[str, list[int]]
    ) -> ClipScores:
        """Return the scores, after the last frame set.

        For the clips that it was compared with, `clocks` holds the time maps onto the leader and
        `unmatched_frames` the frames in no frame set.
        """
        metrics = self._board.compute()
        unmatched = self._unmatched(unmatched_frames)
        return ClipScores(
            file=str(self._clip.info.path),
            frame_indices=tuple(self._indices),
            frame_seconds=tuple(self._seconds),
            metrics=metrics,
            baseline=self._board.compute_baseline(),
            unmatched=unmatched,
            notes=(
                *self._alignment.notes,
                *self._match_notes(unmatched),
                *(f"{self._clip.info.path}: {note}" for note in self._drift.notes()),
                *(f"{self._clip.info.path}: {note}" for note in self._clip.notes),
            ),
            damage=tuple(damage_lines(self._clip)),
            partners={name: tuple(numbers) for name, numbers in self._partners.items()},
            clocks={
                name: self._alignment.time_map.compose(time_map)
                for name, time_map in clocks.items()
            },
            crop=self._alignment.crop,
            repeats=tuple(self._drift.repeats),
            cuts=tuple(self._cuts),
            intervals=_intervals(metrics),
        )

    def _measure(self, frame: Frame, frame_set: FrameSet) -> None:
        pixels = {
            name: other.pixels for name, other in frame_set.others.items() if other is not None
        }
        truth, crop, corner = pixels.get("reference"), self._alignment.crop, (0, 0)
        if truth is not None and crop is not None:
            # The board cuts the result itself, from the corner on.
            truth, corner = crop.of_reference(truth), (crop.result_top, crop.result_left)
        self._board.update(frame, truth, pixels.get("low_resolution"), corner=corner)
        self._drift.update(frame.index, frame.pixels, frame_set.leader.pixels)
        # By the shot, not by its first frame, which may have no partner in the result.
        if self._shot not in (None, frame_set.shot):
            self._cuts.append(frame.index)
        self._shot = frame_set.shot
        self._indices.append(frame.index)
        self._seconds.append(frame.seconds)
        for name, other in frame_set.others.items():
            assert other is not None, "the frame set is whole"
            self._partners.setdefault(name, []).append(other.index)

    def _unmatched(self, unmatched_frames: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
        never = {"result": self._timeline.unmatched_frames()} | unmatched_frames
        return {
            name: tuple(sorted(self._left_out.get(name, []) + numbers))
            for name, numbers in never.items()
        }

    def _match_notes(self, unmatched: dict[str, tuple[int, ...]]) -> list[str]:
        lacking = [
            f"{len(numbers)} of the {name.replace('_', '-')} ({format_first(numbers)})"
            for name, numbers in unmatched.items()
            if numbers
        ]
        if not lacking:
            return []
        path, count = self._clip.info.path, len(self._indices)
        return [f"{path}: {count} frames were matched; without a partner: {', '.join(lacking)}"]


def _intervals(metrics: dict[str, MetricResult]) -> dict[str, Interval]:
    found = {}
    for name, result in metrics.items():
        values = np.array([value for value in result.per_frame or () if value is not None])
        if (interval := mean_interval(values)) is not None:
            found[name] = interval
    return found
