"""Tables for people: figures of a run, its plan, policies compared, the models of a bank."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vsr.cli.terminal import notify
from vsr.errors import ModelError
from vsr.models.bank import bank_files, load_model
from vsr.models.prior import SHIPPED_PRIORS, load_prior
from vsr.models.shot_model import ShotCard, load_shot_model, shot_model_files
from vsr.pipeline.batch import Outcome
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.profile import StageClock
from vsr.progress import format_duration
from vsr.text import printable

if TYPE_CHECKING:
    from vsr.pipeline.plan import RunPlan

MIB = 2**20


def print_run(manifest: Manifest) -> None:
    """Print the figures of a run beside those of bicubic interpolation, on standard error."""
    shares = ", ".join(f"{name} {100 * of:.0f} %" for name, of in manifest.stage_shares.items())
    notify(
        f"{manifest.output}: {manifest.frames_out} frames in "
        f"{manifest.timings_seconds['total']:.1f} s, largest timestamp error "
        f"{manifest.max_pts_error_seconds:g} s"
    )
    notify(f"stage utilization: {shares}")
    if manifest.encoder is not None:
        where = "GPU" if manifest.encoder.endswith("_nvenc") else "CPU"
        notify(f"encoded by {manifest.encoder} on the {where}")
    for stream in manifest.streams_dropped:
        notify(f"dropped: {stream}")
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
        # Bicubic beside itself would be the same column twice.
        if manifest.policy != "bicubic":
            table.add_column("bicubic", justify="right")
            columns.append(manifest.baseline)
        for name, result in manifest.metrics.items():
            table.add_row(
                metric_label(name, result), *(_mean(column.get(name, {})) for column in columns)
            )
        Console(stderr=True).print(table)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print the ends of many runs, on standard error."""
    if not outcomes:
        notify("no clip was upscaled")
        return
    failed = sum(outcome.manifest is None for outcome in outcomes)
    table = Table(caption=f"{len(outcomes) - failed} of {len(outcomes)} clips upscaled")
    for heading in ("clip", "result"):
        table.add_column(heading, overflow="fold")
    for heading in ("frames", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        manifest = outcome.manifest
        result = f"exit code {outcome.exit_code}: {outcome.error}"
        if manifest is not None:
            result = f"{manifest.output}" + "; its input is damaged" * bool(manifest.damage)
        table.add_row(
            escape(printable(outcome.clip)),
            escape(printable(result)),
            "" if manifest is None else str(manifest.frames_out),
            format_duration(outcome.seconds),
        )
    Console(stderr=True).print(table)


def print_profile(manifest: Manifest, clock: StageClock) -> None:
    """Print the time of each stage, on standard error."""
    table = Table(
        "stage",
        *(Column(heading, justify="right") for heading in ("s", "of the time", "ms a frame")),
    )
    for stage, seconds in clock.seconds_per_item().items():
        spent, share = manifest.timings_seconds[stage], manifest.stage_shares[stage]
        table.add_row(stage, f"{spent:.2f}", f"{100 * share:.1f} %", f"{1000 * seconds:.1f}")
    Console(stderr=True).print(table)


def plan_lines(plan: "RunPlan") -> list[str]:
    """Format a plan as lines of text."""
    frames = "an unknown number of frames" if plan.frames is None else f"{plan.frames} frames"
    sizes = " to ".join(f"{width}x{height}" for width, height in (plan.size, plan.output_size))
    models = (
        f" with {len(plan.models)} models"
        if len(plan.models) > 1
        else "".join(f" with {n}" for n in plan.models)
    )
    stages = sorted(plan.stage_seconds_per_frame.items(), key=lambda item: -item[1])
    lines = [
        f"clip      {plan.clip}: {frames}, {sizes}",
        f"output    {plan.output}, by {plan.encoder}"
        + ("; it exists: -y would replace it" * plan.output_exists),
        f"policy    {plan.policy}{models}, on {plan.device} in {plan.dtype}",
        "time      "
        f"{'unknown' if plan.seconds is None else f'about {format_duration(plan.seconds)}'}, "
        f"{plan.seconds_per_frame:.2f} s a frame, measured on {plan.sampled_frames} frames",
        (
            "stages    "
            f"{', '.join(f'{stage} {1000 * seconds:.0f} ms' for stage, seconds in stages)} a "
            "frame, in parallel"
        ),
        f"memory    {plan.peak_memory_bytes / MIB:.0f} MiB",
    ]
    if plan.output_bytes is not None and plan.work_bytes is not None:
        free = "" if plan.free_bytes is None else f", {plan.free_bytes / MIB:.0f} MiB are free"
        lines.append(
            f"disk      about {plan.output_bytes / MIB:.1f} MiB, {plan.work_bytes / MIB:.1f} MiB "
            f"while it runs{free}"
        )
    lines += [f"kept      {stream}" for stream in plan.streams_kept]
    lines += [f"dropped   {stream}" for stream in plan.streams_dropped]
    return lines + [f"note      {note}" for note in plan.notes]


def print_comparison(manifests: Sequence[Manifest]) -> None:
    """Print a row for each policy and a column for each metric, on standard error."""
    columns = [
        [_stacked_label(name, result), *(_mean(each.metrics[name]) for each in manifests)]
        for name, result in manifests[0].metrics.items()
    ]
    seconds = [each.timings_seconds["upscale"] / max(each.frames_out, 1) for each in manifests]
    columns.append(["s/frame", *(f"{each:.2f}" for each in seconds)])
    console = Console(stderr=True)
    policies = ["policy", *(escape(manifest.policy) for manifest in manifests)]
    parts = _fitting(columns, console.width - _width(policies))
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        table = Table(
            caption="before encoding; s/frame is the upscaling alone" if is_last else None
        )
        for head, *_ in (policies, *part):
            table.add_column(head, justify="left" if head == "policy" else "right", no_wrap=True)
        for row in zip(*(cells for _, *cells in (policies, *part)), strict=True):
            table.add_row(*row)
        console.print(table)


def _fitting(columns: Sequence[list[str]], room: int) -> list[list[list[str]]]:
    """Deal columns out to tables that are no wider than `room` characters: a figure that is cut off
    is none."""
    parts: list[list[list[str]]] = [[]]
    for column in columns:
        if parts[-1] and sum(map(_width, [*parts[-1], column])) > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _width(column: Sequence[str]) -> int:
    # With the space on either side and the line between columns.
    return max(len(line) for cell in column for line in cell.split("\n")) + 3


def _stacked_label(name: str, result: dict[str, Any]) -> str:
    """Name a metric as `metric_label` does, in lines below each other."""
    label, _, details = metric_label(name, result).partition(" (")
    return "\n".join([label, *details.removesuffix(")").split(", ")])


def bank_table(folder: Path) -> Table:
    """List the models of a bank and their origins. Raises `ModelError` for an unreadable bank or an
    empty one."""
    files, shot_files = bank_files(folder), shot_model_files(folder)
    if not files and not shot_files:
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
    for path in shot_files:
        model = load_shot_model(path)
        shot = model.card
        table.add_row(
            escape(printable(model.name)),
            escape(printable(shot.clip)),
            f"{shot.first_frame}-{shot.last_frame}",
            f"{shot.shot_start_seconds:.2f}",
            "x2",
            f"{path.stat().st_size / 1024:.0f}",
            escape(printable(_recipe_of(shot))),
            str(shot.seed),
            f"{shot.loss_curve[-1]:.4f}" if shot.loss_curve else "",
        )
    if SHIPPED_PRIORS["balanced"].exists():
        prior = load_prior(SHIPPED_PRIORS["balanced"])
        count = prior.card.training.get("pictures", 0)
        table.caption = f"shot models begin from prior {prior.name}, trained on {count} pictures"
        if prior.card.knots is not None:
            table.caption += ", also compressed and noisy ones"
        for quality in ("fast", "best"):
            if (path := SHIPPED_PRIORS[quality]).exists():
                table.caption += f"; with --quality {quality} from {load_prior(path).name}"
    return table


def _recipe_of(shot: ShotCard) -> str:
    """Name what a shot model began from."""
    known = shot.degradation
    return (shot.prior or "shot") + ("" if known.is_clean else f" for {known.summary()}")


def num_measured_frames(manifest: Manifest) -> int:
    """Count the frames that were measured by the metric that measured most."""
    per_frame = [result["per_frame"] or [] for result in manifest.metrics.values()]
    return max(sum(value is not None for value in values) for values in per_frame)


def metric_label(name: str, result: dict[str, Any]) -> str:
    """Name a metric with its unit, network and the better direction."""
    arrow = "higher" if result["higher_is_better"] else "lower"
    details = [text for text in (result["unit"], result.get("network")) if text and text != "1"]
    return f"{name} ({', '.join([*details, arrow])})"


def _mean(result: dict[str, Any]) -> str:
    mean = result.get("mean")
    return "-" if mean is None else f"{mean:.3f}"
