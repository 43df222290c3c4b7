"""Scratches of film: thin upright lines that keep their column while the scene moves behind them.

A wire or a pole moves with the scene, and before a still scene nothing tells it from a scratch. So
a line is a scratch only where the scene provably moves behind it while hardly anything else in the
picture keeps its place. Lines that end within the picture are window frames; lines of one level all
over, and lines between two pictures, were drawn. All these stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vsr.image.dense_motion import flow_planes, forward_backward_mask
from vsr.image.luma import luma
from vsr.image.motion import (
    DIS_FAST,
    MIN_FAST_SIDE_PX,
    BoolArray,
    FloatArray,
    backward_warp,
    dis_flow,
)

MIN_FRAMES = 8
"""Frames without which nothing is proven."""
LINE_LEVELS = 5.0
"""Gray levels by which a line differs from both its sides, to the same side."""
SIDE_PX = 3, 4
"""Distances at which its sides are read: a line of 3 pixels, with its blur, lies between."""
EDGE_PX = 5
"""Columns at the picture's sides in which no line is looked for: they have one side alone."""
BLACK, MIN_LIT = 24.0, 0.25
"""Level of black, and share of a row's pixels that exceed it; in the bars of a letterbox fewer
do."""
BANDS = 24
"""Parts of the height in which a line is looked for by itself."""
MAX_SLANT = 1 / 60
"""Columns by which a line departs from the upright to either side, over the height."""
RIDGE_PX = 7
"""Columns among which a line stands out most in its middle."""
MAX_STRENGTH = 60.0
"""Gray levels beyond which a line does not stand out more."""
MIN_SEEN, MIN_WHOLE_SEEN = 0.55, 0.75
"""Share of the height on which a line is seen: on one frame, and in the mean over frames. Clean
clips have no line of more than .72, and most scratches have .8."""
MIN_BAND_SEEN, MIN_BANDS = 0.35, 0.75
"""Share of a band on which a line is seen, and share of the bands that have as much."""
END_BANDS, MIN_END_SEEN = 2, 0.4
"""Bands at the top and at the bottom, and the share of either on which a line is seen."""
MAX_STEP_PX, MAX_GAP, MIN_FRAMES_SEEN = 2, 2, 0.75
"""Columns by which a line is displaced from one frame to the next, frames in a row that may not
show it, and the share of the frames that must."""
MAX_DRIFT_PX, MAX_WEAVING_PX = 0.25, 1.2
"""Columns a frame by which a scratch drifts, and the standard deviation of its column besides."""
MIN_VARIATION = 8.0
"""Gray levels by which a scratch changes along its height and from frame to frame, from the tenth
percentile to the ninetieth; what changes less is painted or drawn."""
MIN_PARTING_LEVELS, PARTING_RATIO = 10.0, 2.0
"""Mean difference between both sides of a line from which on it parts two pictures: in gray levels,
and over that of places as far from each other elsewhere."""
MAX_LINES = 8
"""Lines at once; more are a fence."""
SPANS = 1, 2, 4, 8, 16
"""Frames between two that are compared."""
MAX_PAIRS = 8
CLEAR_PX = 2.5
"""Motion across a line that takes a place behind it out of it."""
MAX_FOLLOWING = 0.3
"""Motion of a line over that of the scene behind it: a pole before a scene that drives by is as
fast or faster."""
PROOF_LEVELS, PROOF_RATIO = 1.5, 0.7
"""Gain in fit of two frames by following the motion, where the scene surely moves: a difference in
gray levels, and a ratio."""
PROOF_WINDOW = 13, 13
STILL_PX, TEXTURE_LEVELS = 0.7, 2.0
"""Motion below which a place stays with a line, and the mean step from pixel to pixel from which on
it shows whether it does."""
MAX_STILL = 0.2
"""Share of a picture's texture that may keep its place along with a scratch."""
MIN_PROVEN = 0.25
"""Share of the height on which the scene must provably move behind a scratch."""
MIN_STAYING, MAX_CARRIED = 0.75, 0.4
"""Share of these rows on which another frame shows the line in its own column, and share on which
it shows one where the scene has moved to."""
PROFILE_PX = 3
"""Distance from its middle up to which a line is measured."""
MIN_PROFILE, MAX_HALF_WIDTH = 0.12, 2
"""Share of its contrast in the middle that still counts for its width, and the largest width on
either side."""


@dataclass(frozen=True)
class Scratch:
    """A line on consecutive frames."""

    is_light: bool
    columns: tuple[int, ...]
    """Column in the middle of the height, of each frame."""
    slant: float
    """Columns from its top to its bottom."""
    half_width: int = 0
    """Columns on either side of its middle."""

    def columns_on(self, frame: int, rows: slice) -> np.ndarray:
        """Column in each of the rows of a frame."""
        height = rows.stop - rows.start
        down = (np.arange(height) + 0.5) / height - 0.5
        columns: np.ndarray = np.rint(self.columns[frame] + self.slant * down).astype(int)
        return columns

    def mask(self, frame: int, rows: slice, shape: tuple[int, ...], reach: int) -> BoolArray:
        """(H, W), true within `reach` columns of its middle."""
        mask = np.zeros(shape, np.bool_)
        columns = self.columns_on(frame, rows)
        for offset in range(-reach, reach + 1):
            mask[np.arange(rows.start, rows.stop), (columns + offset).clip(0, shape[1] - 1)] = True
        return mask

    def goes_on_in(self, later: "Scratch") -> bool:
        """Whether another is the same; its frames begin with some of the last of this one's."""
        apart = [abs(a - b) for a, b in zip(self.columns, later.columns, strict=False)]
        return self.is_light == later.is_light and float(np.median(apart)) <= MAX_STEP_PX


class SceneMotion:
    """Motion of what lies behind the scratches, from one luma to another in which they are painted
    over: flow would hold on to them."""

    def __init__(self, one: FloatArray, other: FloatArray) -> None:
        views = [
            np.rint(cv2.GaussianBlur(each, (0, 0), 1.0)).clip(0, 255).astype(np.uint8)
            for each in (one, other)
        ]
        self._flow = dis_flow(views[0], views[1], DIS_FAST)
        back = dis_flow(views[1], views[0], DIS_FAST)
        known = forward_backward_mask(flow_planes(self._flow), flow_planes(back), 1.0)
        self.is_known: BoolArray = known.numpy()
        """(H, W), true where it returns."""

    @property
    def across(self) -> FloatArray:
        """Motion to the right, (H, W) in pixels."""
        across: FloatArray = self._flow[..., 0]
        return across

    def bring(self, picture: FloatArray) -> FloatArray:
        """Bring the other picture, (H, W) or (3, H, W), onto the one."""
        return backward_warp(picture, self._flow)


def find_scratches(pictures: Sequence[FloatArray], known: Sequence[Scratch] = ()) -> list[Scratch]:
    """Find the scratches of consecutive pictures (3, H, W) in gray levels.

    Those that go on from `known` ones of the frames before need no proof again.
    """
    if min(pictures[0].shape[-2:]) < MIN_FAST_SIDE_PX or len(pictures) < MIN_FRAMES:
        return []
    lumas = [luma(picture) for picture in pictures]
    rows = active_rows(lumas)
    if rows.stop - rows.start < MIN_FAST_SIDE_PX:
        return []
    lines = _find_lines(lumas, rows)
    if not lines or len(lines) > MAX_LINES:
        return []
    unproven = [line for line in lines if not any(each.goes_on_in(line) for each in known)]
    proven = _Proof(lumas, rows, lines).scratches_among(unproven) if unproven else []
    return [line for line in lines if line in proven or line not in unproven]


def active_rows(lumas: Sequence[FloatArray]) -> slice:
    """Rows between the bars of a letterbox."""
    shares = [(plane > BLACK).mean(axis=1) for plane in lumas]
    lit = np.flatnonzero(np.max(shares, axis=0) > MIN_LIT)
    return slice(int(lit[0]), int(lit[-1]) + 1) if len(lit) else slice(0, 0)


def painted_over(plane: FloatArray, mask: BoolArray) -> FloatArray:
    """A plane (H, W) whose masked pixels are bridged from both sides on their row."""
    painted = plane.copy()
    places = np.arange(plane.shape[1])
    for row in np.flatnonzero(mask.any(axis=1) & ~mask.all(axis=1)):
        covered = mask[row]
        painted[row, covered] = np.interp(places[covered], places[~covered], plane[row, ~covered])
    return painted


def _find_lines(lumas: Sequence[FloatArray], rows: slice) -> list[Scratch]:
    """Find the lines that go through the picture on most frames, whatever they are."""
    height = rows.stop - rows.start
    largest = max(1, round(height * MAX_SLANT))
    slants = range(-largest, largest + 1)
    frames = np.arange(len(lumas))
    # Per polarity, frame by frame: (bands, W) of how far a line is seen, and how strongly.
    bands: tuple[list[tuple[FloatArray, FloatArray]], ...] = ([], [])
    for plane in lumas:
        for found, response in zip(bands, _line_response(plane[rows]), strict=True):
            # Lines are seen within a pixel: they are not quite upright.
            seen = cv2.dilate(response, np.ones((1, 3), np.uint8)) > LINE_LEVELS
            found.append((_in_bands(seen), _in_bands(response.clip(0, MAX_STRENGTH))))
    lines = []
    for found, is_light in zip(bands, (True, False), strict=True):
        seen, strength = (np.stack(each) for each in zip(*found, strict=True))
        # (frames, slants, W)
        shares, strengths = (
            np.stack([_upright(each, slant).mean(axis=1) for slant in slants], axis=1)
            for each in (seen, strength)
        )
        shares[..., :EDGE_PX] = shares[..., -EDGE_PX:] = 0
        for columns in _tracks(shares.max(axis=1), strengths.max(axis=1)):
            slant = slants[int(strengths[frames, :, columns].mean(axis=0).argmax())]
            along = _upright(seen, slant)[frames, :, columns].mean(axis=0)
            line = Scratch(is_light, tuple(columns.tolist()), float(slant))
            if _goes_through(along) and _keeps_column(columns):
                levels = _profiles(lumas, rows, line)
                if not _is_drawn(levels, lumas, rows):
                    half_width = _half_width(levels)
                    lines.append(Scratch(is_light, line.columns, line.slant, half_width))
    return lines


def _line_response(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Measure by how much a luma is lighter, and darker, than both its sides, each (H, W)."""
    # Along an upright line, noise and texture are averaged.
    smooth = cv2.blur(plane, (1, 5))
    near, far = SIDE_PX
    sides = [(_shifted(smooth, sign * near) + _shifted(smooth, sign * far)) / 2 for sign in (-1, 1)]
    return smooth - np.maximum(*sides), np.minimum(*sides) - smooth


def _shifted(plane: FloatArray, step: int) -> FloatArray:
    """Move a plane (H, W) to the left by `step` columns, borders clamped."""
    width = plane.shape[1]
    shifted: FloatArray = plane[:, (np.arange(width) + step).clip(0, width - 1)]
    return shifted


def _in_bands(plane: np.ndarray) -> FloatArray:
    """Mean over the rows of each band, (bands, W)."""
    bounds = np.linspace(0, len(plane), BANDS + 1).astype(int)
    means: FloatArray = np.add.reduceat(plane.astype(np.float32), bounds[:-1])
    return means / np.diff(bounds).astype(np.float32)[:, None]


def _upright(bands: FloatArray, slant: float) -> FloatArray:
    """Bands (frames, bands, W) moved so that lines of this slant stand upright."""
    offsets = np.rint(slant * ((np.arange(BANDS) + 0.5) / BANDS - 0.5)).astype(int)
    return np.stack(
        [np.roll(bands[:, i], -offset, axis=-1) for i, offset in enumerate(offsets)], axis=1
    )


def _tracks(shares: FloatArray, strengths: FloatArray) -> list[np.ndarray]:
    """Columns of lines on each frame: they are seen as far as `shares` (frames, W) tells, and are
    strongest in their middle."""
    count = len(shares)
    ridge = cv2.dilate(strengths, np.ones((1, RIDGE_PX), np.uint8))
    tracks: list[dict[int, int]] = []
    for frame, row in enumerate((shares >= MIN_SEEN) & (strengths >= ridge)):
        left = np.flatnonzero(row).tolist()
        for track in tracks:
            last = max(track)
            best = min(left, key=lambda column: abs(column - track[last]), default=None)
            if best is None or frame - last > MAX_GAP + 1:
                continue
            if abs(best - track[last]) <= MAX_STEP_PX:
                track[frame] = best
                left.remove(best)
        tracks += [{frame: column} for column in left]
    return [
        np.rint(np.interp(np.arange(count), list(track), list(track.values()))).astype(int)
        for track in tracks
        if len(track) >= MIN_FRAMES_SEEN * count
    ]


def _goes_through(along: FloatArray) -> bool:
    """Whether a line goes from the top of the picture to its bottom, by its share in each band."""
    ends = along[:END_BANDS].mean(), along[-END_BANDS:].mean()
    bands = (along >= MIN_BAND_SEEN).mean()
    return bool(min(ends) >= MIN_END_SEEN and bands >= MIN_BANDS and along.mean() >= MIN_WHOLE_SEEN)


def _keeps_column(columns: np.ndarray) -> bool:
    """Whether a line keeps its column, but for a slow drift and a little weaving."""
    frames = np.arange(len(columns))
    drift, start = np.polyfit(frames, columns, 1)
    weaving = np.std(columns - (start + drift * frames))
    return bool(abs(drift) <= MAX_DRIFT_PX and weaving <= MAX_WEAVING_PX)


def _profiles(lumas: Sequence[FloatArray], rows: slice, line: Scratch) -> np.ndarray:
    """Levels across a line, (frames, rows, columns), from one column left of `PROFILE_PX` on."""
    far = PROFILE_PX + 1
    offsets = np.arange(-far, far + 1)
    width = lumas[0].shape[1]
    return np.stack(
        [
            np.take_along_axis(
                plane[rows],
                (line.columns_on(frame, rows)[:, None] + offsets).clip(0, width - 1),
                axis=1,
            )
            for frame, plane in enumerate(lumas)
        ]
    )


def _half_width(levels: np.ndarray) -> int:
    """Columns on either side of a line's middle that differ from its sides."""
    base = (levels[..., :1] + levels[..., -1:]) / 2
    contrast = np.abs(np.median(levels - base, axis=(0, 1)))
    wide = np.flatnonzero(contrast >= MIN_PROFILE * contrast.max()) - (PROFILE_PX + 1)
    return int(min(np.abs(wide).max(), MAX_HALF_WIDTH))


def _is_drawn(levels: np.ndarray, lumas: Sequence[FloatArray], rows: slice) -> bool:
    """Whether a line has one level all over, or parts two pictures: somebody drew it."""
    far = PROFILE_PX + 1
    smooth = np.stack([cv2.blur(each, (1, 5)) for each in levels])
    low, high = np.quantile(smooth[..., far], (0.1, 0.9))
    parting = float(np.abs(smooth[..., 0] - smooth[..., -1]).mean())
    usual = [
        float(np.abs(plane[rows, 2 * far :] - plane[rows, : -2 * far]).mean()) for plane in lumas
    ]
    parts = parting > max(MIN_PARTING_LEVELS, PARTING_RATIO * float(np.mean(usual)))
    return bool(high - low < MIN_VARIATION or parts)


class _Proof:
    """Evidence of how the scene moves behind lines."""

    def __init__(self, lumas: Sequence[FloatArray], rows: slice, lines: Sequence[Scratch]) -> None:
        self._lumas, self._rows = lumas, rows
        self._down = np.arange(rows.start, rows.stop)
        shape = lumas[0].shape
        self._painted = [
            painted_over(
                plane,
                np.logical_or.reduce([line.mask(frame, rows, shape, PROFILE_PX) for line in lines]),
            )
            for frame, plane in enumerate(lumas)
        ]

    def scratches_among(self, lines: Sequence[Scratch]) -> list[Scratch]:
        """Find the lines that stay while the scene moves behind them, and little else stays."""
        count = len(self._lumas)
        seen: list[list[_Evidence]] = [[] for _ in lines]
        for first in range(0, count, max(1, count // MAX_PAIRS)):
            waiting = list(zip(lines, seen, strict=True))
            # Frames as near to each other as the motion behind a line allows.
            for span in SPANS:
                second = first + span if first + span < count else first - span
                if not waiting or second < 0:
                    break
                motion = SceneMotion(self._painted[first], self._painted[second])
                left = []
                for line, found in waiting:
                    across = motion.across[self._down, line.columns_on(first, self._rows)]
                    relative = across - (line.columns[second] - line.columns[first])
                    if np.median(np.abs(relative)) >= 2 * CLEAR_PX or span == SPANS[-1]:
                        found.append(self._seen_between(line, motion, first, second))
                    else:
                        left.append((line, found))
                waiting = left
        return [line for line, found in zip(lines, seen, strict=True) if _is_proof(found)]

    def _seen_between(
        self, line: Scratch, motion: SceneMotion, first: int, second: int
    ) -> "_Evidence":
        """Look at a line on two frames between which the scene moves so."""
        one, other = self._painted[first], self._painted[second]
        step = line.columns[second] - line.columns[first]
        moving, standing = (
            cv2.blur(np.abs(one - each), PROOF_WINDOW)
            for each in (motion.bring(other), _shifted(other, step))
        )
        surely = (standing - moving > PROOF_LEVELS) & (moving < PROOF_RATIO * standing)
        here = self._down, line.columns_on(first, self._rows)
        across = motion.across[here]
        moves = (surely & motion.is_known)[here] & (np.abs(across - step) >= CLEAR_PX)
        moves &= abs(step) <= MAX_FOLLOWING * np.abs(across)
        response = _line_response(self._lumas[second])[0 if line.is_light else 1]
        response = cv2.dilate(response, np.ones((1, 3), np.uint8))
        stays = response[self._down, line.columns_on(second, self._rows)] > LINE_LEVELS
        carried = motion.bring(response)[here] > LINE_LEVELS
        steps = cv2.blur(np.abs(cv2.Sobel(one, cv2.CV_32F, 1, 0, ksize=1) / 2), PROOF_WINDOW)
        textured = (steps > TEXTURE_LEVELS)[self._rows]
        # Its own step may be a column off: what keeps its place on the frame counts as well.
        apart = np.minimum(np.abs(motion.across), np.abs(motion.across - step))
        still = (apart < STILL_PX)[self._rows]
        share = float((textured & still).sum() / max(1, textured.sum()))
        return _Evidence(moves, stays, carried, share)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Findings on two frames of what a line is, by its rows."""

    moves: BoolArray
    """Whether the scene moves behind it."""
    stays: BoolArray
    """Whether the other frame shows it in its own column."""
    is_carried: BoolArray
    """Whether the other frame shows a line where the scene has moved to."""
    still: float
    """Share of the picture's texture that keeps its place with the line."""


def _is_proof(seen: Sequence[_Evidence]) -> bool:
    """Whether a line of which this was seen is a scratch."""
    if not seen or np.median([each.still for each in seen]) > MAX_STILL:
        return False
    moves = np.stack([each.moves for each in seen])
    stays, carried = (
        int((moves & np.stack(rows)).sum())
        for rows in ([each.stays for each in seen], [each.is_carried for each in seen])
    )
    return bool(
        moves.any(axis=0).mean() >= MIN_PROVEN
        and stays >= MIN_STAYING * moves.sum()
        and carried <= MAX_CARRIED * moves.sum()
    )
