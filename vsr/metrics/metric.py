"""What a metric is: a name, a direction, what it needs, and a function of one observation."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vsr.errors import VsrError
from vsr.metrics.observation import Observation
from vsr.models.weights import WeightFile

Measure = Callable[[Observation], float | None]
"""The value for one frame; None where it does not exist (first frame of a pair, nothing unoccluded,
too small)."""


class MetricUnavailableError(VsrError):
    """A metric cannot be computed on this machine; the message says why and what to do. Not a
    failure of the run."""


class Needs(Enum):
    """What a result has to be compared with."""

    NOTHING = "nothing"
    TRUTH = "a truth (--reference)"
    LOW_RESOLUTION = "the low-resolution input (--low-resolution)"
    EITHER = "a truth (--reference) or the low-resolution input (--low-resolution)"

    def are_met(self, has_truth: bool, has_low_resolution: bool) -> bool:
        """Whether this is there."""
        return {
            Needs.NOTHING: True,
            Needs.TRUTH: has_truth,
            Needs.LOW_RESOLUTION: has_low_resolution,
            Needs.EITHER: has_truth or has_low_resolution,
        }[self]


class ClipMetric(Protocol):
    """Gathers the one figure of a whole clip, in memory that does not grow with it."""

    def add(self, observation: Observation) -> None:
        """Take in the next frame."""

    def value(self) -> float:
        """The figure of the frames so far; raises MetricUnavailableError with why they have
        none."""


@dataclass(frozen=True)
class LoadedMetric:
    """A metric ready to measure frame by frame."""

    measure: Measure
    network: str | None = None
    """The network or model whose weights it uses; figures of different ones are never compared."""
    missing_reason: str = "no frame has a value for it"
    """What to say where no frame has a value."""


def too_small_reason(side_px: int) -> str:
    """What to say where all frames are too small."""
    return f"the frames are smaller than {side_px} px a side"


@dataclass(frozen=True)
class LoadedClipMetric:
    """A metric ready to measure whole clips."""

    start: Callable[[], ClipMetric]
    """Begins a clip."""
    network: str | None = None
    """As in `LoadedMetric`."""


@dataclass(frozen=True)
class Metric:
    """One entry of `METRICS`."""

    name: str
    unit: str
    """Of its values; `1` for a pure number."""
    higher_is_better: bool
    needs: Needs
    load: Callable[[], LoadedMetric | LoadedClipMetric]
    """Makes it ready; raises MetricUnavailableError where weights are missing."""
    of_pairs: bool = False
    """True where a value belongs to a frame and the one before, so that the first frame has
    none."""
    weights: tuple[tuple[WeightFile, ...], ...] = ()
    """The files that it needs: sets of them, any of which will do; empty where it needs none."""
    form: str = ""
    """Its exact form, for a metric of which several are in use; shown beside its figures."""
    only_when_named: bool = False
    """Left out of what is measured by default: a variant of another metric, or one of another kind
    of input."""
