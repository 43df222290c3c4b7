"""What is shown of a damaged clip: pictures that are whole, and at times that a player can use."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from vsr.media.damage import DamageLog
from vsr.media.decoding import Decoder, Picture
from vsr.media.timing import Clock, with_next


def with_repeats(pictures: Iterator[Picture], decoder: Decoder) -> Iterator[Picture]:
    """The last whole picture again in place of each that is damaged or, where times are stored, lost."""
    whole: Picture | None = None
    last_time: int | None = None
    for picture in pictures:
        for time in _gaps(decoder, last_time, picture.pts):
            if whole is not None:
                yield replace(whole, pts=time, duration=0)
        if picture.is_whole:
            whole = picture
        last_time = picture.pts
        yield picture if whole is None else replace(picture, frame=whole.frame)
    for time in _gaps(decoder, last_time, None):
        if whole is not None:
            yield replace(whole, pts=time, duration=0)


def _gaps(decoder: Decoder, after: int | None, before: int | None) -> list[int]:
    """The times between two pictures that lost ones had, taken out of the decoder's list."""
    times = sorted(decoder.lost)
    decoder.lost.clear()
    return [time for time in times if (after is None or time > after) and (before is None or time < before)]


def at_mended_times(
    pictures: Iterator[Picture], decoder: Decoder, time_base: Fraction, log: DamageLog
) -> Iterator[tuple[Picture, int, int]]:
    """Each picture with its presentation time and duration; times strictly increase.

    Where the source stores none they are 0, 1, 2 ... of `time_base`; what had to be changed is told to `log`.
    """
    if not decoder.has_times:
        yield from ((picture, index, 1) for index, picture in enumerate(pictures))
        return
    usual_step = max(1, round(1 / (decoder.rate * time_base)))
    clock = Clock(usual_step, ticks_per_second=max(1, round(1 / time_base)))
    for index, (picture, following) in enumerate(with_next(pictures)):
        time, fault = clock.tick(picture.pts, None if following is None else following.pts)
        if fault is not None:
            seconds = float(time * time_base)
            log.add("repaired_timestamps", f"frame {index} has a {fault} time and is shown at {seconds:.3f} s")
        yield picture, time, picture.duration
