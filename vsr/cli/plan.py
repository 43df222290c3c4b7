"""`vsr plan` and `vsr run --dry-run`: what a run would do; `vsr doctor`: what this machine
brings."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.options import JsonOption
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.pipeline import RunPlan
    from vsr.pipeline.manifest import Manifest
    from vsr.pipeline.options import Recipe
    from vsr.pipeline.profile import StageClock

EXIT_DEVICE = 5
MIB = 2**20


def print_plan(
    clip: str,
    output: str | None,
    recipe: "Recipe",
    models: Path | None,
    reference: Path | None,
    json: str | None,
) -> None:
    """Make the plan of a run and print it, as lines or as JSON."""
    from vsr import pipeline
    from vsr.files import write_json

    if recipe.compare:
        raise UsageError("a recipe that compares policies has no plan; name one with --policy.")
    plan = pipeline.plan(clip, output, recipe=recipe, models=models, reference=reference)
    if json != "-":
        for line in plan_lines(plan):
            print(line)
    if json is not None:
        write_json(plan.to_json(), json)


def print_profile(manifest: "Manifest", clock: "StageClock", destination: Path | None) -> None:
    """What each stage took, on standard error, and the trace; nothing where no place for it is
    named."""
    if destination is None:
        return
    from rich.console import Console
    from rich.table import Column, Table

    from vsr.files import write_json

    table = Table(
        "stage",
        *(Column(heading, justify="right") for heading in ("s", "of the time", "ms a frame")),
    )
    for stage, seconds in clock.seconds_per_item().items():
        spent, share = manifest.timings_seconds[stage], manifest.stage_shares[stage]
        table.add_row(stage, f"{spent:.2f}", f"{100 * share:.1f} %", f"{1000 * seconds:.1f}")
    Console(stderr=True).print(table)
    write_json(clock.trace(), str(destination))


def plan_lines(plan: "RunPlan") -> list[str]:
    """A plan for people."""
    from vsr.progress import format_duration

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
        f"{plan.seconds_per_frame:.2f} s a frame by {plan.sampled_frames} frames that were tried",
        (
            "stages    "
            f"{', '.join(f'{stage} {1000 * seconds:.0f} ms' for stage, seconds in stages)} a "
            "frame, side by side"
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
    lines += [f"left out  {stream}" for stream in plan.streams_dropped]
    return lines + [f"note      {note}" for note in plan.notes]


def doctor(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where results would be written.")
    ] = Path(),
    json: JsonOption = None,
) -> None:
    """Check what runs depend on: device, precision, encoders, weights, memory and disk."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vsr.files import check_record, strict_json, write_json
    from vsr.pipeline.doctor import run_checks

    check_record(json, [])
    findings = list(run_checks(folder))
    table = Table("what", "", "found", "what to do")
    for finding in findings:
        state = Text(
            finding.state, style={"good": "green", "fair": "yellow", "bad": "red"}[finding.state]
        )
        table.add_row(finding.subject, state, Text(finding.found), Text(finding.advice))
    Console(stderr=json == "-").print(table)
    if json is not None:
        write_json(strict_json([asdict(finding) for finding in findings]), json)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(EXIT_DEVICE)
