"""A video that was upscaled elsewhere, beside the source that it was made from."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from vsr.errors import InputError
from vsr.image.resample import resize
from vsr.upscale.policy import Policy, PolicyContext, PolicyStage
from vsr.video.align import Timeline
from vsr.video.align.time_map import (
    BRIEF_FINGERPRINT_FRAMES,
    TimeMap,
    guess_time_map,
    take_fingerprint,
)
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader, ReadOptions, as_result, open_clip
from vsr.video.step import Step

MAX_SOURCE_RMSE = 0.15
"""Root mean square difference between a source and its reduced enlargement that no upscaler
explains (16 dB)."""


@dataclass
class GivenVideo:
    """A result and its source, both open."""

    result: ClipReader
    source: ClipReader
    time_map: TimeMap
    """From the result's times to the source's."""
    unmatched: list[int] = field(default_factory=list)
    """Frames of the result without a source at their time."""

    def pairs(self) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Yield the source of each frame of the result, at the result's time, and the result's
        picture.

        Where the source has no frame, the result's own is reduced. Raises `InputError` where the
        two do not belong together.
        """
        timeline = Timeline(self.source.frames())
        size = (self.source.info.height, self.source.info.width)
        for large in self.result.frames():
            low = timeline.pop_nearest(self.time_map.to_other(large.seconds))
            reduced = resize(large.pixels, *size)
            # Frames without a source are steadied along their own motion.
            if low is None:
                self.unmatched.append(large.index)
            elif large.index == 0:
                self._check_size()
                check_source(
                    large.pixels, low.pixels, str(self.result.info.path), str(self.source.info.path)
                )
            pixels = reduced.clamp(0, 1) if low is None else low.pixels
            # How coarsely the result was coded says nothing of its source.
            step = None if low is None else low.quantizer_step
            yield replace(large, pixels=pixels, quantizer_step=step), large.pixels

    def notes(self) -> list[str]:
        """Tell what the user ought to know of the two clips, once they are read."""
        if not self.unmatched:
            return []
        return [
            f"{len(self.unmatched)} frames, the first of them {self.unmatched[0]}, have no source "
            f"at their time in {self.source.info.path}"
        ]

    def _check_size(self) -> None:
        result, source = self.result.info, self.source.info
        if result.width < source.width or result.height < source.height:
            raise InputError(
                f"{result.path} is {result.width}x{result.height}, smaller than {source.path} with "
                f"{source.width}x{source.height}: name the enlarged clip first, its source with "
                "--low-resolution."
            )


class GivenPairs(GivenVideo):
    """Frames of another program with the pictures that were made of them; no files stand behind
    them."""

    def __init__(self, pairs: Iterable[tuple[Frame, torch.Tensor]]) -> None:
        self._pairs = pairs

    def pairs(self) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Yield the frames with their pictures."""
        yield from self._pairs


def check_source(picture: torch.Tensor, low: torch.Tensor, result: str, source: str) -> None:
    """Raise `InputError` where an enlarged picture does not show what its source (3, h, w) shows;
    the two are called `result` and `source` then."""
    reduced = resize(picture, *low.shape[-2:])
    if float((reduced - low).square().mean().sqrt()) > MAX_SOURCE_RMSE:
        raise InputError(
            f"{result} does not show what {source} shows: name the clip that it was made from."
        )


@contextmanager
def open_given(
    result: str | Path, low_resolution: str | Path, options: ReadOptions
) -> Iterator[GivenVideo]:
    """Open a result and its source. Both are read a little, to match their times, and then anew."""
    # Frames are matched by time, and the times of one may lag or run faster than the other's.
    fingerprints = []
    for clip, read in ((result, as_result(options)), (low_resolution, options)):
        with open_clip(clip, read) as reader:
            rate = reader.info.average_rate
            seconds_rate = None if rate is None else float(rate)
            fingerprints.append(
                take_fingerprint(reader.frames(), BRIEF_FINGERPRINT_FRAMES, seconds_rate)
            )
    with (
        open_clip(result, as_result(options)) as large,
        open_clip(low_resolution, options) as source,
    ):
        yield GivenVideo(large, source, guess_time_map(*fingerprints))


class GivenPictures(PolicyStage):
    """The policy that takes the pictures as they came in."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context.notify)

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass the steps on: their pictures were read together with their sources."""
        return steps


GIVEN = Policy("given", GivenPictures, "a video that another upscaler made", "file")
