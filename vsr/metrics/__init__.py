"""Metrics: a value per frame each, or one per clip. To add one: a file here, an entry below, a test
with an oracle."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

from vsr.errors import UsageError
from vsr.metrics import (
    brisque,
    dists,
    diversity,
    fid,
    flicker,
    haarpsi,
    lpips,
    lr_psnr,
    niqe,
    psnr,
    sharpness,
    spectrum,
    ssim,
    tof,
    vif,
)
from vsr.metrics.lpips import BACKBONES, LPIPS_WEIGHTS
from vsr.metrics.metric import Metric, MetricUnavailableError, Needs
from vsr.models.weights import (
    BRISQUE_MODEL,
    BRISQUE_RANGE,
    DISTS_WEIGHTS,
    FID_INCEPTION,
    IMAGENET_INCEPTION,
    NIQE_MODEL,
    VGG16,
)

_LPIPS = Metric("lpips", "1", False, Needs.TRUTH, lpips.load, weights=LPIPS_WEIGHTS)
_TLPIPS = Metric(
    "tlpips", "1", False, Needs.TRUTH, lpips.load_temporal, of_pairs=True, weights=LPIPS_WEIGHTS
)
_DISTS_WEIGHTS = ((DISTS_WEIGHTS, VGG16),)
_BRISQUE_WEIGHTS = ((BRISQUE_MODEL, BRISQUE_RANGE),)
_FID_WEIGHTS = ((FID_INCEPTION,), (IMAGENET_INCEPTION,))

_ENTRIES = (
    Metric("psnr", "dB", True, Needs.TRUTH, psnr.load_rgb),
    Metric("ssim", "1", True, Needs.TRUTH, ssim.load_rgb),
    Metric("ms_ssim", "1", True, Needs.TRUTH, ssim.load_multi_scale),
    Metric("psnr_y", "dB", True, Needs.TRUTH, psnr.load_luma),
    Metric("ssim_y", "1", True, Needs.TRUTH, ssim.load_luma),
    _LPIPS,
    Metric("dists", "1", False, Needs.TRUTH, dists.load, weights=_DISTS_WEIGHTS),
    Metric(
        "niqe",
        "1",
        False,
        Needs.NOTHING,
        niqe.load,
        weights=((NIQE_MODEL,), ()),
        note=niqe.NOTE,
    ),
    Metric("brisque", "1", False, Needs.NOTHING, brisque.load, weights=_BRISQUE_WEIGHTS),
    Metric("vif", "1", True, Needs.TRUTH, vif.load, form=vif.FORM),
    Metric("haarpsi", "1", True, Needs.TRUTH, haarpsi.load),
    Metric("mae", "grey levels", False, Needs.TRUTH, psnr.load_mean_absolute),
    Metric("rmse", "grey levels", False, Needs.TRUTH, psnr.load_root_mean_square),
    Metric("fid", "1", False, Needs.TRUTH, fid.load, of_sets=True, weights=_FID_WEIGHTS),
    Metric("lr_psnr", "dB", True, Needs.LOW_RESOLUTION, lr_psnr.load),
    Metric("sharpness", "1", True, Needs.TRUTH, sharpness.load),
    Metric("spectrum", "1", False, Needs.TRUTH, spectrum.load, of_sets=True, form=spectrum.FORM),
    Metric(
        "diversity",
        "%",
        True,
        Needs.TRUTH,
        diversity.load,
        weights=LPIPS_WEIGHTS,
        only_when_named=True,
    ),
    Metric(
        "warping_error",
        "grey levels",
        False,
        Needs.EITHER,
        flicker.load_warping_error,
        of_pairs=True,
    ),
    Metric(
        "ewarp",
        "1e-3",
        False,
        Needs.EITHER,
        flicker.load_ewarp,
        of_pairs=True,
        only_when_named=True,
    ),
    Metric("flicker", "grey levels", False, Needs.TRUTH, flicker.load, of_pairs=True),
    Metric("tof", "px", False, Needs.TRUTH, tof.load, of_pairs=True),
    _TLPIPS,
    Metric("sharpness_live", "1", True, Needs.LOW_RESOLUTION, sharpness.load_live),
    Metric(
        "flicker_live", "grey levels", False, Needs.LOW_RESOLUTION, flicker.load_live, of_pairs=True
    ),
    *(
        replace(
            metric,
            name=f"{metric.name}:{network}",
            load=partial(load, (network,)),
            weights=((file,),),
            only_when_named=True,
        )
        for metric, load in ((_LPIPS, lpips.load), (_TLPIPS, lpips.load_temporal))
        for network, file in BACKBONES.items()
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
"""`lpips` and `tlpips` take the best network that has weights; `lpips:vgg` insists on one."""


def select_metrics(names: Sequence[str], has_truth: bool, has_low_resolution: bool) -> list[Metric]:
    """Return the named metrics, in that order; raises UsageError for an unknown one and one that
    lacks what it needs."""
    chosen = [_find_metric(name) for name in dict.fromkeys(names)]
    for metric in chosen:
        if not metric.needs.are_met(has_truth, has_low_resolution):
            raise UsageError(
                f"metric '{metric.name}' needs {metric.needs.value}; give it or leave the metric "
                "out"
            )
    return chosen


def possible_metrics(has_truth: bool, has_low_resolution: bool) -> list[str]:
    """Return the names of the metrics that can be computed from these clips, but for those that
    must be asked for by name."""
    return [
        name
        for name, metric in METRICS.items()
        if metric.needs.are_met(has_truth, has_low_resolution) and not metric.only_when_named
    ]


def with_sharpness(names: Sequence[str], has_truth: bool) -> list[str]:
    """Add a sharpness figure where a figure across frames would stand alone: blur never
    flickers."""
    across_frames = any(_find_metric(name).of_pairs for name in names)
    if not across_frames or {"sharpness", "sharpness_live"} & set(names):
        return list(names)
    return [*names, "sharpness" if has_truth else "sharpness_live"]


def perceptual_metric(has_truth: bool) -> str:
    """Choose the figure that correlates best with human ratings among those that a run can afford:
    `lpips` where there are a truth and weights, else `niqe`."""
    if has_truth:
        with suppress(MetricUnavailableError):
            # Loaded, not merely looked for: a file that does not serve is found out here.
            METRICS["lpips"].load()
            return "lpips"
    return "niqe"


def _find_metric(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    # Always one, however far off.
    nearest = get_close_matches(name, METRICS, n=1, cutoff=0.0)[0]
    raise UsageError(
        f"unknown metric '{name}'; did you mean '{nearest}'? Known: {', '.join(METRICS)}"
    )
