"""`vsr run`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.common import Json, Models, frame_progress, leave_damaged, names, say
from vsr.cli.steady import Steady, TargetFlicker, strength
from vsr.errors import UsageError


def run(
    clip: Annotated[str, typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="shot, smi, student, dsrfi, selfrec, ami, avgi, bicubic or lanczos.")
    ] = None,
    models: Models = None,
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
    codec: Annotated[
        str | None, typer.Option("-c", "--codec", help="auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME.")
    ] = None,
    crf: Annotated[float | None, typer.Option(help="Quality of the encoding; lower is better.")] = None,
    preset: Annotated[str | None, typer.Option(help="Speed of the encoder, by its own words.")] = None,
    pixel_format: Annotated[str | None, typer.Option("--pix-fmt", help="Default: like the input.")] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")] = False,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="A recipe, such as pipelines/avgi.toml.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")] = None,
    json: Json = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="One page to look at, with pictures and curves.")
    ] = None,
) -> None:
    """Upscale CLIP, with every timestamp and stream kept, and print how much it flickers."""
    from vsr import pipeline
    from vsr.api import command_recipe, run_recipe
    from vsr.manifest import check_apart, check_record, write_json
    from vsr.report import print_comparison, print_run

    if output == json == "-":
        raise UsageError("standard output cannot carry both the video and the JSON; give one of them a file.")
    check_apart({"--json": json, "--report": report})
    for record in (json, report):
        check_record(record, [clip, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        policy=policy,
        scale=scale,
        steady=strength(steady),
        target_flicker=target_flicker,
        quality=quality,
        train_ahead=train_ahead,
        metrics=None if metrics is None else names(metrics),
        device=device,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pixel_format,
    )
    if report is not None:
        from vsr.page import check_run_files, write_run_page

        check_run_files(clip, output)
        if chosen.compare:
            raise UsageError("a recipe that compares policies writes no video that --report could show.")
    with frame_progress("upscaling") as advance:
        listener = pipeline.Listener(say, advance)
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
                listener=listener,
            )
            compared = [manifest]
    if chosen.compare:
        print_comparison(compared)
    else:
        print_run(compared[0])
    if json is not None:
        bodies = [manifest.to_json() for manifest in compared]
        write_json(bodies[0] if not chosen.compare else "[" + ",\n".join(bodies) + "]", json)
    if report is not None:
        with frame_progress("page") as advance:
            write_run_page(compared[0], report, reference, advance)
    leave_damaged([line for manifest in compared for line in manifest.damage])
