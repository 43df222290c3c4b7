"""How a run ends before its time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vsr.errors import InterruptedRunError, ModelError
from vsr.video.write.segment_store import SegmentStore

_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "Insufficient memory",
    "bad allocation",
)
"""Of torch's allocator for the CPU, of OpenCV and of C++: plain errors with nothing but these words
to know them by."""


@contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Raise `ModelError` where there is no memory left for a frame."""
    try:
        yield
    except Exception as error:
        # No common ancestor but this: torch and OpenCV raise errors of their own.
        is_known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_known and not any(words in str(error) for words in _OUT_OF_MEMORY_MESSAGES):
            raise
        raise ModelError(
            "the memory does not suffice for a frame of this size. Use a smaller --scale or close "
            "other programs; the same command goes on with what is done."
        ) from error


def interrupted_error(
    frames_out: int, total: int | None, work: SegmentStore | None
) -> InterruptedRunError:
    """What a user who ended a run is told."""
    of_all = f" of {total}" if total else ""
    kept = 0 if work is None or work.plan is None else work.frames_done
    if kept and work is not None:
        words = f"{kept} are kept in {work.folder}"
    elif work is None or work.plan is None:
        words = "nothing is kept: a run that reads or writes a pipe cannot be resumed"
    else:
        words = "nothing is kept yet: the first segment was not complete"
    return InterruptedRunError(
        f"stopped after frame {frames_out}{of_all}; {words}.", can_resume=kept > 0
    )
