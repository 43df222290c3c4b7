"""The record of a run: what was asked, what was decided, what came out."""

import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

from vsr.files import strict_json


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
    degradation: list[dict[str, Any]]
    """Degradation of each shot, as far as it is known; empty where nothing was looked at."""
    repairs: list[dict[str, Any]]
    """The repair of film, by shot: what was found, frames evened, spots and pixels replaced."""
    decisions: list[dict[str, Any]]
    """The policy's choices: at which frame, and why."""
    shots: list[int]
    """Number of the first frame of each shot."""
    steady: list[dict[str, Any]]
    """The work of flicker control on each shot: strength, flicker and sharpness."""
    streams_kept: list[str]
    streams_dropped: list[str]
    damage: list[str]
    """Damage of the input; empty for a sound one."""
    losses: list[str]
    """Parts of a sound input that the result cannot hold."""
    verified: dict[str, Any] | None
    """Frames, largest error of a time and streams, read back from the finished file."""
    notes: list[str]
    """Sentences for the user, in the order of the run."""
    encoder: str | None
    device: str
    dtype: str
    """Precision of networks: fp32, bf16 or fp16."""
    timings_seconds: dict[str, float]
    """Time spent in each stage alone, and `total`; stages run side by side."""
    stage_shares: dict[str, float]
    """For each stage the share of `total` in which it was at work; the largest first, which decides
    the speed."""
    peak_memory_bytes: int
    metrics: dict[str, Any]
    """Figures measured before encoding, in the form of the JSON of `vsr score`."""
    baseline: dict[str, Any]
    """Figures of the bicubically enlarged input, by the same metrics."""
    recipe: dict[str, Any]
    """The options in force, with the defaults filled in."""
    command: list[str]
    versions: dict[str, str]
    cluster: dict[str, Any] | None = None
    """Address, number of workers and tasks, tasks that were given again, and each worker's
    throughput; None for a run on this machine alone."""

    def to_json(self) -> str:
        """Strict JSON."""
        return strict_json(asdict(self))


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
