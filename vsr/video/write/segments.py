"""Encoding of frames into packets, in closed segments that a later run could replace one by one."""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

import av
import torch
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.image.resample import resize
from vsr.video.color import UNSUPPORTED_MATRICES, from_rgb, interleave_chroma, write_channels
from vsr.video.frames import ClipInfo, Frame
from vsr.video.pixel_layouts import LAYOUTS, nearest_format
from vsr.video.write.encoders import (
    ENCODERS,
    EncodeOptions,
    VideoPlan,
    choose_encoder,
    configure,
    drop_real_time_priority,
)
from vsr.video.write.ffmpeg_encoder import EXTERNAL_PREFIX, FfmpegEncoder


class FrameConverter:
    """Converts frames of the pipeline to those of an encoder: padded to the encoded size, in its
    pixel format and memory."""

    def __init__(self, video: VideoPlan, device: torch.device) -> None:
        self._video = video
        self._cuda = CudaContext(device.index or 0, primary_ctx=True) if video.on_gpu else None

    def __call__(self, frame: Frame) -> av.VideoFrame:
        video = self._video
        pixels = pad_to_size(video.turn.turn(frame.pixels), video.height, video.width)
        channels = from_rgb(pixels, video.layout, video.matrix, video.color.full_range)
        if self._cuda is None:
            converted = write_channels(channels, video.pixel_format, self._upscaled_alpha(frame))
        else:
            planes = interleave_chroma(channels, video.layout)
            # The encoder reads on a stream of its own.
            torch.cuda.current_stream(pixels.device).synchronize()
            converted = av.VideoFrame.from_dlpack(
                planes, video.pixel_format, video.width, video.height, cuda_context=self._cuda
            )
        converted.pts, converted.time_base, converted.duration = (
            frame.pts,
            frame.time_base,
            frame.duration,
        )
        return converted

    def _upscaled_alpha(self, frame: Frame) -> torch.Tensor | None:
        """Enlarge opacity apart from the colors, which a network must not mix it with."""
        if frame.alpha is None or not self._video.layout.has_alpha:
            return None
        enlarged = resize(frame.alpha, frame.height, frame.width).clamp_(0, 1)
        return pad_to_size(
            self._video.turn.turn(enlarged)[None], self._video.height, self._video.width
        )[0]


class Encoder(Protocol):
    """Encodes frames into segments that each start with a keyframe and refer to nothing outside of
    themselves."""

    plan: VideoPlan

    def add_stream(self, container: OutputContainer) -> VideoStream:
        """Make a stream that the packets can be for. Called at least once, before anything else."""
        ...

    def encode(self, frame: av.VideoFrame) -> list["Packet[VideoStream]"]:
        """Return the packets that are ready. The first frame of all, or after `finish`, begins a
        segment."""
        ...

    def finish(self) -> list["Packet[VideoStream]"]:
        """End the segment and return the packets that are still held back."""
        ...


class LibavEncoder:
    """An encoder of PyAV's own libav. Implements Encoder."""

    def __init__(self, plan: VideoPlan) -> None:
        self.plan = plan
        self._context: VideoCodecContext | None = None

    def add_stream(self, container: OutputContainer) -> VideoStream:
        stream = container.add_stream(self.plan.codec, rate=self.plan.rate)
        assert isinstance(stream, VideoStream)
        stream.time_base = self.plan.time_base
        # The stream's own encoder writes the file's header. It is fed with nothing: it lives as
        # long as the file, and would keep a segment's pictures all that time.
        self._flags = stream.codec_context.flags
        configure(stream.codec_context, self.plan)
        return stream

    def encode(self, frame: av.VideoFrame) -> list["Packet[VideoStream]"]:
        if self._context is None:
            self._context = av.Codec(self.plan.codec, "w").create("video")
            # The container decides whether headers are global, for every segment alike.
            self._context.flags = self._flags
            configure(self._context, self.plan)
        packets = self._context.encode(frame)
        drop_real_time_priority()
        return packets

    def finish(self) -> list["Packet[VideoStream]"]:
        if self._context is None:
            return []
        packets = self._context.encode(None)
        drop_real_time_priority()
        self._context = None
        return packets


class FrameEncoder:
    """Encodes frames of the pipeline into packets with exact times, segment by segment."""

    def __init__(self, encoder: Encoder, device: torch.device) -> None:
        self.encoder = encoder
        self._device = device
        self._convert = FrameConverter(encoder.plan, device)
        self._time_base = encoder.plan.time_base
        self._durations: dict[int, int] = {}
        self._pts_before: int | None = None
        self._num_missing = 0

    def encode(self, frame: Frame) -> list["Packet[VideoStream]"]:
        """Encode a frame; times strictly increase and are in the source's time base."""
        assert frame.time_base == self._time_base, (
            f"expected times in {self._time_base}, got {frame.time_base}"
        )
        # A frame without a duration is taken to last as long as the one before.
        step = 0 if self._pts_before is None else frame.pts - self._pts_before
        assert step > 0 or self._pts_before is None, (
            f"frame {frame.index} is not later than the one before"
        )
        self.resume_after(frame.pts)
        # Encoders drop durations: each is kept by its time until its packet comes back.
        self._durations[frame.pts] = frame.duration or step
        self._num_missing += 1
        return self._timed(self.encoder.encode(self._convert(frame)))

    def end_segment(self) -> list["Packet[VideoStream]"]:
        """Return the packets that are still held back. Raises OutputError where the encoder lost a
        frame."""
        packets = self._timed(self.encoder.finish())
        if self._num_missing:
            raise OutputError(
                f"{self.encoder.plan.codec} lost {self._num_missing} frames: choose another "
                "encoder with -c"
            )
        return packets

    def resume_after(self, pts: int) -> None:
        """Take the time of the frame before the next one."""
        self._pts_before = pts

    def header(self, resources: ExitStack) -> VideoStream:
        """Make the stream as Matroska describes it, to be the template of others.

        One black frame is encoded for that: here it shows whether the encoder really works.
        """
        plan, file = self.encoder.plan, io.BytesIO()
        device = self._device if plan.on_gpu else "cpu"
        black = Frame(
            torch.zeros(3, plan.height, plan.width, device=device), 0, 0, self._time_base, 1
        )
        with av.open(file, "w", format="matroska") as container:
            stream = self.encoder.add_stream(container)
            for packet in [*self.encoder.encode(self._convert(black)), *self.encoder.finish()]:
                packet.stream = stream
                packet.time_base = self._time_base
                # Of a single frame x265 now and then gives a decoding time after the presentation
                # time.
                packet.pts = packet.dts = 0
                container.mux_one(packet)
        file.seek(0)
        return resources.enter_context(av.open(file, "r", format="matroska")).streams.video[0]

    def _timed(self, packets: Sequence["Packet[VideoStream]"]) -> list["Packet[VideoStream]"]:
        for packet in packets:
            assert packet.pts is not None
            packet.time_base = self._time_base
            packet.duration = self._durations.pop(packet.pts)
            self._num_missing -= 1
        return list(packets)


def pad_to_size(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Repeat the last row and column of (3, H, W) as often as needed."""
    bottom, right = height - pixels.shape[1], width - pixels.shape[2]
    if bottom == 0 and right == 0:
        return pixels
    return torch.nn.functional.pad(pixels[None], (0, right, 0, bottom), mode="replicate")[0]


def open_encoder(
    source: ClipInfo,
    height: int,
    width: int,
    options: EncodeOptions,
    container_format: str,
    device: torch.device,
    resources: ExitStack,
) -> tuple[FrameEncoder, list[str]]:
    """Open an encoder for this container, with notes for the user. Raises UsageError or
    OutputError."""
    encoder: Encoder
    notes: list[str]
    if options.codec.startswith(EXTERNAL_PREFIX):
        encoder, notes = FfmpegEncoder(source, height, width, options, resources), []
    else:
        plan, notes = choose_encoder(source, height, width, options, container_format, device)
        encoder = LibavEncoder(plan)
    return FrameEncoder(encoder, device), [*notes, *plan_notes(source, height, width, encoder.plan)]


def plan_notes(source: ClipInfo, height: int, width: int, plan: VideoPlan) -> list[str]:
    """List sentences on what the output's format changes."""
    notes = format_notes(source, height, width, plan)
    before, after = LAYOUTS[nearest_format(source.pixel_format)], plan.layout
    if plan.matrix != source.color.matrix and not after.is_rgb and not before.is_rgb:
        standard = matrix_name(plan.matrix)
        if source.color.matrix in UNSUPPORTED_MATRICES:
            notes.append(
                f"the color matrix {source.color.matrix} (H.273) is kept; the frames are upscaled "
                f"as {standard}"
            )
        else:
            notes.append(
                f"the clip has no color matrix tag: {standard} is assumed from its height, and "
                "written"
            )
    has_hdr = source.mastering_display is not None or source.light_level is not None
    takes_hdr = plan.codec in ENCODERS and ENCODERS[plan.codec].hdr is not None
    if has_hdr and not takes_hdr:
        notes.append(
            f"HDR mastering and light-level data are dropped: {plan.codec} does not take them; "
            "libx265 does. The color tags and the depth are kept"
        )
    return notes


def format_notes(source: ClipInfo, height: int, width: int, plan: VideoPlan) -> list[str]:
    """List sentences on what the size and the pixel format change."""
    notes = []
    if (plan.height, plan.width) != (height, width):
        notes.append(
            f"{width}x{height} is padded to {plan.width}x{plan.height} by repeating the edge: "
            f"{plan.pixel_format} needs even sides"
        )
    before, after = LAYOUTS[nearest_format(source.pixel_format)], plan.layout
    if before.is_rgb and not after.is_rgb:
        notes.append(f"RGB is written as {plan.pixel_format}: {plan.codec} has no RGB")
    elif (after.bits, -after.chroma_rows, -after.chroma_columns) < (
        before.bits,
        -before.chroma_rows,
        -before.chroma_columns,
    ):
        notes.append(
            f"{source.pixel_format} is written as {plan.pixel_format}: {plan.codec} has no closer "
            "format"
        )
    if before.has_alpha and not after.has_alpha:
        notes.append(
            f"transparency (alpha) is dropped: {plan.codec} does not keep it here; -c libvpx-vp9 "
            "or ffv1 into .mkv does"
        )
    return notes


def matrix_name(matrix: int) -> str:
    """Name the standard of an H.273 matrix as users know it."""
    return {1: "BT.709", 9: "BT.2020"}.get(matrix, "BT.601")
