"""What each metric says of the frames seen so far: a column each, of values per frame or of one
figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from vsr.metrics.metric import LoadedClipMetric, LoadedMetric, Metric, MetricUnavailableError
from vsr.metrics.observation import Observation

JsonValue = float | str | bool | None | list[float | None]
Values = dict[str, list[float | None]]
"""What metrics said of some frames, by name; only of metrics that have a value for each frame."""
LoadResult = LoadedMetric | LoadedClipMetric | MetricUnavailableError

NOT_RESUMABLE_REASON = (
    "the run was resumed, and this metric needs all frames in one process: run vsr score on "
    "the result"
)


@dataclass(frozen=True)
class MetricResult:
    """What one metric says of a clip."""

    mean: float | None
    """Over the frames that have a value, or the clip's one figure; None where there is none."""
    higher_is_better: bool
    unit: str
    per_frame: tuple[float | None, ...] | None
    """One entry per observed frame; None as a whole for a figure of the whole clip and an
    unavailable metric."""
    reason: str | None = None
    """Why `mean` is None, where it is."""
    network: str | None = None
    """The network behind the figures; those of different networks cannot be compared."""

    def to_json(self) -> dict[str, JsonValue]:
        """Plain values for strict JSON; `reason` and `network` only where they say something."""
        fields: dict[str, JsonValue] = {
            "mean": self.mean,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
            "per_frame": None if self.per_frame is None else list(self.per_frame),
        }
        said = {"reason": self.reason, "network": self.network}
        return fields | {name: text for name, text in said.items() if text is not None}


@dataclass(frozen=True)
class _ColumnResult:
    """As in `MetricResult`."""

    mean: float | None
    per_frame: tuple[float | None, ...] | None = None
    reason: str | None = None
    network: str | None = None


class _Column(Protocol):
    """What one metric has said so far."""

    def add(self, observation: Observation) -> None: ...

    def add_missing(self) -> None: ...

    def state(self, first: int) -> list[float | None] | None:
        """What was said of each frame from the `first` on; None where single frames have no
        value."""
        ...

    def load_state(self, values: list[float | None] | None) -> None:
        """Begin behind frames that another process observed."""
        ...

    def compute(self) -> _ColumnResult: ...


class _FrameColumn:
    """One value for each frame."""

    def __init__(self, metric: LoadedMetric) -> None:
        self._metric = metric
        self._values: list[float | None] = []

    def add(self, observation: Observation) -> None:
        self._values.append(self._metric.measure(observation))

    def add_missing(self) -> None:
        self._values.append(None)

    def state(self, first: int) -> list[float | None] | None:
        return self._values[first:]

    def load_state(self, values: list[float | None] | None) -> None:
        self._values = list(values or ())

    def compute(self) -> _ColumnResult:
        existing = [value for value in self._values if value is not None]
        mean = fmean(existing) if existing else None
        reason = None if existing else self._metric.missing_reason
        return _ColumnResult(mean, tuple(self._values), reason, self._metric.network)


class _ClipColumn:
    """One value for the whole clip."""

    def __init__(self, metric: LoadedClipMetric) -> None:
        self._metric = metric
        self._figure = metric.start()
        self._is_incomplete = False

    def add(self, observation: Observation) -> None:
        self._figure.add(observation)

    def add_missing(self) -> None:
        """The frame is left out."""

    def state(self, first: int) -> list[float | None] | None:  # noqa: ARG002
        return None

    def load_state(self, values: list[float | None] | None) -> None:  # noqa: ARG002
        self._is_incomplete = True

    def compute(self) -> _ColumnResult:
        if self._is_incomplete:
            return _ColumnResult(None, reason=NOT_RESUMABLE_REASON, network=self._metric.network)
        try:
            return _ColumnResult(self._figure.value(), network=self._metric.network)
        except MetricUnavailableError as absent:
            return _ColumnResult(None, reason=str(absent), network=self._metric.network)


@dataclass(frozen=True)
class _UnavailableColumn:
    """A metric that cannot be computed on this machine."""

    reason: str

    def add(self, observation: Observation) -> None:
        """Nothing is measured."""

    def add_missing(self) -> None:
        """Nor here."""

    def state(self, first: int) -> list[float | None] | None:  # noqa: ARG002
        return None

    def load_state(self, values: list[float | None] | None) -> None:
        """Nor was it before."""

    def compute(self) -> _ColumnResult:
        return _ColumnResult(None, reason=self.reason)


class MetricColumns:
    """The columns of all metrics."""

    def __init__(self, metrics: Sequence[Metric], loaded: Sequence[LoadResult]) -> None:
        self._metrics = metrics
        self._columns = [_column(metric) for metric in loaded]

    def add(self, observation: Observation) -> None:
        for column in self._columns:
            column.add(observation)

    def add_missing(self) -> None:
        for column in self._columns:
            column.add_missing()

    def state(self, first: int) -> Values:
        columns = [column.state(first) for column in self._columns]
        named = zip(self._metrics, columns, strict=True)
        return {metric.name: values for metric, values in named if values is not None}

    def load_state(self, known: Values) -> None:
        for metric, column in zip(self._metrics, self._columns, strict=True):
            column.load_state(known.get(metric.name))

    def compute(self) -> dict[str, MetricResult]:
        column_results = [column.compute() for column in self._columns]
        return {
            metric.name: MetricResult(
                mean=result.mean,
                higher_is_better=metric.higher_is_better,
                unit=metric.unit,
                per_frame=result.per_frame,
                reason=result.reason,
                network=result.network,
            )
            for metric, result in zip(self._metrics, column_results, strict=True)
        }


def load_metric(metric: Metric) -> LoadResult:
    """The metric made ready, or why it cannot be measured here."""
    try:
        return metric.load()
    except MetricUnavailableError as unavailable:
        return unavailable


def _column(loaded: LoadResult) -> _Column:
    if isinstance(loaded, MetricUnavailableError):
        return _UnavailableColumn(str(loaded))
    return _FrameColumn(loaded) if isinstance(loaded, LoadedMetric) else _ClipColumn(loaded)
