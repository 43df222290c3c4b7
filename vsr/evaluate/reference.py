"""The leader of a scoring, whose frames set the times: the truth, else the low-resolution input;
and the clip that follows it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice, tee
from math import inf

from vsr.evaluate.alignment import ProbedClip, find_time_map, time_map_notes
from vsr.video.align import Timeline, TimeMap
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader
from vsr.video.shots import split_shots


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames that every result is compared with at one time."""

    leader: Frame
    """Frame of the leader: one of `others`, or the result's own where there is nothing to compare
    with."""
    next_seconds: float
    """Time of the leader's next frame; infinite after its last."""
    shot: int
    """Position of the leader's shot in its clip, from 0."""
    others: dict[str, Frame | None]
    """`reference` and `low_resolution`, as far as they were given; None where one has no frame at
    this time."""

    @property
    def is_whole(self) -> bool:
        """Whether every clip has a frame at this time."""
        return None not in self.others.values()

    def partner(self, timeline: Timeline, time_map: TimeMap) -> Frame | None:
        """Take the frame of a clip that is shown at this time, given its clock onto the
        leader's."""
        return timeline.pop_nearest(
            time_map.to_result(self.leader.seconds), time_map.to_result(self.next_seconds)
        )


class ReferenceClips:
    """The reference with the low-resolution input in step, or the one of them that there is."""

    def __init__(self, probes: dict[str, ProbedClip], stack: ExitStack) -> None:
        self._probes = probes
        self._clips = {name: stack.enter_context(probe.open()) for name, probe in probes.items()}
        # The first of them leads: the truth where there is one.
        self._name, *self._following = probes
        self.clocks = {
            name: find_time_map(probe, probes[self._name]) for name, probe in probes.items()
        }
        """Maps from each clip's times to the leader's."""
        self._timelines = {name: Timeline(self._clips[name].frames()) for name in self._following}

    @property
    def num_frames(self) -> int | None:
        """Number of the leader's frames, where its header has it."""
        return self._clips[self._name].info.num_frames_expected

    def frame_sets(self) -> Iterator[FrameSet]:
        """Yield one for each frame of the leader."""
        for frame_set in leader_frame_sets(self._clips[self._name].frames()):
            followers = {
                name: frame_set.partner(line, self.clocks[name])
                for name, line in self._timelines.items()
            }
            yield replace(frame_set, others={self._name: frame_set.leader, **followers})

    def unmatched_frames(self) -> dict[str, list[int]]:
        """Return the frames that no frame set held, by clip; reads the clips to their ends."""
        return {
            self._name: [],
            **{name: timeline.unmatched_frames() for name, timeline in self._timelines.items()},
        }

    def notes(self) -> tuple[str, ...]:
        """Return what the user ought to know of these clips, once all frame sets have passed."""
        leader = self._probes[self._name]
        clocks = [
            note
            for name in self._following
            for note in time_map_notes(self._probes[name], leader, self.clocks[name])
        ]
        readings = [
            f"{clip.info.path}: {note}" for clip in self._clips.values() for note in clip.notes
        ]
        return (*clocks, *readings)

    def damage(self) -> tuple[str, ...]:
        """Return what was damaged in these clips."""
        return tuple(damage for clip in self._clips.values() for damage in damage_lines(clip))


def damage_lines(clip: ClipReader) -> list[str]:
    """Tell what was damaged in a clip."""
    return [f"{clip.info.path}: {damage.detail} ({damage.count} in all)" for damage in clip.damage]


def leader_frame_sets(frames: Iterable[Frame]) -> Iterator[FrameSet]:
    """Yield one for each frame, with nothing to compare with, as many frames late as the search for
    cuts looks ahead."""
    # A result may hold several frames until the leader's next, so that one is looked at ahead.
    numbered, ahead = tee(
        (frame, shot.index) for shot in split_shots(frames) for frame in shot.frames
    )
    later = chain((frame.seconds for frame, _ in islice(ahead, 1, None)), [inf])
    # Not strict: a clip without a frame still has its end.
    for (frame, shot), next_seconds in zip(numbered, later, strict=False):
        yield FrameSet(frame, next_seconds, shot, {})
