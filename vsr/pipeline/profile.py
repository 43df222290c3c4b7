"""Timings of the stages of a run, and a trace of it that Perfetto and chrome://tracing show."""

import json
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from time import perf_counter
from typing import TypeVar

from vsr.engine.prefetch import prefetch

T = TypeVar("T")
Event = tuple[str, str, float, float]
"""Work done, its thread, its start and its duration, in seconds."""

TOTAL = "total"
MAX_EVENTS = 200_000
"""Limit of a trace; later events are left out of it, not of the figures."""


class StageClock:
    """Tells how long each stage of a pull pipeline took by itself, whether stages take turns or run
    side by side.

    A stage's iterator calls the one before it, or waits for what that makes in another thread:
    neither is counted.
    """

    def __init__(self, traced: bool = False) -> None:
        self._start = perf_counter()
        self._inside: dict[str, float] = {}
        """Seconds in which a stage made an item, those of `_fetched` of the stage before among
        them."""
        self._fetched: dict[str, float] = {}
        """Seconds in which the next stage got an item, where that is not the same."""
        self._measured: dict[str, float] = {}
        self._items: Counter[str] = Counter()
        """Number of items of each stage."""
        self._events: list[Event] = []
        self._traced = traced

    def through(self, stage: str, items: Iterable[T]) -> Generator[T, None, None]:
        """Hand on items and time their making. Stages are wrapped from the first to the last."""
        self._inside[stage] = 0.0
        return self._timed(stage, self._inside, stage, items)

    def prefetch(self, stage: str, items: Iterable[T], depth: int) -> Generator[T, None, None]:
        """Hand on items and time their making in a thread of its own, up to `depth` items in
        advance (0: in turn); close it to end the thread."""
        if depth == 0:
            return self.through(stage, items)
        self._fetched[stage] = 0.0
        made = prefetch(self.through(stage, items), depth, stage)
        return self._timed(f"waiting for {stage}", self._fetched, stage, made)

    def _timed(
        self, label: str, spent: dict[str, float], stage: str, items: Iterable[T]
    ) -> Generator[T, None, None]:
        iterator = iter(items)
        try:
            while True:
                start = perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    spent[stage] += self._note(label, start)
                self._items[label] += 1
                yield item
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time work that belongs to no iterator."""
        start = perf_counter()
        try:
            yield
        finally:
            self._measured[stage] = self._measured.get(stage, 0.0) + self._note(stage, start)
            self._items[stage] += 1

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what stages took in other processes."""
        for stage, spent in seconds.items():
            self._measured[stage] = self._measured.get(stage, 0.0) + spent

    def _note(self, label: str, start: float) -> float:
        """Seconds since `start`; a trace has them as an event."""
        seconds = perf_counter() - start
        if self._traced and len(self._events) < MAX_EVENTS:
            self._events.append((label, threading.current_thread().name, start, seconds))
        return seconds

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage alone, and of the whole so far as `total`; stages side by side may
        exceed it."""
        # The time in which a stage got its items from the one before is not its own.
        alone, before = {}, 0.0
        for stage, inside in self._inside.items():
            alone[stage] = inside - before
            before = self._fetched.get(stage, inside)
        for stage, spent in self._measured.items():
            alone[stage] = alone.get(stage, 0.0) + spent
        return alone | {TOTAL: perf_counter() - self._start}

    def seconds_per_item(self) -> dict[str, float]:
        """Mean time of each stage alone for one item, also where the next stage has not come as far
        yet."""
        return {
            stage: spent / max(1, self._items[stage])
            for stage, spent in self.seconds().items()
            if stage != TOTAL
        }

    def trace(self) -> str:
        """The events in the Trace Event Format, one row a thread, times in microseconds from the
        start of the clock."""
        threads = {
            thread: number
            for number, thread in enumerate(dict.fromkeys(event[1] for event in self._events))
        }
        rows = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": thread}}
            for thread, number in threads.items()
        ]
        # Perfetto wants microseconds.
        spans = [
            {
                "name": label,
                "ph": "X",
                "pid": 1,
                "tid": threads[thread],
                "ts": round(1e6 * (start - self._start), 1),
                "dur": round(1e6 * seconds, 1),
            }
            for label, thread, start, seconds in self._events
        ]
        return json.dumps({"traceEvents": rows + spans, "displayTimeUnit": "ms"}, allow_nan=False)


def stage_utilization(seconds: dict[str, float]) -> dict[str, float]:
    """For each stage the share of the whole time in which it was at work, largest first; their sum
    may exceed 1."""
    by_time = sorted(seconds.items(), key=itemgetter(1), reverse=True)
    return {stage: spent / seconds[TOTAL] for stage, spent in by_time if stage != TOTAL}
