"""Data of the page: pictures as data URIs, as good as the room allows, and all that its scripts
draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import cv2
import numpy as np

from vsr.evaluate.images import LOSSLESS, RgbImage, data_uri
from vsr.evaluate.report.content import Curve, ReportContent, Values
from vsr.evaluate.report.frames import MomentFrames, ReportFrames
from vsr.evaluate.report.moments import Box, Plane, decimate, luma

QUALITIES = (LOSSLESS, 95, 88, 80, 70, 55, 40)
SCALES = (1, 2, 4)
"""Reductions of the whole frames, tried when no quality is enough."""
LOSSLESS_BYTES_PER_PIXEL = 1.4
"""Length of the text, about. Where it would not fit, lossless pictures are not tried: they take
long."""


@dataclass(frozen=True)
class EncodedMoment:
    """The pictures of one moment as data URIs, one for each version."""

    pictures: tuple[str, ...]
    loops: tuple[str, ...]
    """Frames of the loop, one below the other."""
    slices: tuple[str, ...]


def encode_moments(
    samples: Sequence[MomentFrames], max_bytes: int
) -> tuple[list[EncodedMoment], str]:
    """Encode all pictures within `max_bytes` of text; tell as well how they are stored."""
    num_pixels = sum(picture.size // 3 for sample in samples for picture in sample.pictures)
    for scale in SCALES:
        for quality in QUALITIES:
            if quality == LOSSLESS and num_pixels * LOSSLESS_BYTES_PER_PIXEL > max_bytes:
                continue
            encoded = _encode_within(samples, quality, scale, max_bytes)
            if encoded is not None:
                return encoded, _describe_storage(quality, scale)
    raise AssertionError("the worst quality of the smallest pictures fits any page")


def _encode_within(
    samples: Sequence[MomentFrames], quality: int, scale: int, max_bytes: int
) -> list[EncodedMoment] | None:
    """Encode all pictures; None, as soon as it is known, where the room is not enough."""
    room = max_bytes

    def encode(pictures: Sequence[RgbImage]) -> tuple[str, ...] | None:
        nonlocal room
        uris = []
        for picture in pictures:
            uris.append(data_uri(picture, quality))
            room -= len(uris[-1])
            if room < 0:
                return None
        return tuple(uris)

    encoded = []
    for sample in samples:
        whole = encode([_reduced(picture, scale) for picture in sample.pictures])
        loops = whole and encode([np.concatenate(loop) for loop in sample.loops])
        slices = loops and encode(list(sample.slices))
        if not (whole and loops and slices):
            return None
        encoded.append(EncodedMoment(whole, loops, slices))
    return encoded


def _reduced(picture: RgbImage, scale: int) -> RgbImage:
    if scale == 1:
        return picture
    size = max(1, picture.shape[1] // scale), max(1, picture.shape[0] // scale)
    reduced: RgbImage = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return reduced


def _describe_storage(quality: int, scale: int) -> str:
    kept = "without loss" if quality == LOSSLESS else f"as WebP of quality {quality}"
    return kept if scale == 1 else f"{kept}, whole frames at 1/{scale} of their size"


MAX_POINTS = 100_000
"""Points of all curves together: some 2 MB."""
MAX_POINTS_OF_CURVE = 1200
NUM_BINS = 64
"""Bins of the power spectrum."""


def page_data(
    subject: ReportContent, report_frames: ReportFrames, encoded: list[EncodedMoment]
) -> dict[str, Any]:
    """Return everything that the scripts draw, for JSON."""
    places = {version.label: place for place, version in enumerate(subject.versions)}
    num_lines = sum(len(curve.values) for curve in subject.curves)
    max_points = min(MAX_POINTS_OF_CURVE, MAX_POINTS // max(num_lines, 1))
    return {
        "versions": [
            {"label": version.label, "role": version.role.value} for version in subject.versions
        ],
        "shown": None if subject.shown_first is None else places[subject.shown_first],
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


def frequencies() -> Values:
    """Return the centers of the bins in cycles per pixel, (NUM_BINS,); 0.5 is the finest pattern
    that pixels can hold."""
    return (np.arange(NUM_BINS) + 0.5) * 0.5 / NUM_BINS


def radial_power_db(pictures: Sequence[RgbImage]) -> Values:
    """Return the mean power over pictures in dB, for each bin (NUM_BINS,); NaN where a bin is
    empty.

    It is that of luma in [0, 255] without its mean, under a Hann window.
    """
    power = np.mean([_radial_power(luma(picture)) for picture in pictures], axis=0)
    return np.asarray(10 * np.log10(power + 1e-9))


def _radial_power(plane: Plane) -> Values:
    height, width = plane.shape
    # Without the window, the jump from the right edge to the left would fill the highest bins.
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.rfft2((plane - plane.mean()) * window)) ** 2 / max(
        (window**2).sum(), 1e-9
    )
    fineness = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    bins = (fineness * 2 * NUM_BINS).astype(int)
    inside = bins < NUM_BINS
    sums = np.bincount(bins[inside], power[inside], NUM_BINS)
    counts = np.bincount(bins[inside], minlength=NUM_BINS)
    return np.asarray(np.divide(sums, counts, out=np.full(NUM_BINS, np.nan), where=counts > 0))
