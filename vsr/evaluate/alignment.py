"""How a clip lies on the one that all are compared with: by which clock, and over which part of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch

from vsr.errors import InputError
from vsr.video.align import Clock, Crop, Timeline
from vsr.video.align.crops import check_scale, check_sizes, crop_note, find_crop
from vsr.video.align.time_map import (
    BRIEF_SURVEY_FRAMES,
    LONG_SURVEY_FRAMES,
    Survey,
    guess_clock,
    needs_search,
    search_clock,
    survey,
)
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import open_clip

Source = str | Path

CROP_PAIRS = 8
FRAMES_BETWEEN_CROP_PAIRS = 8
"""The first frames may be black; those after a while are not."""


class Look:
    """A clip, looked at as far as its placing needs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        with open_clip(source) as clip:
            self.info: ClipInfo = clip.info

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.info.height, self.info.width

    @property
    def frames_a_second(self) -> float | None:
        """As the header has it."""
        rate = self.info.average_rate
        return None if rate is None else float(rate)

    @property
    def is_still(self) -> bool:
        """Whether it is a single picture."""
        return len(self.brief.seconds) == 1

    @cached_property
    def brief(self) -> Survey:
        """Of its first seconds."""
        return self._survey(BRIEF_SURVEY_FRAMES)

    @cached_property
    def long(self) -> Survey:
        """Of the whole clip, or as much as memory allows."""
        return self._survey(LONG_SURVEY_FRAMES)

    def _survey(self, frames: int) -> Survey:
        with open_clip(self.source) as clip:
            return survey(clip.frames(), frames, self.frames_a_second)


@dataclass(frozen=True)
class Placing:
    """Where a clip's frames lie on those of the leading clip."""

    clock: Clock
    """Turns its times into the leader's."""
    crop: Crop | None = None
    """Of a result on its truth; None where their sizes are equal."""
    notes: tuple[str, ...] = ()


def place(result: Look, others: dict[str, Look]) -> Placing:
    """Raises InputError where the sizes differ from the reference's by more than a small crop, and where the result
    cannot be the low-resolution input enlarged.
    """
    if "low_resolution" in others:
        check_scale(result.size, others["low_resolution"].size)
    if "reference" not in others:
        leader = others["low_resolution"]
        clock = find_clock(result, leader)
        return Placing(clock, None, tuple(clock_notes(result, leader, clock)))
    leader = others["reference"]
    check_sizes(result.size, leader.size)
    clock = find_clock(result, leader)
    notes = clock_notes(result, leader, clock)
    if result.size == leader.size:
        return Placing(clock, None, tuple(notes))
    crop = find_crop(_spread_pairs(result, leader, clock))
    return Placing(clock, crop, (*notes, crop_note(crop, result.size, leader.size)))


def place_on_still(result: Look, stills: dict[str, Look], pictures: dict[str, Frame]) -> Placing:
    """The same for others that are one picture each, which belongs to every frame."""
    notes = [
        f"{look.source} is one picture: every frame of {result.source} was compared with it" for look in stills.values()
    ]
    if "low_resolution" in stills:
        check_scale(result.size, stills["low_resolution"].size)
    if "reference" not in stills or stills["reference"].size == result.size:
        return Placing(Clock(), None, tuple(notes))
    size = stills["reference"].size
    check_sizes(result.size, size)
    with open_clip(result.source) as clip:
        crop = find_crop([(next(clip.frames()).pixels, pictures["reference"].pixels)])
    return Placing(Clock(), crop, (*notes, crop_note(crop, result.size, size)))


def find_clock(clip: Look, leader: Look) -> Clock:
    """By the time stamps where the pictures do not contradict them, else by the pictures."""
    clock = guess_clock(clip.brief, leader.brief)
    return search_clock(clip.long, leader.long) if needs_search(clip.brief, leader.brief, clock) else clock


def clock_notes(clip: Look, leader: Look, clock: Clock) -> list[str]:
    """What is unlike in the two clips' times, in words."""
    notes = []
    if clock.offset_seconds:
        notes.append(
            f"{leader.source} is {clock.offset_seconds:+.3f} s from {clip.source}: "
            "times were shifted by that, for the frames to match"
        )
    rates = clip.frames_a_second, leader.frames_a_second
    if clock.stretch != 1:
        notes.append(
            f"{_rates(clip, leader)} and both show the same frames: "
            f"the times of {clip.source} were stretched by {clock.stretch:.6g}"
        )
    elif None not in rates and rates[0] != rates[1]:
        notes.append(f"{_rates(clip, leader)}: matched where their times meet")
    return notes


def _rates(clip: Look, leader: Look) -> str:
    return (
        f"{clip.source} has {clip.frames_a_second:.6g} frames a second and {leader.source} {leader.frames_a_second:.6g}"
    )


def _spread_pairs(result: Look, reference: Look, clock: Clock) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
    """A few matched pictures of both from their first seconds; raises InputError where none match."""
    with open_clip(result.source) as result_clip, open_clip(reference.source) as reference_clip:
        timeline = Timeline(result_clip.frames())
        partners = (
            (frame.pixels, true.pixels)
            for true in reference_clip.frames()
            if (frame := timeline.take_nearest(clock.on_result(true.seconds))) is not None
        )
        pairs = list(islice(partners, 0, CROP_PAIRS * FRAMES_BETWEEN_CROP_PAIRS, FRAMES_BETWEEN_CROP_PAIRS))
    if not pairs:
        raise no_match(result.source, reference.source)
    return pairs


def no_match(result: Source, *others: Source) -> InputError:
    """For clips that have no time in common."""
    return InputError(f"no frame of {result} has a partner in time in {' and '.join(map(str, others))}")
