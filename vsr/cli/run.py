"""`vsr run`."""

from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from vsr.cli.options import (
    JsonOption,
    ModelsOption,
    exit_if_damaged,
    frame_progress,
    notify,
    split_names,
)
from vsr.cli.plan import print_plan, print_profile
from vsr.cli.signals import KeepWorkOption, RestartOption, WorkDirOption, stop_on_signal
from vsr.cli.steady import SteadyOption, TargetFlickerOption, parse_strength
from vsr.errors import UsageError


def run(
    clip: Annotated[
        str,
        typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input."),
    ],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help=(
                "shot, smi, student, dsrfi, selfrec, ami, avgi, zssr, kernelgan, zssrgan, "
                "bicubic or lanczos."
            )
        ),
    ] = None,
    models: ModelsOption = None,
    upscaler: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Use a network from a file instead of a policy."),
    ] = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Any number from 1.")] = None,
    steady: SteadyOption = None,
    target_flicker: TargetFlickerOption = None,
    quality: Annotated[
        str | None,
        typer.Option(metavar="fast|balanced|best", help="Policy shot: time spent on a frame."),
    ] = None,
    train_ahead: Annotated[
        bool | None,
        typer.Option(
            "--train-ahead",
            help="Policy shot: train the model of each shot while the previous shot is upscaled.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Metrics measured before encoding; an empty string disables them."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="TRUTH", help="The clip at the output's size.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16|fp16", help="What networks compute in; auto is the fastest."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most N x N pixels at once, where memory is short."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Cores to use; all of them by default.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "-c", "--codec", help="auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME."
        ),
    ] = None,
    crf: Annotated[
        float | None, typer.Option(help="Quality of the encoding; lower is better.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of the encoder, such as slow or veryfast.")
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option("--pix-fmt", help="Default: like the input.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    work_dir: WorkDirOption = None,
    keep_work: KeepWorkOption = False,
    restart: RestartOption = False,
    on_damage: Annotated[
        str | None,
        typer.Option(
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        ),
    ] = None,
    deinterlace: Annotated[
        bool | None, typer.Option("--deinterlace", help="Deinterlace before upscaling.")
    ] = None,
    allow_huge: Annotated[
        bool | None,
        typer.Option("--allow-huge", help="Read clips beyond 64 million pixels or seven days."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="A recipe, such as pipelines/avgi.toml."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable."
        ),
    ] = None,
    json: JsonOption = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Print the time of each stage and write a trace for Perfetto."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run for two seconds and print the expected time, memory and disk space.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write an HTML report with frames and plots."),
    ] = None,
) -> None:
    """Upscale CLIP, with every timestamp and stream kept, and print how much it flickers."""
    from vsr import pipeline
    from vsr.files import check_distinct, check_record, write_json
    from vsr.pipeline.api import command_recipe, run_recipe, work_options
    from vsr.pipeline.profile import StageClock

    if output == json == "-":
        raise UsageError(
            "standard output cannot carry both the video and the JSON; give one of them a file."
        )
    check_distinct({"--json": json, "--report": report, "--profile": profile})
    for record in (json, report, profile):
        check_record(record, [clip, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        policy=policy,
        upscaler=upscaler,
        scale=scale,
        steady=parse_strength(steady),
        target_flicker=target_flicker,
        quality=quality,
        train_ahead=train_ahead,
        metrics=None if metrics is None else split_names(metrics),
        device=device,
        dtype=dtype,
        tile=tile,
        threads=threads,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pixel_format,
        on_damage=on_damage,
        deinterlace=deinterlace,
        allow_huge=allow_huge,
    )
    if dry_run:
        print_plan(clip, output, chosen, models, reference, json)
        return
    if chosen.compare and (report is not None or profile is not None):
        raise UsageError(
            "a recipe that compares policies writes no video that --report or --profile could show."
        )
    if report is not None:
        from vsr.evaluate.report import check_run_files, write_run_page

        check_run_files(clip, output)
    clock = StageClock(traced=profile is not None)
    with frame_progress("upscaling") as on_progress, stop_on_signal() as should_stop:
        listener = pipeline.Listener(notify, on_progress, should_stop)
        if chosen.compare:
            if output is not None or reference is None:
                raise UsageError(
                    "a recipe that compares policies needs --reference TRUTH and writes no -o OUT."
                )
            compared = pipeline.compare(
                clip, recipe=chosen, models=models, reference=reference, listener=listener
            )
        else:
            manifest = run_recipe(
                clip,
                output,
                recipe=chosen,
                models=models,
                reference=reference,
                overwrite=overwrite,
                work=work_options(work_dir, keep_work, restart),
                listener=listener,
                clock=clock,
            )
            compared = [manifest]
    from vsr.cli.tables import print_comparison, print_run

    if chosen.compare:
        print_comparison(compared)
    else:
        print_run(compared[0])
        print_profile(compared[0], clock, profile)
    if json is not None:
        bodies = [manifest.to_json() for manifest in compared]
        write_json(bodies[0] if not chosen.compare else "[" + ",\n".join(bodies) + "]", json)
    if report is not None:
        with frame_progress("page") as on_progress:
            write_run_page(compared[0], report, reference, on_progress)
    exit_if_damaged([line for manifest in compared for line in manifest.damage])


@wraps(run)
def plan(*arguments: Any, **options: Any) -> None:
    run(*arguments, **(options | {"dry_run": True}))


# The command line reads its options from here.
_parameters = signature(run).parameters
plan.__signature__ = Signature([each for name, each in _parameters.items() if name != "dry_run"])  # type: ignore[attr-defined]
plan.__doc__ = (
    "Run the first frames with these options, and print the expected time, memory, disk space "
    "and dropped streams."
)
