"""`vsr kernel`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.options import number, say


def kernel(
    clip: Annotated[str, typer.Argument(help="A video.")],
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help="FILE.json for --kernel, FILE.png to look at; repeatable."),
    ] = None,
    shots: Annotated[str, typer.Option(metavar="longest|N", help="Shot whose keyframe is looked at.")] = "longest",
    keyframe: Annotated[str, typer.Option(metavar="auto|N", help="Frame to look at, from 0.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Option of KernelGAN, as iterations=1000.")
    ] = None,
) -> None:
    """Find the blur kernel by which CLIP seems to have lost half its size, from one frame alone (KernelGAN)."""
    from vsr.files import check_record
    from vsr.models.kernel_file import check_kernel_name, kernel_words, write_kernel
    from vsr.progress import progress_line
    from vsr.records import with_settings
    from vsr.train.kernel import find_kernel
    from vsr.train.methods.kernelgan import KernelGan

    for path in output or []:
        check_kernel_name(path)
        check_record(path, [clip])
    options = with_settings(KernelGan(), settings or [])
    with progress_line() as update:
        record = find_kernel(
            clip,
            shots="longest" if shots == "longest" else number(shots, "--shots"),
            keyframe=None if keyframe == "auto" else number(keyframe, "--keyframe"),
            seed=seed,
            options=options,
            say=say,
            progress=lambda done, total, _: update(f"kernel: iteration {done} of {total}", done / total),
        )
    say(f"{kernel_words(record.kernel)}; found in {record.seconds:.0f} s")
    for path in output or []:
        write_kernel(record, path)
