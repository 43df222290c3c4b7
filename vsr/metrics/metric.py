"""What a metric is: a name, a direction, what it needs, and a function of one observation."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from vsr.errors import VsrError
from vsr.metrics.observation import Observation

Measure = Callable[[Observation], float | None]
"""The value for one frame; None where it does not exist (first frame of a pair, nothing unoccluded, too small)."""


class MetricUnavailableError(VsrError):
    """A metric cannot be computed on this machine; the message says why and what to do. Not a failure of the run."""


class Needs(Enum):
    """What a result has to be compared with."""

    TRUTH = "a truth (--reference)"
    LOW_RESOLUTION = "the low-resolution input (--low-resolution)"
    EITHER = "a truth (--reference) or the low-resolution input (--low-resolution)"

    def met(self, has_truth: bool, has_low_resolution: bool) -> bool:
        """Whether this is there."""
        return {
            Needs.TRUTH: has_truth,
            Needs.LOW_RESOLUTION: has_low_resolution,
            Needs.EITHER: has_truth or has_low_resolution,
        }[self]


@dataclass(frozen=True)
class LoadedMetric:
    """A metric ready to measure."""

    measure: Measure
    network: str | None = None
    """The network whose weights it uses; figures of different networks are never compared."""


@dataclass(frozen=True)
class Metric:
    """One entry of `METRICS`."""

    name: str
    unit: str
    """Of its values; `1` for a pure number."""
    higher_is_better: bool
    needs: Needs
    load: Callable[[], LoadedMetric]
    """Makes it ready; raises MetricUnavailableError where weights are missing."""
    of_pairs: bool = False
    """True where a value belongs to a frame and the one before, so that the first frame has none."""
