"""Interlaced and telecined frames into progressive ones, by libavfilter.

`frame` makes one frame of the two fields of each, `field` one frame of each field, and `film` finds
the film frames that 3:2 pulldown spread over five frames of four.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from typing import Literal

import av
import numpy as np
from av.filter import Graph

from vsr.video.read.decoder import DecodedFrame
from vsr.video.read.fields import FieldStatistics, field_statistics

Deinterlacing = Literal["auto", "frame", "field", "film", "off"]
TimedFrame = tuple[DecodedFrame, int, int]
"""A picture with its time and its duration."""
_COUNTED = Fraction(1, 30)
"""Filters want times, and not every frame has a good one: they are given counted ones."""
LOOK_FRAMES = 12
"""Frames looked at to tell interlaced from progressive ones."""
MAX_LOOK_HEIGHT = 1152
"""Taller video was never interlaced."""
LOOK_COLUMNS = 320
FIELDS = 2
FILM_CYCLE = 5
FILM_FRAMES = 4
"""Frames of film in each cycle."""
TIME_DIVISOR = {"field": FIELDS, "film": FILM_FRAMES}
"""By which the time base is divided, so that the new times are whole numbers as well."""
FRAME_RATIO = {"field": Fraction(FIELDS), "film": Fraction(FILM_FRAMES, FILM_CYCLE)}
"""Frames that come out over frames that go in."""


def look_at_fields(pictures: Sequence[DecodedFrame]) -> FieldStatistics:
    """Tell from the first pictures whether their fields are of two moments."""
    if not pictures or pictures[0].frame.height > MAX_LOOK_HEIGHT:
        return FieldStatistics()
    size = pictures[0].frame.width, pictures[0].frame.height
    lumas = []
    for picture in pictures:
        frame = picture.frame
        if (frame.width, frame.height) == size:
            try:
                levels = frame.reformat(format="gray").to_ndarray()
            except av.FFmpegError:
                # Colors that libswscale does not convert: such clips are taken for progressive.
                return FieldStatistics()
            lumas.append(levels[:, :: max(1, size[0] // LOOK_COLUMNS)].astype(np.float32))
    return field_statistics(lumas)


def deinterlace_frames(
    pictures: Iterable[DecodedFrame], top_field_first: bool | None = None
) -> Iterator[DecodedFrame]:
    """Make one progressive picture of each, at the same time.

    The order of fields is the frame's own where `top_field_first` does not tell it.
    """
    options = f"mode=send_frame:parity={_parity(top_field_first)}:deint=all"
    waiting: deque[DecodedFrame] = deque()
    for frame in _filtered(_noted(pictures, waiting), [("bwdif", options)]):
        yield replace(waiting.popleft(), frame=frame)


def split_fields(
    pictures: Iterable[TimedFrame], top_field_first: bool | None = None
) -> Iterator[TimedFrame]:
    """Make a picture of each field; times and durations come out in halves of what they were.

    The second field of a frame is shown halfway to the next frame.
    """
    options = f"mode=send_field:parity={_parity(top_field_first)}:deint=all"
    waiting: deque[TimedFrame] = deque()

    def decoded() -> Iterator[DecodedFrame]:
        for picture in pictures:
            waiting.append(picture)
            yield picture[0]

    filtered = _filtered(decoded(), [("bwdif", options)])
    usual_step = 1
    for first, second in zip(filtered, filtered, strict=True):
        picture, time, duration = waiting.popleft()
        # The filter is a frame behind, so but for the last frame the next one's time is known.
        step = waiting[0][1] - time if waiting else duration or usual_step
        usual_step = step
        yield replace(picture, frame=first), FIELDS * time, step
        yield replace(picture, frame=second), FIELDS * time + step, step


def undo_pulldown(pictures: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
    """Find the four film frames of each five; times and durations come out in quarters.

    A film frame is shown five quarters of a frame after the one before.
    """
    times: deque[tuple[int, int]] = deque()
    template: list[DecodedFrame] = []

    def decoded() -> Iterator[DecodedFrame]:
        for number, (picture, time, _) in enumerate(pictures):
            times.append((number, time))
            template[:] = [picture]
            yield picture

    chain = [("fieldmatch", "order=auto:combmatch=full"), ("decimate", f"cycle={FILM_CYCLE}")]
    step = 1
    for number, frame in enumerate(_filtered(decoded(), chain)):
        whole, quarters = divmod(number * FILM_CYCLE, FILM_FRAMES)
        while len(times) > 2 and times[0][0] < whole:
            times.popleft()
        (start, time), *after = times
        if after:
            step = after[0][1] - time
        # At the clip's end the frame itself may be the last whose time is known.
        shown = FILM_FRAMES * (time + (whole - start) * step) + quarters * step
        yield replace(template[0], frame=frame), shown, FILM_CYCLE * step


def _parity(top_field_first: bool | None) -> str:
    return "auto" if top_field_first is None else "tff" if top_field_first else "bff"


def _noted(
    pictures: Iterable[DecodedFrame], waiting: deque[DecodedFrame]
) -> Iterator[DecodedFrame]:
    for picture in pictures:
        waiting.append(picture)
        yield picture


def _filtered(
    pictures: Iterable[DecodedFrame], chain: Sequence[tuple[str, str]]
) -> Iterator[av.VideoFrame]:
    """Pass pictures through filters of libavfilter, anew for each size and format."""
    for (width, height, pixel_format), alike in groupby(pictures, key=_frame_format):
        graph = Graph()
        last = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base={_COUNTED}"
            f":frame_rate={1 / _COUNTED}",
        )
        for name, options in [*chain, ("buffersink", "")]:
            # An empty text would be taken for an option.
            following = graph.add(name, options) if options else graph.add(name)
            last.link_to(following)
            last = following
        graph.configure()
        for number, picture in enumerate(alike):
            frame = picture.frame
            frame.pts, frame.time_base = number, _COUNTED
            graph.vpush(frame)
            yield from _ready(graph)
        graph.vpush(None)
        yield from _ready(graph)


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _frame_format(picture: DecodedFrame) -> tuple[int, int, str]:
    frame = picture.frame
    return frame.width, frame.height, frame.format.name
