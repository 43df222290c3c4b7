"""`vsr steady`."""

from typing import Annotated

import typer

from vsr.cli.terminal import (
    JsonOption,
    RecipeOption,
    SettingsOption,
    exit_if_damaged,
    read_options,
    run_listener,
)


def steady(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="A video that an upscaler made.")],
    low_resolution: Annotated[str, typer.Option(metavar="LR", help="The clip it was made from.")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="The steadied video.")
    ],
    # options of vsr steady, by tools/write_signatures.py
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="TRUTH", help="The clip at the output's size, as a truth."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="matroska|y4m",
            help="What -o - streams; default: matroska, with all streams.",
        ),
    ] = None,
    work_dir: Annotated[
        str | None,
        typer.Option(
            "--work-dir",
            metavar="DIR",
            help="Folder for the unfinished segments; default: a hidden folder beside the output.",
        ),
    ] = None,
    keep_work: Annotated[
        bool, typer.Option("--keep-work", help="Keep the segments after the run has finished.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Discard the unfinished segments and start at the first frame."
        ),
    ] = False,
    steady: Annotated[
        str | None,
        typer.Option("--steady", metavar="0..1|auto", help="Flicker control: 0 none, 1 strongest."),
    ] = None,
    target_flicker: Annotated[
        float | None,
        typer.Option(
            "--target-flicker",
            metavar="X",
            help="Choose the strength for each shot so that flicker is X times the source's own.",
        ),
    ] = None,
    restore: Annotated[
        str | None,
        typer.Option(
            "--restore",
            metavar="0..1|auto",
            help="Undo compression, noise and blur: 0 not, 1 in full; auto as far as they are "
            "found; default: auto.",
        ),
    ] = None,
    grain: Annotated[
        str | None,
        typer.Option(
            "--grain",
            metavar="0..1|keep",
            help="Add grain to the finished frames: 0 none, 1 strong; keep follows the source's "
            "own noise.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="A,B",
            help="Metrics measured before encoding; an empty string disables them.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N; default: auto.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Cores to use; default: all.")
    ] = None,
    on_damage: Annotated[
        str | None,
        typer.Option(
            "--on-damage",
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop; default:"
            " keep.",
        ),
    ] = None,
    deinterlace: Annotated[
        str | None,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off; default: auto.",
        ),
    ] = None,
    allow_huge: Annotated[
        bool | None,
        typer.Option(
            "--allow-huge", help="Accept frames over 64 million pixels and clips over seven days."
        ),
    ] = None,
    stream: Annotated[
        int | None,
        typer.Option(
            "--stream",
            metavar="N",
            help="Number of the stream to read; default: the longest video stream.",
        ),
    ] = None,
    quantizer: Annotated[
        float | None,
        typer.Option(
            "--quantizer",
            metavar="0..51",
            help="Quantizer on H.264's scale that the clip was coded with before it was stored "
            "as it is; default: that of the stream.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--codec",
            help="auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME; default: auto.",
        ),
    ] = None,
    crf: Annotated[
        float | None, typer.Option("--crf", help="Quality of the encoding; lower is better.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Preset of the encoder, such as slow or veryfast."),
    ] = None,
    pix_fmt: Annotated[
        str | None,
        typer.Option("--pix-fmt", help="Pixel format by its libav name; default: like the input."),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option("--verify", help="Decode the finished file before it gets its name."),
    ] = None,
    # end of options
    recipe: RecipeOption = None,
    settings: SettingsOption = None,
    json: JsonOption = None,
) -> None:
    """Apply flicker control to the result of any upscaler. It follows the motion of LR, the clip
    that RESULT was made from."""
    chosen, files = read_options(locals())
    from vsr.cli.tables import print_run
    from vsr.files import write_json
    from vsr.pipeline import run as pipeline

    with run_listener("steadying") as listener:
        manifest = pipeline.steady(result, chosen, files, listener)
    print_run(manifest)
    write_json(manifest.to_json(), json)
    exit_if_damaged(manifest.damage)
