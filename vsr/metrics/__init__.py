"""Metrics: one value per frame each. To add one: a file beside this one, an entry here, a test with an oracle."""

from collections.abc import Sequence
from difflib import get_close_matches

from vsr.errors import UsageError
from vsr.metrics import (
    flicker,
    lpips,
    lr_psnr,
    psnr,
    sharpness,
    ssim,
    tlpips,
    tof,
    warping_error,
)
from vsr.metrics.metric import Metric, Needs

METRICS: dict[str, Metric] = {
    "psnr": Metric("psnr", "dB", True, Needs.TRUTH, psnr.load_rgb),
    "ssim": Metric("ssim", "1", True, Needs.TRUTH, ssim.load_rgb),
    "psnr_y": Metric("psnr_y", "dB", True, Needs.TRUTH, psnr.load_luma),
    "ssim_y": Metric("ssim_y", "1", True, Needs.TRUTH, ssim.load_luma),
    "lpips": Metric("lpips", "1", False, Needs.TRUTH, lpips.load),
    "lr_psnr": Metric("lr_psnr", "dB", True, Needs.LOW_RESOLUTION, lr_psnr.load),
    "sharpness": Metric("sharpness", "1", True, Needs.TRUTH, sharpness.load),
    "warping_error": Metric("warping_error", "grey levels", False, Needs.EITHER, warping_error.load, of_pairs=True),
    "flicker": Metric("flicker", "grey levels", False, Needs.TRUTH, flicker.load, of_pairs=True),
    "tof": Metric("tof", "px", False, Needs.TRUTH, tof.load, of_pairs=True),
    "tlpips": Metric("tlpips", "1", False, Needs.TRUTH, tlpips.load, of_pairs=True),
    "sharpness_live": Metric("sharpness_live", "1", True, Needs.LOW_RESOLUTION, sharpness.load_live),
    "flicker_live": Metric(
        "flicker_live", "grey levels", False, Needs.LOW_RESOLUTION, flicker.load_live, of_pairs=True
    ),
}


def select_metrics(names: Sequence[str], has_truth: bool, has_low_resolution: bool) -> list[Metric]:
    """The named metrics, in that order; raises UsageError for an unknown one and one that lacks what it needs."""
    chosen = [_metric_named(name) for name in dict.fromkeys(names)]
    for metric in chosen:
        if not metric.needs.met(has_truth, has_low_resolution):
            raise UsageError(f"metric '{metric.name}' needs {metric.needs.value}; give it or leave the metric out")
    return chosen


def possible_metrics(has_truth: bool, has_low_resolution: bool) -> list[str]:
    """Names of all metrics that can be computed from what there is."""
    return [name for name, metric in METRICS.items() if metric.needs.met(has_truth, has_low_resolution)]


def beside_sharpness(names: Sequence[str], has_truth: bool) -> list[str]:
    """The names, with a sharpness figure added where a figure across frames would stand alone: blur never flickers."""
    across_frames = any(_metric_named(name).of_pairs for name in names)
    if not across_frames or {"sharpness", "sharpness_live"} & set(names):
        return list(names)
    return [*names, "sharpness" if has_truth else "sharpness_live"]


def _metric_named(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    nearest = get_close_matches(name, METRICS, n=1, cutoff=0.0)[0]
    raise UsageError(f"unknown metric '{name}'; did you mean '{nearest}'? Known: {', '.join(METRICS)}")
