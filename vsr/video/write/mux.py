"""The muxer of the result: segments of encoded frames and all copied streams, in one stream of
packets."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from fractions import Fraction
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.video.frames import ClipInfo
from vsr.video.read.side_data import scale_display_matrix
from vsr.video.write.stream_copy import StreamCopier

_AVFMT_NOTIMESTAMPS = 0x80
"""libavformat's AVFMT_NOTIMESTAMPS."""

_AVFMT_TS_NEGATIVE = 0x40000
"""libavformat's AVFMT_TS_NEGATIVE."""

_MOV_FAMILY = ("mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v")

_MATROSKA = ("matroska", "webm")

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


class VideoMuxer:
    """A container that takes the packets of the upscaled video, and all other streams from the
    source.

    Writes into an open binary file and does not close it. Raises OutputError where the container
    refuses.
    """

    def __init__(
        self, file: BinaryIO, container_format: str, source: ClipInfo, resources: ExitStack
    ) -> None:
        self.container: OutputContainer = av.open(
            file, "w", format=container_format, metadata_errors="surrogateescape"
        )
        self.notes: list[str] = []
        self.num_packets = 0
        self.max_pts_error = Fraction(0)
        self._source = source
        self._copier = StreamCopier(source, self.container, resources)
        self._last_dts: int | None = None
        if container_format == "avi" or self.container.format.flags & _AVFMT_NOTIMESTAMPS:
            self.notes.append(
                f"{container_format} stores no timestamps: use .mkv or .mp4 to keep them"
            )

    @property
    def streams_kept(self) -> list[str]:
        return self._copier.kept

    @property
    def streams_dropped(self) -> list[str]:
        return self._copier.dropped

    @property
    def damage(self) -> list[str]:
        """Sentences on lost parts of the copied streams; complete after `finish`."""
        return self._copier.damage

    def set_up(self, add_video: Callable[[], VideoStream]) -> None:
        """Make all streams; `add_video` is called where that of the upscaled video belongs."""
        self._stream = self._copier.set_up(add_video)
        # A turned picture stays turned by its tag; only what moves it scales with the size.
        if self._source.display_matrix is not None:
            factor = Fraction(self._stream.codec_context.width, self._source.width)
            self._stream.set_display_matrix(
                scale_display_matrix(self._source.display_matrix, factor)
            )
        self.container.container_options.update(_container_options(self.container, self._source))

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
                self._note_early_start(exact)
            # Interleaved by decoding time: players of slow disks must not seek for sound.
            self._copier.copy_until(packet.dts * time_base)
            self.container.mux_one(packet)
            # Muxing has rounded the time to what the container can hold.
            self.max_pts_error = max(self.max_pts_error, abs(packet.pts * packet.time_base - exact))
            self.num_packets += 1

    def finish(self) -> None:
        """Write the rest of the copied streams and the container's end."""
        self._copier.copy_until(None)
        self._copier.note_late_streams()
        self.container.close()

    def _note_shift(self, first_seconds: Fraction) -> None:
        """Note the shift by which libavformat keeps the first decoding time of some containers
        from being negative.

        It moves all streams alike, behind our back: the packets still show the times that were
        asked for.
        """
        container_format = self.container.format
        if (
            container_format.flags & (_AVFMT_TS_NEGATIVE | _AVFMT_NOTIMESTAMPS)
            or container_format.name in _MATROSKA
        ):
            return
        first_copied = self._copier.next_seconds
        earliest = first_seconds if first_copied is None else min(first_seconds, first_copied)
        if earliest < 0:
            self.max_pts_error = -earliest
            self.notes.append(
                f"{container_format.name} stores no negative timestamps: all streams start "
                f"{float(-earliest):.3f} s later; use .mkv or .mp4 to keep the times"
            )

    def _note_early_start(self, first_seconds: Fraction) -> None:
        """Note that AVI shows its first picture at once, and leaves the gaps that follow."""
        if self.container.format.name == "avi" and first_seconds > 0:
            self.max_pts_error = first_seconds
            self.notes.append(
                f"avi begins at zero: the first frame is shown {float(first_seconds):.3f} s early; "
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


def _container_options(container: OutputContainer, source: ClipInfo) -> dict[str, str]:
    if container.format.name in _MATROSKA:
        # Sound that begins before zero (encoder priming) must not push the pictures off their
        # times.
        return {"avoid_negative_ts": "disabled"}
    if container.format.name not in _MOV_FAMILY:
        return {}
    # Start offsets are stored in the movie's time scale, whose default is milliseconds.
    options = {"movie_timescale": str(source.time_base.denominator)}
    if any(name.lower() not in _ITUNES_TAGS for name in container.metadata):
        options["movflags"] = "use_metadata_tags"
    return options
