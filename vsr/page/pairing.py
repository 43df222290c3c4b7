"""Which frame of one version belongs to a frame of the leading one."""

from collections.abc import Callable, Iterator, Mapping

from vsr.alignment import Timeline
from vsr.frames import Frame

Partner = Callable[[Frame], Frame | None]
"""The frame that belongs to one of the leading version; those are asked for in order, each once."""

Pairing = Callable[[Iterator[Frame]], Partner]
"""Makes a partner of a version's frames."""


def by_order(frames: Iterator[Frame]) -> Partner:
    """For clips that have the same frames."""
    return lambda _: next(frames, None)


def by_time(frames: Iterator[Frame]) -> Partner:
    """For clips that have the same clock."""
    timeline = Timeline(frames)
    return lambda frame: timeline.take_nearest(frame.seconds)


def by_number(numbers: Mapping[int, int]) -> Pairing:
    """For clips that were matched before: numbers of the leading version's frames to this one's, both increasing."""

    def pair(frames: Iterator[Frame]) -> Partner:
        def partner(frame: Frame) -> Frame | None:
            wanted = numbers.get(frame.index)
            return None if wanted is None else next((one for one in frames if one.index >= wanted), None)

        return partner

    return pair
