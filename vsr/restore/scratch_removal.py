"""Removal of scratches: what lies behind them comes from other frames, or from both sides.

Each way is tried beside the scratch first, where the truth is seen. Row by row the one that errs
least is taken, and none where it errs by much of what the scratch covers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from vsr.image.luma import luma
from vsr.image.motion import BoolArray, FloatArray
from vsr.restore.scratches import (
    PROFILE_PX,
    SPANS,
    SceneMotion,
    Scratch,
    active_rows,
    find_scratches,
    painted_over,
)

PROBE_FRAMES = 24
"""Frames looked at, from a shot's start: the scene must move by some pixels in them."""
BLOCK_FRAMES = 16
"""Frames that are cleaned together."""
REACH = 8
"""Frames before and after these in which scratches are looked for as well, and from which the scene
behind them is taken."""
GOOD_LEVELS = 2.0
"""Error beside a scratch at which no better way is looked for."""
MAX_ERROR_LEVELS, MAX_ERROR_SHARE = 4.0, 0.5
"""Largest error beside a scratch with which it is repaired: in gray levels, or over what the
scratch covers there."""
STRIP_PX = 96
"""Columns on either side of a scratch in which the motion behind it is looked for."""
FIT_WINDOW, MIN_FIT_SHARE = (25, 9), 0.15
"""Columns and rows in which the error is measured, and the share of them that must be free."""
REPAIR_LEVELS = 3.0
"""Least difference of a pixel that is replaced, in gray levels."""
INNER_ERRORS, RIM_ERRORS = 2.0, 6.0
"""Least difference over the error of what is put there, beside a scratch's middle and at its rim:
there a clean pixel is likelier."""
SMOOTH_ROWS = 5
"""Rows among which most decide whether a scratch is repaired: it is not left in dashes."""
ACROSS = np.ones((1, 2 * PROFILE_PX + 1), np.uint8)
"""Window as wide as a scratch."""


class ScratchRemoval:
    """Removes the scratches of the pictures of one shot."""

    def __init__(self) -> None:
        self.scratches_removed = 0
        self.pixels_removed = 0
        self._known: list[Scratch] = []

    def through(self, pictures: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Clean pictures (3, H, W) in gray levels; up to `BLOCK_FRAMES + REACH` frames late, as
        many come out."""
        behind: list[FloatArray] = []
        ahead: list[FloatArray] = []
        for picture in pictures:
            ahead.append(picture)
            if len(ahead) == BLOCK_FRAMES + REACH:
                yield from self._clean(behind, ahead, BLOCK_FRAMES)
                behind = ahead[BLOCK_FRAMES - REACH : BLOCK_FRAMES]
                del ahead[:BLOCK_FRAMES]
        if ahead:
            yield from self._clean(behind, ahead, len(ahead))

    def _clean(
        self, behind: Sequence[FloatArray], ahead: Sequence[FloatArray], count: int
    ) -> Iterator[FloatArray]:
        """Clean the first `count` pictures of those ahead."""
        pictures = [*behind, *ahead]
        known = self._known
        found = find_scratches(pictures, known)
        self.scratches_removed += sum(
            not any(each.goes_on_in(scratch) for each in known) for scratch in found
        )
        # The next pictures begin where these are `REACH` before their end.
        shared = len(behind) + count - REACH
        self._known = [replace(each, columns=each.columns[shared:]) for each in found]
        if not found:
            yield from ahead[:count]
            return
        strips = list(_strips(pictures, found))
        for index in range(len(behind), len(behind) + count):
            cleaned = pictures[index].copy()
            for columns, strip in strips:
                cleaned[..., columns], changed = strip.cleaned(index)
                self.pixels_removed += changed
            yield cleaned


def _strips(
    pictures: Sequence[FloatArray], scratches: Sequence[Scratch]
) -> Iterator[tuple[slice, "_Strip"]]:
    """Cut out what lies around the scratches: columns of the pictures, and what is in them."""
    width, rows = pictures[0].shape[-1], active_rows([luma(picture) for picture in pictures])
    groups: list[list[Scratch]] = []
    end = 0
    for scratch in sorted(scratches, key=lambda each: min(each.columns)):
        if groups and min(scratch.columns) - STRIP_PX <= end:
            groups[-1].append(scratch)
        else:
            groups.append([scratch])
        end = max(end, max(scratch.columns) + STRIP_PX)
    for group in groups:
        left = max(0, min(min(each.columns) for each in group) - STRIP_PX)
        right = min(width, max(max(each.columns) for each in group) + STRIP_PX)
        moved = [
            replace(each, columns=tuple(column - left for column in each.columns)) for each in group
        ]
        columns = slice(left, right)
        yield columns, _Strip([picture[..., columns] for picture in pictures], rows, moved)


class _Strip:
    """A part of consecutive pictures whose scratches are known."""

    def __init__(
        self, pictures: Sequence[FloatArray], rows: slice, scratches: Sequence[Scratch]
    ) -> None:
        """`rows` are those between the bars of a letterbox."""
        self._pictures, self._rows, self._scratches = pictures, rows, scratches
        lumas = [luma(picture) for picture in pictures]
        self._shape = lumas[0].shape
        # A pixel more than their width: they are not quite upright, and blurred.
        self._covered = [
            np.logical_or.reduce([self._mask(each, index, 1) for each in scratches])
            for index in range(len(pictures))
        ]
        self._painted = [
            painted_over(plane, mask) for plane, mask in zip(lumas, self._covered, strict=True)
        ]

    def _mask(self, scratch: Scratch, index: int, more: int) -> BoolArray:
        return scratch.mask(index, self._rows, self._shape, scratch.half_width + more)

    def cleaned(self, index: int) -> tuple[FloatArray, int]:
        """A picture without its scratches, and how many pixels were changed."""
        now, covered = self._pictures[index], self._covered[index]
        fill = np.stack([painted_over(plane, covered) for plane in now])
        contrast = np.where(covered, np.abs(luma(now) - luma(fill)), 0)
        # Across a scratch the largest, along it the mean: noise on single rows does not count.
        contrast = cv2.blur(cv2.dilate(contrast, ACROSS), (1, FIT_WINDOW[1]))
        error = self._bridging_error(index)
        for direction in (-1, 1):
            fill, error = self._behind(index, direction, fill, error)
        known = error <= np.maximum(MAX_ERROR_LEVELS, MAX_ERROR_SHARE * contrast)
        known = cv2.medianBlur(known.astype(np.uint8), SMOOTH_ROWS) > 0
        signs, errors = self._signs(index)
        # A scratch is lighter, or darker, as a whole: what differs to the other side is none.
        differs = signs * (luma(now) - luma(fill))
        least = np.maximum(REPAIR_LEVELS, errors * np.minimum(error, 255))
        changed = known & (differs > least)
        return np.where(changed, fill, now).astype(np.float32), int(changed.sum())

    def _signs(self, index: int) -> tuple[np.ndarray, FloatArray]:
        """1 on light scratches, -1 on dark ones, else 0; and by how many errors of what is put
        there a pixel must differ."""
        signs = np.zeros(self._shape, np.int8)
        errors = np.zeros(self._shape, np.float32)
        for scratch in self._scratches:
            signs[self._mask(scratch, index, 1)] = 1 if scratch.is_light else -1
            errors[self._mask(scratch, index, 1)] = RIM_ERRORS
            errors[self._mask(scratch, index, 0)] = INNER_ERRORS
            errors[scratch.mask(index, self._rows, self._shape, 0)] = 0
        return signs, errors

    def _behind(
        self, index: int, direction: int, fill: FloatArray, error: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Take what frames before (-1) or after (1) show in place of the scratches where that errs
        less than `fill`, whose `error` is known."""
        for span in SPANS:
            source = index + direction * span
            if span > REACH or not 0 <= source < len(self._pictures):
                break
            if not (error[self._covered[index]] > GOOD_LEVELS).any():
                break
            motion = SceneMotion(self._painted[index], self._painted[source])
            brought = motion.bring(self._pictures[source])
            hidden = motion.bring(self._covered[source].astype(np.float32)) > 0.01
            free = ~self._covered[index] & ~hidden
            difference = self._pictures[index] - brought
            # Frames differ in brightness: what is brought is put on this one's level.
            offset = np.stack([_mean_where(plane, free) for plane in difference])
            shown = cv2.erode((motion.is_known & ~hidden).astype(np.uint8), ACROSS) > 0
            shown &= np.isfinite(offset[0])
            offset = np.where(shown, offset, 0)
            apart = _mean_where(np.abs(difference - offset).mean(axis=0), free)
            apart = self._across(np.where(shown, apart, np.inf), index, self._scratches)
            better = apart < error
            fill = np.where(better, brought + offset, fill)
            error = np.where(better, apart, error)
        return fill, error

    def _bridging_error(self, index: int) -> FloatArray:
        """Measure by how much a place differs from the mean of both sides, as far off as the sides
        of a scratch are; infinite off the scratches."""
        now, covered, painted = self._pictures[index], self._covered[index], self._painted[index]
        error = np.full(self._shape, np.inf, np.float32)
        for scratch in self._scratches:
            reach = scratch.half_width + 2
            sides = [np.roll(now, step, axis=-1) for step in (-reach, reach)]
            free = ~(covered | np.roll(covered, -reach, axis=-1) | np.roll(covered, reach, axis=-1))
            beside = _mean_where(np.abs(now - (sides[0] + sides[1]) / 2).mean(axis=0), free)
            # Simpler than beside where the sides are alike: between them lies nothing else.
            window = np.ones((1, 2 * reach + 3), np.uint8)
            spread = cv2.blur(cv2.dilate(painted, window) - cv2.erode(painted, window), (1, 3))
            error = np.minimum(
                error, self._across(np.minimum(beside, spread / 2), index, [scratch])
            )
        return error

    def _across(self, plane: FloatArray, index: int, scratches: Sequence[Scratch]) -> FloatArray:
        """Values of a plane in the middle of each scratch, on its whole width; infinite elsewhere.

        Half a scratch on a row looks worse than all of it.
        """
        down = np.arange(self._rows.start, self._rows.stop)
        last = self._shape[1] - 1
        values = np.full(self._shape, np.inf, np.float32)
        for scratch in scratches:
            columns = scratch.columns_on(index, self._rows)
            for offset in range(-scratch.half_width - 1, scratch.half_width + 2):
                values[down, (columns + offset).clip(0, last)] = plane[down, columns.clip(0, last)]
        return values


def _mean_where(plane: FloatArray, where: BoolArray) -> FloatArray:
    """Mean around each place of some pixels of a plane (H, W); infinite where these are few."""
    weight = cv2.blur(where.astype(np.float32), FIT_WINDOW)
    total = cv2.blur(np.where(where, plane, np.float32(0)), FIT_WINDOW)
    means: FloatArray = np.where(
        weight > MIN_FIT_SHARE, total / np.maximum(weight, np.float32(1e-6)), np.float32(np.inf)
    )
    return means
