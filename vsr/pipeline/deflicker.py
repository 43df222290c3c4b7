"""Flicker control for a video that another upscaler made."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from vsr.engine.options import choose_device
from vsr.errors import InputError, UsageError
from vsr.files import check_output
from vsr.image.resample import resize
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.pipeline.resume import GIVEN, resume_plan, resumed_from
from vsr.pipeline.run import NoteLog, record
from vsr.pipeline.stages import Stages
from vsr.progress import Listener
from vsr.video.align import Timeline
from vsr.video.align.time_map import (
    BRIEF_FINGERPRINT_FRAMES,
    TimeMap,
    guess_time_map,
    take_fingerprint,
)
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader, open_clip
from vsr.video.writer import ClipWriter, WorkOptions

MAX_SOURCE_RMSE = 0.15
"""Root mean square difference between a source and its reduced enlargement that no upscaler
explains (16 dB)."""


def steady(
    result: str | Path,
    low_resolution: str | Path,
    output: str | Path,
    *,
    recipe: Recipe = Recipe(),
    reference: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = Listener(),
    work: WorkOptions = WorkOptions(),
) -> Manifest:
    """Keep `result` steady along the motion of `low_resolution`, which it was made from, and write
    it to `output`.

    Frames are matched by time; the streams of `result` are kept. Of the recipe, what concerns
    policies is not used but the weight of the back-projection. Raises a `VsrError` for what a user
    can mend.
    """
    if "-" in (str(result), str(low_resolution)):
        raise UsageError(
            "RESULT and LR are each read twice, which standard input cannot be: name files."
        )
    check_output(output, [low_resolution, reference])
    recipe = replace(recipe, policy=GIVEN)
    clock = StageClock()
    device = choose_device(recipe.device)
    with ExitStack() as stack:
        stamps = _clock(result, low_resolution)
        reader = stack.enter_context(open_clip(result))
        source = stack.enter_context(open_clip(low_resolution))
        info = reader.info
        others = {"low_resolution": low_resolution, "reference": reference}
        plan = resume_plan(info, recipe, device, [], others, Path(output).suffix)
        writer = stack.enter_context(
            ClipWriter(
                output, info, info.height, info.width, recipe.encode, overwrite, device, plan, work
            )
        )
        notes = NoteLog(listener)
        notes.notify_all([*reader.notes, *source.notes, *writer.notes])
        resumed = resumed_from(writer.work)
        given = GivenPictures(reader, source, stamps, device, resumed.frames_done - 1)
        stages = Stages(recipe, given.sources, given.policy, device, notes.notify, resumed)
        manifest = record(
            stages, reader, writer, str(output), recipe, reference, notes, clock, device, resumed
        )
        damage = [f"{low_resolution}: {damage}" for damage in source.damage]
        return replace(
            manifest, damage=[*manifest.damage, *damage], notes=[*manifest.notes, *given.notes()]
        )


def _clock(result: str | Path, low_resolution: str | Path) -> TimeMap:
    """How the times of one become those of the other."""
    surveys = []
    for clip in (result, low_resolution):
        with open_clip(clip) as reader:
            rate = reader.info.average_rate
            surveys.append(
                take_fingerprint(
                    reader.frames(), BRIEF_FINGERPRINT_FRAMES, None if rate is None else float(rate)
                )
            )
    return guess_time_map(*surveys)


class GivenPictures:
    """A result and its source as the stages want them: frames, and a policy that enlarges them."""

    def __init__(
        self,
        result: ClipReader,
        source: ClipReader,
        clock: TimeMap,
        device: torch.device,
        first_needed: int,
    ) -> None:
        """Of frames before `first_needed` the pictures are not held."""
        self._result, self._source = result, source
        self._clock = clock
        self._device = device
        self._first_needed = first_needed
        self._waiting: deque[Frame] = deque()
        self._alone: list[int] = []

    def sources(self) -> Iterator[Frame]:
        """For each frame of the result, its source at the result's time.

        Where the source has no frame, the result's own is reduced. Raises `InputError` where the
        two do not belong together.
        """
        timeline = Timeline(self._source.frames())
        size = (self._source.info.height, self._source.info.width)
        for large in self._result.frames():
            low = timeline.pop_nearest(self._clock.to_other(large.seconds))
            reduced = resize(large.pixels, *size)
            if low is None:
                self._alone.append(large.index)
            elif large.index == 0:
                self._check(reduced, low.pixels)
            if large.index >= self._first_needed:
                self._waiting.append(large)
            yield replace(large, pixels=reduced.clamp(0, 1) if low is None else low.pixels)

    def policy(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The result's frames for these sources; one that is not needed stands for itself."""
        for frame in frames:
            if frame.index < self._first_needed:
                yield frame
                continue
            large = self._waiting.popleft()
            yield replace(large, pixels=large.pixels.to(self._device))

    def notes(self) -> list[str]:
        """What the user ought to know of the two clips, once they are read."""
        if not self._alone:
            return []
        count, path = len(self._alone), self._source.info.path
        return [
            f"{count} frames, the first of them {self._alone[0]}, have no source at their time in "
            f"{path}"
        ]

    def _check(self, reduced: torch.Tensor, low: torch.Tensor) -> None:
        result, source = self._result.info, self._source.info
        if result.width < source.width or result.height < source.height:
            raise InputError(
                f"{result.path} is {result.width}x{result.height}, smaller than {source.path} with "
                f"{source.width}x{source.height}: name the enlarged clip first, its source with "
                "--low-resolution."
            )
        if float((reduced - low).square().mean().sqrt()) > MAX_SOURCE_RMSE:
            raise InputError(
                f"{result.path} does not show what {source.path} shows: name the clip that it was "
                "made from."
            )
