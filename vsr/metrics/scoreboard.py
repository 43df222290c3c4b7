"""Keeps the score of a clip, frame by frame, in constant memory but for the values themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from vsr.errors import InputError, UsageError
from vsr.frames import Frame
from vsr.metrics import select_metrics
from vsr.metrics.metric import LoadedMetric, Metric, MetricUnavailableError
from vsr.metrics.observation import MAX_CROP_PX, Observation, Picture, Step
from vsr.resample import resize

JsonValue = float | str | bool | None | list[float | None]


@dataclass(frozen=True)
class MetricResult:
    """What one metric says of a clip."""

    mean: float | None
    """Over the frames that have a value; None where none has."""
    higher_is_better: bool
    unit: str
    per_frame: tuple[float | None, ...] | None
    """One entry per observed frame; None as a whole where the metric is unavailable."""
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
    ) -> None:
        """Raises UsageError for an unknown metric, one that lacks what it needs, or a negative border."""
        if border < 0:
            raise UsageError(f"a border of {border} px was asked for, expected 0 or more")
        assert has_low_resolution or not with_baseline, "the baseline is made from the low-resolution input"
        metrics = select_metrics(names, has_truth, has_low_resolution)
        loaded = {metric.name: _load(metric) for metric in metrics}
        self._scores = _ScoreSheet(metrics, loaded)
        self._baseline = _ScoreSheet(metrics, loaded) if with_baseline else None
        self._border = border
        self._has_truth, self._has_low_resolution = has_truth, has_low_resolution
        self._before: dict[str, Picture] = {}

    def observe(
        self,
        result: Frame,
        truth: torch.Tensor | None = None,
        low_resolution: torch.Tensor | None = None,
        *,
        measured: bool = True,
    ) -> None:
        """Measure the next frame. Pictures are float32 RGB (3, H, W) in [0, 1]; frames must come in order.

        A frame that is not `measured` has no value of its own; it is what the next one is compared with.
        A truth up to 7 px larger or smaller a side is compared over the common top-left part. Raises InputError
        where the sizes differ more, UsageError where the border leaves nothing.
        """
        assert (truth is not None) == self._has_truth, "a truth belongs to every frame or to none"
        assert (low_resolution is not None) == self._has_low_resolution, "so does the low-resolution input"
        device = result.pixels.device
        truth = None if truth is None else truth.to(device)
        low_resolution = None if low_resolution is None else low_resolution.to(device)
        observation = self._next_observation(result.pixels, truth, low_resolution)
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

    def _next_observation(
        self, whole: torch.Tensor, truth: torch.Tensor | None, low_resolution: torch.Tensor | None
    ) -> Observation:
        height, width = whole.shape[-2:] if truth is None else common_size(whole, truth)
        if 2 * self._border >= min(height, width):
            raise UsageError(f"a border of {self._border} px leaves nothing of a picture of {width}x{height}")
        enlarged = None if low_resolution is None else resize(low_resolution, *whole.shape[-2:]).clamp(0, 1)
        pictures = {"result": whole, "truth": truth, "enlarged": enlarged}
        steps = {
            name: Step(Picture(pixels[:, :height, :width], uncropped=pixels), self._before.get(name))
            for name, pixels in pictures.items()
            if pixels is not None
        }
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


class _ScoreSheet:
    """The values of each metric so far."""

    def __init__(self, metrics: Sequence[Metric], loaded: dict[str, LoadedMetric | MetricUnavailableError]) -> None:
        self._metrics = metrics
        self._loaded = loaded
        self._values: dict[str, list[float | None]] = {metric.name: [] for metric in metrics}

    def add(self, observation: Observation) -> None:
        for name, loaded in self._loaded.items():
            if isinstance(loaded, LoadedMetric):
                self._values[name].append(loaded.measure(observation))

    def add_nothing(self) -> None:
        for name, loaded in self._loaded.items():
            if isinstance(loaded, LoadedMetric):
                self._values[name].append(None)

    def results(self) -> dict[str, MetricResult]:
        return {metric.name: self._result(metric) for metric in self._metrics}

    def _result(self, metric: Metric) -> MetricResult:
        loaded = self._loaded[metric.name]
        if isinstance(loaded, MetricUnavailableError):
            return MetricResult(None, metric.higher_is_better, metric.unit, None, reason=str(loaded))
        values = self._values[metric.name]
        existing = [value for value in values if value is not None]
        return MetricResult(
            mean=fmean(existing) if existing else None,
            higher_is_better=metric.higher_is_better,
            unit=metric.unit,
            per_frame=tuple(values),
            reason=None if existing else "no frame has a value for it",
            network=loaded.network,
        )


def _load(metric: Metric) -> LoadedMetric | MetricUnavailableError:
    try:
        return metric.load()
    except MetricUnavailableError as unavailable:
        return unavailable
