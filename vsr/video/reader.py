"""A clip as a stream of frames: constant memory, exact times, and a log of its damage."""

import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.image.orientation import Orientation
from vsr.image.resample import resize
from vsr.records import option
from vsr.video.color import (
    changed_colors,
    read_alpha,
    read_channels,
    resolve_matrix,
    to_rgb,
)
from vsr.video.frames import ClipInfo, ColorDescription, Frame
from vsr.video.pixel_layouts import LAYOUTS, common_format, lost_by, nearest_format
from vsr.video.read.concealment import conceal_by_repetition, with_repaired_timestamps
from vsr.video.read.damage import Damage, DamageLog
from vsr.video.read.decoder import DecodedFrame, Decoder, ImageSequenceDecoder, StreamDecoder
from vsr.video.read.deinterlace import (
    FRAME_RATIO,
    LOOK_FRAMES,
    TIME_DIVISOR,
    Deinterlacing,
    deinterlace_frames,
    look_at_fields,
    split_fields,
    undo_pulldown,
)
from vsr.video.read.fields import FieldStatistics
from vsr.video.read.image_sequence import (
    IMAGE_SEQUENCE_FPS,
    common_picture_format,
    find_image_sequence,
    image_sequence_identity,
)
from vsr.video.read.integrity import find_structure_break
from vsr.video.read.motion_fields import refine_fields
from vsr.video.read.quantizers import MAX_QUANTIZER, h264_step
from vsr.video.read.side_data import (
    display_matrix,
    light_level,
    lost_side_data,
    mastering_display,
)
from vsr.video.read.sources import (
    PICTURE_CODECS,
    PIPE_NAME,
    STANDARD_INPUT,
    check_duration,
    check_size,
    clip_identity,
    frame_rate,
    is_cover_art,
    main_video_stream,
    missing_bytes,
    open_container,
    sample_formats,
    seek,
)
from vsr.video.read.timestamps import JOINABLE_FORMATS

__all__ = ["ClipReader", "Damage", "ReadOptions", "clip_identity", "open_clip"]


CLOSE_TIMEOUT_SECONDS = 5.0
"""Longest time that closing waits for a frame that another thread is reading: a pipe may bring
nothing more. That thread then closes the file, or the end of the program does."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a clip."""

    on_damage: Literal["keep", "repeat", "stop"] = option(
        "keep",
        "Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        "--on-damage",
    )
    deinterlace: Deinterlacing = option(
        "auto",
        "frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; auto: frame "
        "where interlaced, else off.",
        "--deinterlace",
        metavar="auto|frame|field|film|off",
    )
    allow_huge: bool = option(
        False, "Accept frames over 64 million pixels and clips over seven days.", "--allow-huge"
    )
    stream: int | None = option(
        None,
        "Number of the stream to read; default: the longest video stream.",
        "--stream",
        metavar="N",
        at_least=0,
    )
    # Cameras and editors store what was coded coarsely before, and nothing in the file tells.
    quantizer: float | None = option(
        None,
        "Quantizer on H.264's scale that the clip was coded with before it was stored as it is; "
        "default: that of the stream.",
        "--quantizer",
        metavar="0..51",
        at_least=0,
        at_most=MAX_QUANTIZER,
        commands=("run", "steady", "train-shot", "preview", "inspect"),
    )

    @property
    def quantizer_step(self) -> float | None:
        """Step of the quantizer that was given, in gray levels."""
        return None if self.quantizer is None else h264_step(self.quantizer)


def as_result(options: ReadOptions) -> ReadOptions:
    """Return the options for a clip that already has the result's frames, such as a truth: without
    deinterlacing."""
    return replace(options, deinterlace="off")


def open_clip(
    source: str | Path, options: ReadOptions = ReadOptions(), start_seconds: float = 0.0
) -> "ClipReader":
    """Open a video file, a folder of pictures, a pattern such as `frames/%04d.png`, or `-` for
    standard input.

    The first frame is decoded at once. With `start_seconds`, frames begin at the last keyframe
    before that time where the file can be sought in, and are counted from there; only glances at a
    clip may do so. Raises InputError where nothing can be read or decoded.
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
                log.add("cut_off", f"the file is {missing} bytes shorter than its header says")
            if not is_pipe and (place := find_structure_break(path)) is not None:
                log.add(
                    "broken_structure",
                    f"the chain of chunks breaks at byte {place} of {path.stat().st_size}",
                )
            identity = "" if is_pipe else clip_identity(path)
            if start_seconds > 0:
                seek(container, start_seconds)
            info, notes, decoder = _describe_video(path, container, identity, log, options)
        decoded = iter(decoder)
        fields = FieldStatistics()
        if pictures is None and options.deinterlace != "off":
            first = list(islice(decoded, LOOK_FRAMES))
            fields = look_at_fields(first)
            decoded = chain(first, decoded)
        mode = _choose_deinterlacing(options.deinterlace, fields)
        if mode in TIME_DIVISOR:
            info = _retimed(info, mode)
        notes += _field_notes(decoder.first.frame, options.deinterlace, mode, fields)
        options = replace(options, deinterlace=mode)
        material = PictureSource(decoder, decoded, fields)
        return ClipReader(info, notes, material, log, resources.pop_all(), options)


@dataclass(frozen=True)
class PictureSource:
    """A decoder, what comes out of it, and what its first pictures look like."""

    decoder: Decoder
    pictures: Iterator[DecodedFrame]
    fields: FieldStatistics


class ClipReader:
    """An open clip. A context manager; `frames()` may be run through once."""

    def __init__(
        self,
        info: ClipInfo,
        notes: list[str],
        source: PictureSource,
        log: DamageLog,
        resources: ExitStack,
        options: ReadOptions,
    ) -> None:
        self.info = info
        self.notes = notes
        """Sentences that the user should read: what was chosen, made up or left out."""
        self._source = source
        self._log = log
        self._resources = resources
        self._options = options
        self._reformatter = VideoReformatter()
        self._reading, self._is_closed = threading.RLock(), False
        self._losses: dict[str, int] = {}
        """Things that the result cannot hold, with the first frame that has it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        # libav must not lose a file that another thread is reading.
        if self._reading.acquire(timeout=CLOSE_TIMEOUT_SECONDS):
            self._resources.close()
            self._reading.release()

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Damage found in the part that has been read so far."""
        return self._log.records()

    @property
    def losses(self) -> tuple[str, ...]:
        """Sentences on what frames hold that no result keeps, of the part that has been read."""
        return tuple(f"{lost} (from frame {index} on)" for lost, index in self._losses.items())

    @property
    def late_losses(self) -> tuple[str, ...]:
        """Those of `losses` that the first frame did not show, so that no note tells of them."""
        late = self._losses.items()
        return tuple(f"{lost} (from frame {index} on)" for lost, index in late if index)

    def frames(
        self,
        from_seconds: float = -math.inf,
        seen: "Callable[[Frame, SampledFrame], None] | None" = None,
    ) -> Iterator[Frame]:
        """Yield every frame in order of presentation, on the CPU, in the clip's size; times
        strictly increase. Those before `from_seconds` are left out, which costs less than to
        convert them.

        `seen` is told of each as it is converted, with the samples that it comes from. They end
        where the reader is closed meanwhile, by another thread. Raises InputError at the first
        damage where the options say so.
        """
        frames = self._frames(from_seconds, seen)
        while True:
            with self._reading:
                if self._is_closed:
                    self._resources.close()
                    return
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _frames(
        self, from_seconds: float, seen: "Callable[[Frame, SampledFrame], None] | None"
    ) -> Iterator[Frame]:
        mode, order = self._options.deinterlace, self._source.fields.top_field_first
        decoder, pictures = self._source.decoder, self._source.pictures
        if mode == "frame":
            pictures = deinterlace_frames(pictures, order)
        if self._options.on_damage == "repeat":
            pictures = conceal_by_repetition(pictures, decoder)
        time_base = self.info.time_base
        shift = round(self.info.shift_seconds / time_base)
        stored_time_base = time_base * TIME_DIVISOR.get(mode, 1)
        timed = with_repaired_timestamps(pictures, decoder, stored_time_base, self._log)
        # These two change the number of frames, so they come after repairs that count them.
        if mode == "field":
            timed = split_fields(timed, order)
        elif mode == "film":
            timed = undo_pulldown(timed)
        frames = (
            self._to_frame(index, picture, pts + shift, duration, seen)
            for index, (picture, pts, duration) in enumerate(timed)
            if (pts + shift) * time_base >= from_seconds
        )
        # Where the order is not seen, nothing tells which lines are a field's own.
        yield from frames if mode != "field" or order is None else refine_fields(frames, order)

    def _to_frame(
        self,
        index: int,
        picture: DecodedFrame,
        pts: int,
        duration: int,
        seen: "Callable[[Frame, SampledFrame], None] | None",
    ) -> Frame:
        self._note_losses(picture, index)
        given = self._options.quantizer_step
        step = picture.quantizer_step if given is None else given
        samples = self._samples(picture.frame, index, pts, duration, step)
        frame = samples.frame()
        if seen is not None:
            seen(frame, samples)
        return frame

    def _note_losses(self, picture: DecodedFrame, index: int) -> None:
        """Note what this frame holds and the clip's form does not; the input is not damaged by
        it."""
        info, decoded, first = self.info, picture.frame, self._source.decoder.first
        height, width = self._turn(decoded).size(decoded.height, decoded.width)
        if (width, height) != (info.width, info.height):
            self._log.add(
                "changed_size",
                f"frames are {width}x{height} from frame {index} on and are resized to "
                f"{info.width}x{info.height}",
            )
        for lost in lost_by(decoded.format.name, info.pixel_format):
            self._losses.setdefault(
                f"{lost} of {decoded.format.name} in {info.pixel_format}", index
            )
        for lost in lost_side_data(decoded):
            self._losses.setdefault(lost, index)
        if picture.pixel_aspect != first.pixel_aspect:
            self._losses.setdefault(
                f"the shape of pixels {picture.pixel_aspect}, where the clip begins with "
                f"{first.pixel_aspect}",
                index,
            )
        for lost in changed_colors(_color_of(first.frame), _color_of(decoded)):
            self._losses.setdefault(lost, index)

    def _turn(self, decoded: av.VideoFrame) -> Orientation:
        """Turn that makes a picture upright: each of a sequence has its own; of a video the
        result's tag does it."""
        return _orientation(decoded) if self.info.container == "images" else Orientation()

    def _samples(
        self, decoded: av.VideoFrame, index: int, pts: int, duration: int, step: float | None
    ) -> "SampledFrame":
        if decoded.format.name not in LAYOUTS:
            # Palettes, packed YUV and the like: to the nearest format whose samples are stored
            # plainly.
            decoded = self._reformatter.reformat(
                decoded, format=nearest_format(decoded.format.name)
            )
        layout = LAYOUTS[decoded.format.name]
        return SampledFrame(
            channels=[channel.numpy() for channel in read_channels(decoded, layout)],
            alpha=None if (alpha := read_alpha(decoded, layout)) is None else alpha.numpy(),
            pixel_format=decoded.format.name,
            matrix=resolve_matrix(_color_of(decoded), self.info.height),
            full_range=_is_full_range(decoded),
            turn=self._turn(decoded),
            size=(self.info.height, self.info.width),
            index=index,
            pts=pts,
            time_base=self.info.time_base,
            duration=duration,
            quantizer_step=step,
        )


class PartReader(ClipReader):
    """A part of a clip, whose frames another machine has read."""

    def __init__(self, info: ClipInfo, part: Iterable["SampledFrame | Frame"]) -> None:
        self.info = info
        self.notes = []
        self._part = part

    def frames(
        self,
        from_seconds: float = -math.inf,
        seen: "Callable[[Frame, SampledFrame], None] | None" = None,
    ) -> Iterator[Frame]:
        """Yield the frames of the part."""
        assert seen is None, "whoever reads a clip sees its samples"
        assert from_seconds == -math.inf, "a part is wanted whole"
        for each in self._part:
            yield each.frame() if isinstance(each, SampledFrame) else each


@dataclass(frozen=True, eq=False)
class SampledFrame:
    """A decoded frame before it becomes RGB: exact, and an eighth of the size for 4:2:0 of 8
    bits."""

    channels: list[np.ndarray]
    """Samples of each channel, (rows, columns) of uint8 or uint16."""
    alpha: np.ndarray | None
    """Opacity as float32 (rows, columns) in [0, 1]."""
    pixel_format: str
    matrix: int
    """H.273 code point of the conversion to RGB."""
    full_range: bool
    turn: Orientation
    """Turn that makes the picture upright."""
    size: tuple[int, int]
    """Height and width of the frame, whatever those of the samples."""
    index: int
    pts: int
    time_base: Fraction
    duration: int
    quantizer_step: float | None

    @property
    def num_bytes(self) -> int:
        """Size of the samples."""
        alpha = 0 if self.alpha is None else self.alpha.nbytes
        return alpha + sum(channel.nbytes for channel in self.channels)

    def frame(self) -> Frame:
        """Convert the samples to RGB."""
        layout = LAYOUTS[self.pixel_format]
        channels = [_as_tensor(channel) for channel in self.channels]
        pixels = to_rgb(channels, layout, self.matrix, self.full_range)
        alpha = None if self.alpha is None else _as_tensor(self.alpha)
        if self.turn:
            pixels = self.turn.turn(pixels).contiguous()
            alpha = None if alpha is None else self.turn.turn(alpha).contiguous()
        # A clip may change its size midway; everything behind the reader relies on one size.
        if pixels.shape[1:] != self.size:
            pixels = resize(pixels, *self.size).clamp_(0, 1)
            alpha = None if alpha is None else resize(alpha, *self.size).clamp_(0, 1)
        return Frame(
            pixels,
            self.index,
            self.pts,
            self.time_base,
            self.duration,
            alpha,
            self.quantizer_step,
        )


def _as_tensor(samples: np.ndarray) -> torch.Tensor:
    # What came from another process may lie in memory that is shared, and read-only.
    return torch.from_numpy(samples if samples.flags.writeable else samples.copy())


def _describe_video(
    path: Path, container: InputContainer, identity: str, log: DamageLog, options: ReadOptions
) -> tuple[ClipInfo, list[str], Decoder]:
    name = str(path) if identity else PIPE_NAME
    stream = main_video_stream(container, name, options.stream)
    rate = frame_rate(stream)
    duration_seconds = _duration_seconds(container, stream)
    # Headers of broken files claim years: a file holds no more frames than bytes.
    if duration_seconds and rate and duration_seconds * rate > _max_frames(path):
        duration_seconds = None
    if not options.allow_huge:
        check_size(name, stream.codec_context.width, stream.codec_context.height)
        check_duration(name, duration_seconds)
    decoder = StreamDecoder(container, stream, name, log, options.allow_huge)
    first = decoder.first.frame
    pixel_format = first.format.name
    if identity and (LAYOUTS[nearest_format(pixel_format)].num_channels == 1 or _is_intra(stream)):
        later = sample_formats(path, stream.index, duration_seconds, options.allow_huge)
        if any(lost_by(name, pixel_format) for name in later):
            pixel_format = common_format([pixel_format, *later])
    time_base = Fraction(stream.time_base or 1) if decoder.has_times else 1 / decoder.rate
    info = ClipInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pixel_format=pixel_format,
        color=_color_of(first),
        # Made-up times count frames, so one tick is one frame.
        time_base=time_base,
        average_rate=rate,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio)
        if stream.sample_aspect_ratio
        else None,
        rotation_degrees=first.rotation,
        num_frames_from_header=_frames_from_header(stream, rate, _max_frames(path)),
        duration_seconds_from_header=duration_seconds,
        identity=identity,
        display_matrix=display_matrix(first),
        mastering_display=mastering_display(first),
        light_level=light_level(first),
        stream_index=stream.index,
        shift_seconds=_start_shift(container, decoder.first.pts, time_base),
    )
    notes = [*_stream_notes(container, stream, decoder), *_frame_notes(first)]
    if info.shift_seconds:
        notes.append(
            f"the clip's times begin {float(info.shift_seconds):.3f} s before zero, as where a "
            "recording's clock wraps: all streams are moved to begin at zero"
        )
    return info, notes, decoder


def _describe_pictures(
    path: Path, pictures: list[Path], log: DamageLog, allow_huge: bool
) -> tuple[ClipInfo, list[str], Decoder]:
    decoder = ImageSequenceDecoder(pictures, log, allow_huge)
    first = decoder.first.frame
    height, width = _orientation(first).size(first.height, first.width)
    pixel_format = common_picture_format(pictures, first.format.name)
    info = ClipInfo(
        path=path,
        container="images",
        codec=pictures[0].suffix.lower().removeprefix("."),
        width=width,
        height=height,
        pixel_format=pixel_format,
        color=_color_of(first),
        time_base=1 / decoder.rate,
        average_rate=decoder.rate,
        sample_aspect_ratio=None,
        rotation_degrees=0,
        num_frames_from_header=len(pictures),
        duration_seconds_from_header=float(len(pictures) / decoder.rate),
        identity=image_sequence_identity(pictures),
    )
    shown = (
        f"{len(pictures)} pictures are shown at {IMAGE_SEQUENCE_FPS} a second: pictures carry "
        "no time of their own"
    )
    notes = [shown, *_frame_notes(first)]
    if pixel_format != first.format.name:
        notes.append(
            f"the first picture is stored as {first.format.name}, others hold more: all are read "
            f"as {pixel_format}"
        )
    return info, notes, decoder


def _orientation(picture: av.VideoFrame) -> Orientation:
    """Way in which a picture of a sequence is turned: by its own Exif, since a result has one
    orientation for all."""
    return Orientation.from_matrix(display_matrix(picture))


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


def _is_intra(stream: VideoStream) -> bool:
    """Tell whether each picture of a stream may have a form of its own."""
    return stream.codec_context.codec.canonical_name in PICTURE_CODECS


def _frames_from_header(stream: VideoStream, rate: Fraction | None, most: float) -> int | None:
    """Number of frames by the header; of a clock that ticks faster than frames come, its share."""
    if not 0 < stream.frames <= most:
        return None
    if rate and stream.average_rate:
        return max(1, round(stream.frames * min(rate / stream.average_rate, Fraction(1))))
    return stream.frames


def _start_shift(container: InputContainer, first_pts: int | None, time_base: Fraction) -> Fraction:
    """Seconds, in whole ticks, by which times move so that none lies before zero.

    Neither Matroska nor players of MP4 show a frame there. Sound that begins earlier than its
    picture, by the priming of its encoder, counts only where there is no such thing.
    """
    begins = [Fraction(0), *([] if first_pts is None else [first_pts * time_base])]
    if container.format.name in JOINABLE_FORMATS and container.start_time is not None:
        begins.append(Fraction(container.start_time, av.time_base))
    return math.ceil(-min(begins) / time_base) * time_base


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
            "copied as they are; --stream N chooses another"
        )
    if decoder.num_leading_packets:
        notes.append(
            f"{decoder.num_leading_packets} packets come before the first keyframe: what they show "
            "needs pictures that are not in the clip"
        )
    if not decoder.has_times:
        rate = float(decoder.rate)
        notes.append(
            f"the file stores no timestamps: they are generated for {rate:.6g} frames a second, "
            "an estimate"
        )
    return notes


def _choose_deinterlacing(asked: Deinterlacing, fields: FieldStatistics) -> Deinterlacing:
    """Resolve `auto`, which believes what is seen and not what the stream claims."""
    if asked != "auto":
        return asked
    return "frame" if fields.interlaced else "off"


def _retimed(info: ClipInfo, mode: Deinterlacing) -> ClipInfo:
    """Describe a clip whose number of frames deinterlacing changes."""
    ratio = FRAME_RATIO[mode]
    rate, frames = info.average_rate, info.num_frames_from_header
    return replace(
        info,
        time_base=info.time_base / TIME_DIVISOR[mode],
        average_rate=None if rate is None else rate * ratio,
        num_frames_from_header=None if frames is None else int(frames * ratio),
    )


def _field_notes(
    frame: av.VideoFrame, asked: Deinterlacing, mode: Deinterlacing, fields: FieldStatistics
) -> list[str]:
    """Describe how the fields of a clip are treated, and the alternatives."""
    if mode == "frame":
        made = "deinterlaced: one progressive frame for each frame"
        other = "; --deinterlace field makes one for each field" if asked == "auto" else ""
        return [made + other]
    if mode == "field":
        return ["deinterlaced: one progressive frame for each field"]
    if mode == "film":
        return ["3:2 pulldown is undone: five frames become four"]
    if fields.telecined:
        return [
            "the video looks telecined and is upscaled with its combing; --deinterlace film "
            "restores the film's frames, four from each five"
        ]
    if frame.interlaced_frame:
        seen = "" if asked == "off" else " but does not look it"
        return [
            f"the video is marked interlaced{seen}; it is upscaled as it is, marked progressive; "
            "--deinterlace frame makes one frame for each frame, field one for each field"
        ]
    return []


def _frame_notes(frame: av.VideoFrame) -> list[str]:
    return [f"dropped: {lost}" for lost in lost_side_data(frame)]
