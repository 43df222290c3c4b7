"""Tables for people: what a run made, how policies compare, what a bank holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vsr.errors import ModelError
from vsr.models.bank import bank_files, load_model
from vsr.pipeline.manifest import Manifest
from vsr.text import printable


def print_run(manifest: Manifest) -> None:
    """The figures of a run beside those of bicubic interpolation, on standard error."""
    console = Console(stderr=True)
    seconds = manifest.timings_seconds["total"]
    console.print(
        f"{printable(str(manifest.output))}: {manifest.frames_out} frames in {seconds:.1f} s, "
        f"largest timestamp error {manifest.max_pts_error_seconds:g} s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    at_work = ", ".join(
        f"{stage} {100 * share:.0f} %" for stage, share in manifest.stage_shares.items()
    )
    console.print(f"stage utilization: {at_work}", highlight=False, markup=False, soft_wrap=True)
    for stream in manifest.streams_dropped:
        console.print(
            f"left out: {printable(stream)}", highlight=False, markup=False, soft_wrap=True
        )
    if manifest.metrics:
        measured, frames = num_measured_frames(manifest), manifest.frames_out
        sample = "" if measured == frames else f" and on {measured} of {frames} frames"
        table = Table(
            caption=(
                f"before encoding{sample}; read flicker together with sharpness: blur lowers both"
            )
        )
        table.add_column("metric")
        table.add_column(manifest.policy, justify="right")
        columns = [manifest.metrics]
        if manifest.policy != "bicubic":
            table.add_column("bicubic", justify="right")
            columns.append(manifest.baseline)
        for name, result in manifest.metrics.items():
            table.add_row(
                metric_label(name, result), *(_mean(column.get(name, {})) for column in columns)
            )
        console.print(table)


def print_comparison(manifests: Sequence[Manifest]) -> None:
    """Policies down, metrics across, on standard error."""
    table = Table(caption="before encoding; s/frame is the upscaling alone")
    table.add_column("policy")
    for name, result in manifests[0].metrics.items():
        table.add_column(metric_label(name, result), justify="right")
    table.add_column("s/frame", justify="right")
    for manifest in manifests:
        seconds = manifest.timings_seconds["upscale"] / max(manifest.frames_out, 1)
        table.add_row(manifest.policy, *map(_mean, manifest.metrics.values()), f"{seconds:.2f}")
    Console(stderr=True).print(table)


def bank_table(folder: Path) -> Table:
    """The models of a bank with where each comes from. Raises `ModelError` for an unreadable bank
    or an empty one."""
    files = bank_files(folder)
    if not files:
        raise ModelError(
            f"there are no models in {folder}. Train some with vsr train-keyframe CLIP --models "
            f"{folder}."
        )
    columns = (Column("model", overflow="fold"), Column("clip", overflow="fold"))
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("frame", "time s", "step", "KiB", "recipe", "seed", "loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for path in files:
        card = load_model(path).card
        table.add_row(
            escape(printable(path.stem)),
            escape(printable(card.clip)),
            str(card.keyframe),
            f"{card.frame_time:.2f}",
            f"x{card.step_ratio:.2f}",
            f"{path.stat().st_size / 1024:.0f}",
            escape(printable(card.recipe)),
            str(card.seed),
            f"{card.loss_curve[-1]:.4f}" if card.loss_curve else "",
        )
    return table


def num_measured_frames(manifest: Manifest) -> int:
    """How many frames were measured by the metric that measured most."""
    per_frame = [result["per_frame"] or [] for result in manifest.metrics.values()]
    return max(sum(value is not None for value in values) for values in per_frame)


def metric_label(name: str, result: dict[str, Any]) -> str:
    """A metric's name with its unit, network and the better direction."""
    arrow = "higher" if result["higher_is_better"] else "lower"
    details = [text for text in (result["unit"], result.get("network")) if text and text != "1"]
    return f"{name} ({', '.join([*details, arrow])})"


def _mean(result: dict[str, Any]) -> str:
    mean = result.get("mean")
    return "-" if mean is None else f"{mean:.3f}"
