"""Trial of a container before any work: its real muxer with every stream and a few packets, and
what it wrote read back.

Lists of what a container takes are wrong in both directions. What is tried here is what will be
done, so that a night of upscaling does not end at "Invalid argument".
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.errors import OutputError
from vsr.video.frames import ClipInfo
from vsr.video.read.sources import open_container
from vsr.video.write.mux import OutputFormat, StreamSelection, VideoMuxer
from vsr.video.write.muxer_safety import survives
from vsr.video.write.stream_copy import MOV_FAMILY, codec_name
from vsr.video.write.text_subtitles import stored_codec

_SAME_CODECS = {"mp1": "mp3", "mp2": "mp3", "pcm_bluray": "pcm_bluray", "aac_latm": "aac"}
"""Codecs that one entry of a container stands for: MP4 marks all layers of MPEG audio alike."""

MAX_ATTEMPTS = 40


@dataclass(frozen=True)
class VideoSample:
    """The video as its encoder makes it: one keyframe, and a function that adds its stream."""

    packet: bytes
    add_stream: Callable[[OutputContainer], VideoStream]
    filtered: Callable[[Iterable["Packet[VideoStream]"]], Iterable["Packet[VideoStream]"]]
    """Turns packets into what the container stores."""
    codec: str


@dataclass(frozen=True)
class _Outcome:
    """Answer of one attempt: why it failed as a whole, and what it refused of the streams."""

    error: str | None = None
    refused: Mapping[int, str] = field(default_factory=dict)


def select_streams(source: ClipInfo, output: OutputFormat, video: VideoSample) -> StreamSelection:
    """Find out what a container takes of a clip, by muxing samples of all its streams.

    Raises OutputError where it does not even take the video.
    """
    codecs = _other_codecs(source)
    unsafe = {
        number: f"the {output.name} muxer crashes on it"
        for number, codec in codecs.items()
        if codec is not None
        and stored_codec(codec, output.name, MOV_FAMILY) == codec
        and not survives(output.name, codec, source.path, number)
    }
    best = _settle(source, output, video, unsafe, set(codecs))
    # Matroska's muxer writes more codecs than it lists; what only the list refuses is tried again.
    if set(best.refused) - set(unsafe) and output.name == "matroska":
        with suppress(OutputError):
            wrapped = _settle(source, replace(output, is_wrapped=True), video, unsafe, set(codecs))
            if set(wrapped.refused) == set(best.refused):
                # Its reasons are those of the muxer, not of a list.
                best = replace(best, refused=wrapped.refused)
            best = min(best, wrapped, key=lambda selection: len(selection.refused))
    return best


def _settle(
    source: ClipInfo,
    output: OutputFormat,
    video: VideoSample,
    unsafe: Mapping[int, str],
    numbers: set[int],
) -> StreamSelection:
    """Leave streams out until the rest can be written and read back."""
    refused = dict(unsafe)
    # Each beside the video alone, before all together: a stream that a muxer refuses by itself can
    # abort the process beside another (ADPCM beside PCM in MXF).
    for number in sorted(numbers - set(unsafe)):
        others = {each: "" for each in numbers if each != number}
        alone = _attempt(source, StreamSelection(output, others), video)
        if alone.error is not None or number in alone.refused:
            reason = f"{output.name} does not take it ({alone.error})"
            refused[number] = alone.refused.get(number, reason)
    for _ in range(MAX_ATTEMPTS):
        outcome = _attempt(source, StreamSelection(output, refused), video)
        if outcome.error is None and not outcome.refused:
            return StreamSelection(output, refused)
        # Each by itself is fine, or there is none: then it is the video, or their number.
        rest = sorted(numbers - set(refused))
        if not (rest or outcome.refused):
            raise OutputError(
                f"{output.name} cannot hold {video.codec} video like this "
                f"({outcome.error}): use .mkv, or another encoder with -c"
            )
        refused |= outcome.refused or {
            rest[-1]: f"{output.name} does not take it beside the others"
        }
    raise OutputError(f"{output.name} cannot hold the streams of this clip: use .mkv")


def _attempt(source: ClipInfo, selection: StreamSelection, video: VideoSample) -> _Outcome:
    """Mux samples into memory and read them back."""
    file = io.BytesIO()
    try:
        with ExitStack() as resources:
            muxer = VideoMuxer(file, selection, source, resources)
            muxer.set_up(lambda: video.add_stream(muxer.container))
            if muxer.copier.refusals:
                return _Outcome(refused=muxer.copier.refusals)
            packet: Packet[VideoStream] = Packet(video.packet)  # type: ignore[assignment]
            packet.pts = packet.dts = 0
            packet.duration, packet.time_base = 1, source.time_base
            packet.is_keyframe = True
            muxer.mux(video.filtered([packet]))
            muxer.copier.copy_sample()
            muxer.container.close()
            expected, rejected = muxer.copier.copied_codecs(), muxer.copier.rejected()
    except OutputError:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        return _Outcome(getattr(error, "strerror", None) or str(error))
    if rejected:
        return _Outcome(refused=rejected)
    return _read_back(file, source, video.codec, expected)


def _read_back(
    file: io.BytesIO, source: ClipInfo, video_codec: str, expected: Mapping[int, str | None]
) -> _Outcome:
    """Compare the codecs that can be read from a file with those that were written."""
    file.seek(0)
    try:
        with av.open(file, "r", metadata_errors="surrogateescape") as result:
            found = Counter(
                _SAME_CODECS.get(codec, codec)
                for stream in result.streams
                if (codec := codec_name(stream)) is not None
            )
            num_data = sum(stream.type == "data" for stream in result.streams)
            packets = Counter[int]()
            heard: set[int] = set()
            for packet in result.demux():
                stream = packet.stream
                packets[stream.index] += bool(packet.size)
                if isinstance(stream, AudioStream) and stream.index not in heard:
                    heard |= {stream.index} if _can_decode(packet) else set()
            frames = packets[result.streams.video[0].index]
            mute = {
                codec_name(stream)
                for stream in result.streams.audio
                if packets[stream.index] >= ENOUGH_PACKETS and stream.index not in heard
            }
    except (av.FFmpegError, IndexError) as error:
        return _Outcome(f"it cannot be read back: {getattr(error, 'strerror', None) or error}")
    if not frames or not found[video_codec]:
        return _Outcome("the video cannot be read back")
    found[video_codec] -= 1
    refused = {}
    for number, codec in expected.items():
        if codec is None:
            # Data that libav knows no codec of is only worth copying where it is data again.
            if num_data == 0:
                refused[number] = "it cannot be read back"
            num_data -= 1
            continue
        same = _SAME_CODECS.get(codec, codec)
        if not found[same]:
            refused[number] = f"{codec} in it cannot be read back"
        elif codec in mute and _is_heard(source, number):
            refused[number] = f"{codec} in it cannot be decoded"
        found[same] -= 1
    return _Outcome(refused=refused)


ENOUGH_PACKETS = 8
"""Packets of sound of which a decoder makes something, if it can."""


def _can_decode(packet: "Packet[Stream]") -> bool:
    try:
        return bool(packet.decode())
    except av.FFmpegError:
        return False


def _is_heard(source: ClipInfo, number: int) -> bool:
    """Tell whether the first packets of a stream of the source can be decoded."""
    with open_container(source.path) as container:
        packets = container.demux(container.streams[number])
        return any(_can_decode(packet) for packet in islice(packets, ENOUGH_PACKETS))


def _other_codecs(source: ClipInfo) -> dict[int, str | None]:
    """Codec of each stream beside the video, by number."""
    if source.container == "images" or not source.identity:
        return {}
    with open_container(source.path) as container:
        return {
            stream.index: codec_name(stream)
            for stream in container.streams
            if stream.index != source.stream_index
        }
