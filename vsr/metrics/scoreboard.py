"""Keeps the score of a clip, frame by frame, in constant memory but for the values themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

import torch

from vsr.errors import InputError, UsageError
from vsr.frames import Frame
from vsr.metrics import select_metrics
from vsr.metrics.metric import LoadedClipMetric, LoadedMetric, Metric, MetricUnavailableError
from vsr.metrics.observation import MAX_CROP_PX, Observation, Picture, Step
from vsr.metrics.sharing import SharedSteps
from vsr.motion import DIS_FAST, DIS_MEDIUM, Motion

JsonValue = float | str | bool | None | list[float | None]
Values = dict[str, list[float | None]]
"""What metrics said of some frames, by name; only of metrics that have a value for each frame."""
_Loaded = LoadedMetric | LoadedClipMetric | MetricUnavailableError

NOT_TAKEN_OVER = (
    "the run was ended in between, and this figure needs all frames at once: vsr score measures it on the result"
)


@dataclass(frozen=True)
class MetricResult:
    """What one metric says of a clip."""

    mean: float | None
    """Over the frames that have a value, or the clip's one figure; None where there is none."""
    higher_is_better: bool
    unit: str
    per_frame: tuple[float | None, ...] | None
    """One entry per observed frame; None as a whole for a figure of the whole clip and an unavailable metric."""
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


class Scoreboard:
    """Observes the frames of one result and never alters them.

    With `with_baseline`, the enlarged low-resolution input is scored beside it, by the same metrics.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        has_truth: bool,
        has_low_resolution: bool,
        border: int = 0,
        with_baseline: bool = False,
        fast_flow: bool = False,
        shared: SharedSteps | None = None,
    ) -> None:
        """With `fast_flow`, motion is estimated several times as fast and less exactly; say so beside the figures.

        Boards of results that are compared with the very same tensors may have the work on those `shared`.
        Raises UsageError for an unknown metric, one that lacks what it needs, or a negative border.
        """
        if border < 0:
            raise UsageError(f"a border of {border} px was asked for, expected 0 or more")
        assert has_low_resolution or not with_baseline, "the baseline is made from the low-resolution input"
        metrics = select_metrics(names, has_truth, has_low_resolution)
        loaded = [_load(metric) for metric in metrics]
        self._scores = _ScoreSheet(metrics, loaded)
        self._baseline = _ScoreSheet(metrics, loaded) if with_baseline else None
        self._border = border
        self._flow_preset = DIS_FAST if fast_flow else DIS_MEDIUM
        self._has_truth, self._has_low_resolution = has_truth, has_low_resolution
        self._shared = shared or SharedSteps(remembered=0)
        self._before: dict[str, Picture] = {}

    def observe(
        self,
        result: Frame,
        truth: torch.Tensor | None = None,
        low_resolution: torch.Tensor | None = None,
        *,
        measured: bool = True,
        motion: Motion | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Measure the next frame. Pictures are float32 RGB (3, H, W) in [0, 1]; frames must come in order.

        `motion` is that of the enlarged low-resolution input, for whoever knows it; without it, it is estimated.
        A frame that is not `measured` has no value of its own; it is what the next one is compared with.
        A truth up to 7 px larger or smaller a side is compared over the common part: of the truth the top left, of
        the result what begins at `corner` = (top, left). Raises InputError where the sizes differ more, UsageError
        where the border leaves nothing.
        """
        assert (truth is not None) == self._has_truth, "a truth belongs to every frame or to none"
        assert (low_resolution is not None) == self._has_low_resolution, "so does the low-resolution input"
        device = result.pixels.device
        truth = None if truth is None else truth.to(device)
        low_resolution = None if low_resolution is None else low_resolution.to(device)
        observation = self._next_observation(result.pixels, truth, low_resolution, motion, corner)
        if not measured:
            self._scores.add_nothing()
            if self._baseline is not None:
                self._baseline.add_nothing()
            return
        self._scores.add(observation)
        if self._baseline is not None:
            assert observation.enlarged is not None
            self._baseline.add(replace(observation, result=observation.enlarged))

    def results(self) -> dict[str, MetricResult]:
        """What every metric says of the frames so far, by name."""
        return self._scores.results()

    def baseline_results(self) -> dict[str, MetricResult] | None:
        """The same of the enlarged input; None where no baseline was asked for."""
        return None if self._baseline is None else self._baseline.results()

    def values_from(self, first: int) -> list[Values]:
        """What was said of the frames observed from the `first` on: by the metrics, then of the baseline."""
        return [sheet.values_from(first) for sheet in (self._scores, self._baseline) if sheet is not None]

    def go_on(self, known: Sequence[Values]) -> None:
        """Take over what was said of all frames before the next, in another process; as `values_from(0)` tells it.

        A figure of the whole clip cannot be taken over and will have no value.
        """
        for sheet, values in zip((self._scores, self._baseline), known, strict=False):
            if sheet is not None:
                sheet.go_on(values)

    def remember(self, result: Frame, truth: torch.Tensor | None, low_resolution: torch.Tensor | None) -> None:
        """Take a frame, of which all was said before, as the one that the next is compared with."""
        self._next_observation(result.pixels, truth, low_resolution, None, (0, 0))

    def _next_observation(
        self,
        whole: torch.Tensor,
        truth: torch.Tensor | None,
        low_resolution: torch.Tensor | None,
        enlarged_motion: Motion | None,
        corner: tuple[int, int],
    ) -> Observation:
        height, width = whole.shape[-2:] if truth is None else common_size(whole, truth)
        top, left = corner
        if 2 * self._border >= min(height, width):
            raise UsageError(f"a border of {self._border} px leaves nothing of a picture of {width}x{height}")
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        enlarged = None if low_resolution is None else self._shared.enlarge(low_resolution, *whole.shape[-2:])
        compared = {
            "truth": None if truth is None else (truth[:, :height, :width], truth),
            "enlarged": None if enlarged is None else (enlarged[part], enlarged),
        }
        steps = {
            name: self._shared.step(*pixels, self._before.get(name), self._flow_preset)
            for name, pixels in compared.items()
            if pixels is not None
        }
        steps["result"] = Step(Picture(whole[part], whole), self._before.get("result"))
        is_cropped = whole.shape[-2:] != (height, width)
        if enlarged_motion is not None and not is_cropped:
            steps["enlarged"] = replace(steps["enlarged"], known_motion=enlarged_motion)
        self._before = {name: step.now for name, step in steps.items()}
        return Observation(
            result=steps["result"],
            truth=steps.get("truth"),
            enlarged=steps.get("enlarged"),
            low_resolution=low_resolution,
            border=self._border,
        )


def common_size(result: torch.Tensor, truth: torch.Tensor) -> tuple[int, int]:
    """Height and width of the top-left part that both have; raises InputError where sides differ by more than 7 px."""
    (height, width), (true_height, true_width) = result.shape[-2:], truth.shape[-2:]
    if max(abs(height - true_height), abs(width - true_width)) > MAX_CROP_PX:
        raise InputError(
            f"the result is {width}x{height} and the reference {true_width}x{true_height}; expected equal sizes "
            f"(up to {MAX_CROP_PX} px are cropped): score against the truth of this very clip and scale"
        )
    return min(height, true_height), min(width, true_width)


@dataclass(frozen=True)
class _Outcome:
    """As in `MetricResult`."""

    mean: float | None
    per_frame: tuple[float | None, ...] | None = None
    reason: str | None = None
    network: str | None = None


class _Column(Protocol):
    """What one metric has said so far."""

    def add(self, observation: Observation) -> None: ...

    def add_nothing(self) -> None: ...

    def values_from(self, first: int) -> list[float | None] | None:
        """What was said of each frame from the `first` on; None where single frames have no value."""
        ...

    def go_on(self, values: list[float | None] | None) -> None:
        """Begin behind frames that another process observed."""
        ...

    def outcome(self) -> _Outcome: ...


class _FrameColumn:
    """One value for each frame."""

    def __init__(self, metric: LoadedMetric) -> None:
        self._metric = metric
        self._values: list[float | None] = []

    def add(self, observation: Observation) -> None:
        self._values.append(self._metric.measure(observation))

    def add_nothing(self) -> None:
        self._values.append(None)

    def values_from(self, first: int) -> list[float | None] | None:
        return self._values[first:]

    def go_on(self, values: list[float | None] | None) -> None:
        self._values = list(values or ())

    def outcome(self) -> _Outcome:
        existing = [value for value in self._values if value is not None]
        mean = fmean(existing) if existing else None
        reason = None if existing else self._metric.absent
        return _Outcome(mean, tuple(self._values), reason, self._metric.network)


class _ClipColumn:
    """One value for the whole clip."""

    def __init__(self, metric: LoadedClipMetric) -> None:
        self._metric = metric
        self._figure = metric.start()
        self._misses_frames = False

    def add(self, observation: Observation) -> None:
        self._figure.add(observation)

    def add_nothing(self) -> None:
        """The frame is left out."""

    def values_from(self, first: int) -> list[float | None] | None:  # noqa: ARG002
        return None

    def go_on(self, values: list[float | None] | None) -> None:  # noqa: ARG002
        self._misses_frames = True

    def outcome(self) -> _Outcome:
        if self._misses_frames:
            return _Outcome(None, reason=NOT_TAKEN_OVER, network=self._metric.network)
        try:
            return _Outcome(self._figure.value(), network=self._metric.network)
        except MetricUnavailableError as absent:
            return _Outcome(None, reason=str(absent), network=self._metric.network)


@dataclass(frozen=True)
class _AbsentColumn:
    """A metric that cannot be computed on this machine."""

    reason: str

    def add(self, observation: Observation) -> None:
        """Nothing is measured."""

    def add_nothing(self) -> None:
        """Nor here."""

    def values_from(self, first: int) -> list[float | None] | None:  # noqa: ARG002
        return None

    def go_on(self, values: list[float | None] | None) -> None:
        """Nor was it before."""

    def outcome(self) -> _Outcome:
        return _Outcome(None, reason=self.reason)


class _ScoreSheet:
    """The columns of all metrics."""

    def __init__(self, metrics: Sequence[Metric], loaded: Sequence[_Loaded]) -> None:
        self._metrics = metrics
        self._columns = [_column(metric) for metric in loaded]

    def add(self, observation: Observation) -> None:
        for column in self._columns:
            column.add(observation)

    def add_nothing(self) -> None:
        for column in self._columns:
            column.add_nothing()

    def values_from(self, first: int) -> Values:
        columns = [column.values_from(first) for column in self._columns]
        named = zip(self._metrics, columns, strict=True)
        return {metric.name: values for metric, values in named if values is not None}

    def go_on(self, known: Values) -> None:
        for metric, column in zip(self._metrics, self._columns, strict=True):
            column.go_on(known.get(metric.name))

    def results(self) -> dict[str, MetricResult]:
        outcomes = [column.outcome() for column in self._columns]
        return {
            metric.name: MetricResult(
                mean=outcome.mean,
                higher_is_better=metric.higher_is_better,
                unit=metric.unit,
                per_frame=outcome.per_frame,
                reason=outcome.reason,
                network=outcome.network,
            )
            for metric, outcome in zip(self._metrics, outcomes, strict=True)
        }


def _load(metric: Metric) -> _Loaded:
    try:
        return metric.load()
    except MetricUnavailableError as unavailable:
        return unavailable


def _column(loaded: _Loaded) -> _Column:
    if isinstance(loaded, MetricUnavailableError):
        return _AbsentColumn(str(loaded))
    return _FrameColumn(loaded) if isinstance(loaded, LoadedMetric) else _ClipColumn(loaded)
