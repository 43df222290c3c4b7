"""Deinterlacing: frames of two fields into progressive frames, by libavfilter's bwdif."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av
from av.filter import Graph

from vsr.video.read.decoder import DecodedFrame

_DUMMY_TIME_BASE = Fraction(1, 25)
"""bwdif wants times, and not every frame has a good one: it is given counted ones, and pictures
keep their own."""


def deinterlace_frames(pictures: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Make one progressive picture of each, at the same time; the parity is the frame's own."""
    weave: _BwdifFilter | None = None
    for picture in pictures:
        if weave is None or not weave.fits(picture.frame):
            if weave is not None:
                yield from weave.finish()
            weave = _BwdifFilter(picture.frame)
        yield from weave.add(picture)
    if weave is not None:
        yield from weave.finish()


class _BwdifFilter:
    """A filter for frames of one size and format."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._kind = _frame_format(frame)
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_DUMMY_TIME_BASE
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=all")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        self._graph = graph
        self._waiting: deque[DecodedFrame] = deque()
        self._count = 0

    def fits(self, frame: av.VideoFrame) -> bool:
        return _frame_format(frame) == self._kind

    def add(self, picture: DecodedFrame) -> Iterator[DecodedFrame]:
        self._waiting.append(picture)
        picture.frame.pts, picture.frame.time_base = self._count, _DUMMY_TIME_BASE
        self._count += 1
        self._graph.vpush(picture.frame)
        yield from self._ready()

    def finish(self) -> Iterator[DecodedFrame]:
        self._graph.vpush(None)
        yield from self._ready()
        assert not self._waiting, "the filter gives one frame for each"

    def _ready(self) -> Iterator[DecodedFrame]:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield replace(self._waiting.popleft(), frame=frame)


def _frame_format(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
