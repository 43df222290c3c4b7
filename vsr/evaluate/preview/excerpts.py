"""Moments of a clip that tell most about a result, and the frames around them.

A small clip is read whole, and its shots are known. Of a large one only glances are taken, at
keyframes spread over its length, so that the time does not grow with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from vsr.errors import InputError, UsageError
from vsr.evaluate.report.moments import Box, Plane, busiest_box
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import ClipReader, ReadOptions, open_clip
from vsr.video.shots import split_shots

MAX_READ_PIXELS = 100_000_000
"""Pixels of all frames of a clip that is read whole, several times over."""
NUM_GLANCES = 24
GLANCE_FRAMES = 2
EXCERPT_FRAMES = 12
WINDOW_PX = (120, 160)
"""Height and width of the part of the picture that is shown, in pixels of the source."""
MATERIAL_PX = (240, 320)
"""Those of the part around it that models of a large clip are trained on."""
CODED_BLOCK_PX = 8
"""Windows begin at multiples of this, so that blocks of a codec lie as in the clip."""
MIN_CONTRAST = 0.02
"""Standard deviation of brightness below which there is nothing to see."""


@dataclass(frozen=True)
class Look:
    """Appearance of one frame, in a few numbers."""

    seconds: float
    shot: int
    """Number of its shot; of a glance its own number."""
    detail: float
    """Mean absolute difference of neighboring pixels of gray, in [0, 1] units."""
    motion: float
    """Mean absolute difference from the frame before, in [0, 1] units; 0 at the start of a shot."""
    brightness: float
    contrast: float


@dataclass(frozen=True)
class Survey:
    """A clip as it was looked at."""

    info: ClipInfo
    looks: tuple[Look, ...]
    is_whole: bool
    """True where every frame was looked at, and shots are known."""
    num_frames: int | None
    """Counted, or by the header; None where that does not say."""
    damage: tuple[str, ...] = ()

    @property
    def num_shots(self) -> int | None:
        """Number of shots, where it is known."""
        return self.looks[-1].shot + 1 if self.is_whole else None


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A few frames in a row, and the part of them that is shown."""

    reason: str
    shot: int
    """Number of the shot; of a clip that was not read whole the number of a glance."""
    frames: tuple[Frame, ...]
    """Frames that hold the material around the window, in order."""
    window: Box
    """The part of these frames that is shown."""
    interest: Plane
    """Detail and motion within the window, (height, width)."""
    reading_seconds: float
    """Time that a whole frame took to be read."""

    def windows(self) -> list[Frame]:
        """Cut the frames to the window."""
        return [_cut(frame, self.window) for frame in self.frames]


def survey_clip(clip: str | Path, read: ReadOptions) -> Survey:
    """Look at a clip, all of it where it is small. Raises InputError, and UsageError for a pipe or
    a single picture."""
    if str(clip) == "-":
        raise UsageError("a preview reads the clip several times, so it cannot be a pipe.")
    with open_clip(clip, read) as reader:
        info, count = reader.info, _frames_by_header(reader.info)
        if info.is_still:
            raise UsageError(f"{clip} is one picture, which has no moments; vsr run enlarges it.")
        if count is not None and count * info.width * info.height <= MAX_READ_PIXELS:
            looks = tuple(_look_at_all(reader))
            if not looks:
                raise InputError(f"{clip} has no frame that can be decoded.")
            damage = tuple(map(str, reader.damage))
            return Survey(info, looks, True, len(looks), damage)
    return Survey(info, tuple(_glance(clip, read, info)), False, count)


def choose_looks(survey: Survey) -> list[tuple[str, Look]]:
    """Choose the moments of most detail, of most motion and the darkest, apart from each other
    where the clip is long enough."""
    gap = EXCERPT_FRAMES if survey.is_whole else 1
    free = list(range(len(survey.looks)))
    gap = max(1, min(gap, len(free) // 4))
    chosen: list[tuple[str, Look]] = []
    scores: dict[str, Callable[[Look], float]] = {
        "the most detail": lambda look: look.detail,
        "the most motion": lambda look: look.motion,
        "the darkest part": lambda look: -look.brightness,
    }
    for reason, score in scores.items():
        visible = [at for at in free if survey.looks[at].contrast >= MIN_CONTRAST]
        if not visible and chosen:
            break
        visible = visible or free
        best = max(visible, key=[score(look) for look in survey.looks].__getitem__)
        chosen.append((reason, survey.looks[best]))
        free = [at for at in free if abs(at - best) >= gap]
    return sorted(chosen, key=lambda one: one[1].seconds)


def looks_at(survey: Survey, times: Sequence[float]) -> list[tuple[str, Look]]:
    """Find the frames at times that a user named. Raises UsageError beyond the clip's end."""
    end = survey.looks[-1].seconds
    if not survey.is_whole:
        end = survey.info.duration_seconds_from_header or end
    found = []
    for seconds in sorted(times):
        if not 0 <= seconds <= end:
            raise UsageError(
                f"--at {seconds:g} is not in the clip; expected 0 to {end:.2f} seconds."
            )
        look = min(survey.looks, key=lambda look: abs(look.seconds - seconds))
        found.append(
            ("chosen by --at", look if survey.is_whole else replace(look, seconds=seconds))
        )
    return found


def read_excerpt(
    clip: str | Path, read: ReadOptions, survey: Survey, chosen: tuple[str, Look], whole: bool
) -> Excerpt:
    """Read the frames around a moment, cut to the part that tells most, unless the `whole` frames
    are wanted. Raises InputError."""
    reason, look = chosen
    if survey.is_whole:
        start_seconds, seconds = 0.0, _first_seconds(survey, look)
    else:
        start_seconds = seconds = look.seconds
    with open_clip(clip, read, start_seconds) as reader:
        # A little earlier, since rounding must not lose the very frame.
        frames = reader.frames(seconds - 1e-6)
        shot = next(split_shots(islice(frames, EXCERPT_FRAMES)), None)
        if shot is None:
            raise InputError(f"{clip} has no frame at {seconds:.2f} s that can be decoded.")
        # The first two are needed whole, to choose what is shown; the others are cut at once.
        first = list(islice(shot.frames, 2))
        interest = _interest(first)
        height, width = interest.shape
        size = (height, width) if whole else WINDOW_PX
        window = _aligned(busiest_box(interest, *size))
        material = Box(0, 0, height, width) if whole else _around(window, height, width)
        began = perf_counter()
        rest = [_cut(frame, material) for frame in shot.frames]
        reading_seconds = (perf_counter() - began) / max(1, len(rest))
        kept = [*(_cut(frame, material) for frame in first), *rest]
    return Excerpt(
        reason,
        look.shot,
        tuple(kept),
        Box(window.top - material.top, window.left - material.left, window.height, window.width),
        np.ascontiguousarray(window.of(interest)),
        reading_seconds,
    )


def _frames_by_header(info: ClipInfo) -> int | None:
    if info.num_frames_from_header:
        return info.num_frames_from_header
    if info.duration_seconds_from_header and info.average_rate:
        return round(info.duration_seconds_from_header * float(info.average_rate))
    return None


def _look_at_all(reader: ClipReader) -> Iterator[Look]:
    for shot in split_shots(reader.frames()):
        before: torch.Tensor | None = None
        for frame in shot.frames:
            gray = frame.pixels.mean(dim=0)
            yield _describe(frame.seconds, shot.index, gray, before)
            before = gray


def _glance(clip: str | Path, read: ReadOptions, info: ClipInfo) -> Iterator[Look]:
    """Look at keyframes spread over a clip, each with the frame after it."""
    duration = info.duration_seconds_from_header or 0.0
    seen: set[float] = set()
    for number in range(NUM_GLANCES):
        start = duration * number / NUM_GLANCES
        with open_clip(clip, read, start) as reader:
            grays = [
                (frame.seconds, frame.pixels.mean(dim=0))
                for frame in islice(reader.frames(), GLANCE_FRAMES)
            ]
        # Several times lie behind one keyframe, or the file cannot be sought in.
        if grays and grays[0][0] not in seen:
            seen.add(grays[0][0])
            before = grays[1][1] if len(grays) > 1 else None
            yield _describe(grays[0][0], len(seen) - 1, grays[0][1], before)


def _describe(seconds: float, shot: int, gray: torch.Tensor, neighbor: torch.Tensor | None) -> Look:
    return Look(
        seconds=seconds,
        shot=shot,
        detail=sum(float(gray.diff(dim=axis).abs().mean()) for axis in (0, 1)),
        motion=0.0 if neighbor is None else float((gray - neighbor).abs().mean()),
        brightness=float(gray.mean()),
        contrast=float(gray.std()),
    )


def _first_seconds(survey: Survey, look: Look) -> float:
    """Return the time of the first of the frames around a frame, all of its shot."""
    shot = [one.seconds for one in survey.looks if one.shot == look.shot]
    first = shot.index(look.seconds) - EXCERPT_FRAMES // 2
    return shot[max(0, min(first, len(shot) - EXCERPT_FRAMES))]


def _interest(frames: Sequence[Frame]) -> Plane:
    """Return the detail of a frame, and its motion where there is a second one, (H, W)."""
    gray = frames[0].pixels.mean(dim=0)
    interest = torch.zeros_like(gray)
    interest[1:] += gray.diff(dim=0).abs()
    interest[:, 1:] += gray.diff(dim=1).abs()
    for other in frames[1:]:
        interest += (other.pixels.mean(dim=0) - gray).abs()
    return interest.numpy()


def _aligned(box: Box) -> Box:
    return replace(
        box, top=box.top - box.top % CODED_BLOCK_PX, left=box.left - box.left % CODED_BLOCK_PX
    )


def _around(window: Box, height: int, width: int) -> Box:
    """Widen a window to the material around it, within a picture of that size."""
    tall, wide = min(MATERIAL_PX[0], height), min(MATERIAL_PX[1], width)
    top = max(0, min(window.top - (tall - window.height) // 2, height - tall))
    left = max(0, min(window.left - (wide - window.width) // 2, width - wide))
    return _aligned(Box(top, left, tall, wide))


def _cut(frame: Frame, box: Box) -> Frame:
    part = frame.pixels[:, box.top : box.top + box.height, box.left : box.left + box.width]
    # A copy: a view would keep the whole frame in memory.
    return replace(frame, pixels=part.clone(), alpha=None)
