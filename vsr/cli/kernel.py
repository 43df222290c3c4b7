"""`vsr kernel`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.options import DeinterlaceOption, notify, parse_number


def kernel(
    clip: Annotated[str, typer.Argument(help="A video.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="FILE.json for --kernel, FILE.png to look at; repeatable.",
        ),
    ] = None,
    shots: Annotated[
        str, typer.Option(metavar="longest|N", help="Shot whose keyframe is looked at.")
    ] = "longest",
    keyframe: Annotated[
        str, typer.Option(metavar="auto|N", help="Frame to look at, from 0.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of KernelGAN, as iterations=1000."),
    ] = None,
    deinterlace: DeinterlaceOption = False,
) -> None:
    """Estimate the blur kernel of a downscale by 2 from one frame of CLIP (KernelGAN)."""
    from vsr.files import check_record
    from vsr.models.kernel_file import check_kernel_name, kernel_summary, write_kernel
    from vsr.progress import progress_line
    from vsr.records import with_settings
    from vsr.train.fit import TrainingListener
    from vsr.train.kernel import find_kernel
    from vsr.train.methods.kernelgan import KernelGanOptions
    from vsr.video.reader import ReadOptions

    for path in output or []:
        check_kernel_name(path)
        check_record(path, [clip])
    options = with_settings(KernelGanOptions(), settings or [])
    with progress_line() as update:
        record = find_kernel(
            clip,
            shots="longest" if shots == "longest" else parse_number(shots, "--shots"),
            keyframe=None if keyframe == "auto" else parse_number(keyframe, "--keyframe"),
            seed=seed,
            options=options,
            read=ReadOptions(deinterlace=deinterlace),
            listener=TrainingListener(
                notify,
                lambda state: update(
                    f"kernel: iteration {state.iteration} of {state.iterations}", state.share_done
                ),
            ),
        )
    notify(f"{kernel_summary(record.kernel)}; found in {record.seconds:.0f} s")
    for path in output or []:
        write_kernel(record, path)
