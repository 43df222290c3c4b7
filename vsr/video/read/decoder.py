"""Decoders of video streams and picture files, with a log of what could not be read or decoded."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.errors import InputError
from vsr.video.read.damage import DamageLog, LostFrameTracker
from vsr.video.read.image_sequence import IMAGE_SEQUENCE_FPS, decode_image
from vsr.video.read.integrity import CHECKSUMS, INTEGRITY_CHECKS
from vsr.video.read.quantizers import EXPORT_QUANTIZERS, QuantizerReader, jpeg_step
from vsr.video.read.sources import (
    MAX_FRAME_PIXELS,
    PIPE_HINT,
    PIPE_NAME,
    PIXEL_LIMIT_HINT,
    parse_duration,
    pixel_limit_options,
    read_packets,
    start_of_untimed,
)
from vsr.video.read.timestamps import AviTimestamps

ONE_FRAME_PER_PACKET = (
    "h264",
    "hevc",
    "vvc",
    "vp9",
    "av1",
    "ffv1",
    "mjpeg",
    "prores",
    "png",
    "dnxhd",
    "huffyuv",
)
"""Codecs of which a packet without a picture means that one was lost; others have packets that show
nothing."""


EXACT_CROPPING = {"flags": "+unaligned"}
"""Option without which libavcodec cuts less off the left than the header tells, for alignment."""


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A picture that is shown from one moment on."""

    frame: av.VideoFrame
    pts: int | None
    duration: int = 0
    is_whole: bool = True
    """False where the decoder had to make up a part of it."""
    quantizer_step: float | None = None
    """Mean step that coefficients of luma were rounded to, in gray levels; None where unknown."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, as the coded stream tells at this frame."""


class Decoder(Protocol):
    """Pictures in order of presentation, once; damage goes into the log it was made with."""

    first: DecodedFrame
    """Decoded on construction."""
    rate: Fraction
    """Frames per second as well as it can be guessed."""
    has_times: bool
    """Whether the source stores presentation times."""
    num_leading_packets: int
    """Packets before the first keyframe, which need pictures that are not in the clip."""
    lost: deque[int]
    """Times of pictures that should have come before the latest one; concealment takes them out."""

    def __iter__(self) -> Iterator[DecodedFrame]: ...


class StreamDecoder:
    """The pictures of one stream of a container. Raises InputError where not a single one can be
    decoded."""

    lost: deque[int]

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        name: str,
        log: DamageLog,
        allow_huge: bool,
    ) -> None:
        self._container = container
        self._stream = stream
        self._log = log
        self._time_base = Fraction(stream.time_base or 1)
        self._num_packets = 0
        self._codec = stream.codec_context.codec.canonical_name
        self._tracker = LostFrameTracker(
            self._codec in ONE_FRAME_PER_PACKET, by_time=container.format.name not in ("avi", "asf")
        )
        self._alpha_decoder = _alpha_decoder(stream, self._codec)
        (self._alpha_decoder or stream.codec_context).options = (
            pixel_limit_options(allow_huge) | EXPORT_QUANTIZERS | EXACT_CROPPING
        )
        self._quantizers = QuantizerReader(self._codec, stream.codec_context.extradata)
        self.lost = deque()
        # Threads stay within a frame, PyAV's default: with threads across frames, what conceals a
        # damaged frame could differ from run to run.
        self.rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            hint = (
                f"; {PIPE_HINT}"
                if name == PIPE_NAME
                else ""
                if allow_huge or _is_small(stream)
                else f"; {PIXEL_LIMIT_HINT}"
            )
            raise InputError(
                f"{name}: not a single frame of its {stream.codec_context.name} video can be "
                f"decoded{hint}"
            )
        self.first = first
        self.num_leading_packets = self._tracker.num_leading
        # Only raw streams leave it out, and then for every frame: PyAV has libavformat make up
        # single missing ones.
        self.has_times = first.pts is not None

    def __iter__(self) -> Iterator[DecodedFrame]:
        return chain([self.first], self._pictures)

    def _decode(self) -> Iterator[DecodedFrame]:
        last_pts: int | None = None
        # In units of the time base, as time stamps are.
        longest_step = 1 / (self.rate * self._time_base)
        slots = AviTimestamps() if self._container.format.name == "avi" else None
        checksums = CHECKSUMS[self._codec]() if self._codec in CHECKSUMS else None
        step = max(1, round(longest_step))
        untimed: int | None = None
        for packet in chain(self._packets(), [None]):
            if slots is not None and packet is not None:
                slots.add(packet.dts)
            num_broken = (
                0 if checksums is None or packet is None else checksums.count_broken(bytes(packet))
            )
            if packet is not None:
                self._quantizers.add_packet(packet.pts, packet)
            for frame in self._decode_packet(packet):
                quantizer_step = self._quantizers.take_step(frame)
                if slots is not None:
                    frame.pts = slots.take(frame)
                elif frame.pts is None and last_pts is None:
                    frame.pts = untimed = start_of_untimed(self._container, self._stream, step)
                elif frame.pts is None and untimed is not None:
                    frame.pts = untimed = untimed + step
                else:
                    untimed = None
                # The longest step so far is how far the header's end may lie behind the last frame.
                if frame.pts is not None:
                    longest_step = max(longest_step, Fraction(frame.pts - (last_pts or frame.pts)))
                    last_pts = frame.pts
                self._report_lost(
                    *self._tracker.match_frame(frame, None if slots is not None else frame.pts)
                )
                if frame.is_corrupt or num_broken:
                    self._log.add(
                        "corrupt_frames",
                        f"{self._format_time(frame.pts)} is partly concealed",
                        max(1, num_broken),
                    )
                is_whole = not (frame.is_corrupt or num_broken)
                yield DecodedFrame(
                    frame,
                    frame.pts,
                    frame.duration or 0,
                    is_whole,
                    quantizer_step,
                    Fraction(self._stream.codec_context.sample_aspect_ratio or 1),
                )
        self._report_lost(*self._tracker.close())
        self._check_truncation(last_pts, longest_step)

    def _decode_packet(self, packet: "Packet[Stream] | None") -> Sequence[av.VideoFrame]:
        """Decode a packet, or None at the end, and return the pictures that are ready."""
        if packet is not None:
            self._tracker.add_packet(packet)
        try:
            return (self._alpha_decoder or self._stream).decode(packet)
        except av.FFmpegError as error:
            self._log.add("undecodable_packets", f"packet {self._num_packets}: {error.strerror}")
            if packet is not None:
                self._tracker.add_failure(packet)
            return []

    def _report_lost(self, times: list[int], num_silent: int) -> None:
        """Keep the times of lost pictures, and log those for which no error was raised."""
        self.lost.extend(times)
        if num_silent:
            which = self._format_time(times[0] if times else None)
            self._log.add("lost_frames", f"{which} is stored but was not decoded", num_silent)

    def _format_time(self, pts: int | None) -> str:
        return "a frame" if pts is None else f"the frame at {float(pts * self._time_base):.3f} s"

    def _packets(self) -> Iterator["Packet[Stream]"]:
        for packet in read_packets(
            self._container, [self._stream], self._log_read_failure, self._log_discontinuity
        ):
            self._num_packets += 1
            if packet.is_corrupt:
                self._log.add("corrupt_packets", f"packet {self._num_packets} is not whole")
            yield packet

    def _log_discontinuity(self, seconds: Fraction) -> None:
        told = (
            f"timestamps restart after {float(seconds):.3f} s, as in concatenated recordings: "
            "the later ones are shifted"
        )
        self._log.add("restarted_times", told)

    def _log_read_failure(self, reason: str) -> None:
        self._log.add("unreadable_data", f"after packet {self._num_packets}: {reason}")

    def _check_truncation(self, last_pts: int | None, longest_step: Fraction) -> None:
        """Report a missing tail, by what the video stream itself claims and nothing else."""
        # MP4 and MOV count their frames, which says more than a duration.
        if "mov" in self._container.format.name:
            if self._num_packets < self._stream.frames:
                missing = self._stream.frames - self._num_packets
                self._log.add(
                    "truncated",
                    f"{missing} of {self._stream.frames} frames are missing at the end",
                    missing,
                )
            return
        claimed_seconds = _claimed_end_seconds(self._container, self._stream)
        if claimed_seconds is None or last_pts is None:
            return
        last_seconds = float(last_pts * self._time_base)
        # How long the last frame is shown is often not stored, so as much as three of the longest
        # steps is believed.
        if last_seconds + float(3 * longest_step * self._time_base) < claimed_seconds:
            missing = round((claimed_seconds - last_seconds) * self.rate) - 1
            told = (
                f"the last frame is at {last_seconds:.3f} s, but the stream's header says "
                f"{claimed_seconds:.3f} s"
            )
            self._log.add("truncated", told, max(1, missing))


JPEG_SUFFIXES = (".jpg", ".jpeg")
"""Endings of files that tell quantizers; `INTEGRITY_CHECKS` has them too."""


class ImageSequenceDecoder:
    """One frame for each picture file. Raises InputError where not a single one can be decoded."""

    def __init__(self, pictures: Sequence[Path], log: DamageLog, allow_huge: bool) -> None:
        self._log = log
        self._allow_huge = allow_huge
        self.rate = Fraction(IMAGE_SEQUENCE_FPS)
        self.has_times = False
        self.num_leading_packets = 0
        self.lost: deque[int] = deque()
        self._pictures = self._decode(pictures)
        first = next(self._pictures, None)
        if first is None:
            hint = "" if allow_huge else f"; {PIXEL_LIMIT_HINT}"
            raise InputError(
                f"{pictures[0].parent}: not a single picture of {len(pictures)} can be "
                f"decoded{hint}"
            )
        self.first = first

    def __iter__(self) -> Iterator[DecodedFrame]:
        return chain([self.first], self._pictures)

    def _decode(self, pictures: Sequence[Path]) -> Iterator[DecodedFrame]:
        for picture in pictures:
            frame = decode_image(picture, self._allow_huge)
            if frame is None:
                self._log.add(
                    "undecodable_pictures", f"{picture.name} cannot be decoded and is left out"
                )
                continue
            suffix = picture.suffix.lower()
            looks_whole = INTEGRITY_CHECKS.get(suffix)
            stored = b"" if looks_whole is None else picture.read_bytes()
            is_whole = not frame.is_corrupt and (looks_whole is None or looks_whole(stored))
            if not is_whole:
                self._log.add("corrupt_frames", f"{picture.name} is partly concealed")
            step = jpeg_step(stored) if suffix in JPEG_SUFFIXES else None
            yield DecodedFrame(frame, None, is_whole=is_whole, quantizer_step=step)


def _is_small(stream: VideoStream) -> bool:
    """Tell whether the headers give a size that is read without being allowed."""
    pixels = stream.codec_context.width * stream.codec_context.height
    return 0 < pixels <= MAX_FRAME_PIXELS


_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def _alpha_decoder(stream: VideoStream, codec: str) -> VideoCodecContext | None:
    """Make a decoder for a stream that stores transparency which libav's own decoder would drop."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    if tags.get("alpha_mode") != "1" or codec not in _ALPHA_DECODERS:
        return None
    return av.Codec(_ALPHA_DECODERS[codec], "r").create("video")


def _claimed_end_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """End of a stream by its header; None for formats whose figure is itself a guess from the
    data."""
    if "matroska" in container.format.name:
        tag = stream.metadata.get("DURATION")
        if tag is not None:
            return parse_duration(tag)
        # The file's duration is that of its longest stream, which need not be the video.
        timed = [
            other for other in container.streams if other.type in ("video", "audio", "subtitle")
        ]
        return container.duration / av.time_base if len(timed) == 1 and container.duration else None
    if container.format.name == "avi" and stream.duration:
        return float(stream.duration * Fraction(stream.time_base or 1))
    return None
