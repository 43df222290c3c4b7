"""Commands that train on a clip: `vsr train-keyframe`, `train-shot`, `distil` and `kernel`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import JsonOption, notify, training_listener

ClipArgument = Annotated[str, typer.Argument(help="The video to learn from.")]
BankOption = Annotated[
    Path, typer.Option("--models", metavar="DIR", help="Folder to write the models to.")
]


def train_keyframe(
    clip: ClipArgument,
    models: BankOption,
    # options of vsr train-keyframe, by tools/write_signatures.py
    count: Annotated[
        int | None,
        typer.Option(
            "--count", help="Models for each keyframe; default: 15 (zssr and zssrgan: 1)."
        ),
    ] = None,
    shots: Annotated[
        str,
        typer.Option(
            "--shots", metavar="longest|all|N", help="Shots to train on; N counts from 0."
        ),
    ] = "longest",
    keyframe: Annotated[
        str,
        typer.Option(
            "--keyframe",
            metavar="auto|N|all",
            help="Number of the frame to train on, from 0; all: a model of each, for policy "
            "baseline.",
        ),
    ] = "auto",
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the first model; later models count up.")
    ] = 0,
    method: Annotated[
        str, typer.Option("--method", help="quick, faithful, pyramid, zssr or zssrgan.")
    ] = "quick",
    full: Annotated[
        bool, typer.Option("--full", help="zssr, zssrgan: use the published schedule.")
    ] = False,
    regime: Annotated[
        str | None, typer.Option("--regime", help="zssrgan: fixed, serial or semi-e2e.")
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="FILE|auto|kernelgan",
            help="quick, zssr, zssrgan: blur kernel to undo (see vsr kernel).",
        ),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option(
            "--neighbours",
            metavar="N",
            help="Train with a temporal loss over N frames on each side of the keyframe.",
        ),
    ] = 0,
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            "--budget-seconds",
            metavar="S",
            help="quick: seconds for all models together; default: a fixed number of iterations.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device", help="auto, cpu, cuda or cuda:N; zssr and zssrgan train on the CPU."
        ),
    ] = "auto",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="auto|ADDRESS",
            help="Train on a Ray cluster: auto starts one on this machine, an address joins one.",
        ),
    ] = None,
    on_damage: Annotated[
        str,
        typer.Option(
            "--on-damage",
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        ),
    ] = "keep",
    deinterlace: Annotated[
        str,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off.",
        ),
    ] = "auto",
    allow_huge: Annotated[
        bool,
        typer.Option(
            "--allow-huge", help="Accept frames over 64 million pixels and clips over seven days."
        ),
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(
            "--stream",
            metavar="N",
            help="Number of the stream to read; default: the longest video stream.",
        ),
    ] = None,
    # end of options
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Option of the method, such as crop_px=96."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Train small models on a keyframe of CLIP. Finished models are kept; the same command
    continues."""
    given = locals()
    from vsr.files import check_record, write_json
    from vsr.records import load_options
    from vsr.train.keyframe import train_bank
    from vsr.train.options import KeyframeTraining
    from vsr.train.workers import available_cores

    check_record(json, [clip])
    options = load_options(KeyframeTraining, given=given)
    with training_listener() as listener:
        report = train_bank(clip, models, options, settings or [], available_cores(), listener)
    kept = f", {len(report.kept)} kept" if report.kept else ""
    notify(f"{len(report.trained)} models trained{kept} in {report.seconds:.0f} s: {report.bank}")
    write_json(report.to_json(), json)


def train_shot(
    clip: ClipArgument,
    models: BankOption,
    # options of vsr train-shot, by tools/write_signatures.py
    shots: Annotated[
        str,
        typer.Option(
            "--shots", metavar="longest|all|N", help="Shots to train on; N counts from 0."
        ),
    ] = "longest",
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            "--budget-seconds",
            metavar="S",
            help="Seconds for each model; default: a fixed number of iterations.",
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="FILE|auto",
            help="The blur to undo (see vsr kernel); auto estimates it for each shot.",
        ),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            "--prior",
            metavar="auto|fast|balanced|best|none",
            help="Begin with the shipped prior for --quality fast, balanced (as auto) or best, "
            "or from random weights: none.",
        ),
    ] = "auto",
    restore: Annotated[
        str,
        typer.Option(
            "--restore",
            metavar="0..1|auto",
            help="Know compressed, noisy and blurred shots for what they are: 0 not, 1 in full; "
            "auto as far as they are degraded.",
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Seed of every model.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="auto|ADDRESS",
            help="Train on a Ray cluster: auto starts one on this machine, an address joins one.",
        ),
    ] = None,
    on_damage: Annotated[
        str,
        typer.Option(
            "--on-damage",
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        ),
    ] = "keep",
    deinterlace: Annotated[
        str,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off.",
        ),
    ] = "auto",
    allow_huge: Annotated[
        bool,
        typer.Option(
            "--allow-huge", help="Accept frames over 64 million pixels and clips over seven days."
        ),
    ] = False,
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
    # end of options
    json: JsonOption = None,
) -> None:
    """Train a shot model on each chosen shot of CLIP, for policy shot. Finished models are kept;
    the same command continues."""
    given = locals()
    from vsr.files import check_record, write_json
    from vsr.records import load_options
    from vsr.train.options import ShotTraining
    from vsr.train.shot import train_shots

    check_record(json, [clip])
    options = load_options(ShotTraining, given=given)
    with training_listener() as listener:
        report = train_shots(clip, models, options, listener)
    notify(f"{len(report.trained)} shot models trained in {report.seconds:.0f} s: {report.bank}")
    write_json(report.to_json(), json)


def distil(
    clip: Annotated[str, typer.Argument(help="The video that the models were trained on.")],
    models: Annotated[
        Path, typer.Option("--models", metavar="DIR", help="Folder of the clip's models.")
    ],
    # options of vsr distil, by tools/write_signatures.py
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", help="Policy whose output the student learns to reproduce: avgi."
        ),
    ] = "avgi",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the student.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    on_damage: Annotated[
        str,
        typer.Option(
            "--on-damage",
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        ),
    ] = "keep",
    deinterlace: Annotated[
        str,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off.",
        ),
    ] = "auto",
    allow_huge: Annotated[
        bool,
        typer.Option(
            "--allow-huge", help="Accept frames over 64 million pixels and clips over seven days."
        ),
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(
            "--stream",
            metavar="N",
            help="Number of the stream to read; default: the longest video stream.",
        ),
    ] = None,
    # end of options
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the student, as crop_px=64."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Distil the models of a keyframe into one student. Policy student runs it at the cost of one
    model."""
    given = locals()
    from vsr.files import check_record, write_json
    from vsr.records import load_options
    from vsr.train.distill import StudentOptions, distil_bank
    from vsr.train.options import Distilling

    check_record(json, [clip])
    options = load_options(Distilling, given=given)
    training = load_options(StudentOptions, settings=settings or [])
    # The teachers work before the first step: their time would spoil an estimate of the rest.
    with training_listener("distilling", has_eta=False) as listener:
        report = distil_bank(clip, models, options, listener, training)
    kept = f", {len(report.kept)} kept" if report.kept else ""
    notify(f"{len(report.students)} students made{kept} in {report.seconds:.0f} s: {report.bank}")
    write_json(report.to_json(), json)


def kernel(
    clip: Annotated[str, typer.Argument(help="A video.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="FILE.json for --kernel, FILE.png as a drawing; repeatable.",
        ),
    ] = None,
    # options of vsr kernel, by tools/write_signatures.py
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="cross-scale|kernelgan",
            help="cross-scale: by the picture's spectra; kernelgan: the published game, worse "
            "and slower.",
        ),
    ] = "cross-scale",
    shots: Annotated[
        str,
        typer.Option(
            "--shots", metavar="longest|N", help="Shot whose keyframe is examined; N counts from 0."
        ),
    ] = "longest",
    keyframe: Annotated[
        str,
        typer.Option(
            "--keyframe", metavar="auto|N", help="Number of the frame to examine, from 0."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search.")] = 0,
    on_damage: Annotated[
        str,
        typer.Option(
            "--on-damage",
            metavar="keep|repeat|stop",
            help="Damaged frames: keep as decoded, repeat the last intact one, or stop.",
        ),
    ] = "keep",
    deinterlace: Annotated[
        str,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off.",
        ),
    ] = "auto",
    allow_huge: Annotated[
        bool,
        typer.Option(
            "--allow-huge", help="Accept frames over 64 million pixels and clips over seven days."
        ),
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(
            "--stream",
            metavar="N",
            help="Number of the stream to read; default: the longest video stream.",
        ),
    ] = None,
    # end of options
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Option of KernelGAN, such as iterations=1000."
        ),
    ] = None,
) -> None:
    """Estimate the blur kernel of CLIP. It is estimated on one frame, for a reduction by 2."""
    given = locals()
    from vsr.files import check_record
    from vsr.models.kernel_file import check_kernel_name, kernel_summary, write_kernel
    from vsr.records import load_options
    from vsr.train.kernel import find_kernel
    from vsr.train.methods.kernelgan import KernelGanOptions
    from vsr.train.methods.published_kernelgan import PublishedKernelGanOptions
    from vsr.train.options import KernelSearch

    for path in output or []:
        check_kernel_name(path)
        check_record(path, [clip])
    search = load_options(KernelSearch, given=given)
    options: KernelGanOptions | PublishedKernelGanOptions
    if search.method == "kernelgan":
        options = load_options(PublishedKernelGanOptions, settings=settings or [])
    else:
        options = load_options(KernelGanOptions, settings=settings or [])
    with training_listener("kernel") as listener:
        record = find_kernel(clip, search, options, listener)
    notify(f"{kernel_summary(record.kernel)}; found in {record.seconds:.0f} s")
    for path in output or []:
        write_kernel(record, path)
