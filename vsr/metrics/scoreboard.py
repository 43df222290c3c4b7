"""The scores of a clip, kept frame by frame in constant memory but for the values themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from vsr.errors import UsageError
from vsr.image.motion import DIS_FAST, DIS_MEDIUM
from vsr.metrics import select_metrics
from vsr.metrics.metric import LoadedClipMetric, LoadedMetric, Metric, MetricUnavailableError
from vsr.metrics.observation import (
    FramePair,
    FramePairCache,
    MetricImage,
    MotionEstimate,
    Observation,
)
from vsr.video.align.crops import check_sizes
from vsr.video.frames import Frame

JsonValue = float | str | bool | None | list[float | None]
Values = dict[str, list[float | None]]
"""Values of some frames, by metric; only of metrics that have a value for each frame."""

NOT_RESUMABLE_REASON = (
    "the run was resumed, and this metric could not be measured before: run vsr score on the result"
)


@dataclass(frozen=True)
class MetricResult:
    """The figures of one metric for a clip."""

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
    note: str | None = None
    """Warning to a reader of the figures."""

    def to_json(self) -> dict[str, JsonValue]:
        """Return plain values for strict JSON; `reason`, `network` and `note` only where there
        is one."""
        fields: dict[str, JsonValue] = {
            "mean": self.mean,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
            "per_frame": None if self.per_frame is None else list(self.per_frame),
        }
        optional = {"reason": self.reason, "network": self.network, "note": self.note}
        return fields | {name: text for name, text in optional.items() if text is not None}


class Scoreboard:
    """Figures of one result, whose frames it observes and never alters.

    With `with_baseline`, the enlarged low-resolution input is scored beside it, by the same
    metrics.
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
        stays_on_device: bool = False,
        shared: FramePairCache | None = None,
    ) -> None:
        """With `fast_flow`, motion is estimated several times as fast and less exactly; say so
        beside the figures. With `stays_on_device`, it is estimated on a GPU where the pictures lie
        there: no picture leaves it, and figures differ a little from a CPU's.

        Boards of results that are compared with the very same tensors may have the work on those
        `shared`. Raises UsageError for an unknown metric, one that lacks what it needs, or a
        negative border.
        """
        if border < 0:
            raise UsageError(f"a border of {border} px was asked for, expected 0 or more")
        assert has_low_resolution or not with_baseline, (
            "the baseline is made from the low-resolution input"
        )
        metrics = select_metrics(names, has_truth, has_low_resolution)
        loaded = [(metric, _load(metric)) for metric in metrics]
        self._scores = [_Column(*pair) for pair in loaded]
        self._baseline = [_Column(*pair) for pair in loaded] if with_baseline else None
        self._border = border
        self._estimate = MotionEstimate(DIS_FAST if fast_flow else DIS_MEDIUM, stays_on_device)
        self._has_truth, self._has_low_resolution = has_truth, has_low_resolution
        self._shared = shared or FramePairCache(capacity=0)
        self._previous: dict[str, MetricImage] = {}

    def update(
        self,
        result: Frame,
        truth: torch.Tensor | None = None,
        low_resolution: torch.Tensor | None = None,
        *,
        measured: bool = True,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Measure the next frame. Pictures are float32 RGB (3, H, W) in [0, 1]; frames must come in
        order.

        A frame that is not `measured` has no value of its own; it is what the next one is compared
        with. A truth up to 7 px larger or smaller a side is compared over the common part: of the
        truth the top left, of the result what begins at `corner` = (top, left). Raises InputError
        where the sizes differ more, UsageError where the border leaves nothing.
        """
        assert (truth is not None) == self._has_truth, "a truth belongs to every frame or to none"
        assert (low_resolution is not None) == self._has_low_resolution, (
            "so does the low-resolution input"
        )
        # On the result's device: on a GPU its pictures are there already.
        device = result.pixels.device
        truth = None if truth is None else truth.to(device)
        low_resolution = None if low_resolution is None else low_resolution.to(device)
        if not self._scores:
            return
        observation = self._next_observation(result.pixels, truth, low_resolution, corner)
        self._add(observation if measured else None)

    def skip(self) -> None:
        """Leave out the next frame, which has no value and which the one after it is not compared
        with either."""
        self._previous = {}
        self._add(None)

    def compute(self) -> dict[str, MetricResult]:
        """Return the results of the frames so far, by metric."""
        return {column.name: column.compute() for column in self._scores}

    def compute_baseline(self) -> dict[str, MetricResult] | None:
        """Return the results of the enlarged input; None where no baseline was asked for."""
        if self._baseline is None:
            return None
        return {column.name: column.compute() for column in self._baseline}

    def state(self, first: int) -> list[Values]:
        """Return the values of the frames observed from the `first` on: the result's, then the
        baseline's."""
        return [
            {column.name: column.values[first:] for column in columns if column.is_per_frame}
            for columns in (self._scores, self._baseline)
            if columns is not None
        ]

    def clip_state(self) -> dict[str, torch.Tensor]:
        """Return what the figures of the whole clip have gathered so far, by metric and part."""
        return {
            f"{number}/{column.name}/{part}": tensor
            for number, columns in enumerate((self._scores, self._baseline))
            for column in columns or ()
            for part, tensor in column.clip_state().items()
        }

    def load_state(
        self, known: Sequence[Values], gathered: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Take over the values of all frames before the next, measured in another process, as
        `state(0)` and `clip_state()` return them.

        A figure of the whole clip of which nothing was `gathered` will have no value.
        """
        gathered = gathered or {}
        for number, (columns, values) in enumerate(
            zip((self._scores, self._baseline), known, strict=False)
        ):
            for column in columns or ():
                prefix = f"{number}/{column.name}/"
                parts = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in gathered.items()
                    if name.startswith(prefix)
                }
                column.load_state(values.get(column.name), parts)

    def set_previous(
        self, result: Frame, truth: torch.Tensor | None, low_resolution: torch.Tensor | None
    ) -> None:
        """Take a frame that was measured before as the one that the next is compared with."""
        self._next_observation(result.pixels, truth, low_resolution, (0, 0))

    def _add(self, observation: Observation | None) -> None:
        for column in self._scores:
            column.update(observation)
        if self._baseline is not None:
            if observation is not None:
                assert observation.enlarged is not None
                # The enlarged input takes the place of the result, and all else stays.
                observation = replace(observation, result=observation.enlarged)
            for column in self._baseline:
                column.update(observation)

    def _next_observation(
        self,
        whole: torch.Tensor,
        truth: torch.Tensor | None,
        low_resolution: torch.Tensor | None,
        corner: tuple[int, int],
    ) -> Observation:
        height, width = whole.shape[-2:] if truth is None else common_size(whole, truth)
        top, left = corner
        if 2 * self._border >= min(height, width):
            raise UsageError(
                f"a border of {self._border} px leaves nothing of a picture of {width}x{height}"
            )
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        # Enlarged to the whole result, then cut: a crop must not shift it by a part of a pixel.
        enlarged = (
            None
            if low_resolution is None
            else self._shared.enlarge(low_resolution, *whole.shape[-2:])
        )
        compared = {
            "truth": None if truth is None else (truth[:, :height, :width], truth),
            "enlarged": None if enlarged is None else (enlarged[part], enlarged),
        }
        pairs = {
            name: self._shared.pair(*pixels, self._previous.get(name), self._estimate)
            for name, pixels in compared.items()
            if pixels is not None
        }
        pairs["result"] = FramePair(MetricImage(whole[part], whole), self._previous.get("result"))
        self._previous = {name: pair.current for name, pair in pairs.items()}
        return Observation(
            result=pairs["result"],
            truth=pairs.get("truth"),
            enlarged=pairs.get("enlarged"),
            low_resolution=low_resolution,
            border=self._border,
        )


class _Column:
    """Values of one metric for the frames so far, or the gathering of its one figure."""

    def __init__(
        self, metric: Metric, loaded: LoadedMetric | LoadedClipMetric | MetricUnavailableError
    ) -> None:
        self.name = metric.name
        self.is_per_frame = isinstance(loaded, LoadedMetric)
        self.values: list[float | None] = []
        self._metric, self._loaded = metric, loaded
        self._clip = loaded.start() if isinstance(loaded, LoadedClipMetric) else None
        self._is_incomplete = False

    def update(self, observation: Observation | None) -> None:
        """Measure the next frame; None for one that is left out."""
        if isinstance(self._loaded, LoadedMetric):
            value = None if observation is None else self._loaded.measure(observation)
            # NumPy's numbers are refused where records are read back.
            self.values.append(None if value is None else float(value))
        elif self._clip is not None and observation is not None:
            self._clip.update(observation)

    def clip_state(self) -> dict[str, torch.Tensor]:
        """Return what the figure of the whole clip has gathered; empty for values of frames."""
        return {} if self._clip is None or self._is_incomplete else self._clip.state()

    def load_state(
        self, values: list[float | None] | None, gathered: Mapping[str, torch.Tensor]
    ) -> None:
        """Begin after frames that another process observed."""
        self.values = list(values or ())
        if self._clip is None:
            return
        # Nothing is there where the weights were missing then.
        self._is_incomplete = not gathered
        if gathered:
            self._clip.restore(gathered)

    def compute(self) -> MetricResult:
        """Return the figures of the frames so far."""
        mean, reason, per_frame = None, None, None
        if isinstance(self._loaded, MetricUnavailableError):
            reason = str(self._loaded)
        elif isinstance(self._loaded, LoadedMetric):
            existing = [value for value in self.values if value is not None]
            mean = fmean(existing) if existing else None
            reason = None if existing else self._loaded.missing_reason
            per_frame = tuple(self.values)
        else:
            mean, reason = self._clip_figure()
        network = None if isinstance(self._loaded, MetricUnavailableError) else self._loaded.network
        metric = self._metric
        return MetricResult(
            mean,
            metric.higher_is_better,
            metric.unit,
            per_frame,
            reason,
            network,
            metric.note or None,
        )

    def _clip_figure(self) -> tuple[float | None, str | None]:
        """Return the clip's figure, or why it has none."""
        assert self._clip is not None
        if self._is_incomplete:
            return None, NOT_RESUMABLE_REASON
        try:
            return self._clip.compute(), None
        except MetricUnavailableError as absent:
            return None, str(absent)


def _load(metric: Metric) -> LoadedMetric | LoadedClipMetric | MetricUnavailableError:
    try:
        return metric.load()
    except MetricUnavailableError as unavailable:
        return unavailable


def common_size(result: torch.Tensor, truth: torch.Tensor) -> tuple[int, int]:
    """Return height and width of the part that both have; raises InputError as `check_sizes`."""
    (height, width), (true_height, true_width) = result.shape[-2:], truth.shape[-2:]
    check_sizes((height, width), (true_height, true_width))
    return min(height, true_height), min(width, true_width)
