"""A clip as a stream of frames: constant memory, exact times, and a log of its damage."""

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import torch
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.image.resample import resize
from vsr.records import option
from vsr.video.color import read_alpha, read_channels, resolve_matrix, to_rgb
from vsr.video.frames import ClipInfo, ColorDescription, Frame
from vsr.video.pixel_layouts import LAYOUTS, nearest_format
from vsr.video.read.concealment import conceal_by_repetition, with_repaired_timestamps
from vsr.video.read.damage import Damage, DamageLog
from vsr.video.read.decoder import Decoder, ImageSequenceDecoder, StreamDecoder
from vsr.video.read.deinterlace import deinterlace_frames
from vsr.video.read.image_sequence import (
    IMAGE_SEQUENCE_FPS,
    find_image_sequence,
    image_sequence_identity,
)
from vsr.video.read.integrity import find_structure_break
from vsr.video.read.side_data import (
    display_matrix,
    has_dynamic_metadata,
    light_level,
    mastering_display,
)
from vsr.video.read.sources import (
    PIPE_NAME,
    STANDARD_INPUT,
    check_duration,
    check_size,
    clip_identity,
    is_cover_art,
    main_video_stream,
    missing_bytes,
    open_container,
)

__all__ = ["ClipReader", "Damage", "ReadOptions", "clip_identity", "open_clip"]


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a clip."""

    on_damage: Literal["keep", "repeat", "stop"] = option(
        "keep",
        "Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        "--on-damage",
    )
    deinterlace: bool = option(False, "Deinterlace: one frame of both fields.", "--deinterlace")
    allow_huge: bool = option(
        False, "Read clips beyond 64 million pixels or seven days.", "--allow-huge"
    )


def open_clip(source: str | Path, options: ReadOptions = ReadOptions()) -> "ClipReader":
    """Open a video file, a folder of pictures, a pattern such as `frames/%04d.png`, or `-` for
    standard input.

    The first frame is decoded at once. Raises InputError where nothing can be read or decoded.
    """
    path = Path(source)
    with ExitStack() as resources:
        is_pipe = str(source) == STANDARD_INPUT
        log = DamageLog(PIPE_NAME if is_pipe else str(path), stops=options.on_damage == "stop")
        pictures = None if is_pipe else find_image_sequence(path)
        if pictures is not None:
            info, notes, decoder = _describe_pictures(path, pictures, log, options.allow_huge)
        else:
            file = sys.stdin.buffer if is_pipe else path
            container = resources.enter_context(open_container(file, options.allow_huge))
            if not is_pipe and (missing := missing_bytes(path)):
                log.add("cut_off", f"the file ends {missing} bytes before the end that it states")
            if not is_pipe and (place := find_structure_break(path)) is not None:
                log.add(
                    "broken_structure",
                    f"at byte {place} of {path.stat().st_size} something does not follow",
                )
            identity = "" if is_pipe else clip_identity(path)
            info, notes, decoder = _describe_video(path, container, identity, log, options)
        return ClipReader(info, notes, decoder, log, resources.pop_all(), options)


class ClipReader:
    """An open clip. A context manager; `frames()` may be run through once."""

    def __init__(
        self,
        info: ClipInfo,
        notes: list[str],
        decoder: Decoder,
        log: DamageLog,
        resources: ExitStack,
        options: ReadOptions,
    ) -> None:
        self.info = info
        self.notes = notes
        """Sentences that the user should read: what was chosen, made up or left out."""
        self._decoder = decoder
        self._log = log
        self._resources = resources
        self._options = options
        self._reformatter = VideoReformatter()
        self._stored_as: tuple[str, ColorDescription] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Damage found in the part that has been read so far."""
        return self._log.records()

    def frames(self) -> Iterator[Frame]:
        """Yield every frame in order of presentation, on the CPU, in the clip's size; times
        strictly increase.

        Raises InputError at the first damage where the options say so.
        """
        time_base = self.info.time_base
        pictures = iter(self._decoder)
        if self._options.deinterlace:
            pictures = deinterlace_frames(pictures)
        if self._options.on_damage == "repeat":
            pictures = conceal_by_repetition(pictures, self._decoder)
        for index, (picture, pts, duration) in enumerate(
            with_repaired_timestamps(pictures, self._decoder, time_base, self._log)
        ):
            self._log_changes(picture.frame, index)
            pixels, alpha = self._to_pixels(picture.frame)
            yield Frame(pixels, index, pts, time_base, duration, alpha)

    def _log_changes(self, decoded: av.VideoFrame, index: int) -> None:
        info = self.info
        stored_as = (decoded.format.name, _color_of(decoded))
        self._stored_as = self._stored_as or stored_as
        if (decoded.width, decoded.height) != (info.width, info.height):
            self._log.add(
                "changed_size",
                f"frames are {decoded.width}x{decoded.height} from frame {index} on and are "
                f"resized to {info.width}x{info.height}",
            )
        elif info.container != "images" and stored_as != self._stored_as:
            self._log.add(
                "changed_format",
                f"frame {index} is stored in another pixel format or color than the first",
            )

    def _to_pixels(self, decoded: av.VideoFrame) -> tuple[torch.Tensor, torch.Tensor | None]:
        if decoded.format.name not in LAYOUTS:
            # Palettes, packed YUV and the like: to the nearest format whose samples are stored
            # plainly.
            decoded = self._reformatter.reformat(
                decoded, format=nearest_format(decoded.format.name)
            )
        layout = LAYOUTS[decoded.format.name]
        matrix = resolve_matrix(_color_of(decoded), self.info.height)
        pixels = to_rgb(read_channels(decoded, layout), layout, matrix, _is_full_range(decoded))
        alpha = read_alpha(decoded, layout)
        size = (self.info.height, self.info.width)
        # A clip may change its size midway; everything behind the reader relies on one size.
        if pixels.shape[1:] != size:
            pixels = resize(pixels, *size).clamp_(0, 1)
            alpha = None if alpha is None else resize(alpha, *size).clamp_(0, 1)
        return pixels, alpha


def _describe_video(
    path: Path, container: InputContainer, identity: str, log: DamageLog, options: ReadOptions
) -> tuple[ClipInfo, list[str], Decoder]:
    name = str(path) if identity else PIPE_NAME
    stream = main_video_stream(container, name)
    average_rate = stream.average_rate
    duration_seconds = _duration_seconds(container, stream)
    # Headers of broken files claim years: a file holds no more frames than bytes.
    if duration_seconds and average_rate and duration_seconds * average_rate > _max_frames(path):
        duration_seconds = None
    if not options.allow_huge:
        check_size(name, stream.codec_context.width, stream.codec_context.height)
        check_duration(name, duration_seconds)
    decoder = StreamDecoder(container, stream, name, log, options.allow_huge)
    first = decoder.first.frame
    info = ClipInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        color=_color_of(first),
        # Made-up times count frames, so one tick is one frame.
        time_base=Fraction(stream.time_base or 1) if decoder.has_times else 1 / decoder.rate,
        average_rate=Fraction(average_rate) if average_rate else None,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio)
        if stream.sample_aspect_ratio
        else None,
        rotation_degrees=first.rotation,
        num_frames_from_header=stream.frames if 0 < stream.frames <= _max_frames(path) else None,
        duration_seconds_from_header=duration_seconds,
        identity=identity,
        display_matrix=display_matrix(first),
        mastering_display=mastering_display(first),
        light_level=light_level(first),
    )
    return (
        info,
        [*_stream_notes(container, stream, decoder), *_frame_notes(first, options.deinterlace)],
        decoder,
    )


def _describe_pictures(
    path: Path, pictures: list[Path], log: DamageLog, allow_huge: bool
) -> tuple[ClipInfo, list[str], Decoder]:
    decoder = ImageSequenceDecoder(pictures, log, allow_huge)
    first = decoder.first.frame
    info = ClipInfo(
        path=path,
        container="images",
        codec=pictures[0].suffix.lower().removeprefix("."),
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        color=_color_of(first),
        time_base=1 / decoder.rate,
        average_rate=decoder.rate,
        sample_aspect_ratio=None,
        rotation_degrees=first.rotation,
        num_frames_from_header=len(pictures),
        duration_seconds_from_header=float(len(pictures) / decoder.rate),
        identity=image_sequence_identity(pictures),
    )
    shown = (
        f"{len(pictures)} pictures are shown at {IMAGE_SEQUENCE_FPS} a second: pictures carry "
        "no time of their own"
    )
    return info, [shown, *_frame_notes(first, is_deinterlaced=False)], decoder


def _color_of(frame: av.VideoFrame) -> ColorDescription:
    return ColorDescription(
        frame.colorspace, frame.color_primaries, frame.color_trc, _is_full_range(frame)
    )


def _is_full_range(frame: av.VideoFrame) -> bool:
    """Tell the range by its tag; without one RGB, gray and the yuvj formats are full range by
    convention."""
    if frame.color_range in (1, 2):
        return frame.color_range == 2
    return frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya", "pal"))


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _max_frames(path: Path) -> float:
    """Bound on the frames that a file of this size can hold: a header which claims more is
    wrong."""
    return path.stat().st_size if path.is_file() else math.inf


def _stream_notes(container: InputContainer, stream: VideoStream, decoder: Decoder) -> list[str]:
    notes = []
    moving = [other for other in container.streams.video if not is_cover_art(other)]
    if len(moving) > 1:
        notes.append(
            f"{len(moving)} video streams: stream {stream.index} is upscaled, the others are "
            "copied as they are"
        )
    if decoder.num_leading_packets:
        notes.append(
            f"{decoder.num_leading_packets} packets come before the first keyframe: what they show "
            "needs pictures that are not in the clip"
        )
    if not decoder.has_times:
        rate = float(decoder.rate)
        notes.append(
            f"the file stores no times: they are made for {rate:.6g} frames a second, its guessed "
            "rate"
        )
    return notes


def _frame_notes(frame: av.VideoFrame, is_deinterlaced: bool) -> list[str]:
    notes = []
    if is_deinterlaced:
        notes.append("deinterlaced: one progressive frame is made of the two fields of each")
    elif frame.interlaced_frame:
        notes.append(
            "the video is interlaced and is upscaled with its combing, marked progressive; use "
            "--deinterlace"
        )
    if has_dynamic_metadata(frame):
        notes.append(
            "Dolby Vision or HDR10+ metadata is dropped: it describes pictures that are no longer "
            "the same"
        )
    return notes
