"""The record of a run: what was asked, what was decided, what came out."""

import json
import os
import platform
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from vsr.errors import OutputError, UsageError

T = TypeVar("T")

RECORDED_PACKAGES = ("vsr", "torch", "av", "numpy", "opencv-python", "scenedetect")


@dataclass(frozen=True)
class Manifest:
    """Everything about one finished run, as plain values; `--json` writes it."""

    clip: str
    clip_identity: str
    output: str | None
    """None where no file was asked for, as in a comparison."""
    frames_in: int
    frames_out: int
    max_pts_error_seconds: float
    resumed_at_frame: int
    """0: from the start."""
    policy: str
    models: list[str]
    """Names of the models that were used, in the order of first use."""
    decisions: list[dict[str, Any]]
    """What the policy chose at which frame, and why."""
    shots: list[int]
    """Number of the first frame of each shot."""
    steady: list[dict[str, Any]]
    """What flicker control did with each shot: strength, flicker and sharpness."""
    streams_kept: list[str]
    streams_dropped: list[str]
    damage: list[str]
    """What of the input was damaged; empty for a sound one."""
    notes: list[str]
    """What was said to the user in passing."""
    encoder: str | None
    device: str
    timings_seconds: dict[str, float]
    """Time spent in each stage alone, and `total`."""
    peak_memory_bytes: int
    metrics: dict[str, Any]
    """As in the JSON of `vsr score`, measured before encoding."""
    baseline: dict[str, Any]
    """The same of the bicubically enlarged input."""
    recipe: dict[str, Any]
    """The options in force, with the defaults filled in."""
    command: list[str]
    versions: dict[str, str]

    def to_json(self) -> str:
        """Strict JSON."""
        return strict_json(asdict(self))


def strict_json(value: Any) -> str:
    """Readable JSON without NaN or infinity, which strict parsers refuse."""
    return json.dumps(value, indent=2, allow_nan=False)


def check_record(destination: str | Path | None, protected: Iterable[str | Path | None]) -> None:
    """Refuse, before any work, a place where a record cannot be written or would replace a clip of this run.

    Raises `OutputError` for the first and `UsageError` for the second. None and `-` are always fine.
    """
    if destination is None or str(destination) == "-":
        return
    path = Path(destination)
    try:
        if not path.name or path.is_dir():
            raise OutputError(f"cannot write the record to {str(destination)!r}: it is a folder. Name a file.")
        if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise OutputError(f"cannot write {path}: its folder is missing or read-only. Choose another place.")
        clips = [Path(clip) for clip in protected if clip is not None]
        if any(path == clip or (path.exists() and clip.exists() and path.samefile(clip)) for clip in clips):
            raise UsageError(f"the record {path} would replace a clip of this very command. Choose another place.")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose another place.") from None


def check_output(output: str | Path, protected: Iterable[str | Path | None]) -> None:
    """Refuse, before any work, an output that would replace a clip read beside the input. Raises `OutputError`."""
    path = Path(output)
    for clip in (Path(clip) for clip in protected if clip is not None):
        if path.exists() and clip.exists() and path.samefile(clip):
            raise OutputError(f"{path}: this is a clip that the command reads; name another output")


def check_apart(destinations: Mapping[str, str | Path | None]) -> None:
    """Refuse, with `UsageError`, two records in one place; `destinations` are by option."""
    given = [str(place) for place in destinations.values() if place is not None]
    if len(set(given)) < len(given):
        raise UsageError(f"two of {', '.join(destinations)} name the same place; give each its own.")


def write_json(text: str, destination: str) -> None:
    """Write to a file, whole or not at all, or to standard output for `-`. Raises `OutputError`."""
    if destination == "-":
        print(text)
        return
    path = Path(destination)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose another place for --json.") from None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {package: version(package) for package in RECORDED_PACKAGES}


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class StageClock:
    """Tells how long each stage of a pull pipeline took by itself.

    A stage's iterator spends its time in the stages before it as well: `through` measures with them included, and
    `seconds` takes the difference.
    """

    def __init__(self) -> None:
        self._start = perf_counter()
        self._through: dict[str, float] = {}
        self._apart: dict[str, float] = {}

    def through(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items, timed. Stages must be wrapped from the first to the last."""
        self._through[stage] = 0.0
        return self._timed(stage, iter(items))

    def _timed(self, stage: str, iterator: Iterator[T]) -> Iterator[T]:
        while True:
            start = perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._through[stage] += perf_counter() - start
            yield item

    @contextmanager
    def apart(self, stage: str) -> Iterator[None]:
        """Time work that belongs to no iterator."""
        start = perf_counter()
        try:
            yield
        finally:
            self._apart[stage] = self._apart.get(stage, 0.0) + perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage alone, and of the whole so far as `total`."""
        alone, before = {}, 0.0
        for stage, inclusive in self._through.items():
            alone[stage] = inclusive - before
            before = inclusive
        return alone | self._apart | {"total": perf_counter() - self._start}
