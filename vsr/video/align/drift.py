"""Drift that timestamps hide: frames shown twice, and pictures that run ahead or behind."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import torch

from vsr.video.align.time_map import Values, error_floor, is_clearly_less, squared_error, thumbnail

REACH_FRAMES = 2
REPEAT_SHARE = 0.01
"""Share of the expected squared change: a frame that changed less repeats the one before."""
MIN_CHANGE = 0.25
"""Change in squared gray levels of small pictures: sensor noise changes less, and a coder leaves
that out."""
AT_REST_SHARE = 0.1
"""Share of the squared change before: a partner that changes less has come to rest as well."""
MIN_RUN_FRAMES = 5


@dataclass(frozen=True, eq=False)
class _Pair:
    index: int
    result: Values
    partner: Values


class DriftDetector:
    """Sees every matched frame of a result beside its partner; keeps a few small pictures."""

    def __init__(self) -> None:
        self.repeats: list[int] = []
        """Frames of the result that show the one before once more while their partners move on."""
        self._pairs: deque[_Pair] = deque(maxlen=2 * REACH_FRAMES + 1)
        self._lags: list[tuple[int, int]] = []
        self._floor = 0.0
        self._movement = 0.0

    def update(self, index: int, result: torch.Tensor, partner: torch.Tensor) -> None:
        """Take the next frame of the result, by its number, and its partner's picture, (3, H, W)
        each."""
        pair = _Pair(index, thumbnail(result), thumbnail(partner))
        if self._pairs and self._repeats(self._pairs[-1], pair):
            self.repeats.append(index)
        self._pairs.append(pair)
        self._floor = error_floor(
            (result.shape[-2], result.shape[-1]), (partner.shape[-2], partner.shape[-1])
        )
        # The middle pair is judged once partners on both sides of it are known.
        if len(self._pairs) == self._pairs.maxlen:
            self._lags.append(
                (self._pairs[REACH_FRAMES].index, _lag(list(self._pairs), self._floor))
            )

    def notes(self) -> list[str]:
        """Sentences for the user on repeated and shifted frames."""
        return [*_repeat_notes(self.repeats), *_lag_notes(self._lags)]

    def _repeats(self, before: _Pair, now: _Pair) -> bool:
        """Tell whether a moving result stands still for a frame while its partner keeps moving."""
        change, expected = (
            squared_error(now.result, before.result),
            squared_error(now.partner, before.partner),
        )
        # A partner at rest proves nothing: neither noise nor the end of a movement counts.
        moves_on = expected > max(MIN_CHANGE, AT_REST_SHARE * self._movement)
        if moves_on and change < REPEAT_SHARE * min(expected, self._movement):
            return True
        # A repeat does not get here: later frames are compared with a true movement.
        self._movement = change
        return False


def _lag(pairs: list[_Pair], floor: float) -> int:
    """Number of frames that the middle result is behind the partners around it; 0 unless another
    fits clearly better."""
    result = pairs[REACH_FRAMES].result
    errors = [squared_error(result, pair.partner) for pair in pairs]
    best = min(range(len(errors)), key=errors.__getitem__)
    return REACH_FRAMES - best if is_clearly_less(errors[best], errors[REACH_FRAMES], floor) else 0


def _repeat_notes(repeats: list[int]) -> list[str]:
    if not repeats:
        return []
    return [f"{len(repeats)} of its frames repeat the one before: {format_first(repeats)}"]


def _lag_notes(lags: list[tuple[int, int]]) -> list[str]:
    notes = []
    for lag, group in groupby(lags, key=itemgetter(1)):
        indices = [index for index, _ in group]
        # A few frames may look alike by chance; a run of them does not.
        if lag and len(indices) >= MIN_RUN_FRAMES:
            frames, side = (
                f"{abs(lag)} frame{'s' if abs(lag) > 1 else ''}",
                "behind" if lag > 0 else "ahead of",
            )
            notes.append(
                f"frames {indices[0]} to {indices[-1]} show pictures that are {frames} {side} "
                "those of the same time: frames were duplicated or dropped while the timestamps "
                "run on; they are still compared by timestamp"
            )
    return notes


def format_first(numbers: Sequence[int], shown: int = 5) -> str:
    """The first few of a list of frame numbers, in words."""
    return ", ".join(map(str, numbers[:shown])) + (", ..." if len(numbers) > shown else "")
