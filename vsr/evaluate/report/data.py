"""What the page's scripts draw, as plain values."""

from math import isfinite
from typing import Any

from vsr.evaluate.report.content import Curve, ReportContent, Values
from vsr.evaluate.report.frames import MomentFrames, ReportFrames
from vsr.evaluate.report.images import EncodedMoment
from vsr.evaluate.report.moments import decimate
from vsr.evaluate.report.regions import Box
from vsr.evaluate.report.spectrum import frequencies, radial_power_db

MAX_POINTS = 100_000
"""Of all curves together: some 2 MB."""
MAX_POINTS_OF_CURVE = 1200


def page_data(
    subject: ReportContent, report_frames: ReportFrames, encoded: list[EncodedMoment]
) -> dict[str, Any]:
    """What the scripts draw, as plain values."""
    places = {version.label: place for place, version in enumerate(subject.versions)}
    num_lines = sum(len(curve.values) for curve in subject.curves)
    max_points = min(MAX_POINTS_OF_CURVE, MAX_POINTS // max(num_lines, 1))
    return {
        "versions": [
            {"label": version.label, "role": version.role.value} for version in subject.versions
        ],
        "moments": [
            _moment_data(*pair) for pair in zip(report_frames.samples, encoded, strict=True)
        ],
        "cuts": [
            round(report_frames.seconds[cut], 3)
            for cut in subject.cuts
            if cut < len(report_frames.seconds)
        ],
        "curves": [
            _curve_data(curve, subject.frames, report_frames.seconds, places, max_points)
            for curve in subject.curves
        ],
        "spectrum": {
            "frequency": _numbers(frequencies()),
            "power": [
                _numbers(
                    radial_power_db([sample.pictures[place] for sample in report_frames.samples])
                )
                for place in range(len(subject.versions) if report_frames.samples else 0)
            ],
        },
    }


def _moment_data(sample: MomentFrames, encoded: EncodedMoment) -> dict[str, Any]:
    return {
        "frame": sample.moment.frame,
        "seconds": round(sample.seconds, 3),
        "reason": sample.moment.reason,
        "height": sample.shown.height,
        "width": sample.shown.width,
        "box": _within(sample.box, sample.shown),
        "column": _within(sample.column, sample.shown),
        "loopFrames": [sample.moment.loop.start, sample.loops.shape[1]],
        "sliceFrames": [sample.moment.time_slice.start, sample.slices.shape[2]],
        "pictures": encoded.pictures,
        "loops": encoded.loops,
        "slices": encoded.slices,
    }


def _within(box: Box, shown: Box) -> list[int]:
    return [box.top - shown.top, box.left - shown.left, box.height, box.width]


def _curve_data(
    curve: Curve,
    frames: tuple[int, ...],
    seconds: list[float],
    places: dict[str, int],
    max_points: int,
) -> dict[str, Any]:
    lines = []
    for label, values in curve.values.items():
        kept = [place for place in decimate(values, max_points) if frames[place] < len(seconds)]
        lines.append(
            {
                "version": places[label],
                "frames": [frames[place] for place in kept],
                "seconds": [round(seconds[frames[place]], 3) for place in kept],
                "values": _numbers(values[kept]),
            }
        )
    return {
        "metric": curve.metric,
        "unit": curve.unit,
        "higher": curve.higher_is_better,
        "lines": lines,
    }


def _numbers(values: Values) -> list[float | None]:
    return [float(f"{value:.5g}") if isfinite(value) else None for value in values]
