"""Prefetch: items are made in a thread of their own while the consumer uses earlier ones."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1
"""Longest time until a thread with a full queue sees that nobody wants more."""
JOIN_TIMEOUT_SECONDS = 5.0
"""Longest time that an end waits for the item in the making. A thread that takes longer ends after
it, or with the program."""


@dataclass(frozen=True)
class _End:
    """Marker after the last item."""

    error: BaseException | None = None


def prefetch(items: Iterable[T], depth: int, name: str | None = None) -> Generator[T, None, None]:
    """Hand on items in their order, made in a thread called `name`, at most `depth` of them
    waiting to be taken.

    An error of the items is raised here, where they would have come. The thread is started when the
    first is asked for. Leaving early (`close`, an error, Ctrl-C) ends it behind what it is making,
    and closes `items` in it.
    """
    made: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()
    worker = threading.Thread(
        target=_produce, args=(iter(items), made, stopped), name=name, daemon=True
    )
    worker.start()
    # A daemon: a process that must end does not wait for a frame in the making.
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        worker.join(JOIN_TIMEOUT_SECONDS)


def _produce(items: Iterator[T], made: "queue.Queue[T | _End]", stopped: threading.Event) -> None:
    try:
        for item in items:
            if not _enqueue(item, made, stopped):
                break
        end = _End()
    except BaseException as error:  # raised again where the items are wanted
        end = _End(error)
    finally:
        if isinstance(items, Generator):
            items.close()
    _enqueue(end, made, stopped)


def _enqueue(item: T | _End, made: "queue.Queue[T | _End]", stopped: threading.Event) -> bool:
    """Put an item into the queue; False where nobody wants it any more."""
    while not stopped.is_set():
        try:
            made.put(item, timeout=POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
