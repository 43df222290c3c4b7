"""Encoders of an installed ffmpeg program, for codecs that PyAV's libav lacks: `-c ffmpeg:NAME`."""

import io
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from contextlib import ExitStack, suppress
from typing import cast

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import OutputError, UsageError
from vsr.video.color import frame_bytes
from vsr.video.frames import ClipInfo
from vsr.video.write.encoders import EncodeOptions, VideoPlan, choose_pixel_format, plan_with_format

EXTERNAL_PREFIX = "ffmpeg:"

RAW_FRAME_RATE = 25
"""Between the programs frames are only counted; their true times are put on the packets
afterwards."""


class FfmpegEncoder:
    """Implements Encoder with one ffmpeg process per segment: raw frames in, Matroska out.

    Raises UsageError or OutputError on construction where ffmpeg-python, the program or the encoder
    does not serve.
    """

    def __init__(
        self,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        resources: ExitStack,
    ) -> None:
        name = options.codec.removeprefix(EXTERNAL_PREFIX)
        offered = _supported_formats(name)
        pixel_format = choose_pixel_format(
            source.pixel_format, offered, options.pixel_format, options.codec
        )
        settings = {
            "crf": None if options.crf is None else f"{options.crf:g}",
            "preset": options.preset,
        }
        given = {option: value for option, value in settings.items() if value is not None}
        self.plan = plan_with_format(source, height, width, options.codec, pixel_format, given)
        self._command = _command(self.plan, name)
        self._header = resources.enter_context(_encode_probe_frame(self._command, self.plan))
        resources.callback(self._stop)
        self._segment: _FfmpegProcess | None = None
        self._times: deque[int] = deque()
        self._num_packets = 0

    def add_stream(self, container: OutputContainer) -> VideoStream:
        template = self._header.streams.video[0]
        try:
            stream = container.add_stream_from_template(template, opaque=True)
        except ValueError as error:
            raise OutputError(
                f"{container.format.name} does not take video by {self.plan.codec}: {error}"
            ) from error
        stream.time_base = self.plan.time_base
        stream.codec_context.framerate = self.plan.rate
        if self.plan.sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = self.plan.sample_aspect_ratio
        self._delay = template.codec_context.reorder_depth
        return stream

    def encode(self, frame: av.VideoFrame) -> list["Packet[VideoStream]"]:
        if self._segment is None:
            self._segment = _FfmpegProcess(self._command)
            self._times.clear()
            self._num_packets = 0
        assert frame.pts is not None
        self._times.append(frame.pts)
        self._segment.times.append(frame.pts)
        self._segment.send(frame_bytes(frame, self.plan.layout))
        return [self._timed(packet) for packet in self._segment.poll()]

    def finish(self) -> list["Packet[VideoStream]"]:
        if self._segment is None:
            return []
        packets = [self._timed(packet) for packet in self._segment.drain()]
        self._segment = None
        return packets

    def _stop(self) -> None:
        if self._segment is not None:
            self._segment.stop()

    def _timed(self, packet: "Packet[VideoStream]") -> "Packet[VideoStream]":
        """Give a packet its decoding time: the presentation time of the frame `delay` places before
        it."""
        # The first packets precede every presentation time by the delay of reordering.
        if self._num_packets < self._delay:
            step = self._times[1] - self._times[0] if len(self._times) > 1 else 1
            packet.dts = self._times[0] - (self._delay - self._num_packets) * step
        else:
            packet.dts = self._times.popleft()
        self._num_packets += 1
        return packet


class _FfmpegProcess:
    """One run of the program; a thread reads its packets so that neither side waits for the other
    for ever."""

    def __init__(self, command: list[str]) -> None:
        self.times: list[int] = []
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._messages
        )
        self._packets: queue.SimpleQueue[Packet[VideoStream]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def send(self, picture: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(picture)
        except BrokenPipeError as error:
            raise OutputError(f"ffmpeg stopped: {self._error_message()}") from error

    def poll(self) -> list["Packet[VideoStream]"]:
        """Return the packets that have come back since the last call, each with its frame's
        presentation time."""
        packets = []
        while not self._packets.empty():
            packet = self._packets.get()
            assert packet.pts is not None
            packet.pts = self.times[round(packet.pts * packet.time_base * RAW_FRAME_RATE)]
            packets.append(packet)
        return packets

    def drain(self) -> list["Packet[VideoStream]"]:
        """End the input and wait for what is left."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError as error:
            raise OutputError(f"ffmpeg stopped: {self._error_message()}") from error
        self._thread.join()
        if self._process.wait() != 0:
            raise OutputError(f"ffmpeg failed: {self._error_message()}")
        self.stop()
        return self.poll()

    def stop(self) -> None:
        """End the program, whatever it is doing, and let go of its files."""
        # Killed before its pipes are closed: it may be waiting to write to us.
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for file in (self._process.stdin, self._process.stdout, self._messages):
            assert file is not None
            with suppress(BrokenPipeError):
                file.close()

    def _read(self) -> None:
        try:
            with av.open(self._process.stdout, "r", format="matroska") as container:
                for packet in container.demux(video=0):
                    if packet.size:
                        self._packets.put(packet)
        except av.FFmpegError:
            # The program's exit status and its messages say why; they are told where it is waited
            # for.
            return

    def _error_message(self) -> str:
        self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it gave no reason"


def _command(plan: VideoPlan, name: str) -> list[str]:
    import ffmpeg

    color = {
        "colorspace": plan.color.matrix,
        "color_primaries": plan.color.primaries,
        "color_trc": plan.color.transfer,
        "color_range": 2 if plan.color.full_range else 1,
    }
    size = f"{plan.width}x{plan.height}"
    raw = ffmpeg.input(
        "pipe:",
        format="rawvideo",
        pix_fmt=plan.pixel_format,
        s=size,
        framerate=RAW_FRAME_RATE,
        **color,
    )
    coded = raw.output(
        "pipe:",
        format="matroska",
        vcodec=name,
        pix_fmt=plan.pixel_format,
        **color,
        **dict(plan.options),
    )
    return cast(list[str], ffmpeg.compile(coded.global_args("-loglevel", "error"), cmd=_program()))


def _program() -> str:
    program = shutil.which("ffmpeg")
    if program is None:
        raise OutputError(
            "an encoder ffmpeg:NAME needs the ffmpeg program, which is not installed (or not on "
            "the PATH)"
        )
    return program


def _supported_formats(name: str) -> list[str]:
    """List the pixel formats of one of the program's encoders. Raises UsageError where it has no
    such encoder."""
    try:
        import ffmpeg  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "encoder ffmpeg:NAME needs the package ffmpeg-python: pip install ffmpeg-python"
        ) from error
    answer = subprocess.run(
        [_program(), "-hide_banner", "-h", f"encoder={name}"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if not answer.startswith("Encoder"):
        raise UsageError(f"the installed ffmpeg has no encoder {name}: see `ffmpeg -encoders`")
    formats = re.search(r"Supported pixel formats: (.*)", answer)
    return formats.group(1).split() if formats else ["yuv420p"]


def _encode_probe_frame(command: list[str], plan: VideoPlan) -> InputContainer:
    """Encode one frame by the program and open the result: it shows that the encoder works, and
    holds the stream's header."""
    num_bytes = len(
        frame_bytes(av.VideoFrame(plan.width, plan.height, plan.pixel_format), plan.layout)
    )
    # An option that goes unused is only worth a warning to ffmpeg.
    talkative = ["warning" if word == "error" else word for word in command]
    trial = subprocess.run(talkative, input=bytes(num_bytes), capture_output=True, check=False)
    messages = trial.stderr.decode(errors="replace").strip()
    unknown = re.search(
        r"AVOption (\w+) .* has not been used|Unrecognized option '(\w+)'", messages
    )
    if unknown:
        raise UsageError(
            f"{plan.codec} has no option {unknown.group(1) or unknown.group(2)}: leave it out"
        )
    if trial.returncode != 0:
        raise OutputError(
            f"{plan.codec} does not open for {plan.width}x{plan.height} {plan.pixel_format}: "
            f"{messages}"
        )
    return av.open(io.BytesIO(trial.stdout), "r", format="matroska")
