"""`vsr run` and `vsr plan`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import (
    JsonOption,
    RecipeOption,
    SettingsOption,
    counter,
    exit_if_damaged,
    notify,
    progress_listener,
    read_options,
    run_listener,
    stop_on_signal,
)
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.pipeline.options import Recipe, RunFiles

ClipArgument = Annotated[
    str, typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input.")
]
ClipsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLIP",
        help="Videos, folders of videos or pictures, patterns of pictures, or - for standard "
        "input.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    str | None, typer.Option("-o", "--output", help="Default: <stem>_x<scale> beside the clip.")
]
ProfileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json", help="Print the time of each stage and write a trace for Perfetto."
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Write an HTML report with frames and plots."),
]


def run(
    clips: ClipsArgument = None,
    output: OutputOption = None,
    # options of vsr run, by tools/write_signatures.py
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="The bank: a folder of models; default: the clip's own, in the cache.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="TRUTH", help="The clip at the output's size, as a truth."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    out_dir: Annotated[
        str | None,
        typer.Option(
            "--out-dir", metavar="DIR", help="Folder for the results, under their default names."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="auto|ADDRESS",
            help="Run on a Ray cluster: auto starts one on this machine, an address joins one.",
        ),
    ] = None,
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
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME|FILE.py:FUNCTION",
            help="shot, smi, student, baseline, dsrfi, selfrec, ami, avgi, zssr, kernelgan, "
            "zssrgan, bicubic or lanczos; default: shot, or smi where --models has no shot "
            "model.",
        ),
    ] = None,
    upscaler: Annotated[
        str | None,
        typer.Option(
            "--upscaler", metavar="FILE", help="Use a network from a file instead of a policy."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "-s",
            "--scale",
            help="Output sides over input sides, any number from 1 to 16; default: 4.",
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option("--height", metavar="N", help="Lines of the output, in place of --scale."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", metavar="N", help="Columns of the output, in place of --scale."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            metavar="WxH",
            help="The largest output that fits W x H pixels of a screen, in place of --scale.",
        ),
    ] = None,
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
    train: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="auto|never",
            help="Train the models that the policy lacks, or never; default: auto without "
            "--models, never with it.",
        ),
    ] = None,
    train_ahead: Annotated[
        bool | None, typer.Option("--train-ahead", help="Earlier name of --train auto.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="auto|fast|balanced|best|none",
            help="Policy shot: begin with the shipped prior of fast, balanced or best (auto: of "
            "--quality), or from random weights: none; default: auto.",
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
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="auto|fp32|bf16|fp16",
            help="Precision of networks; auto takes the fastest; default: auto.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", metavar="N", help="At most N x N pixels at once, where memory is short."
        ),
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
    even_brightness: Annotated[
        str | None,
        typer.Option(
            "--even-brightness",
            metavar="auto|on|off",
            help="Even brightness that flickers from frame to frame; auto where it is found; "
            "default: auto.",
        ),
    ] = None,
    remove_dirt: Annotated[
        str | None,
        typer.Option(
            "--remove-dirt",
            metavar="auto|on|off",
            help="Remove dirt that stands on one frame alone; auto where it is found; default: "
            "auto.",
        ),
    ] = None,
    remove_scratches: Annotated[
        str | None,
        typer.Option(
            "--remove-scratches",
            metavar="auto|on|off",
            help="Remove scratches, upright lines that stay while the scene moves behind them; "
            "auto where they are found; default: auto.",
        ),
    ] = None,
    remove_noise: Annotated[
        str | None,
        typer.Option(
            "--remove-noise",
            metavar="auto|on|off",
            help="Remove camera noise; auto where it is found, and the policy is no "
            "interpolation; default: auto.",
        ),
    ] = None,
    as_published: Annotated[
        bool | None,
        typer.Option(
            "--as-published",
            help="As the policy's source has it: SinGAN's without back-projection, restoration "
            "and flicker control, and with noise; ZSSR's with its rounds and its self-"
            "ensemble.",
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="fast|balanced|best",
            help="Policy shot: time spent on a frame; default: balanced.",
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
    profile: ProfileOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run for two seconds and print the expected time, memory and disk space.",
        ),
    ] = False,
    report: ReportOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into the folders of folders as well.")
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Upscale the films of a folder, and those that appear in it."
        ),
    ] = None,
) -> None:
    """Upscale CLIP and print how much it flickers. What is lacking is trained; timestamps and all
    streams are kept."""
    # By name: the parameters are written from the fields that they are read into.
    chosen, files = read_options(locals())
    names = clips or []
    if bool(names) == (watch is not None):
        raise UsageError(
            "give the clips to upscale, or a folder with --watch DIR"
            + (", not both." if names else ".")
        )
    from vsr.pipeline.batch import is_many

    if watch is not None or is_many(names, recursive):
        single = {"--dry-run": dry_run, "--report": report, "--profile": profile}
        for flag, value in single.items():
            if value:
                raise UsageError(f"{flag} is for one clip, and there are several.")
        if chosen.compare:
            raise UsageError("a recipe that compares policies is for one clip.")
        _upscale_many(names, watch, recursive, chosen, files, json)
        return
    (clip,) = names
    if dry_run:
        _plan(clip, chosen, files, json)
    elif chosen.compare:
        if report is not None or profile is not None:
            raise UsageError(
                "a recipe that compares policies writes no video that --report or --profile could "
                "show."
            )
        _compare(clip, chosen, files, json)
    else:
        _upscale(clip, chosen, files, json, profile, report)


def plan(
    clip: ClipArgument,
    output: OutputOption = None,
    # options of vsr run, by tools/write_signatures.py
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="The bank: a folder of models; default: the clip's own, in the cache.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="TRUTH", help="The clip at the output's size, as a truth."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    out_dir: Annotated[
        str | None,
        typer.Option(
            "--out-dir", metavar="DIR", help="Folder for the results, under their default names."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="auto|ADDRESS",
            help="Run on a Ray cluster: auto starts one on this machine, an address joins one.",
        ),
    ] = None,
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
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME|FILE.py:FUNCTION",
            help="shot, smi, student, baseline, dsrfi, selfrec, ami, avgi, zssr, kernelgan, "
            "zssrgan, bicubic or lanczos; default: shot, or smi where --models has no shot "
            "model.",
        ),
    ] = None,
    upscaler: Annotated[
        str | None,
        typer.Option(
            "--upscaler", metavar="FILE", help="Use a network from a file instead of a policy."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "-s",
            "--scale",
            help="Output sides over input sides, any number from 1 to 16; default: 4.",
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option("--height", metavar="N", help="Lines of the output, in place of --scale."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", metavar="N", help="Columns of the output, in place of --scale."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            metavar="WxH",
            help="The largest output that fits W x H pixels of a screen, in place of --scale.",
        ),
    ] = None,
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
    train: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="auto|never",
            help="Train the models that the policy lacks, or never; default: auto without "
            "--models, never with it.",
        ),
    ] = None,
    train_ahead: Annotated[
        bool | None, typer.Option("--train-ahead", help="Earlier name of --train auto.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="auto|fast|balanced|best|none",
            help="Policy shot: begin with the shipped prior of fast, balanced or best (auto: of "
            "--quality), or from random weights: none; default: auto.",
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
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="auto|fp32|bf16|fp16",
            help="Precision of networks; auto takes the fastest; default: auto.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", metavar="N", help="At most N x N pixels at once, where memory is short."
        ),
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
    even_brightness: Annotated[
        str | None,
        typer.Option(
            "--even-brightness",
            metavar="auto|on|off",
            help="Even brightness that flickers from frame to frame; auto where it is found; "
            "default: auto.",
        ),
    ] = None,
    remove_dirt: Annotated[
        str | None,
        typer.Option(
            "--remove-dirt",
            metavar="auto|on|off",
            help="Remove dirt that stands on one frame alone; auto where it is found; default: "
            "auto.",
        ),
    ] = None,
    remove_scratches: Annotated[
        str | None,
        typer.Option(
            "--remove-scratches",
            metavar="auto|on|off",
            help="Remove scratches, upright lines that stay while the scene moves behind them; "
            "auto where they are found; default: auto.",
        ),
    ] = None,
    remove_noise: Annotated[
        str | None,
        typer.Option(
            "--remove-noise",
            metavar="auto|on|off",
            help="Remove camera noise; auto where it is found, and the policy is no "
            "interpolation; default: auto.",
        ),
    ] = None,
    as_published: Annotated[
        bool | None,
        typer.Option(
            "--as-published",
            help="As the policy's source has it: SinGAN's without back-projection, restoration "
            "and flicker control, and with noise; ZSSR's with its rounds and its self-"
            "ensemble.",
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="fast|balanced|best",
            help="Policy shot: time spent on a frame; default: balanced.",
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
    profile: ProfileOption = None,
    report: ReportOption = None,
) -> None:
    """Predict a run. Upscales the first frames with these options, and prints the expected time,
    memory, disk space and dropped streams."""
    _plan(clip, *read_options(locals()), json)


def _upscale(
    clip: str,
    recipe: "Recipe",
    files: "RunFiles",
    json: str | None,
    profile: Path | None,
    report: Path | None,
) -> None:
    from vsr.cli.tables import print_profile, print_run
    from vsr.files import write_json
    from vsr.pipeline import run as pipeline
    from vsr.pipeline.profile import StageClock

    if report is not None:
        from vsr.evaluate.report import check_run_files, write_run_page

        # Before the run: a report that cannot be made should not cost its time.
        check_run_files(clip, files.output)
    clock = StageClock(traced=profile is not None)
    with run_listener("upscaling") as listener:
        manifest = pipeline.run(clip, recipe, files, listener, clock)
    print_run(manifest)
    if profile is not None:
        print_profile(manifest, clock)
        write_json(clock.trace(), str(profile))
    write_json(manifest.to_json(), json)
    if report is not None:
        with counter("page") as on_progress:
            write_run_page(manifest, report, files.reference, on_progress)
    exit_if_damaged(manifest.damage)


def _upscale_many(
    names: list[str],
    watch: str | None,
    recursive: bool,
    recipe: "Recipe",
    files: "RunFiles",
    json: str | None,
) -> None:
    from vsr.cli.tables import print_outcomes, print_run
    from vsr.files import write_json
    from vsr.pipeline import batch
    from vsr.pipeline import run as pipeline
    from vsr.pipeline.manifest import Manifest

    outcomes: list[batch.Outcome] = []

    def upscale(clip: str, own: "RunFiles") -> Manifest:
        with progress_listener("upscaling", should_stop) as listener:
            manifest = pipeline.run(clip, recipe, own, listener)
        print_run(manifest)
        return manifest

    with stop_on_signal() as should_stop:
        clips: Iterable[batch.FoundClip]
        if watch is None:
            clips = batch.find_clips(names, recursive, notify)
            batch.check_many(clips, files)
        else:
            batch.check_many([], files)
            found = batch.watch_films(watch, recursive, should_stop, notify)
            clips = (one for one in found if files.overwrite or not batch.has_result(one, files))
        try:
            for outcome in batch.run_clips(clips, files, upscale, notify):
                outcomes.append(outcome)
                if should_stop():
                    break
        finally:
            # Also where the user stops, or the watched folder vanishes: what is done is done.
            print_outcomes(outcomes)
            write_json(batch.to_json(outcomes), json)
    raise typer.Exit(batch.worst(outcome.exit_code for outcome in outcomes))


def _compare(clip: str, recipe: "Recipe", files: "RunFiles", json: str | None) -> None:
    from vsr.cli.tables import print_comparison
    from vsr.files import write_json
    from vsr.pipeline import run as pipeline

    with run_listener("upscaling") as listener:
        manifests = pipeline.compare(clip, recipe, files, listener)
    print_comparison(manifests)
    write_json("[" + ",\n".join(manifest.to_json() for manifest in manifests) + "]", json)
    exit_if_damaged([line for manifest in manifests for line in manifest.damage])


def _plan(clip: str, recipe: "Recipe", files: "RunFiles", json: str | None) -> None:
    from vsr.cli.tables import plan_lines
    from vsr.files import write_json
    from vsr.pipeline.plan import plan

    planned = plan(clip, recipe, files)
    if json != "-":
        for line in plan_lines(planned):
            print(line)
    write_json(planned.to_json(), json)
