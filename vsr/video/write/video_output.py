"""Video output: straight into a pipe, or by closed segments that a later run can resume from."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
import torch
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.files import flush_to_disk
from vsr.video.frames import ClipInfo, Frame
from vsr.video.step import Checkpoint
from vsr.video.write.encoders import (
    AUTO_ALPHA_CODEC,
    EncodeOptions,
    VideoPlan,
    set_picture_tags,
)
from vsr.video.write.mux import MAX_AVI_GAP_TICKS, OutputFormat, StreamSelection, VideoMuxer
from vsr.video.write.read_back import Verified, read_back
from vsr.video.write.segment_store import PART_SUFFIX, ClosedSegment, SegmentKeeper, SegmentStore
from vsr.video.write.segments import open_encoder
from vsr.video.write.trial import VideoSample, select_streams

SUFFIX = ".mkv"
AVI_TICK_SECONDS = Fraction(1, 1000)
"""Finest clock of an AVI whose pictures come at no fixed rate."""
_ANNEX_B_FILTERS = {"avi": {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}}
"""Matroska stores these without the start codes that other containers' muxers put back by
themselves, but not AVI's."""


class PipedVideoOutput:
    """Encodes frames and muxes them at once, for a pipe that cannot be gone back on."""

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
        output = OutputFormat(container_format)
        self._encoder, self.notes = open_encoder(
            source, height, width, options, container_format, device, resources
        )
        self.plan = self._encoder.encoder.plan
        template = _Template(self._encoder.header(resources), self.plan, output)
        selection = select_streams(source, output, template.sample())
        self.muxer = VideoMuxer(file, selection, source, resources)
        self.muxer.set_up(lambda: self._encoder.encoder.add_stream(self.muxer.container))
        self.num_frames = 0

    def write(self, frame: Frame) -> None:
        self.muxer.mux(self._encoder.encode(frame))
        self.num_frames += 1

    def end_segment(self) -> None:
        """Begin anew with the next frame: the same keyframes as in a file, so that both decode to
        the same pictures."""
        self.muxer.mux(self._encoder.end_segment())

    def finish(self) -> None:
        self.end_segment()
        self.muxer.finish()


class VideoSegments:
    """Encodes frames into segments, each a file of its own."""

    def __init__(
        self,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        container_format: str,
        device: torch.device,
        work: SegmentKeeper,
        resources: ExitStack,
    ) -> None:
        self._keeper = work
        self._encoder, self.notes = open_encoder(
            source, height, width, options, container_format, device, resources
        )
        self.plan = self._encoder.encoder.plan
        self._header = self._encoder.header(resources)
        self._frames_per_segment = options.segment_frames
        self.num_frames = work.frames_done
        self._open: _OpenSegment | None = None
        resources.callback(self._discard_open_segment)

    @property
    def is_segment_full(self) -> bool:
        """Whether the next frame belongs to a new segment, so that this one must be closed."""
        return (
            self._open is not None
            and self.num_frames - self._keeper.frames_done == self._frames_per_segment
        )

    def go_on_after(self, pts: int) -> None:
        """Take the time of the frame before the first."""
        self._encoder.resume_after(pts)

    def write(self, frame: Frame) -> None:
        if self._open is None:
            path = self._keeper.segment_path(self._keeper.num_segments, SUFFIX)
            self._open = _OpenSegment(path, self._encoder.encoder.add_stream)
        self._open.add(self._encoder.encode(frame))
        self._last = frame
        self.num_frames += 1

    def close_segment(self, checkpoint: Checkpoint) -> None:
        """Complete the segment and keep it, with the checkpoint that a later run goes on from."""
        if self._open is None:
            return
        self._open.add(self._encoder.end_segment())
        times, num_bytes = self._open.close()
        self._open = None
        num_frames = self.num_frames - self._keeper.frames_done
        # The file is on the disk: from here on the segment counts, whatever happens.
        self._keeper.close_segment(num_frames, num_bytes, times, self._last.pixels, checkpoint)

    def _discard_open_segment(self) -> None:
        if self._open is not None:
            self._open.discard()


class SegmentedVideoOutput(VideoSegments):
    """Joins the segments of a work folder into one file at the end."""

    def __init__(
        self,
        file: BinaryIO,
        output: OutputFormat,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        device: torch.device,
        work: SegmentStore,
        resources: ExitStack,
    ) -> None:
        """`file` takes the finished video."""
        super().__init__(source, height, width, options, output.name, device, work, resources)
        self._work = work
        self._source = source
        self._template = _Template(self._header, self.plan, output)
        selection = select_streams(source, output, self._template.sample())
        self.muxer = VideoMuxer(file, selection, source, resources)
        self.muxer.set_up(self._add_stream)
        for segment in work.segments():
            self.go_on_after(max(pts for pts, _, _ in segment.times))

    def times(self) -> Iterator[Fraction]:
        """Presentation times of all frames in seconds, in the order of their packets."""
        for segment in self._work.segments():
            yield from (pts * self.plan.time_base for pts, _, _ in segment.times)

    def read_back(self, file: Path, decode: bool) -> Verified:
        """Check the finished file. Raises OutputError where it plays less than was made."""
        copied = self.muxer.copier.copied
        return read_back(file, self.muxer.video_number, self.times(), copied, decode)

    def finish(self) -> None:
        """Put the closed segments together."""
        if self.muxer.output.name == "avi":
            self._set_avi_clock()
        for number, segment in enumerate(self._work.segments()):
            self.muxer.mux(self._template.filtered(self._packets(number, segment)))
        self.muxer.finish()

    def _add_stream(self) -> VideoStream:
        self._stream = self._template.add_stream(self.muxer.container)
        return self._stream

    def _set_avi_clock(self) -> None:
        """Let an AVI tick once a frame where that shows each at its time.

        It fills every tick between two frames with an empty chunk, and players take the ticks for
        the rate.
        """
        pts = sorted(pts for each in self._work.segments() for pts, _, _ in each.times)
        step = 1 / (self.plan.rate * self.plan.time_base)
        ticks = [round(time / step) for time in pts]
        # Sources round times to their own units: a hundredth of a frame is no change of rate.
        slack = max(step / 100, Fraction(1))
        if all(b > a for a, b in pairwise(ticks)) and all(
            abs(tick * step - time) <= slack for tick, time in zip(ticks, pts, strict=True)
        ):
            self._stream.time_base = 1 / self.plan.rate
            return
        # Else as fine as leaves the longest pause fillable, a millisecond at best.
        longest = max((b - a for a, b in pairwise(pts)), default=0) * self.plan.time_base
        self._stream.time_base = max(
            Fraction(longest, MAX_AVI_GAP_TICKS), AVI_TICK_SECONDS, self.plan.time_base
        )

    def _packets(self, number: int, segment: ClosedSegment) -> Iterator["Packet[VideoStream]"]:
        path = self._work.segment_path(number, SUFFIX)
        num_packets = 0
        with av.open(f"file:{path}", "r", format="matroska") as container:
            for packet in container.demux(video=0):
                if packet.size:
                    packet.time_base = self._source.time_base
                    # Matroska rounded them to its own units; the record has them exactly.
                    packet.pts, packet.dts, packet.duration = segment.times[num_packets]
                    num_packets += 1
                    yield packet
        if num_packets != segment.num_frames:
            raise OutputError(
                f"{path} holds {num_packets} of {segment.num_frames} frames: it is damaged; "
                "start over with --restart"
            )


def try_output(
    source: ClipInfo,
    height: int,
    width: int,
    options: EncodeOptions,
    output: OutputFormat,
    device: torch.device,
    resources: ExitStack,
) -> StreamSelection:
    """Find out what a container takes of a clip whose video is encoded by these options.

    Raises OutputError where it does not take the video.
    """
    encoder, _ = open_encoder(source, height, width, options, output.name, device, resources)
    template = _Template(encoder.header(resources), encoder.encoder.plan, output)
    return select_streams(source, output, template.sample())


class _OpenSegment:
    """A segment that is being written, under a name that says so."""

    def __init__(self, path: Path, add_stream: Callable[[OutputContainer], VideoStream]) -> None:
        self._path = path
        self._part = self._path.with_name(self._path.name + PART_SUFFIX)
        self._file = self._part.open("wb")
        self._container = av.open(self._file, "w", format="matroska")
        self._stream = add_stream(self._container)
        self._times: list[tuple[int, int | None, int]] = []

    def add(self, packets: list["Packet[VideoStream]"]) -> None:
        for packet in packets:
            assert packet.pts is not None
            assert packet.duration is not None
            self._times.append((packet.pts, packet.dts, packet.duration))
            packet.stream = self._stream
            self._container.mux_one(packet)

    def close(self) -> tuple[tuple[tuple[int, int | None, int], ...], int]:
        """Complete the file. Returns the times of its packets, and its size; it is on the disk
        then."""
        self._container.close()
        self._file.flush()
        flush_to_disk(self._file.fileno())
        num_bytes = self._file.tell()
        self._file.close()
        self._part.replace(self._path)
        return tuple(self._times), num_bytes

    def discard(self) -> None:
        """Let go of the file without completing it."""
        # What could not be flushed to a full disk is thrown away here in any case.
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


class _Template:
    """The video's stream as its encoder describes it, for containers of one format."""

    def __init__(self, header: VideoStream, plan: VideoPlan, output: OutputFormat) -> None:
        self._header, self._plan, self._output = header, plan, output
        self.codec = header.codec_context.codec.canonical_name
        self._annex_b_filter = _ANNEX_B_FILTERS.get(output.name, {}).get(self.codec)

    def sample(self) -> VideoSample:
        """A frame of it, for a trial."""
        container = self._header.container
        assert isinstance(container, InputContainer)
        packet = bytes(next(container.demux(self._header)))
        return VideoSample(packet, self.add_stream, self.filtered, self.codec)

    def add_stream(self, container: OutputContainer) -> VideoStream:
        """Add it to a container. Raises OutputError where that does not take it."""
        try:
            stream = container.add_stream_from_template(self._header, opaque=True)
        except ValueError as error:
            raise OutputError(
                f"{self._output.name} does not take video by {self._plan.codec}: {error}"
            ) from error
        _set_stream_parameters(stream, self._plan)
        if self._annex_b_filter is not None:
            # The parameter sets stand in the packets then; behind a header of MP4's kind players
            # would look for lengths in place of start codes.
            stream.codec_context.extradata = None
        return stream

    def filtered(self, packets: Iterable["Packet[VideoStream]"]) -> Iterator["Packet[VideoStream]"]:
        """Convert packets to what the container wants."""
        if self._annex_b_filter is None:
            yield from packets
            return
        context = BitStreamFilterContext(self._annex_b_filter, self._header)
        for packet in packets:
            times = (packet.pts, packet.dts, packet.duration)
            for filtered in context.filter(packet):
                filtered.time_base = self._plan.time_base
                filtered.pts, filtered.dts, filtered.duration = times
                yield filtered


def _set_stream_parameters(stream: VideoStream, plan: VideoPlan) -> None:
    """Set on a stream made from a template what Matroska may have rounded or left out."""
    stream.time_base = plan.time_base
    context = stream.codec_context
    context.framerate = plan.rate
    set_picture_tags(context, plan)
    if plan.codec == AUTO_ALPHA_CODEC and plan.layout.has_alpha:
        # VP9 keeps transparency beside its packets; only this tells a player that it is there.
        stream.metadata["alpha_mode"] = "1"
