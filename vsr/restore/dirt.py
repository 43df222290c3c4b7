"""Dirt and blotches of film, which stand on one frame alone.

A spot is lighter, or darker, than both neighbors along the motion while these agree. What moves
fast looks alike, and so do rain and sparks: they leave such spots on the frames before and after as
well, not far off, or on all frames and always lighter. These are left alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vsr.image.dense_motion import flow_planes, forward_backward_mask
from vsr.image.luma import luma
from vsr.image.motion import (
    DIS_FAST,
    MIN_FAST_SIDE_PX,
    FloatArray,
    GrayArray,
    backward_warp,
    dis_flow,
)

DIRT_LEVELS = 20.0
"""Gray levels by which dirt differs from both neighbors, to the same side, at its middle."""
EDGE_LEVELS = 6.0
"""Difference at its rim."""
RIM_LEVELS, RIM_SHARE = 12.0, 0.3
"""Least difference of a pixel that is replaced, in gray levels and over its spot's own."""
DIRT_BLUR_PX = 1.0
"""Dirt covers some pixels; noise that stands out alone is averaged away."""
SEARCH_PX = 5
"""Side of the window in which neighbors may show as light, or as dark, a pixel as well: motion that
is missed by a little is no dirt."""
MAX_RETURN_PX = 1.0
"""Distance at which a pixel may come back from the neighbors' motion onto each other; beyond, the
motion is not known, and nothing is dirt."""
RING_PX, MAX_RING_LEVELS, MAX_RING_SHARE = 4, 8.0, 0.25
"""Around a spot the neighbors must show what the frame shows, or their motion is not to be believed
in the spot either: the ring's width, and its median difference at most, in gray levels and over the
spot's own."""
RIM_PX = 3
"""Distance from its middle within which a spot's rim is looked for."""
DIRT_PAIRS = 4
MAX_SPOT_SHARE, MAX_FRAME_SHARE = 0.01, 0.03
"""Shares of a frame's pixels, that one spot and all of them may cover: more is a flash or a cut."""
PARTNER_REACH, NEAR_REACH = 0.3, 0.06
"""Distances over the frame's longer side within which the spots of a moving thing are looked for:
on the frames before and after on a line, or on either of the two."""
ON_LINE = 0.2
"""Distance off a straight line, over the distance between the outer two."""
ALIKE_AREA, ALIKE_LEVELS = 2.0, 25.0
"""Ratio of areas, and difference of levels, up to which two spots may be of one thing."""
WEATHER_SHARE, WEATHER_RATIO = 0.75, 4.0
"""Share of the frames that have light spots, and their number over that of dark ones, from which on
they are rain, snow or sparks."""
MAX_SPOTS = 200
"""On one frame: more are no dirt, and are not compared with each other."""


@dataclass(frozen=True)
class Spot:
    """A connected region that stands out on one frame."""

    is_light: bool
    area: int
    row: float
    column: float
    level: float
    """Mean luma, in gray levels."""
    mask: np.ndarray
    """(H, W), true in the region."""

    def is_like(self, other: "Spot") -> bool:
        """Whether the two may be of one thing."""
        larger, smaller = max(self.area, other.area), min(self.area, other.area)
        return (
            self.is_light == other.is_light
            and larger <= ALIKE_AREA * smaller
            and abs(self.level - other.level) <= ALIKE_LEVELS
        )

    def distance_to(self, row: float, column: float) -> float:
        """Distance of its middle from a place, in pixels."""
        return float(np.hypot(self.row - row, self.column - column))


@dataclass(frozen=True)
class FrameSpots:
    """Spots of a frame; none where too much stands out to be dirt."""

    spots: Sequence[Spot] = ()
    is_full_of_light: bool = False
    """Whether too much stands out, and hardly anything of it is dark: heavy rain, or a flash."""


def dirt_share(pictures: Sequence[torch.Tensor]) -> float:
    """Share of the pixels that stand out on one frame alone, mean over some frames."""
    if len(pictures) < 3 or min(pictures[0].shape[-2:]) < MIN_FAST_SIDE_PX:
        return 0.0
    stride = max(1, (len(pictures) - 2) // DIRT_PAIRS)
    lumas = [luma(255 * picture.numpy()) for picture in pictures]
    shares = [
        float(dirt_mask(*lumas[i - 1 : i + 2]).mean()) for i in range(1, len(lumas) - 1, stride)
    ]
    return round(float(np.median(shares)), 6)


def dirt_mask(before: FloatArray, now: FloatArray, after: FloatArray) -> np.ndarray:
    """(H, W), true where `now` is lighter, or darker, than both neighbors along the motion while
    these agree."""
    light, dark = _standing_out(now, *_brought_to(before, now, after))
    mask: np.ndarray = np.maximum(light, dark) > DIRT_LEVELS
    return mask


@dataclass(frozen=True)
class SpotCounts:
    """Light and dark spots on the frames of a shot's start."""

    light: tuple[int, ...] = ()
    dark: tuple[int, ...] = ()
    num_full_of_light: int = 0
    """Frames of these, without any counted spot, that have too many light ones."""

    @property
    def is_weather(self) -> bool:
        """Whether light spots are of rain, snow or sparks: on most frames, and hardly any dark."""
        # Where it rains hard most frames may be too full to have their spots counted.
        full = self.num_full_of_light
        frames = len([count for count in self.light if count]) + full
        often = bool(self.light) and frames >= WEATHER_SHARE * len(self.light)
        return often and sum(self.light) + full > WEATHER_RATIO * sum(self.dark)


def look_for_dirt(pictures: Sequence[FloatArray]) -> tuple[float, SpotCounts]:
    """Count the spots of dirt on pictures (3, H, W) in gray levels: their number on a frame, in the
    mean, and all that stands out on one frame alone."""
    found = [find_spots(*pictures[i - 1 : i + 2]) for i in range(1, len(pictures) - 1)]
    spots = [each.spots for each in found]
    light = tuple(len([spot for spot in each if spot.is_light]) for each in spots)
    dark = tuple(len(each) - count for each, count in zip(spots, light, strict=True))
    counts = SpotCounts(light, dark, sum(each.is_full_of_light for each in found))
    around: list[Sequence[Spot]] = [(), *spots, ()]
    number = sum(
        len(dirt_among(around[i : i + 3], counts, pictures[0].shape)) for i in range(len(spots))
    )
    return round(number / max(1, len(spots)), 3), counts


def dirt_among(
    spots: Sequence[Sequence[Spot]], counts: SpotCounts, shape: tuple[int, ...]
) -> list[Spot]:
    """Tell the spots of a frame that are dirt from those that are rain or move; `spots` are of the
    frame before, of itself and of the frame after."""
    before, now, after = spots
    return [
        spot
        for spot in now
        if not (spot.is_light and counts.is_weather) and not _moves(spot, before, after, shape)
    ]


class DirtRemoval:
    """Removes the dirt of the pictures of one shot."""

    def __init__(self, counts: SpotCounts = SpotCounts()) -> None:
        """`counts` is of the shot's start."""
        self._counts = counts
        self.spots_removed = 0
        self.pixels_removed = 0

    def through(self, pictures: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Clean pictures (3, H, W) in gray levels; two frames late, as many come out.

        The first and the last have one neighbor only, and stay as they are.
        """
        held: list[FloatArray] = []
        # Spots are known for a frame when the next one is, and judged when those of the next are:
        # `spots[k]` is of `held[k - 1]`.
        spots: list[Sequence[Spot]] = []
        for picture in pictures:
            held.append(picture)
            spots.append(find_spots(*held[-3:]).spots if len(held) >= 3 else ())
            if len(held) == 2:
                yield held[0]
            if len(held) == 4:
                yield self._clean(held[:3], spots[1:4])
                del held[0], spots[0]
        if len(held) >= 3:
            yield self._clean(held[-3:], [*spots[-2:], ()])
        if held:
            yield held[-1]

    def _clean(self, pictures: Sequence[FloatArray], spots: Sequence[Sequence[Spot]]) -> FloatArray:
        """Remove the dirt of the second of three pictures, whose spots are the second of three
        lists."""
        before, now, after = pictures
        dirt = dirt_among(spots, self._counts, now.shape)
        if not dirt:
            return now
        cleaned, changed = _filled(before, now, after, dirt)
        self.spots_removed += len(dirt)
        self.pixels_removed += changed
        return cleaned


def find_spots(before: FloatArray, now: FloatArray, after: FloatArray) -> FrameSpots:
    """Find the spots of `now` that neither neighbor has; pictures are (3, H, W) in gray levels."""
    height, width = now.shape[-2:]
    if min(height, width) < MIN_FAST_SIDE_PX:
        return FrameSpots()
    lumas = [luma(picture) for picture in (before, now, after)]
    brought = _brought_to(*lumas)
    planes = _standing_out(lumas[1], *brought)
    light, dark = ((plane > DIRT_LEVELS).mean() for plane in planes)
    too_much = FrameSpots(is_full_of_light=bool(light > WEATHER_RATIO * dark))
    if max(light, dark) > MAX_FRAME_SHARE:
        return too_much
    # A difference over a whole window is surely a spot; the planes above tell how far it goes.
    cores = [
        plane > DIRT_LEVELS for plane in _standing_out(lumas[1], *brought, search_px=SEARCH_PX)
    ]
    if not any(core.any() for core in cores):
        return FrameSpots()
    followed = _is_followed(lumas[0], lumas[2])
    misfit = sum(np.abs(_blurred(lumas[1]) - _blurred(each)) for each in brought) / 2
    found = []
    for plane, seen, is_light in zip(planes, cores, (True, False), strict=True):
        core = (seen & followed).astype(np.uint8)
        if not core.any():
            continue
        # A rim that is touched by dust counts as far as it stands out as well.
        near = cv2.dilate(core, np.ones((2 * RIM_PX + 1,) * 2, np.uint8)) & (plane > EDGE_LEVELS)
        count, labels, stats, centers = cv2.connectedComponentsWithStats(near.astype(np.uint8))
        if count > MAX_SPOTS:
            return too_much
        for label in range(1, count):
            mask = labels == label
            area = int(stats[label, cv2.CC_STAT_AREA])
            # A piece of rim that has no core of its own is no spot.
            if area > MAX_SPOT_SHARE * height * width or not core[mask].any():
                continue
            # The ring begins a pixel off the spot, whose blur reaches out of it.
            inner, outer = (
                cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0
                for reach in (1, 1 + RING_PX)
            )
            allowed = min(MAX_RING_LEVELS, MAX_RING_SHARE * float(plane[mask].mean()))
            if float(np.median(misfit[outer & ~inner])) > allowed:
                continue
            column, row = centers[label]
            level = float(lumas[1][mask].mean())
            found.append(Spot(is_light, area, float(row), float(column), level, mask))
    return FrameSpots(found)


def _moves(
    spot: Spot, before: Sequence[Spot], after: Sequence[Spot], shape: tuple[int, ...]
) -> bool:
    """Whether the frames before and after have spots of the same thing, elsewhere."""
    side = max(shape)
    alike = [[other for other in spots if spot.is_like(other)] for spots in (before, after)]
    near = NEAR_REACH * side
    if any(other.distance_to(spot.row, spot.column) < near for spots in alike for other in spots):
        return True
    for past in alike[0]:
        for future in alike[1]:
            length = past.distance_to(future.row, future.column)
            middle = (past.row + future.row) / 2, (past.column + future.column) / 2
            if length < 2 * PARTNER_REACH * side and spot.distance_to(*middle) < ON_LINE * length:
                return True
    return False


def _filled(
    before: FloatArray, now: FloatArray, after: FloatArray, dirt: Sequence[Spot]
) -> tuple[FloatArray, int]:
    """Replace spots of `now` by what both neighbors show there; also how many pixels that were."""
    around = [cv2.dilate(spot.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for spot in dirt]
    # Dirt leads flow astray: it is painted over first, roughly.
    views = [_view(luma(picture)) for picture in (before, now, after)]
    views[1] = cv2.inpaint(views[1], np.max(around, axis=0), 3, cv2.INPAINT_TELEA)
    past = backward_warp(before, dis_flow(views[1], views[0], DIS_FAST))
    future = backward_warp(after, dis_flow(views[1], views[2], DIS_FAST))
    fill = (past + future) / 2
    difference = np.abs(now - fill).max(axis=0)
    replaced = np.zeros(difference.shape, bool)
    for spot, near in zip(dirt, around, strict=True):
        # Spots were found in a blurred picture and are wider there: clean pixels at the rim stay.
        contrast = float(np.quantile(difference[spot.mask], 0.9))
        replaced |= (near > 0) & (difference > max(RIM_LEVELS, RIM_SHARE * contrast))
    return np.where(replaced, fill, now).astype(np.float32), int(replaced.sum())


def _brought_to(
    before: FloatArray, now: FloatArray, after: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Both neighbors of a luma as it would show them."""
    views = [_view(plane) for plane in (before, now, after)]
    past = backward_warp(before, dis_flow(views[1], views[0], DIS_FAST))
    future = backward_warp(after, dis_flow(views[1], views[2], DIS_FAST))
    return past, future


def _is_followed(before: FloatArray, after: FloatArray) -> np.ndarray:
    """Where the motion between the two neighbors is known, (H, W); dirt of the frame in the middle
    does not disturb it. The place on the one stands for that in the middle."""
    views = _view(before), _view(after)
    there = flow_planes(dis_flow(views[0], views[1], DIS_FAST))
    back = flow_planes(dis_flow(views[1], views[0], DIS_FAST))
    known = forward_backward_mask(there, back, MAX_RETURN_PX).numpy()
    # Eroded, since the frame in the middle shows it half the motion off.
    followed: np.ndarray = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return followed


def _standing_out(
    now: FloatArray, past: FloatArray, future: FloatArray, search_px: int = 1
) -> tuple[FloatArray, FloatArray]:
    """By how many levels `now` is lighter, and darker, than both within a window of `search_px`; 0
    where these two do not agree."""
    own, past, future = (_blurred(plane) for plane in (now, past, future))
    window = np.ones((search_px, search_px), np.uint8)
    agree = np.abs(past - future) < DIRT_LEVELS / 2
    light = np.where(agree, own - cv2.dilate(np.maximum(past, future), window), 0)
    dark = np.where(agree, cv2.erode(np.minimum(past, future), window) - own, 0)
    return light, dark


def _blurred(plane: FloatArray) -> FloatArray:
    blurred: FloatArray = cv2.GaussianBlur(plane, (0, 0), DIRT_BLUR_PX)
    return blurred


def _view(plane: FloatArray) -> GrayArray:
    levels: GrayArray = np.rint(cv2.GaussianBlur(plane, (0, 0), 1.2)).clip(0, 255).astype(np.uint8)
    return levels
