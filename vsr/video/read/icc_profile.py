"""ICC profiles of PNG pictures, taken off before PyAV looks at a frame's side data."""

from fractions import Fraction
from typing import cast

import av
from av.filter import Graph

_FORMATS_OF_PNG = {
    *("monob", "pal8", "gray", "gray16be", "ya8", "ya16be"),
    *("rgb24", "rgb48be", "rgba", "rgba64be"),
}


def without_profile(frame: av.VideoFrame) -> tuple[av.VideoFrame, bool]:
    """Take a PNG's ICC profile off a second reference to the frame, and tell whether there was one.

    Whoever looks at a frame's side data must look at this reference's: PyAV 18.1 frees the name of
    such a profile a second time once a frame's side data was looked at, and the process dies.
    """
    if frame.format.name not in _FORMATS_OF_PNG:
        return frame, False
    if _filtered(frame, "mode=select:type=ICC_PROFILE") is None:
        return frame, False
    bare = _filtered(frame, "mode=delete:type=ICC_PROFILE")
    return cast(av.VideoFrame, bare), True


def _filtered(frame: av.VideoFrame, mode: str) -> av.VideoFrame | None:
    """Send a frame through libav's filter of side data; None where the filter keeps it back."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),
    )
    side_data_filter, sink = graph.add("sidedata", mode), graph.add("buffersink")
    source.link_to(side_data_filter)
    side_data_filter.link_to(sink)
    graph.configure()
    graph.push(frame)
    try:
        return cast(av.VideoFrame, graph.pull())
    except (BlockingIOError, EOFError):
        return None
