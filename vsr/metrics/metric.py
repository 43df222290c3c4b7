"""The description of a metric: a name, a direction, what it needs, and a function of one
observation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from vsr.errors import ModelError, VsrError
from vsr.models.weights import WeightFile, find_weights

if TYPE_CHECKING:
    from vsr.metrics.observation import Observation

T = TypeVar("T")

Measure = Callable[["Observation"], float | None]
"""The value for one frame; None where it does not exist (first frame of a pair, nothing unoccluded,
too small)."""


class MetricUnavailableError(VsrError):
    """A metric cannot be computed on this machine; the message says why and what to do. Not a
    failure of the run."""


class Needs(Enum):
    """The clips that a result has to be compared with."""

    NOTHING = "nothing"
    TRUTH = "a truth (--reference)"
    LOW_RESOLUTION = "the low-resolution input (--low-resolution)"
    EITHER = "a truth (--reference) or the low-resolution input (--low-resolution)"

    def are_met(self, has_truth: bool, has_low_resolution: bool) -> bool:
        """Tell whether these clips are there."""
        return {
            Needs.NOTHING: True,
            Needs.TRUTH: has_truth,
            Needs.LOW_RESOLUTION: has_low_resolution,
            Needs.EITHER: has_truth or has_low_resolution,
        }[self]


class ClipMetric(Protocol):
    """One figure of a whole clip, gathered in memory that does not grow with it."""

    def update(self, observation: "Observation") -> None:
        """Take in the next frame."""

    def compute(self) -> float:
        """Return the figure of the frames so far; raises MetricUnavailableError with why they have
        none."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return what was gathered so far, in copies on the CPU, never empty."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on behind the frames that another process gathered."""


@dataclass(frozen=True)
class LoadedMetric:
    """A metric ready to measure frame by frame."""

    measure: Measure
    network: str | None = None
    """The network or model whose weights it uses; figures of different ones are never compared."""
    missing_reason: str = "no frame has a value for it"
    """The reason to give where no frame has a value."""


@dataclass(frozen=True)
class LoadedClipMetric:
    """A metric ready to measure whole clips."""

    start: Callable[[], ClipMetric]
    """Begins a clip."""
    network: str | None = None
    """See `LoadedMetric`."""


@dataclass(frozen=True)
class Metric:
    """One entry of `METRICS`."""

    name: str
    unit: str
    """Unit of its values; `1` for a pure number."""
    higher_is_better: bool
    needs: Needs
    load: Callable[[], LoadedMetric | LoadedClipMetric]
    """Makes it ready; raises MetricUnavailableError where weights are missing."""
    of_pairs: bool = False
    """True where a value belongs to a frame and the one before, so that the first frame has
    none."""
    of_sets: bool = False
    """True for a figure of a clip that is one of any set of pictures as well."""
    weights: tuple[tuple[WeightFile, ...], ...] = ()
    """The files that it needs: sets of them, any of which will do; empty where it needs none. An
    empty set among them stands for what is shipped."""
    form: str = ""
    """Its exact form, for a metric of which several are in use; shown beside its figures."""
    note: str = ""
    """Warning to a reader of its figures."""
    only_when_named: bool = False
    """Left out of what is measured by default: a variant of another metric, or one of another kind
    of input."""


def too_small_reason(side_px: int) -> str:
    """Return the reason to give where all frames are too small."""
    return f"the frames are smaller than {side_px} px a side"


def build_from(files: tuple[WeightFile, ...], build: Callable[..., T]) -> T:
    """Build something from the paths of weight files; raises MetricUnavailableError where one is
    missing or does not serve."""
    found = {file: find_weights(file.patterns) for file in files}
    paths = [path for path in found.values() if path is not None]
    if len(paths) < len(files):
        # All at once: a user who fetches one file can fetch the others, too.
        missing = [file.missing for file, path in found.items() if path is None]
        raise MetricUnavailableError("; ".join(missing))
    try:
        return build(*paths)
    except ModelError as error:
        raise MetricUnavailableError(str(error)) from error


def build_from_first(builders: Mapping[WeightFile, Callable[[Path], T]], missing: str) -> T:
    """Build from the first of several files that is there and serves.

    Raises MetricUnavailableError with what is wrong with those that do not, and with `missing`.
    """
    reasons = []
    for file, build in builders.items():
        # A bad file must not hide a good one further down the list.
        if find_weights(file.patterns) is not None:
            try:
                return build_from((file,), build)
            except MetricUnavailableError as error:
                reasons.append(str(error))
    raise MetricUnavailableError("; ".join([*reasons, missing]))
