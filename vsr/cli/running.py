"""`vsr run`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.common import Json, Models, frame_progress, leave_damaged, names, say
from vsr.errors import UsageError


def run(
    clip: Annotated[str, typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="smi, dsrfi, selfrec, ami, avgi, bicubic or lanczos.")] = None,
    models: Models = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Any number from 1.")] = None,
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
) -> None:
    """Upscale CLIP, with every timestamp and stream kept, and print how much it flickers."""
    from vsr import pipeline
    from vsr.api import command_recipe
    from vsr.manifest import check_record, write_json
    from vsr.report import print_comparison, print_run

    if output == json == "-":
        raise UsageError("standard output cannot carry both the video and the JSON; give one of them a file.")
    check_record(json, [clip, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        policy,
        scale,
        None if metrics is None else names(metrics),
        device,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pixel_format,
    )
    with frame_progress("upscaling") as advance:
        listener = pipeline.Listener(say, advance)
        if chosen.compare:
            if output is not None or reference is None:
                raise UsageError("a recipe that compares policies needs --reference TRUTH and writes no -o OUT.")
            compared = pipeline.compare(clip, recipe=chosen, models=models, reference=reference, listener=listener)
        else:
            manifest = pipeline.run(
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
    leave_damaged([line for manifest in compared for line in manifest.damage])
