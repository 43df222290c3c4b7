"""Keeps the score of a clip, frame by frame, in constant memory but for the values themselves."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vsr.errors import InputError, UsageError
from vsr.image.motion import DIS_FAST, DIS_MEDIUM, Motion
from vsr.metrics import select_metrics
from vsr.metrics.cache import FramePairCache
from vsr.metrics.columns import MetricColumns, MetricResult, Values, load_metric
from vsr.metrics.observation import MAX_CROP_PX, FramePair, MetricImage, Observation
from vsr.video.frames import Frame

__all__ = ["MetricResult", "Scoreboard", "Values", "common_size"]


class Scoreboard:
    """Observes the frames of one result and never alters them.

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
        shared: FramePairCache | None = None,
    ) -> None:
        """With `fast_flow`, motion is estimated several times as fast and less exactly; say so
        beside the figures.

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
        loaded = [load_metric(metric) for metric in metrics]
        self._measures = bool(metrics)
        self._scores = MetricColumns(metrics, loaded)
        self._baseline = MetricColumns(metrics, loaded) if with_baseline else None
        self._border = border
        self._flow_preset = DIS_FAST if fast_flow else DIS_MEDIUM
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
        motion: Motion | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Measure the next frame. Pictures are float32 RGB (3, H, W) in [0, 1]; frames must come in
        order.

        `motion` is that of the enlarged low-resolution input, for whoever knows it; without it, it
        is estimated. A frame that is not `measured` has no value of its own; it is what the next
        one is compared with. A truth up to 7 px larger or smaller a side is compared over the
        common part: of the truth the top left, of the result what begins at `corner` = (top, left).
        Raises InputError where the sizes differ more, UsageError where the border leaves nothing.
        """
        assert (truth is not None) == self._has_truth, "a truth belongs to every frame or to none"
        assert (low_resolution is not None) == self._has_low_resolution, (
            "so does the low-resolution input"
        )
        device = result.pixels.device
        truth = None if truth is None else truth.to(device)
        low_resolution = None if low_resolution is None else low_resolution.to(device)
        if not self._measures:
            return
        observation = self._next_observation(result.pixels, truth, low_resolution, motion, corner)
        if not measured:
            self._add_missing()
            return
        self._scores.add(observation)
        if self._baseline is not None:
            assert observation.enlarged is not None
            self._baseline.add(replace(observation, result=observation.enlarged))

    def skip(self) -> None:
        """Leave out the next frame, which has no value and which the one after it is not compared
        with either."""
        self._previous = {}
        self._add_missing()

    def compute(self) -> dict[str, MetricResult]:
        """What every metric says of the frames so far, by name."""
        return self._scores.compute()

    def compute_baseline(self) -> dict[str, MetricResult] | None:
        """The same of the enlarged input; None where no baseline was asked for."""
        return None if self._baseline is None else self._baseline.compute()

    def state(self, first: int) -> list[Values]:
        """What was said of the frames observed from the `first` on: by the metrics, then of the
        baseline."""
        return [sheet.state(first) for sheet in (self._scores, self._baseline) if sheet is not None]

    def load_state(self, known: Sequence[Values]) -> None:
        """Take over what was said of all frames before the next, in another process; as
        `values_from(0)` tells it.

        A figure of the whole clip cannot be taken over and will have no value.
        """
        for sheet, values in zip((self._scores, self._baseline), known, strict=False):
            if sheet is not None:
                sheet.load_state(values)

    def set_previous(
        self, result: Frame, truth: torch.Tensor | None, low_resolution: torch.Tensor | None
    ) -> None:
        """Take a frame, of which all was said before, as the one that the next is compared with."""
        self._next_observation(result.pixels, truth, low_resolution, None, (0, 0))

    def _add_missing(self) -> None:
        self._scores.add_missing()
        if self._baseline is not None:
            self._baseline.add_missing()

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
            raise UsageError(
                f"a border of {self._border} px leaves nothing of a picture of {width}x{height}"
            )
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        enlarged = (
            None
            if low_resolution is None
            else self._shared.enlarge(low_resolution, *whole.shape[-2:])
        )
        compared = {
            "truth": None if truth is None else (truth[:, :height, :width], truth),
            "enlarged": None if enlarged is None else (enlarged[part], enlarged),
        }
        steps = {
            name: self._shared.step(*pixels, self._previous.get(name), self._flow_preset)
            for name, pixels in compared.items()
            if pixels is not None
        }
        steps["result"] = FramePair(MetricImage(whole[part], whole), self._previous.get("result"))
        is_cropped = whole.shape[-2:] != (height, width)
        if enlarged_motion is not None and not is_cropped:
            steps["enlarged"] = replace(steps["enlarged"], known_motion=enlarged_motion)
        self._previous = {name: step.current for name, step in steps.items()}
        return Observation(
            result=steps["result"],
            truth=steps.get("truth"),
            enlarged=steps.get("enlarged"),
            low_resolution=low_resolution,
            border=self._border,
        )


def common_size(result: torch.Tensor, truth: torch.Tensor) -> tuple[int, int]:
    """Height and width of the top-left part that both have; raises InputError where sides differ by
    more than 7 px."""
    (height, width), (true_height, true_width) = result.shape[-2:], truth.shape[-2:]
    if max(abs(height - true_height), abs(width - true_width)) > MAX_CROP_PX:
        raise InputError(
            f"the result is {width}x{height} and the reference {true_width}x{true_height}; "
            f"expected equal sizes (up to {MAX_CROP_PX} px are cropped): score against the truth "
            "of this very clip and scale"
        )
    return min(height, true_height), min(width, true_width)
