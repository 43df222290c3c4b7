"""Concealment of damage: whole pictures in place of broken ones, at times that a player can use."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from vsr.video.read.damage import DamageLog
from vsr.video.read.decoder import DecodedFrame, Decoder
from vsr.video.read.timestamps import TimestampRepairer, with_next


def conceal_by_repetition(
    pictures: Iterator[DecodedFrame], decoder: Decoder
) -> Iterator[DecodedFrame]:
    """Repeat the last whole picture in place of each that is damaged or, where times are stored,
    lost."""
    whole: DecodedFrame | None = None
    last_time: int | None = None
    for picture in pictures:
        for time in _lost_times(decoder, last_time, picture.pts):
            if whole is not None:
                yield replace(whole, pts=time, duration=0)
        if picture.is_whole:
            whole = picture
        # Until a first whole picture is there, broken ones are all that can be shown.
        last_time = picture.pts
        yield picture if whole is None else replace(picture, frame=whole.frame)
    # Pictures that are lost at the very end have no successor to be noticed by.
    for time in _lost_times(decoder, last_time, None):
        if whole is not None:
            yield replace(whole, pts=time, duration=0)


def _lost_times(decoder: Decoder, after: int | None, before: int | None) -> list[int]:
    """Take the times of lost pictures between two others out of the decoder's list; those of later
    ones stay, as the decoder may be ahead."""
    times = sorted(decoder.lost)
    decoder.lost.clear()
    if before is not None:
        decoder.lost.extend(time for time in times if time > before)
    return [
        time
        for time in times
        if (after is None or time > after) and (before is None or time < before)
    ]


def with_repaired_timestamps(
    pictures: Iterator[DecodedFrame], decoder: Decoder, time_base: Fraction, log: DamageLog
) -> Iterator[tuple[DecodedFrame, int, int]]:
    """Yield each picture with its presentation time and duration; times strictly increase.

    Where the source stores none they are 0, 1, 2 ... of `time_base`; what had to be changed is
    noted in `log`."""
    if not decoder.has_times:
        yield from ((picture, index, 1) for index, picture in enumerate(pictures))
        return
    usual_step = max(1, round(1 / (decoder.rate * time_base)))
    repairer = TimestampRepairer(usual_step, ticks_per_second=max(1, round(1 / time_base)))
    for index, (picture, following) in enumerate(with_next(pictures)):
        time, fault = repairer.repair(picture.pts, None if following is None else following.pts)
        if fault is not None:
            seconds = float(time * time_base)
            log.add(
                "repaired_timestamps",
                f"frame {index} has a {fault} timestamp and is shown at {seconds:.3f} s",
            )
        yield picture, time, picture.duration
