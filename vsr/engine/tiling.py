"""Pictures cut into pieces that a device holds: strips that stay in a CPU's cache, tiles with
feathered seams, and halving when memory runs out."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import cv2
import torch
import torch.nn.functional as F

from vsr.errors import ModelError

MAX_STRIP_PX = 120_000
"""Pixels of a CPU's strip. Whole frames spend their time in page faults: 90 rows of 1280 ran 2.8
times as fast as the plain network on a whole 720p frame, on a core with AVX2 alone."""
MIN_STRIPS = 4
"""Strips of a small picture, so that it, too, keeps several cores busy."""
MIN_STRIP_ROWS = 40
"""Rows of a strip of a small picture; shorter ones would spend their time on the halo."""
CPU_TILE_PX = 256
"""Side of a tile on a CPU."""
GPU_TILE_PX = 768
"""Side of a tile on a GPU."""
MIN_TILE_PX = 32
"""Side from which tiles are halved no further."""
FEATHER_PX = 16
"""Width of the ramp in which a tile gives way to the next, in input pixels."""
_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "Insufficient memory",
    "bad allocation",
)
"""Messages of torch's allocator for the CPU, of OpenCV and of C++, whose errors have no type of
their own for that."""

Result = TypeVar("Result")
RowReader = Callable[[int, int], torch.Tensor]
"""First row and the row after the last -> these rows of a picture (C, H, W)."""
ForwardFunction = Callable[[torch.Tensor], torch.Tensor]
"""Planes (1, C, h, w) -> colors (1, c, H, W)."""


class Strips:
    """Cutter of pictures for one network whose reach is known: strips of full width that give the
    whole picture's result exactly. A GPU gets pictures whole, until its memory does not hold one.
    """

    def __init__(self, device: torch.device, max_px: int | None = None) -> None:
        """Take at most `max_px` pixels to a strip; None: what suits the device."""
        self._device = device
        self._max_px = max_px or (MAX_STRIP_PX if device.type == "cpu" else None)

    def cover(
        self, work: Callable[[int, int], None], height: int, width: int, multiple: int = 1
    ) -> None:
        """Call `work` with the first row and the row after the last of strips that cover a picture.

        All but the last have a multiple of `multiple` rows; on a CPU they are worked on at once.
        Raises `ModelError` where not even `multiple` rows fit into the memory of a GPU.
        """
        if self._device.type == "cpu":
            assert self._max_px is not None
            rows = _round_up(strip_rows(height, width, self._max_px), multiple)
            tops = range(0, height, rows)
            # An error in a thread shows only when its result is asked for: hence the list.
            list(cpu_pool().map(lambda top: work(top, min(top + rows, height)), tops))
            return
        # Counted in bands of `multiple` rows, halves of which are whole bands again.
        bands = -(-height // multiple)
        if self._max_px is not None:
            bands = min(bands, -(-max(1, self._max_px // width) // multiple))
        top = 0

        def remaining(bands: int) -> None:
            nonlocal top
            # Strips that were done before memory ran out stay done.
            while top < height:
                work(top, min(top + bands * multiple, height))
                top += bands * multiple

        _, fitting = halving_on_memory_error(
            remaining, bands, 1, self._device, f"strips of {multiple} rows of {width} pixels"
        )
        if fitting != bands:
            self._max_px = fitting * multiple * width


def padded_strip(
    rows: RowReader, height: int, top: int, end: int, halo: int, outside: float | None = None
) -> torch.Tensor:
    """Copy rows `top` to before `end` of a picture of that height, with `halo` pixels more on each
    side: (C, end - top + 2 halo, W + 2 halo).

    Outside of the picture its edge is repeated, or all is `outside`.
    """
    first, last = max(0, top - halo), min(height, end + halo)
    missing = (halo, halo, first - (top - halo), end + halo - last)
    if outside is None:
        return F.pad(rows(first, last)[None], missing, mode="replicate")[0]
    return F.pad(rows(first, last), missing, value=outside)


def strip_rows(height: int, width: int, max_px: int = MAX_STRIP_PX) -> int:
    """Count the rows of a CPU's strip. They follow from the picture alone, so that the result does
    not depend on the cores."""
    count = -(-height // max(1, max_px // width))
    if count > MIN_STRIPS:
        # As many for each of several cores.
        count = _round_up(count, MIN_STRIPS)
    else:
        count = max(count, min(MIN_STRIPS, height // MIN_STRIP_ROWS))
    return -(-height // count)


def _round_up(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple


@dataclass(frozen=True)
class TileSpan:
    """Extent of a tile along one axis, in input pixels."""

    start: int
    stop: int
    """Pixels that the network sees: from `start` to before `stop`."""
    rise: float | None
    """Middle of the ramp at its start; None at the picture's own border."""
    fall: float | None
    """Middle of the ramp at its end; None at the picture's own border."""

    def weights(self, scale: int, device: torch.device) -> torch.Tensor:
        """Weigh the tile's output pixels, ((stop - start) * scale); at each pixel the weights of
        all tiles add up to 1."""
        # Centers of output pixels, in input pixels.
        centers = (torch.arange(self.start * scale, self.stop * scale, device=device) + 0.5) / scale
        weights = torch.ones_like(centers)
        # Linear ramps: one tile's fall is 1 minus the next one's rise.
        if self.rise is not None:
            weights = weights * ((centers - self.rise) / FEATHER_PX + 0.5).clamp(0, 1)
        if self.fall is not None:
            weights = weights * ((self.fall - centers) / FEATHER_PX + 0.5).clamp(0, 1)
        return weights


def run_in_tiles(
    run: ForwardFunction,
    planes: torch.Tensor,
    scale: int,
    receptive_radius_px: int,
    tile_px: int | None = None,
) -> torch.Tensor:
    """Run a network on a large picture: (C, h, w) -> (c, scale h, scale w).

    Pixels nearer than `receptive_radius_px` to a tile's inner edge get no weight, so a network that
    sees no further gives what it would give on the whole, within rounding. A tile that does not fit
    the memory is halved and tried again; raises `ModelError` where the smallest does not fit
    either.
    """
    side = tile_px or (CPU_TILE_PX if planes.device.type == "cpu" else GPU_TILE_PX)
    made, _ = halving_on_memory_error(
        lambda side: _blend_tiles(run, planes, scale, receptive_radius_px, side),
        side,
        MIN_TILE_PX,
        planes.device,
        "tiles of {} pixels",
    )
    return made


def tile_spans(length: int, tile_px: int, receptive_radius_px: int) -> list[TileSpan]:
    """Divide an axis of `length` pixels into tiles: equal shares, each with the ramp and the reach
    beyond it."""
    count = -(-length // tile_px)
    edges = [length * number // count for number in range(count + 1)]
    # As far as the tile's weights are not zero the network must see its whole surroundings.
    margin = receptive_radius_px + FEATHER_PX // 2
    return [
        TileSpan(
            max(0, edges[number] - margin),
            min(length, edges[number + 1] + margin),
            edges[number] if number else None,
            edges[number + 1] if number + 1 < count else None,
        )
        for number in range(count)
    ]


def _blend_tiles(
    run: ForwardFunction, planes: torch.Tensor, scale: int, receptive_radius_px: int, tile_px: int
) -> torch.Tensor:
    _, height, width = planes.shape
    spans = [
        (rows, columns)
        for rows in tile_spans(height, tile_px, receptive_radius_px)
        for columns in tile_spans(width, tile_px, receptive_radius_px)
    ]
    tiles = [
        planes[None, :, rows.start : rows.stop, columns.start : columns.stop]
        for rows, columns in spans
    ]
    if len(tiles) == 1:
        return run(tiles[0])[0]
    outputs: Iterable[torch.Tensor] = map(run, tiles)
    if planes.device.type == "cpu":
        outputs = cpu_pool().map(run, tiles)
    whole: torch.Tensor | None = None
    for (rows, columns), output in zip(spans, outputs, strict=True):
        # Only the first output tells how many channels the network makes.
        if whole is None:
            whole = planes.new_zeros(output.shape[1], height * scale, width * scale)
        weight = rows.weights(scale, planes.device)[:, None] * columns.weights(scale, planes.device)
        area = whole[
            :, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale
        ]
        area.addcmul_(output[0], weight)
    assert whole is not None
    return whole


def halving_on_memory_error(
    work: Callable[[int], Result], size: int, smallest: int, device: torch.device, pieces: str
) -> tuple[Result, int]:
    """Return `work(size)` and the size that fitted, which is halved whenever memory runs out.

    Raises `ModelError` where a size of `smallest` or less does not fit; `pieces` names the pieces
    for that message, with {} for their size.
    """
    while True:
        try:
            return work(size), size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the error's traceback holds the tensors that did not fit.
        if size <= smallest:
            raise ModelError(
                f"the network does not fit into the memory of {device}, even in "
                f"{pieces.format(size)}. Close other programs, or use --device cpu."
            )
        size //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory is short."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY_MESSAGES)


@cache
def num_threads() -> int:
    """Number of cores that are used: torch's threads in the thread that asks first, or what
    `set_num_threads` chose."""
    return torch.get_num_threads()


@cache
def cpu_pool() -> ThreadPoolExecutor:
    """Start a thread for each core: torch's own threads gain nothing on strips this small."""
    return ThreadPoolExecutor(num_threads(), initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def single_thread() -> Iterator[None]:
    """Have torch use no threads of its own within, in this thread. What goes to the threads of
    `cpu_pool` is done on all cores all the same.

    Where several threads work beside each other torch's own spin while they wait: on two cores a
    shot took 1.3 times the processor time.
    """
    # Counted before: what is not counted yet would be one.
    num_threads()
    # Restored afterwards: the caller's own work may want them.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def made_on_single_thread(items: Iterable[Result]) -> Iterator[Result]:
    """Hand on items, each made within `single_thread`."""
    iterator = iter(items)
    while True:
        with single_thread():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def on_one_core(work: Callable[[], Result], device: torch.device) -> Result:
    """Return `work()`, done on one core of a CPU: products of matrices that torch splits over three
    or more differ in the last digit from those of one."""
    return work() if device.type != "cpu" else cpu_pool().submit(work).result()


def set_num_threads(count: int) -> None:
    """Have all that follows in this process use so many cores. Results do not depend on it."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    cpu_pool.cache_clear()
    num_threads.cache_clear()
    # Counted in this thread: another may have none of its own.
    num_threads()


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Use `count` cores within, None: all; the process has its own number again afterwards."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    if count is not None:
        set_num_threads(count)
    try:
        yield
    finally:
        # Also where nothing was asked for: an earlier run may have set its own number.
        if (torch.get_num_threads(), cv2.getNumThreads()) != before:
            set_num_threads(before[0])
            cv2.setNumThreads(before[1])
