"""A film on its way into a container: segments of encoded frames and all that is copied, in one stream of packets."""

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import BinaryIO

import av
import torch
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.frames import ClipInfo, Frame
from vsr.media.copying import StreamCopier
from vsr.media.encoders import EncodeOptions, choose_encoder, plan_notes
from vsr.media.external import EXTERNAL_PREFIX, FfmpegEncoder
from vsr.media.segments import Encoder, FrameConverter, LibavEncoder

FRAMES_PER_SEGMENT = 240

_HOLDS_NO_TIMES = 0x80
"""libavformat's AVFMT_NOTIMESTAMPS."""

_HOLDS_NEGATIVE_TIMES = 0x40000
"""libavformat's AVFMT_TS_NEGATIVE."""

_MOV_FAMILY = ("mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v")

_MATROSKA = ("matroska", "webm")

_TAGS_OF_ITUNES = (
    *("title", "artist", "album_artist", "album", "composer", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "compilation", "track", "disc"),
    *("media_type", "creation_time", "location", "timecode"),
)
"""What MP4 holds without being told to take any tag."""


class FilmOutput:
    """Writes frames and copied streams into an open binary file; does not close it.

    Raises UsageError or OutputError on construction where the encoder or the container refuses.
    """

    def __init__(
        self,
        file: BinaryIO,
        container_format: str,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        device: torch.device,
        resources: ExitStack,
    ) -> None:
        self._container: OutputContainer = av.open(
            file, "w", format=container_format, metadata_errors="surrogateescape"
        )
        encoder, self.notes = _open_encoder(source, height, width, options, self._container, device, resources)
        self._encoder = encoder
        self.encoder_name = encoder.plan.codec
        self.pixel_format = encoder.plan.pixel_format
        self.notes += plan_notes(source, height, width, encoder.plan)
        self._convert = FrameConverter(encoder.plan, device)
        self._copier = StreamCopier(source, self._container, resources)
        self._stream = self._copier.set_up(lambda: encoder.add_stream(self._container))
        if source.rotation_degrees:
            self._stream.set_display_rotation(source.rotation_degrees)
        self._container.container_options.update(_container_options(self._container, source))
        if container_format == "avi" or self._container.format.flags & _HOLDS_NO_TIMES:
            self.notes.append(f"{container_format} holds no times of its own: use .mkv or .mp4 to keep them")
        self._time_base = source.time_base
        self._last_frame: Frame | None = None
        self._durations: dict[int, int] = {}
        self._last_dts: int | None = None
        self.num_frames = 0
        self._num_packets = 0
        self.max_pts_error = Fraction(0)

    @property
    def streams_kept(self) -> list[str]:
        return self._copier.kept

    @property
    def streams_dropped(self) -> list[str]:
        return self._copier.dropped

    def write(self, frame: Frame) -> None:
        """Encode one frame; times strictly increase and are in the source's time base."""
        assert frame.time_base == self._time_base, f"expected times in {self._time_base}, got {frame.time_base}"
        step = frame.pts - self._last_frame.pts if self._last_frame is not None else 0
        assert step > 0 or self._last_frame is None, f"frame {frame.index} is not later than the one before"
        self._durations[frame.pts] = frame.duration or step
        self._last_frame = frame
        self.num_frames += 1
        self._mux(self._encoder.encode(self._convert(frame)))

    def finish(self) -> None:
        """Write what is held back, the rest of the copied streams and the container's end."""
        if self.num_frames == 0:
            raise OutputError("there is no frame to write; nothing was written")
        self._mux(self._encoder.finish())
        if self._num_packets != self.num_frames:
            raise OutputError(
                f"{self.encoder_name} gave back {self._num_packets} of {self.num_frames} frames: try another encoder"
            )
        self._copier.copy_until(None)
        self._container.close()
        self.notes += self._copier.notes()

    def _mux(self, packets: Sequence["Packet[VideoStream]"]) -> None:
        for packet in packets:
            assert packet.pts is not None
            exact = packet.pts * self._time_base
            packet.stream = self._stream
            packet.time_base = self._time_base
            packet.duration = self._durations.pop(packet.pts)
            packet.dts = self._next_dts(packet)
            if self._num_packets == 0:
                self._account_for_shift(packet.dts * self._time_base)
            self._copier.copy_until(packet.dts * self._time_base)
            self._container.mux_one(packet)
            # Muxing has rounded the time to what the container can hold.
            self.max_pts_error = max(self.max_pts_error, abs(packet.pts * packet.time_base - exact))
            self._num_packets += 1

    def _account_for_shift(self, first_seconds: Fraction) -> None:
        """Tell of the move by which libavformat keeps the first decoding time of some containers from being negative.

        It moves all streams alike, behind our back: the packets still show the times that were asked for.
        """
        container_format = self._container.format
        if container_format.flags & (_HOLDS_NEGATIVE_TIMES | _HOLDS_NO_TIMES) or container_format.name in _MATROSKA:
            return
        first_copied = self._copier.next_seconds
        earliest = first_seconds if first_copied is None else min(first_seconds, first_copied)
        if earliest < 0:
            self.max_pts_error = -earliest
            self.notes.append(
                f"{container_format.name} holds no times below zero: all is {float(-earliest):.3f} s later; "
                "use .mkv or .mp4 to keep the times"
            )

    def _next_dts(self, packet: "Packet[VideoStream]") -> int:
        """A decoding time that rises across segments, whose encoders know nothing of each other.

        It never passes the presentation time: an encoder's n-th decoding time is at most the (n - delay)-th
        presentation time, and those are distinct integers.
        """
        dts = packet.dts if packet.dts is not None else packet.pts
        assert dts is not None
        self._last_dts = dts if self._last_dts is None else max(dts, self._last_dts + 1)
        return self._last_dts


def _open_encoder(
    source: ClipInfo,
    height: int,
    width: int,
    options: EncodeOptions,
    container: OutputContainer,
    device: torch.device,
    resources: ExitStack,
) -> tuple[Encoder, list[str]]:
    if options.codec.startswith(EXTERNAL_PREFIX):
        return FfmpegEncoder(source, height, width, options, FRAMES_PER_SEGMENT, resources), []
    plan, notes = choose_encoder(source, height, width, options, container, device)
    return LibavEncoder(plan, FRAMES_PER_SEGMENT), notes


def _container_options(container: OutputContainer, source: ClipInfo) -> dict[str, str]:
    if container.format.name in _MATROSKA:
        # Sound that begins before zero (encoder priming) must not push the pictures off their times.
        return {"avoid_negative_ts": "disabled"}
    if container.format.name not in _MOV_FAMILY:
        return {}
    # Start offsets are stored in the movie's time scale, whose default is milliseconds.
    options = {"movie_timescale": str(source.time_base.denominator)}
    if any(name.lower() not in _TAGS_OF_ITUNES for name in container.metadata):
        options["movflags"] = "use_metadata_tags"
    return options
