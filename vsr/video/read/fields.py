"""Interlacing and telecine, by looking: whether the two fields of frames are of one moment.

Flags of a stream are often wrong. A field belongs to the moment of the frame's other field where
its lines fit between those of this frame, and to another moment where those of a neighboring frame
fit better (as in libavfilter's idet).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

ORDER_RATIO = 1.04
"""By how much one field order must fit better than the other."""
MAX_COMBED_RATIO = 1.2
"""Ratio by which lines of the neighbor that is next in time may fit worse than a frame's own, for a
frame with fields of two moments: these are as far apart."""
MIN_MOTION = 0.3
"""Gray levels of mean change below which the fields tell nothing."""
MIN_COMBED_SHARE = 0.7
"""Share of moving frames with fields of two moments, from which on a shot is interlaced; telecine
has two of five."""
MIN_CLEAR_SHARE = 0.5
"""Share of moving frames whose fields must tell something."""
TELECINE_SHARES = (0.2, 0.6)
REPEATED_FIELD_RATIO = 3.0
"""By how much more one field must change than the other to count as repeated."""
MIN_REPEATED = 2
MIN_ROWS = 16


@dataclass(frozen=True)
class FieldStatistics:
    """Findings about the fields of a shot's first frames."""

    interlaced: bool = False
    top_field_first: bool | None = None
    telecined: bool = False


def field_statistics(lumas: Sequence[np.ndarray]) -> FieldStatistics:
    """Look at consecutive lumas (H, W) in grey levels."""
    if len(lumas) < 3 or lumas[0].shape[0] < MIN_ROWS:
        return FieldStatistics()
    moving = [
        triple for triple in zip(lumas, lumas[1:], lumas[2:], strict=False) if _moves(*triple)
    ]
    votes = [vote for triple in moving if (vote := field_order(*triple)) is not None]
    # Noise hides the fields; a few frames of it then vote at random.
    if not votes or len(votes) < MIN_CLEAR_SHARE * len(moving):
        return FieldStatistics()
    combed = [vote for vote in votes if vote != 0]
    share = len(combed) / len(votes)
    top_first = sum(combed) > 0
    # A soft or noisy picture votes at random; interlacing has one order throughout.
    one_order = abs(sum(combed)) >= MIN_COMBED_SHARE * len(combed)
    repeated = sum(_repeats_field(before, now) for before, now in pairwise(lumas))
    if TELECINE_SHARES[0] <= share <= TELECINE_SHARES[1] and repeated >= MIN_REPEATED and one_order:
        return FieldStatistics(telecined=True, top_field_first=top_first)
    if share >= MIN_COMBED_SHARE and one_order:
        return FieldStatistics(interlaced=True, top_field_first=top_first)
    return FieldStatistics()


def field_order(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> int | None:
    """1: top field first, -1: bottom field first, 0: progressive, None: nothing moves, or neither
    order is clear."""
    if not _moves(before, now, after):
        return None
    around = now[:-2] + now[2:]
    own = np.abs(around - 2 * now[1:-1]).mean(axis=1)
    with_before = np.abs(around - 2 * before[1:-1]).mean(axis=1)
    with_after = np.abs(around - 2 * after[1:-1]).mean(axis=1)
    # Misfits of either order. Row 1 of the frame is the first here, so even positions are lines of
    # the bottom field: with the top field first, that of the frame before is next to this top.
    top_first = float(with_after[1::2].mean() + with_before[::2].mean())
    bottom_first = float(with_after[::2].mean() + with_before[1::2].mean())
    nearest = min(top_first, bottom_first)
    if nearest > 2 * MAX_COMBED_RATIO * float(own.mean()):
        return 0
    if bottom_first > ORDER_RATIO * top_first:
        return 1
    return -1 if top_first > ORDER_RATIO * bottom_first else None


def _moves(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> bool:
    return bool(min(np.abs(now - before).mean(), np.abs(after - now).mean()) >= MIN_MOTION)


def _repeats_field(before: np.ndarray, now: np.ndarray) -> bool:
    change = np.abs(now - before).mean(axis=1)
    top, bottom = float(change[::2].mean()), float(change[1::2].mean())
    larger, smaller = max(top, bottom), min(top, bottom)
    return larger > MIN_MOTION and larger > REPEATED_FIELD_RATIO * smaller
