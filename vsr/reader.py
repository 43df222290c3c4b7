"""A clip as a stream of frames: constant memory, exact times, and an account of what was damaged."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import torch
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.color import LAYOUTS, nearest_format, read_channels, resolve_matrix, to_rgb
from vsr.errors import InputError
from vsr.frames import ClipInfo, ColorDescription, Frame
from vsr.media.decoding import Damage, DamageLog, Decoder, PictureDecoder, StreamDecoder
from vsr.media.pictures import PICTURES_PER_SECOND, find_pictures, pictures_identity
from vsr.media.sources import (
    PIPE_NAME,
    STANDARD_INPUT,
    clip_identity,
    is_cover_art,
    main_video,
    missing_bytes,
    open_container,
)

__all__ = ["ClipReader", "Damage", "clip_identity", "open_clip"]


def open_clip(source: str | Path) -> "ClipReader":
    """Open a video file, a folder of pictures, a pattern such as `frames/%04d.png`, or `-` for standard input.

    The first frame is decoded at once. Raises InputError where nothing can be read or decoded.
    """
    path = Path(source)
    with ExitStack() as resources:
        log = DamageLog()
        pictures = None if str(source) == STANDARD_INPUT else find_pictures(path)
        if pictures is not None:
            info, notes, decoder = _describe_pictures(path, pictures, log)
        else:
            is_pipe = str(source) == STANDARD_INPUT
            container = resources.enter_context(open_container(sys.stdin.buffer if is_pipe else path))
            if not is_pipe and (missing := missing_bytes(path)):
                log.add("cut_off", f"the file ends {missing} bytes before the end that it states")
            info, notes, decoder = _describe_video(path, container, "" if is_pipe else clip_identity(path), log)
        return ClipReader(info, notes, decoder, log, resources.pop_all())


class ClipReader:
    """An open clip. A context manager; `frames()` may be run through once."""

    def __init__(
        self, info: ClipInfo, notes: list[str], decoder: Decoder, log: DamageLog, resources: ExitStack
    ) -> None:
        self.info = info
        self.notes = notes
        """Sentences that the user should read: what was chosen, made up or left out."""
        self._decoder = decoder
        self._log = log
        self._resources = resources
        self._matrix = resolve_matrix(info.color, info.height)
        self._reformatter = VideoReformatter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def damage(self) -> tuple[Damage, ...]:
        """What was damaged in the part that has been read so far."""
        return self._log.records()

    def frames(self) -> Iterator[Frame]:
        """Every frame in order of presentation, on the CPU; times strictly increase.

        Raises InputError where the frame size changes within the clip.
        """
        time_base = self.info.time_base
        usual_step = max(1, round(1 / (self._decoder.rate * time_base)))
        clock = Clock(usual_step, ticks_per_second=max(1, round(1 / time_base)))
        for index, decoded in enumerate(self._decoder):
            if self._decoder.has_times:
                pts, duration = self._repaired_time(clock, decoded.pts, index), decoded.duration or 0
            else:
                pts, duration = index, 1
            if decoded.is_corrupt:
                self._log.add("corrupt_frames", f"frame {index} at {float(pts * time_base):.3f} s is partly made up")
            self._check_size(decoded, index)
            yield Frame(self._to_pixels(decoded), index, pts, time_base, duration)

    def _repaired_time(self, clock: "Clock", claimed: int | None, index: int) -> int:
        pts, fault = clock.tick(claimed)
        if fault is not None:
            seconds = float(pts * self.info.time_base)
            self._log.add("repaired_timestamps", f"frame {index} has a {fault} time and is shown at {seconds:.3f} s")
        return pts

    def _check_size(self, decoded: av.VideoFrame, index: int) -> None:
        if (decoded.width, decoded.height) != (self.info.width, self.info.height):
            raise InputError(
                f"{self.info.path}: the frame size changes from {self.info.width}x{self.info.height} to "
                f"{decoded.width}x{decoded.height} at frame {index}; split the clip there and upscale the parts"
            )

    def _to_pixels(self, decoded: av.VideoFrame) -> torch.Tensor:
        if decoded.format.name not in LAYOUTS:
            # Palettes, packed YUV and the like: to the nearest format whose samples are stored plainly.
            decoded = self._reformatter.reformat(decoded, format=nearest_format(decoded.format.name))
        layout = LAYOUTS[decoded.format.name]
        return to_rgb(read_channels(decoded, layout), layout, self._matrix, _is_full_range(decoded))


class Clock:
    """Makes presentation times strictly increase and changes as few of them as it can."""

    def __init__(self, usual_step: int, ticks_per_second: int) -> None:
        self._step = usual_step
        self._ticks_per_second = ticks_per_second
        self._last: int | None = None
        self._shift = 0

    def tick(self, pts: int | None) -> tuple[int, str | None]:
        """The time for a frame that claims `pts`, and what was wrong with the claim: None, or an adjective."""
        if self._last is None:
            self._last = pts or 0
            return self._last, "missing" if pts is None else None
        if pts is None:
            self._last += self._step
            return self._last, "missing"
        claimed = pts + self._shift
        if claimed > self._last:
            self._step = claimed - self._last
            self._last = claimed
            return claimed, None
        if self._last - claimed > self._ticks_per_second:
            # The times start again, as in recordings that were joined: all that follow move along.
            self._shift += self._last + self._step - claimed
            self._last += self._step
            return self._last, "restarted"
        fault = "duplicate" if claimed == self._last else "backward"
        # Half a step leaves room before the next frame, whose own time is probably right.
        self._last += max(self._step // 2, 1)
        return self._last, fault


def _describe_video(
    path: Path, container: InputContainer, identity: str, log: DamageLog
) -> tuple[ClipInfo, list[str], Decoder]:
    name = str(path) if identity else PIPE_NAME
    stream = main_video(container, name)
    decoder = StreamDecoder(container, stream, name, log)
    first = decoder.first
    average_rate = stream.average_rate
    info = ClipInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        color=_color_of(first),
        time_base=Fraction(stream.time_base or 1) if decoder.has_times else 1 / decoder.rate,
        average_rate=Fraction(average_rate) if average_rate else None,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio) if stream.sample_aspect_ratio else None,
        rotation_degrees=first.rotation,
        num_frames_from_header=stream.frames or None,
        duration_seconds_from_header=_duration_seconds(container, stream),
        identity=identity,
    )
    return info, [*_stream_notes(container, stream, decoder), *_frame_notes(first)], decoder


def _describe_pictures(path: Path, pictures: list[Path], log: DamageLog) -> tuple[ClipInfo, list[str], Decoder]:
    decoder = PictureDecoder(pictures, log)
    first = decoder.first
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
        identity=pictures_identity(pictures),
    )
    shown = f"{len(pictures)} pictures are shown at {PICTURES_PER_SECOND} a second: pictures carry no time of their own"
    return info, [shown, *_frame_notes(first)], decoder


def _color_of(frame: av.VideoFrame) -> ColorDescription:
    return ColorDescription(frame.colorspace, frame.color_primaries, frame.color_trc, _is_full_range(frame))


def _is_full_range(frame: av.VideoFrame) -> bool:
    """By tag; without one RGB, grey and the yuvj formats are full range by convention."""
    if frame.color_range in (1, 2):
        return frame.color_range == 2
    return frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya", "pal"))


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _stream_notes(container: InputContainer, stream: VideoStream, decoder: Decoder) -> list[str]:
    notes = []
    moving = [other for other in container.streams.video if not is_cover_art(other)]
    if len(moving) > 1:
        notes.append(
            f"{len(moving)} video streams: stream {stream.index} is upscaled, the others are copied as they are"
        )
    if not decoder.has_times:
        rate = float(decoder.rate)
        notes.append(f"the file stores no times: they are made for {rate:.6g} frames a second, its guessed rate")
    if stream.metadata.get("alpha_mode") == "1":
        notes.append("transparency (alpha) is dropped")
    return notes


def _frame_notes(frame: av.VideoFrame) -> list[str]:
    notes = []
    if frame.interlaced_frame:
        notes.append("the video is interlaced: its frames are upscaled with their combs; deinterlace it first")
    if any(component.is_alpha for component in frame.format.components):
        notes.append("transparency (alpha) is dropped")
    if SideData.MASTERING_DISPLAY_METADATA in frame.side_data or SideData.DOVI_METADATA in frame.side_data:
        notes.append("HDR mastering metadata is dropped; the colour tags and the depth are kept")
    return notes
