"""Frames -> packets, in closed segments that a later run could replace one by one."""

from typing import Protocol

import av
import torch
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext
from av.video.stream import VideoStream

from vsr.color import from_rgb, interleave_chroma, write_channels
from vsr.frames import Frame
from vsr.media.encoders import VideoPlan, configure


class FrameConverter:
    """Frames of the pipeline -> frames of an encoder: padded to the encoded size, in its pixel format and memory."""

    def __init__(self, video: VideoPlan, device: torch.device) -> None:
        self._video = video
        self._cuda = CudaContext(device.index or 0, primary_ctx=True) if video.on_gpu else None

    def __call__(self, frame: Frame) -> av.VideoFrame:
        video = self._video
        pixels = padded(frame.pixels, video.height, video.width)
        channels = from_rgb(pixels, video.layout, video.matrix, video.color.full_range)
        if self._cuda is None:
            converted = write_channels(channels, video.pixel_format)
        else:
            planes = interleave_chroma(channels, video.layout)
            # The encoder reads on a stream of its own.
            torch.cuda.current_stream(pixels.device).synchronize()
            converted = av.VideoFrame.from_dlpack(
                planes, video.pixel_format, video.width, video.height, cuda_context=self._cuda
            )
        converted.pts, converted.time_base, converted.duration = frame.pts, frame.time_base, frame.duration
        return converted


class Encoder(Protocol):
    """Frames -> packets in segments that each start with a keyframe and refer to nothing outside of themselves."""

    plan: VideoPlan

    def add_stream(self, container: OutputContainer) -> VideoStream:
        """Make the stream that the packets are for. Called once, before anything else."""
        ...

    def encode(self, frame: av.VideoFrame) -> list["Packet[VideoStream]"]: ...

    def finish(self) -> list["Packet[VideoStream]"]:
        """The packets that are still held back."""
        ...


class LibavEncoder:
    """An encoder of PyAV's own libav. Implements Encoder."""

    def __init__(self, plan: VideoPlan, frames_per_segment: int) -> None:
        self.plan = plan
        self._frames_per_segment = frames_per_segment
        self._num_frames = 0
        self._context: VideoCodecContext | None = None

    def add_stream(self, container: OutputContainer) -> VideoStream:
        stream = container.add_stream(self.plan.codec, rate=self.plan.rate)
        assert isinstance(stream, VideoStream)
        stream.time_base = self.plan.time_base
        # The stream's own encoder writes the file's header, which describes all segments. It is fed with nothing: it
        # lives as long as the file, and would keep a segment's pictures all that time.
        self._flags = stream.codec_context.flags
        configure(stream.codec_context, self.plan)
        return stream

    def encode(self, frame: av.VideoFrame) -> list["Packet[VideoStream]"]:
        packets: list[Packet[VideoStream]] = []
        if self._num_frames == self._frames_per_segment:
            packets += self.finish()
        if self._context is None:
            self._context = av.Codec(self.plan.codec, "w").create("video")
            self._context.flags = self._flags
            configure(self._context, self.plan)
        self._num_frames += 1
        return packets + self._context.encode(frame)

    def finish(self) -> list["Packet[VideoStream]"]:
        if self._context is None:
            return []
        packets = self._context.encode(None)
        self._context, self._num_frames = None, 0
        return packets


def padded(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Repeat the last row and column of (3, H, W) as often as needed."""
    bottom, right = height - pixels.shape[1], width - pixels.shape[2]
    if bottom == 0 and right == 0:
        return pixels
    return torch.nn.functional.pad(pixels[None], (0, right, 0, bottom), mode="replicate")[0]
