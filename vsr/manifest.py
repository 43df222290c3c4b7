"""The record of a run: what was asked, what was decided, what came out."""

import json
import os
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vsr.errors import OutputError, UsageError
from vsr.storage import write_whole

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
    dtype: str
    """What networks computed in: fp32, bf16 or fp16."""
    timings_seconds: dict[str, float]
    """Time spent in each stage alone, and `total`; stages run side by side."""
    stage_shares: dict[str, float]
    """For each stage the share of `total` in which it was at work; the largest first, which decides the speed."""
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
    try:
        write_whole(path, (text + "\n").encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose another place for --json.") from None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {package: version(package) for package in RECORDED_PACKAGES}


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
