"""Pictures cut into strips of full width: on a CPU they stay in cache and keep its cores busy, on a
GPU they fit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import torch
import torch.nn.functional as F

from vsr.errors import ModelError

MAX_STRIP_PX = 120_000
"""Of a CPU's strips. Whole frames spend their time in page faults: 90 rows of 1280 ran 2.8 times as
fast as the plain network on a whole 720p frame, on a core with AVX2 alone."""
MIN_STRIPS = 4
"""So that small pictures, too, keep several cores busy."""
MIN_STRIP_ROWS = 40
"""Shorter ones would spend their time on the halo."""

RowReader = Callable[[int, int], torch.Tensor]
"""First row and the row after the last -> these rows of a picture (C, H, W)."""


class Strips:
    """Cuts pictures for one network. A GPU gets them whole, until its memory does not hold one."""

    def __init__(self, device: torch.device, max_px: int | None = None) -> None:
        """`max_px`: pixels of a strip; None: what suits the device."""
        self._on_cpu = device.type == "cpu"
        self._max_px = max_px or (MAX_STRIP_PX if self._on_cpu else None)

    def cover(
        self, work: Callable[[int, int], None], height: int, width: int, multiple: int = 1
    ) -> None:
        """Call `work` with the first row and the row after the last of strips that cover a picture.

        All but the last have a multiple of `multiple` rows; on a CPU they are worked on at once.
        Raises `ModelError` where not even one row fits into the memory of a GPU.
        """
        if self._on_cpu:
            assert self._max_px is not None
            rows = _round_up(strip_rows(height, width, self._max_px), multiple)
            # The list hears of errors.
            list(
                cpu_pool().map(
                    lambda top: work(top, min(top + rows, height)), range(0, height, rows)
                )
            )
            return
        top = 0
        while top < height:
            rows = (
                height
                if self._max_px is None
                else _round_up(max(1, self._max_px // width), multiple)
            )
            try:
                work(top, min(top + rows, height))
                top += rows
            except torch.cuda.OutOfMemoryError:
                if rows <= multiple:
                    raise ModelError(
                        f"the GPU's memory does not hold {multiple} rows of {width} pixels. Use "
                        "--device cpu."
                    ) from None
                self._max_px = min(rows, height) // 2 * width
                torch.cuda.empty_cache()


def padded_strip(
    rows: RowReader, height: int, top: int, end: int, halo: int, outside: float | None = None
) -> torch.Tensor:
    """Rows `top` to before `end` of a picture of that height with `halo` pixels more on each side,
    as a copy.

    Outside of the picture its edge is repeated, or all is `outside`.
    """
    first, last = max(0, top - halo), min(height, end + halo)
    missing = (halo, halo, first - (top - halo), end + halo - last)
    if outside is None:
        return F.pad(rows(first, last)[None], missing, mode="replicate")[0]
    return F.pad(rows(first, last), missing, value=outside)


def strip_rows(height: int, width: int, max_px: int = MAX_STRIP_PX) -> int:
    """Rows of a strip. They follow from the picture alone, so that the result does not depend on
    the cores."""
    count = -(-height // max(1, max_px // width))
    if count > MIN_STRIPS:
        # As many for each of several cores.
        count = _round_up(count, MIN_STRIPS)
    else:
        count = max(count, min(MIN_STRIPS, height // MIN_STRIP_ROWS))
    return -(-height // count)


def _round_up(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple


@cache
def cpu_pool() -> ThreadPoolExecutor:
    """A thread for each core: torch's own threads gain nothing on strips this small."""
    return ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    )


def set_num_threads(count: int) -> None:
    """Have all that follows use so many cores. Results do not depend on it."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    cpu_pool.cache_clear()
