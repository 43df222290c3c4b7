"""The muxer of the result: segments of encoded frames and all copied streams, in one stream of
packets."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.video.frames import ClipInfo
from vsr.video.read.side_data import scale_display_matrix
from vsr.video.write.stream_copy import MOV_FAMILY, StreamCopier

_AVFMT_NOTIMESTAMPS = 0x80
"""libavformat's AVFMT_NOTIMESTAMPS."""

_AVFMT_TS_NEGATIVE = 0x40000
"""libavformat's AVFMT_TS_NEGATIVE."""

_MATROSKA = ("matroska", "webm")

ROTATING_FORMATS = (*MOV_FAMILY, "matroska", "webm")
"""Containers that tell a player to turn the picture."""

BLU_RAY_SUFFIXES = (".m2ts", ".mts", ".m2t")

_ITUNES_TAGS = (
    *(
        "title",
        "artist",
        "album_artist",
        "album",
        "composer",
        "date",
        "comment",
        "genre",
        "copyright",
        "grouping",
    ),
    *(
        "lyrics",
        "description",
        "synopsis",
        "show",
        "episode_id",
        "network",
        "keywords",
        "compilation",
        "track",
        "disc",
    ),
    *("media_type", "creation_time", "location", "timecode"),
)
"""Tags that MP4 holds without being told to take any tag."""


_ENDLESS_SECONDS = "1000000000"

MAX_AVI_GAP_TICKS = 50_000
"""Empty chunks that an AVI is given between two pictures; its muxer refuses 60,000."""

MAX_AVI_GAP_SECONDS = 60
"""Longest time before the first picture that is filled so."""


@dataclass(frozen=True)
class OutputFormat:
    """A container as libavformat is asked for it."""

    name: str
    """Name of the muxer."""
    suffix: str = ""
    """Suffix of the file, by which some muxers tell their dialects apart."""
    is_wrapped: bool = False
    """Use the `segment` muxer, with a single segment, as a wrapper. PyAV refuses codecs that a
    format does not list, and Matroska lists fewer than its muxer writes."""


@dataclass(frozen=True)
class StreamSelection:
    """A container, and the streams that it does not take."""

    output: OutputFormat
    refused: Mapping[int, str] = field(default_factory=dict)
    """The reason by the number of the stream."""


def open_output(file: BinaryIO, output: OutputFormat) -> OutputContainer:
    """Open an output container that writes into an open file."""
    if not output.is_wrapped:
        return av.open(file, "w", format=output.name, metadata_errors="surrogateescape")
    options = {"segment_format": output.name, "segment_time": _ENDLESS_SECONDS}
    # The name never reaches a disk: the only segment is written into the file.
    return av.open(
        "segment%d",
        "w",
        format="segment",
        options=options,
        metadata_errors="surrogateescape",
        io_open=lambda *_: _KeptOpen(file),
    )


class _KeptOpen:
    """A file that a muxer's end does not close."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.seek, self.tell = file.write, file.seek, file.tell
        self.flush, self.read = file.flush, file.read

    def close(self) -> None:
        """Leave the file to its owner."""


class VideoMuxer:
    """A container that takes the packets of the upscaled video, and all other streams from the
    source.

    Writes into an open binary file and does not close it. Raises OutputError where the container
    refuses.
    """

    def __init__(
        self, file: BinaryIO, selection: StreamSelection, source: ClipInfo, resources: ExitStack
    ) -> None:
        self.output = selection.output
        self.container = open_output(file, selection.output)
        self.notes: list[str] = []
        self.num_packets = 0
        self.max_pts_error = Fraction(0)
        self._flags = av.ContainerFormat(self.output.name, "w").flags
        self._source = source
        self.copier = StreamCopier(source, self.container, selection.refused, resources)
        self._last_dts: int | None = None
        self._early_seconds = Fraction(0)
        if self.output.name == "avi" or self._flags & _AVFMT_NOTIMESTAMPS:
            self.notes.append(
                f"{self.output.name} stores no timestamps: use .mkv or .mp4 to keep them"
            )

    @property
    def streams_kept(self) -> list[str]:
        return self.copier.kept

    @property
    def streams_dropped(self) -> list[str]:
        return self.copier.dropped

    @property
    def damage(self) -> list[str]:
        """Sentences on lost parts of the copied streams; complete after `finish`."""
        return self.copier.damage

    def set_up(self, add_video: Callable[[], VideoStream]) -> None:
        """Make all streams; `add_video` is called where that of the upscaled video belongs."""
        self._stream = self.copier.set_up(add_video, self.output.name)
        self.notes += self.copier.notes
        self.video_number = self._stream.index
        # A turned picture stays turned by its tag; only what moves it scales with the size.
        if self._source.display_matrix is not None:
            factor = Fraction(self._stream.codec_context.width, self._source.width)
            self._stream.set_display_matrix(
                scale_display_matrix(self._source.display_matrix, factor)
            )
        options = _container_options(self.output, self.container, self._source)
        if self.output.is_wrapped and options:
            inner = ":".join(f"{name}={value}" for name, value in options.items())
            # Both muxers would move times; ours is to keep them.
            options = {
                "segment_format_options": inner,
                "avoid_negative_ts": "disabled",
                "fflags": "+bitexact",
            }
        self.container.container_options.update(options)

    def mux(self, packets: Iterable["Packet[VideoStream]"]) -> None:
        """Add the next packets, in the order of decoding, with times in the source's time base."""
        time_base = self._source.time_base
        for packet in packets:
            assert packet.pts is not None
            assert packet.time_base == time_base
            exact = packet.pts * time_base
            packet.stream = self._stream
            packet.dts = self._next_dts(packet)
            if self.num_packets == 0:
                self._note_shift(packet.dts * time_base)
                self._begin_at_zero(exact)
            # Interleaved by decoding time: players of slow disks must not seek for sound.
            self.copier.copy_until(packet.dts * time_base)
            early = round(self._early_seconds / time_base)
            packet.pts, packet.dts = packet.pts - early, packet.dts - early
            self.container.mux_one(packet)
            # Muxing has rounded the time to what the container can hold.
            self.max_pts_error = max(self.max_pts_error, abs(packet.pts * packet.time_base - exact))
            self.num_packets += 1

    def finish(self) -> None:
        """Write the rest of the copied streams and the container's end."""
        self.copier.copy_until(None)
        self.copier.note_late_streams()
        self.container.close()

    def _note_shift(self, first_seconds: Fraction) -> None:
        """Note the shift by which libavformat keeps the first decoding time of some containers
        from being negative.

        It moves all streams alike and does not report it: the packets keep the requested times.
        """
        if (
            self._flags & (_AVFMT_TS_NEGATIVE | _AVFMT_NOTIMESTAMPS)
            or self.output.name in _MATROSKA
        ):
            return
        first_copied = self.copier.next_seconds
        earliest = first_seconds if first_copied is None else min(first_seconds, first_copied)
        if earliest < 0:
            self.max_pts_error = -earliest
            self.notes.append(
                f"{self.output.name} stores no negative timestamps: all streams start "
                f"{float(-earliest):.3f} s later; use .mkv or .mp4 to keep the times"
            )

    def _begin_at_zero(self, first_seconds: Fraction) -> None:
        """Let an AVI begin with its first stream: it shows the first picture at once, and fills
        the gap behind it with one empty chunk a tick.
        """
        if self.output.name != "avi":
            return
        first_copied = self.copier.next_seconds
        begin = first_seconds if first_copied is None else min(first_seconds, first_copied)
        self.copier.early_seconds = max(begin, Fraction(0))
        late = first_seconds - self.copier.early_seconds
        # A gap that AVI cannot fill is left out.
        self._early_seconds = first_seconds if late > MAX_AVI_GAP_SECONDS else begin
        self._early_seconds = max(self._early_seconds, Fraction(0))
        if self.copier.early_seconds > 0:
            self.notes.append(
                f"avi begins at zero: all streams start {float(self.copier.early_seconds):.3f} s "
                "earlier; use .mkv or .mp4 to keep the times"
            )
        if late > 0:
            self.max_pts_error = first_seconds
            self.notes.append(
                f"avi begins at zero: the first frame is shown {float(late):.3f} s early; "
                "use .mkv or .mp4"
            )

    def _next_dts(self, packet: "Packet[VideoStream]") -> int:
        """Choose a decoding time that rises across segments, whose encoders know nothing of each
        other.

        It never passes the presentation time: an encoder's n-th decoding time is at most the (n -
        delay)-th presentation time, and those are distinct integers.
        """
        dts = packet.dts if packet.dts is not None else packet.pts
        assert dts is not None
        self._last_dts = dts if self._last_dts is None else max(dts, self._last_dts + 1)
        return self._last_dts


def _container_options(
    output: OutputFormat, container: OutputContainer, source: ClipInfo
) -> dict[str, str]:
    if output.name in _MATROSKA:
        # Sound that begins before zero (encoder priming) must not push the pictures off their
        # times. Exact: the file would else bear a random number, by which no two are equal.
        return {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
    if output.name == "mpegts" and output.suffix.lower() in BLU_RAY_SUFFIXES:
        # Packets of 192 bytes, and types of streams by Blu-ray's table: its PCM is unreadable else.
        return {"mpegts_m2ts_mode": "1"}
    if output.name not in MOV_FAMILY:
        return {}
    # Start offsets are stored in the movie's time scale, whose default is milliseconds.
    options = {"movie_timescale": str(source.time_base.denominator), "write_tmcd": "1"}
    if any(name.lower() not in _ITUNES_TAGS for name in container.metadata):
        options["movflags"] = "use_metadata_tags"
    return options


def format_of(target: Path) -> str:
    # libavformat itself knows which suffix means which format; nothing is written yet.
    try:
        with av.open(f"x{target.suffix}", "w") as container:
            return container.format.name
    except ValueError as error:
        raise OutputError(
            f"{target}: no video format has the suffix '{target.suffix}'; use .mp4, .mov or .mkv"
        ) from error
