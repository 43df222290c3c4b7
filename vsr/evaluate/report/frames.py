"""Pictures of the page: all versions are read together, once, and only what is shown is kept."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vsr.evaluate.images import RgbImage, to_rgb_image
from vsr.evaluate.report.content import Role, Version, compared_versions
from vsr.evaluate.report.moments import (
    EMPTY_BOX,
    Box,
    Moment,
    Plane,
    busiest_box,
    busiest_column,
    difference,
)
from vsr.image.resample import resize
from vsr.progress import FrameProgress
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import open_clip

CROP_PX = 192
"""Side of the part that is shown in a loop."""
MAX_HEIGHT_PX, MAX_WIDTH_PX = 1080, 1920
"""Size of a frame that is shown whole; of a larger one the part of this size is shown in which the
versions differ most."""
MISSING_GRAY = 128

RgbImages = NDArray[np.uint8]

CropFn = Callable[[Frame | None], RgbImage]
"""Makes the picture of one version's frame that lies on those of the others."""


@dataclass(eq=False)
class MomentFrames:
    """Pictures of one moment, for each of V versions. What is missing is gray."""

    moment: Moment
    seconds: float = 0.0
    box: Box = EMPTY_BOX
    """Part of the whole frame that the loop shows, chosen on its first one."""
    column: Box = EMPTY_BOX
    """Part of the whole frame that the x-t picture shows, chosen on its first one."""
    shown: Box = EMPTY_BOX
    """The part of the frame that `pictures` hold."""
    pictures: list[RgbImage] = field(default_factory=list)
    loops: RgbImages = field(default_factory=lambda: _gray_image(0))
    """Pictures of the loop, (V, frames, height, width, 3)."""
    slices: RgbImages = field(default_factory=lambda: _gray_image(0))
    """x-t pictures, (V, height, frames, 3)."""


@dataclass(frozen=True, eq=False)
class ReportFrames:
    """Pictures and times of a page."""

    samples: list[MomentFrames]
    seconds: list[float]
    """Presentation time of every frame of the leading version."""


def collect_frames(
    versions: Sequence[Version],
    leader: int,
    moments: Sequence[Moment],
    progress: FrameProgress | None = None,
) -> ReportFrames:
    """Read all versions to the leader's end; `progress` is told how many frames are read, and of
    how many.

    Raises InputError where one cannot be read.
    """
    samples = [MomentFrames(moment) for moment in moments]
    seconds: list[float] = []
    with ExitStack() as stack:
        readers = [stack.enter_context(open_clip(version.source)) for version in versions]
        crop_functions = _crop_functions(versions, [reader.info for reader in readers])
        clips = [reader.frames() for reader in readers]
        partners = [version.pairing(clip) for version, clip in zip(versions, clips, strict=True)]
        for frame in clips[leader]:
            together = [
                frame if place == leader else partner(frame)
                for place, partner in enumerate(partners)
            ]
            seconds.append(frame.seconds)
            if progress is not None:
                progress(len(seconds), readers[leader].info.num_frames_from_header)
            waiting_samples = [
                sample for sample in samples if _is_needed(sample.moment, frame.index)
            ]
            if waiting_samples:
                pictures = [
                    picture(one) for picture, one in zip(crop_functions, together, strict=True)
                ]
                for sample in waiting_samples:
                    _store(sample, frame, pictures, versions)
    return ReportFrames([sample for sample in samples if sample.pictures], seconds)


def _is_needed(moment: Moment, frame: int) -> bool:
    return frame == moment.frame or frame in moment.loop or frame in moment.time_slice


def _crop_functions(versions: Sequence[Version], clips: Sequence[ClipInfo]) -> list[CropFn]:
    """Make the functions that lay the pictures of all versions on each other, over the part that
    all of them have."""
    results = [
        info for version, info in zip(versions, clips, strict=True) if version.role is Role.RESULT
    ]
    sizes = [
        (results[0].height, results[0].width)
        if version.role is Role.ENLARGED
        else (info.height, info.width)
        for version, info in zip(versions, clips, strict=True)
    ]
    height = min(
        size[0] - version.crop_top_px for version, size in zip(versions, sizes, strict=True)
    )
    width = min(
        size[1] - version.crop_left_px for version, size in zip(versions, sizes, strict=True)
    )
    parts = [Box(version.crop_top_px, version.crop_left_px, height, width) for version in versions]
    return [partial(_picture, *whole_and_part) for whole_and_part in zip(sizes, parts, strict=True)]


def _picture(size: tuple[int, int], part: Box, frame: Frame | None) -> RgbImage:
    """Cut a part of a frame, enlarged to (height, width) = `size`; gray where there is none."""
    if frame is None:
        return _gray_image(part.height, part.width, 3)
    pixels = frame.pixels if frame.pixels.shape[1:] == size else resize(frame.pixels, *size)
    return part.of(to_rgb_image(pixels))


def _difference(pictures: Sequence[RgbImage], versions: Sequence[Version]) -> Plane:
    return difference([pictures[place] for place in compared_versions(versions)])


def _store(
    sample: MomentFrames, frame: Frame, pictures: Sequence[RgbImage], versions: Sequence[Version]
) -> None:
    """Keep what a moment shows of one frame, whose `pictures` are those of all versions."""
    # Room is made once for all frames: small pieces between freed frames would keep their memory
    # from reuse.
    loop, time_slice = sample.moment.loop, sample.moment.time_slice
    if frame.index == loop.start:
        box = sample.box = busiest_box(_difference(pictures, versions), CROP_PX, CROP_PX)
        sample.loops = _gray_image(len(pictures), len(loop), box.height, box.width, 3)
    if frame.index == time_slice.start:
        column = sample.column = busiest_column(_difference(pictures, versions), CROP_PX)
        sample.slices = _gray_image(len(pictures), column.height, len(time_slice), 3)
    if frame.index == sample.moment.frame:
        sample.seconds = frame.seconds
        sample.shown = busiest_box(_difference(pictures, versions), MAX_HEIGHT_PX, MAX_WIDTH_PX)
        sample.pictures = [sample.shown.of(picture) for picture in pictures]
    for place, picture in enumerate(pictures):
        if frame.index in loop:
            sample.loops[place, frame.index - loop.start] = sample.box.of(picture)
        if frame.index in time_slice:
            sample.slices[place, :, frame.index - time_slice.start] = sample.column.of(picture)[
                :, 0
            ]


def _gray_image(*shape: int) -> RgbImages:
    return np.full(shape, MISSING_GRAY, np.uint8)
