"""`vsr steady`, and the options of flicker control."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vsr.cli.options import JsonOption, exit_if_damaged, frame_progress, notify, split_names
from vsr.cli.signals import KeepWorkOption, RestartOption, WorkDirOption, stop_on_signal
from vsr.errors import UsageError

SteadyOption = Annotated[
    str | None,
    typer.Option("--steady", metavar="0..1|auto", help="Flicker control: 0 none, 1 strongest."),
]
TargetFlickerOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Choose the strength for each shot so that flicker is X times the source's own.",
    ),
]


def parse_strength(text: str | None) -> float | Literal["auto"] | None:
    """What `--steady` says. Raises `UsageError` for another word."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--steady is {text}; expected a number from 0 to 1, or auto.") from None


def steady(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="A video that an upscaler made.")],
    low_resolution: Annotated[str, typer.Option(metavar="LR", help="What it was made from.")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="The steadied video.")
    ],
    steady: SteadyOption = None,
    target_flicker: TargetFlickerOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Metrics measured before encoding; an empty string disables them."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="TRUTH", help="The clip at the result's size.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    codec: Annotated[str | None, typer.Option("-c", "--codec", help="As for vsr run.")] = None,
    crf: Annotated[
        float | None, typer.Option(help="Quality of the encoding; lower is better.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of the encoder, such as slow or veryfast.")
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option("--pix-fmt", help="Default: like the result.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    work_dir: WorkDirOption = None,
    keep_work: KeepWorkOption = False,
    restart: RestartOption = False,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="A recipe.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Apply flicker control to RESULT, which any upscaler made from LR, along the motion of LR."""
    from vsr import pipeline
    from vsr.cli.tables import print_run
    from vsr.files import check_record, write_json
    from vsr.pipeline.api import command_recipe, work_options

    if output == json == "-":
        raise UsageError(
            "standard output cannot carry both the video and the JSON; give one of them a file."
        )
    check_record(json, [result, low_resolution, output, reference])
    chosen = command_recipe(
        recipe,
        settings or [],
        steady=parse_strength(steady),
        target_flicker=target_flicker,
        metrics=None if metrics is None else split_names(metrics),
        device=device,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pixel_format,
    )
    with frame_progress("steadying") as on_progress, stop_on_signal() as should_stop:
        manifest = pipeline.steady(
            result,
            low_resolution,
            output,
            recipe=chosen,
            reference=reference,
            overwrite=overwrite,
            listener=pipeline.Listener(notify, on_progress, should_stop),
            work=work_options(work_dir, keep_work, restart),
        )
    print_run(manifest)
    if json is not None:
        write_json(manifest.to_json(), json)
    exit_if_damaged(manifest.damage)
