"""Small clips for the tests: those that benchmarks make as well, and what tests alone need."""

from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition

from benchmarks.made_clips import (
    MILLISECOND,
    moving_pictures,
    read_frames,
    read_packets,
    textured_picture,
    two_shots,
    write_clip,
)

__all__ = [
    "MILLISECOND",
    "add_cover_art",
    "moving_pictures",
    "read_frames",
    "read_packets",
    "read_times",
    "textured_picture",
    "two_shots",
    "write_clip",
]


def add_cover_art(film: Path, target: Path, *, keep_video: bool = True) -> Path:
    """Copy an MP4 with its first frame added as PNG cover art; without `keep_video` only sound and
    cover are left."""
    cover = av.Codec("png", "w").create("video")
    cover.width, cover.height, cover.pix_fmt, cover.time_base = 48, 32, "rgb24", Fraction(1, 25)
    (picture,) = cover.encode(read_frames(film)[0].reformat(format="rgb24"))
    with av.open(str(film)) as source, av.open(str(target), "w") as out:
        streams = [stream for stream in source.streams if keep_video or stream.type != "video"]
        copies = {
            stream.index: out.add_stream_from_template(stream, opaque=True) for stream in streams
        }
        art = out.add_mux_stream("png", width=48, height=32)
        art.disposition = Disposition.attached_pic
        picture.stream, picture.pts, picture.dts, picture.time_base = art, 0, 0, Fraction(1, 90000)
        out.mux(picture)
        for packet in source.demux(streams):
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    return target


def read_times(path: Path | str) -> list[Fraction]:
    """Presentation times in seconds, exact, of the first video stream's frames."""
    return [frame.pts * frame.time_base for frame in read_frames(path)]
