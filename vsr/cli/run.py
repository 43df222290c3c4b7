"""`vsr run`."""

from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from vsr.cli.options import Json, Models, frame_progress, leave_damaged, names, say
from vsr.cli.plan import print_plan, print_profile
from vsr.cli.signals import KeepWork, Restart, WorkDir, stopping_on_request
from vsr.cli.steady import Steady, TargetFlicker, strength
from vsr.errors import UsageError


def run(
    clip: Annotated[str, typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="shot, smi, student, dsrfi, selfrec, ami, avgi, zssr, kernelgan, zssrgan, bicubic or lanczos."
        ),
    ] = None,
    models: Models = None,
    upscaler: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A network from a file, in the place of a policy.")
    ] = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Any number from 1.")] = None,
    steady: Steady = None,
    target_flicker: TargetFlicker = None,
    quality: Annotated[
        str | None, typer.Option(metavar="fast|balanced|best", help="How much time policies with a choice take.")
    ] = None,
    train_ahead: Annotated[
        bool | None,
        typer.Option("--train-ahead", help="Policy shot: train each shot's model while the one before is enlarged."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B", help="Scored before encoding; an empty text: none.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="TRUTH", help="The clip at the output's size.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="auto|fp32|bf16|fp16", help="What networks compute in; auto is the fastest.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(metavar="N", help="At most N x N pixels at once, where memory is short.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all of them by default.")] = None,
    codec: Annotated[
        str | None, typer.Option("-c", "--codec", help="auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME.")
    ] = None,
    crf: Annotated[float | None, typer.Option(help="Quality of the encoding; lower is better.")] = None,
    preset: Annotated[str | None, typer.Option(help="Speed of the encoder, by its own words.")] = None,
    pixel_format: Annotated[str | None, typer.Option("--pix-fmt", help="Default: like the input.")] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")] = False,
    work_dir: WorkDir = None,
    keep_work: KeepWork = False,
    restart: Restart = False,
    on_damage: Annotated[
        str | None,
        typer.Option(metavar="keep|repeat|stop", help="Damaged frames: as decoded, the last whole one again, or stop."),
    ] = None,
    deinterlace: Annotated[
        bool | None, typer.Option("--deinterlace", help="Make whole frames of interlaced ones before enlarging.")
    ] = None,
    allow_huge: Annotated[
        bool | None, typer.Option("--allow-huge", help="Read clips beyond 64 million pixels or seven days.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="A recipe, such as pipelines/avgi.toml.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")] = None,
    json: Json = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="What each stage took, and a trace that Perfetto opens.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try the first frames for two seconds and tell what the run would take.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="One page to look at, with pictures and curves.")
    ] = None,
) -> None:
    """Upscale CLIP, with every timestamp and stream kept, and print how much it flickers."""
    from vsr import pipeline
    from vsr.files import check_apart, check_record, write_json
    from vsr.pipeline.api import command_recipe, run_recipe, work_options
    from vsr.pipeline.profile import StageClock

    if output == json == "-":
        raise UsageError("standard output cannot carry both the video and the JSON; give one of them a file.")
    check_apart({"--json": json, "--report": report, "--profile": profile})
    for record in (json, report, profile):
        check_record(record, [clip, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        policy=policy,
        upscaler=upscaler,
        scale=scale,
        steady=strength(steady),
        target_flicker=target_flicker,
        quality=quality,
        train_ahead=train_ahead,
        metrics=None if metrics is None else names(metrics),
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
        raise UsageError("a recipe that compares policies writes no video that --report or --profile could show.")
    if report is not None:
        from vsr.evaluate.report import check_run_files, write_run_page

        check_run_files(clip, output)
    clock = StageClock(traced=profile is not None)
    with frame_progress("upscaling") as advance, stopping_on_request() as is_stopping:
        listener = pipeline.Listener(say, advance, is_stopping)
        if chosen.compare:
            if output is not None or reference is None:
                raise UsageError("a recipe that compares policies needs --reference TRUTH and writes no -o OUT.")
            compared = pipeline.compare(clip, recipe=chosen, models=models, reference=reference, listener=listener)
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
        with frame_progress("page") as advance:
            write_run_page(compared[0], report, reference, advance)
    leave_damaged([line for manifest in compared for line in manifest.damage])


@wraps(run)
def plan(*arguments: Any, **options: Any) -> None:
    run(*arguments, **(options | {"dry_run": True}))


# The command line reads its options from here.
_parameters = signature(run).parameters
plan.__signature__ = Signature([each for name, each in _parameters.items() if name != "dry_run"])  # type: ignore[attr-defined]
plan.__doc__ = "Try the run of these options on its first frames, and tell what it would do, take and lose."
