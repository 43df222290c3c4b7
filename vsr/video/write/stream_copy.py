"""Copying of all that a clip holds besides the upscaled video: sound, subtitles, fonts, chapters
and tags, packet by packet."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vsr.text import printable
from vsr.video.frames import ClipInfo
from vsr.video.read import stream_starts
from vsr.video.read.sources import (
    is_cover_art,
    open_container,
    read_packets,
    still_streams,
)
from vsr.video.read.stream_starts import find_stream_starts
from vsr.video.write.read_back import StreamTally
from vsr.video.write.text_subtitles import MOV_TEXT, TextConverter, stored_codec

if TYPE_CHECKING:
    from av.container.core import Chapter

_STALE_FILE_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands")
_STALE_STREAM_TAGS = (
    *(
        "encoder",
        "duration",
        "bps",
        "number_of_frames",
        "number_of_bytes",
        "vendor_id",
        "alpha_mode",
    ),
)
"""Tags that describe the source file or its encoding, and would be false of the new one."""

PICTURES_ALONE = ("images", "yuv4mpegpipe")
"""Forms of a clip that hold nothing but its pictures."""

_MATROSKA_COVERS = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "gif": ("cover.gif", "image/gif"),
    "tiff": ("cover.tiff", "image/tiff"),
    "bmp": ("cover.bmp", "image/bmp"),
}
"""File name and type, by codec, of a cover that has none of its own."""


class StreamCopier:
    """Gives the output its streams in the source's order, then the packets of those that are
    copied.

    What cannot be copied is listed in `dropped` with the reason; the rest survives it.
    """

    def __init__(
        self,
        source: ClipInfo,
        output: OutputContainer,
        refused: Mapping[int, str],
        resources: ExitStack,
    ) -> None:
        """`refused` are streams that the output does not take, by number, with the reason."""
        self._source = source
        self._output = output
        self._refused = refused
        self.refusals: dict[int, str] = {}
        """Streams that the output refused in `set_up`, though they were not known to be."""
        self._targets: dict[int, Stream] = {}
        self._labels: dict[int, str] = {}
        self._converters: dict[int, TextConverter] = {}
        self.notes: list[str] = []
        self._num_rejected: dict[int, int] = {}
        self._packets: Iterator[Packet[Stream]] = iter(())
        self._next: Packet[Stream] | None = None
        self._failures = 0
        self.num_chapters = 0
        self.early_seconds = Fraction(0)
        """Time by which packets are muxed earlier, for a container that begins at zero."""
        self._timecode: str | None = None
        self.copied: dict[int, StreamTally] = {}
        """Packets muxed of each copied stream, by its number in the output."""
        self.dropped: list[str] = []
        self._container: InputContainer | None = None
        if source.container != "images" and source.identity:
            self._container = resources.enter_context(open_container(source.path))
        elif source.container not in PICTURES_ALONE:
            self.dropped.append("all streams but the video: standard input can be read only once")

    @property
    def kept(self) -> list[str]:
        return list(self._labels.values())

    @property
    def next_seconds(self) -> Fraction | None:
        """Decoding time of the next packet to copy; None where there is none."""
        return None if self._next is None else _dts_seconds(self._next)

    def set_up(self, add_video: Callable[[], VideoStream], container_format: str) -> VideoStream:
        """Add every stream that the output takes; `add_video` is called where the upscaled one
        belongs."""
        self._container_format = container_format
        if self._container is None:
            return add_video()
        main = self._container.streams[self._source.stream_index]
        chapters = [self._shifted(chapter) for chapter in self._container.chapters()]
        videos = [each for each in self._container.streams.video if not is_cover_art(each)]
        stills = still_streams(self._container, videos) - {main.index}
        # Players show the first of several, where a container names no default.
        for stream in sorted(self._container.streams, key=lambda each: each.index in stills):
            if stream is main:
                video = add_video()
                video.disposition = stream.disposition | (Disposition.default if stills else 0)
                video.metadata.update(_drop_tags(stream.metadata, _STALE_STREAM_TAGS))
            elif not (chapters and stream.type == "data" and "mov" in self._container.format.name):
                # MP4 keeps chapter titles in a stream of their own, which its muxer writes anew.
                self._add(stream, container_format)
                # Players would show the first of several default streams.
                if stream.index in stills and stream.index in self._targets:
                    self._targets[stream.index].disposition &= ~Disposition.default
        if self._timecode is not None:
            video.metadata.setdefault("timecode", self._timecode)
        # Tags first: MP4 is told by their names whether to take any.
        self._output.metadata.update(_drop_tags(self._container.metadata, _STALE_FILE_TAGS))
        self.num_chapters = len(chapters)
        if chapters:
            self._output.set_chapters(chapters)
        copied = [stream for stream in self._container.streams if stream.index in self._targets]
        if copied:
            packets = read_packets(self._container, copied, self._count_read_failure)
            self._packets = fill_missing_dts(fill_missing_durations(self._shifted_packets(packets)))
            self._next = next(self._packets, None)
        return video

    def copy_until(self, seconds: Fraction | None) -> None:
        """Mux the copied packets up to this time, or all that are left."""
        while self._next is not None and (seconds is None or _dts_seconds(self._next) <= seconds):
            self._mux(self._next)
            self._next = next(self._packets, None)

    @property
    def damage(self) -> list[str]:
        """Sentences on packets lost on the way, to be read at the end."""
        lines = [
            f"lost_packets: {count} of {self._labels[index]} have no usable time and are left out"
            for index, count in self._num_rejected.items()
        ]
        if self._failures:
            lines.append(
                f"unreadable_data: {self._failures} spots of the streams that are copied cannot be "
                "read"
            )
        return lines

    def _add(self, stream: Stream, container_format: str) -> None:
        label = _label(stream)
        cover = _matroska_cover(stream) if container_format == "matroska" else None
        if stream.index in self._refused:
            self.dropped.append(f"{label}: {self._refused[stream.index]}")
            return
        if cover is not None:
            # Matroska keeps cover art as an attachment; a stream of it would turn into a film of
            # one picture.
            self._output.add_attachment(*cover, _attached_packet(self._source, stream.index))
        elif _is_timecode(stream) and container_format in TIMECODE_FORMATS:
            # These write the track, or the tag, by themselves from a tag of the video.
            self._timecode = stream.metadata["timecode"]
        else:
            try:
                target = self._add_target(stream, container_format)
            except ValueError:
                self.refusals[stream.index] = f"{container_format} does not take it"
                return
            if container_format == "avi" and isinstance(target, AudioStream):
                self._set_avi_rate(stream, target)
            target.disposition = stream.disposition
            target.metadata.update(_drop_tags(stream.metadata, _STALE_STREAM_TAGS))
            if stream.type != "attachment":
                self._targets[stream.index] = target
        self._labels[stream.index] = label

    def _add_target(self, stream: Stream, container_format: str) -> Stream:
        """Add a stream like that of the source, or of the container's own kind of text. Raises
        ValueError where the container takes none."""
        codec = codec_name(stream)
        if stored_codec(codec, container_format, MOV_FAMILY) == codec:
            return self._output.add_stream_from_template(stream, opaque=True)
        converter = TextConverter(stream, self._output)
        self._converters[stream.index] = converter
        self.notes.append(f"{_label(stream)} is stored as {MOV_TEXT}")
        return converter.target

    def _set_avi_rate(self, stream: Stream, target: AudioStream) -> None:
        """Let AVI's clock tick once a block of ADPCM: it is made of the size of a block and the bit
        rate, and headers state wrong ones."""
        if not (codec_name(stream) or "").startswith("adpcm"):
            return
        with open_container(self._source.path) as container:
            packets = container.demux(container.streams[stream.index])
            timed = [p for p in islice(packets, SAMPLE_PACKETS) if p.size and p.pts is not None]
        if len(timed) > 1 and len({packet.size for packet in timed[:-1]}) == 1:
            ticks = (timed[-1].pts or 0) - (timed[0].pts or 0)
            seconds = ticks * timed[0].time_base / (len(timed) - 1)
            if seconds > 0:
                target.codec_context.bit_rate = round(8 * timed[0].size / seconds)

    def copy_sample(self) -> None:
        """Mux the first packets of the copied streams, for a trial."""
        num_bytes = 0
        for _ in range(SAMPLE_PACKETS):
            if self._next is None or num_bytes > SAMPLE_BYTES:
                return
            num_bytes += self._next.size
            self._mux(self._next)
            self._next = next(self._packets, None)

    def rejected(self) -> dict[int, str]:
        """Streams of which not a single packet could be muxed, with the reason."""
        return {
            index: "its packets are refused"
            for index, count in self._num_rejected.items()
            if self._targets[index].index not in self.copied
        }

    def copied_codecs(self) -> dict[int, str | None]:
        """Codec of each stream that is copied as a stream, by its number in the source; None where
        libav has none."""
        if self._container is None:
            return {}
        codecs = {index: codec_name(self._container.streams[index]) for index in self._targets}
        return codecs | dict.fromkeys(self._converters, MOV_TEXT)

    def _mux(self, packet: "Packet[Stream]") -> None:
        index = packet.stream_index
        try:
            if index in self._converters:
                converted = self._converters[index].convert(packet)
                if converted is None:
                    return
                packet = converted
            tally = replace(self.copied.get(self._targets[index].index, StreamTally()))
            tally.add(packet)
            early = round(self.early_seconds / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - early
            packet.dts = None if packet.dts is None else packet.dts - early
            packet.stream = self._targets[index]
            self._output.mux_one(packet)
            self.copied[self._targets[index].index] = tally
        except (av.ArgumentError, av.InvalidDataError):
            # One packet without a usable time must not cost the film.
            self._num_rejected[index] = self._num_rejected.get(index, 0) + 1

    def _shifted_packets(self, packets: Iterable["Packet[Stream]"]) -> Iterator["Packet[Stream]"]:
        """Move packets as far as all times of the source."""
        for packet in packets:
            if packet.is_discard and self._is_trimmed(packet):
                continue
            moved = round(self._source.shift_seconds / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved
            yield packet

    def _is_trimmed(self, packet: "Packet[Stream]") -> bool:
        """Tell whether an edit list hides a packet for good: most containers have none, and would
        show it again.

        The last ones before zero are kept, since a decoder needs them for what follows; so are all
        before zero if the output has an edit list to hide them.
        """
        begin = (packet.pts or 0) * packet.time_base
        priming = PRIMING_PACKETS * (packet.duration or 0) * packet.time_base
        hides = self._container_format in MOV_FAMILY
        return begin >= 0 or (begin < -priming and not hides)

    def _shifted(self, chapter: "Chapter") -> "Chapter":
        """Move a chapter as far as all times of the source."""
        moved = round(self._source.shift_seconds / (chapter["time_base"] or 1))
        return {**chapter, "start": chapter["start"] + moved, "end": chapter["end"] + moved}

    def note_late_streams(self) -> None:
        """List the streams that begin too far behind the first ones to be known when copying
        begins.

        The whole file is looked through, which a run has long outlasted.
        """
        if self._container is None:
            return
        path = self._source.path
        starts = find_stream_starts(path, path.stat().st_size)
        for start in starts:
            if start > stream_starts.MAX_PROBE_BYTES:
                self.dropped.append(
                    f"a stream that begins {start >> 20} MiB into the file: it is not known when "
                    "copying begins"
                )

    def _count_read_failure(self, reason: str) -> None:  # noqa: ARG002
        self._failures += 1


def fill_missing_dts(packets: Iterable["Packet[Stream]"]) -> Iterator["Packet[Stream]"]:
    """Yield the packets, each with a decoding time.

    Matroska stores none, and of a stream with B-frames libavformat makes up all but the first few.
    """
    waiting: dict[int, list[Packet[Stream]]] = {}
    for packet in packets:
        early = waiting.setdefault(packet.stream_index, [])
        if packet.dts is None and len(early) < MAX_B_FRAMES:
            early.append(packet)
            continue
        for position, before in enumerate(early):
            # Counted back from the first known one by whole packets, as libavformat would have.
            if packet.dts is None:
                before.dts = before.pts
            else:
                before.dts = packet.dts - (len(early) - position) * max(packet.duration or 0, 1)
            yield before
        early.clear()
        packet.dts = packet.pts if packet.dts is None else packet.dts
        yield packet
    for left in waiting.values():
        for packet in left:
            packet.dts = packet.pts
            yield packet


def fill_missing_durations(packets: Iterable["Packet[Stream]"]) -> Iterator["Packet[Stream]"]:
    """Yield the packets, those of sound each with a duration: that of the one before.

    Matroska stores few, and MP4 hides a last packet that seems to take no time.
    """
    last: dict[int, tuple[int, int]] = {}
    for packet in packets:
        if packet.stream.type == "audio" and packet.pts is not None:
            before, step = last.get(packet.stream_index, (packet.pts, 0))
            step = packet.duration or packet.pts - before or step
            packet.duration = max(step, 0)
            last[packet.stream_index] = packet.pts, step
        yield packet


MAX_B_FRAMES = 16
"""Longest row of B-frames of any codec."""


def other_stream_labels(source: ClipInfo) -> list[str]:
    """List the streams of the source besides its main video."""
    if source.container == "images" or not source.identity:
        return []
    with open_container(source.path) as container:
        return [
            _label(stream) for stream in container.streams if stream.index != source.stream_index
        ]


def codec_name(stream: Stream) -> str | None:
    """Name of a stream's codec, whatever decoder stands for it; None where libav has none."""
    context = stream.codec_context
    return None if context is None else context.codec.canonical_name


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and "timecode" in stream.metadata


MOV_FAMILY = ("mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v")
"""Muxers that write edit lists."""

PRIMING_PACKETS = 2
"""Packets that a decoder of sound is given before those that are heard: the windows of AAC and its
relatives overlap by one."""

TIMECODE_FORMATS = ("mov", "mp4", "matroska", "mxf")
"""Containers whose muxers keep a timecode that the video bears as a tag."""

SAMPLE_PACKETS = 64
SAMPLE_BYTES = 4 << 20


def _attached_packet(source: ClipInfo, stream_index: int) -> bytes:
    with open_container(source.path) as container:
        return bytes(next(container.demux(container.streams[stream_index])))


def _matroska_cover(stream: Stream) -> tuple[str, str] | None:
    """Choose name and type of the attachment that a cover becomes; None for other streams and
    unusual pictures."""
    if not _is_cover(stream):
        return None
    name, mime_type = _MATROSKA_COVERS.get(_codec_name(stream), (None, None))
    name, mime_type = (
        stream.metadata.get("filename", name),
        stream.metadata.get("mimetype", mime_type),
    )
    return (name, mime_type) if name and mime_type else None


def _label(stream: Stream) -> str:
    details = [_codec_name(stream), *([stream.language] if stream.language else [])]
    kind = "cover art" if _is_cover(stream) else stream.type
    return printable(f"stream {stream.index}: {kind} ({', '.join(details)})")


def _is_cover(stream: Stream) -> bool:
    return isinstance(stream, VideoStream) and is_cover_art(stream)


def _codec_name(stream: Stream) -> str:
    # Where libav does not know the codec, PyAV's streams of sound and video lack the attribute
    # altogether.
    return getattr(stream, "name", None) or "unknown codec"


def _drop_tags(tags: dict[str, str], unwanted: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value
        for name, value in tags.items()
        if name.lower() not in unwanted and not name.upper().startswith("_STATISTICS")
    }


def _dts_seconds(packet: "Packet[Stream]") -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
