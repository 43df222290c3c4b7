"""Alignment of a clip with the leader, the clip that all are compared with: the map of times, and
the common part of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch

from vsr.errors import InputError
from vsr.video.align import Crop, Timeline, TimeMap
from vsr.video.align.crops import check_scale, check_sizes, crop_note, find_crop
from vsr.video.align.time_map import (
    BRIEF_FINGERPRINT_FRAMES,
    LONG_FINGERPRINT_FRAMES,
    Fingerprint,
    guess_time_map,
    needs_search,
    search_time_map,
    take_fingerprint,
)
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import ClipReader, ReadOptions, open_clip

Source = str | Path

CROP_PAIRS = 8
FRAMES_BETWEEN_CROP_PAIRS = 8
"""The first frames may be black; those after a while are not."""


class ProbedClip:
    """A clip, looked at as far as its alignment needs."""

    def __init__(self, source: Source, read: ReadOptions = ReadOptions()) -> None:
        """Open it once for its header; raises InputError where it cannot be read."""
        self.source = source
        self._read = read
        with self.open() as clip:
            self.info: ClipInfo = clip.info

    def open(self) -> ClipReader:
        """Open it from its start."""
        return open_clip(self.source, self._read)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.info.height, self.info.width

    @property
    def frames_per_second(self) -> float | None:
        """Average rate, where the header has one."""
        rate = self.info.average_rate
        return None if rate is None else float(rate)

    @property
    def is_still(self) -> bool:
        """Whether it is a single picture."""
        return len(self.brief.seconds) == 1

    @cached_property
    def brief(self) -> Fingerprint:
        """Fingerprint of its first seconds."""
        return self._take_fingerprint(BRIEF_FINGERPRINT_FRAMES)

    @cached_property
    def long(self) -> Fingerprint:
        """Fingerprint of the whole clip, or as much as memory allows."""
        return self._take_fingerprint(LONG_FINGERPRINT_FRAMES)

    def _take_fingerprint(self, frames: int) -> Fingerprint:
        with self.open() as clip:
            return take_fingerprint(clip.frames(), frames, self.frames_per_second)


@dataclass(frozen=True)
class Alignment:
    """Place of a clip's frames on those of the leader."""

    time_map: TimeMap
    """Turns its times into the leader's."""
    crop: Crop | None = None
    """Crop of a result on its truth; None where their sizes are equal."""
    notes: tuple[str, ...] = ()


def align(result: ProbedClip, others: dict[str, ProbedClip]) -> Alignment:
    """Align a result with the clips that it is compared with, by name.

    Raises InputError where the sizes differ from the reference's by more than a small crop, and
    where the result cannot be the low-resolution input enlarged.
    """
    if "low_resolution" in others:
        check_scale(result.size, others["low_resolution"].size)
    if "reference" not in others:
        leader = others["low_resolution"]
        time_map = find_time_map(result, leader)
        return Alignment(time_map, None, tuple(time_map_notes(result, leader, time_map)))
    leader = others["reference"]
    check_sizes(result.size, leader.size)
    time_map = find_time_map(result, leader)
    notes = time_map_notes(result, leader, time_map)
    if result.size == leader.size:
        return Alignment(time_map, None, tuple(notes))
    # Several moments: a crop that fits one picture by chance fits no other.
    crop = find_crop(_spread_pairs(result, leader, time_map))
    return Alignment(time_map, crop, (*notes, crop_note(crop, result.size, leader.size)))


def align_to_still(
    result: ProbedClip, stills: dict[str, ProbedClip], pictures: dict[str, Frame]
) -> Alignment:
    """Align a result with single pictures, each of which belongs to every frame."""
    notes = [
        f"{probe.source} is one picture: every frame of {result.source} was compared with it"
        for probe in stills.values()
    ]
    if "low_resolution" in stills:
        check_scale(result.size, stills["low_resolution"].size)
    if "reference" not in stills or stills["reference"].size == result.size:
        return Alignment(TimeMap(), None, tuple(notes))
    size = stills["reference"].size
    check_sizes(result.size, size)
    with result.open() as clip:
        crop = find_crop([(next(clip.frames()).pixels, pictures["reference"].pixels)])
    return Alignment(TimeMap(), crop, (*notes, crop_note(crop, result.size, size)))


def find_time_map(clip: ProbedClip, leader: ProbedClip) -> TimeMap:
    """Map times by the time stamps where the pictures do not contradict them, else by the
    pictures."""
    # Reading whole clips takes long, so their first seconds are asked first.
    time_map = guess_time_map(clip.brief, leader.brief)
    return (
        search_time_map(clip.long, leader.long)
        if needs_search(clip.brief, leader.brief, time_map)
        else time_map
    )


def time_map_notes(clip: ProbedClip, leader: ProbedClip, time_map: TimeMap) -> list[str]:
    """Describe the differences between the two clips' times."""
    notes = []
    if time_map.offset_seconds:
        notes.append(
            f"{leader.source} is {time_map.offset_seconds:+.3f} s from {clip.source}: "
            "times were shifted by that, for the frames to match"
        )
    rates = clip.frames_per_second, leader.frames_per_second
    if time_map.stretch != 1:
        notes.append(
            f"{_rates(clip, leader)} and both show the same frames: "
            f"the times of {clip.source} were stretched by {time_map.stretch:.6g}"
        )
    elif None not in rates and rates[0] != rates[1]:
        notes.append(f"{_rates(clip, leader)}: matched where their times meet")
    return notes


def _rates(clip: ProbedClip, leader: ProbedClip) -> str:
    return (
        f"{clip.source} has {clip.frames_per_second:.6g} frames a second and {leader.source} "
        f"{leader.frames_per_second:.6g}"
    )


def _spread_pairs(
    result: ProbedClip, reference: ProbedClip, time_map: TimeMap
) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
    """Return a few matched pictures of both from their first seconds; raises InputError where none
    match."""
    with result.open() as result_clip, reference.open() as reference_clip:
        timeline = Timeline(result_clip.frames())
        partners = (
            (frame.pixels, true.pixels)
            for true in reference_clip.frames()
            if (frame := timeline.pop_nearest(time_map.to_result(true.seconds))) is not None
        )
        pairs = list(
            islice(partners, 0, CROP_PAIRS * FRAMES_BETWEEN_CROP_PAIRS, FRAMES_BETWEEN_CROP_PAIRS)
        )
    if not pairs:
        raise no_match_error(result.source, reference.source)
    return pairs


def no_match_error(result: Source, *others: Source) -> InputError:
    """Return the error for clips that have no time in common."""
    return InputError(
        f"no frame of {result} matches in time with a frame of {' and '.join(map(str, others))}"
    )
