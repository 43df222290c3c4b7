"""YUV4MPEG2 (y4m) as a result: raw pictures behind a line of text, which every tool for frames
reads from a pipe."""

from collections.abc import Iterable
from fractions import Fraction
from typing import BinaryIO

import av
import torch
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import UsageError
from vsr.video.frames import ClipInfo, Frame
from vsr.video.write.encoders import (
    AUTO,
    EncodeOptions,
    VideoPlan,
    choose_pixel_format,
    configure,
    plan_with_format,
)
from vsr.video.write.segments import FrameConverter, format_notes, matrix_name
from vsr.video.write.stream_copy import PICTURES_ALONE, other_stream_labels

NAME = "y4m"
_MUXER = "yuv4mpegpipe"

PIXEL_FORMATS = (
    "gray",
    *(f"gray{bits}le" for bits in (9, 10, 12, 16)),
    *("yuv420p", "yuv422p", "yuv444p"),
    *(f"yuv{chroma}p{bits}le" for chroma in (420, 422, 444) for bits in (9, 10, 12, 14, 16)),
)
"""All that libav's muxer of y4m takes and its demuxer reads, but for 4:1:1, which `nearest_format`
turns into another on the way in."""


class Y4mOutput:
    """Writes frames as raw pictures into a pipe, at the constant rate that the first line names.

    Raises UsageError for options of encoders, which raw pictures do not have, and for a pixel
    format that y4m does not hold.
    """

    def __init__(
        self,
        file: BinaryIO,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        device: torch.device,
    ) -> None:
        if options.codec != AUTO or options.crf is not None or options.preset is not None:
            raise UsageError(
                "y4m holds raw pictures, which no encoder makes: leave out -c, --crf and --preset"
            )
        pixel_format = choose_pixel_format(
            source.pixel_format, PIXEL_FORMATS, options.pixel_format, NAME
        )
        self.plan = plan_with_format(source, height, width, NAME, pixel_format, {})
        self._convert = FrameConverter(self.plan, device)
        # The muxer asks for this where a picture has more than 8 bits: not all readers take those.
        strict = {"strict": "-1"}
        self._container = av.open(file, "w", format=_MUXER, container_options=strict)
        self._stream = self._container.add_stream("rawvideo", rate=self.plan.rate)
        assert isinstance(self._stream, VideoStream)
        self._stream.time_base = 1 / self.plan.rate
        configure(self._stream.codec_context, self.plan)
        self._stream.codec_context.time_base = 1 / self.plan.rate
        self.num_frames = 0
        self.max_pts_error = Fraction(0)
        self.damage: list[str] = []
        self.streams_kept: list[str] = []
        # What else a pipe carries is not known, unless it is y4m itself.
        is_unknown = not source.identity and source.container not in PICTURES_ALONE
        others = ["all streams but the video"] if is_unknown else other_stream_labels(source)
        self.streams_dropped = [f"{label}: y4m holds pictures alone" for label in others]
        self._losses = [*format_notes(source, height, width, self.plan), *_loss_notes(source)]
        if self.plan.layout.num_channels > 1:
            self._losses.append(_color_note(self.plan))

    @property
    def notes(self) -> list[str]:
        """Sentences on what the result does not hold; that on times is known at the end."""
        notes = list(self._losses)
        # Matroska's milliseconds are no change of rate.
        if self.max_pts_error * self.plan.rate > MAX_TIME_ERROR_FRAMES:
            notes.append(
                f"y4m holds no times but {self.plan.rate} frames a second: frames are up to "
                f"{float(self.max_pts_error):.3f} s off; leave out --format to keep their times"
            )
        return notes

    def write(self, frame: Frame) -> None:
        picture = self._convert(frame)
        picture.pts, picture.time_base = self.num_frames, 1 / self.plan.rate
        exact = frame.pts * frame.time_base
        self.max_pts_error = max(self.max_pts_error, abs(exact - self.num_frames / self.plan.rate))
        self._mux(self._stream.encode(picture))
        self.num_frames += 1

    def finish(self) -> None:
        self._mux(self._stream.encode(None))
        self._container.close()

    def _mux(self, packets: Iterable["Packet[VideoStream]"]) -> None:
        for packet in packets:
            self._container.mux_one(packet)


MAX_TIME_ERROR_FRAMES = Fraction(1, 10)
"""Frames that a time may be off before that is said."""


def _loss_notes(source: ClipInfo) -> list[str]:
    notes = []
    if source.mastering_display is not None or source.light_level is not None:
        notes.append("HDR mastering and light-level data are dropped: y4m holds none")
    return notes


def _color_note(plan: VideoPlan) -> str:
    color = plan.color
    return (
        f"y4m has no tags of color but the range: the pictures are {matrix_name(plan.matrix)} "
        f"(H.273: matrix {color.matrix}, primaries {color.primaries}, transfer {color.transfer}); "
        "tell the next program"
    )
