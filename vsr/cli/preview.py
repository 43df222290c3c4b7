"""`vsr preview`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import OverwriteOption, notify, stop_on_signal
from vsr.errors import OutputError, UsageError


def preview(
    clip: Annotated[str, typer.Argument(help="A video, or a folder or pattern of pictures.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="PAGE.html", help="Default: <stem>_preview.html beside CLIP."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="T",
            help="Moment in seconds or as 1:02:03.5; repeatable. Default: the most detail, the "
            "most motion, the darkest part.",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Show whole frames, which may take long, not 160x120 pixels."),
    ] = False,
    overwrite: OverwriteOption = False,
    # options of vsr preview, by tools/write_signatures.py
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
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="auto|fast|balanced|best|none",
            help="Policy shot: begin with the shipped prior of fast, balanced or best (auto: of "
            "--quality), or from random weights: none; default: auto.",
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
    # end of options
) -> None:
    """Look before the work: three moments of CLIP in every quality, on one page. Takes a minute or
    so; models trained for it are kept for the run."""
    given = locals()
    from vsr.evaluate.preview import write_preview
    from vsr.files import check_record
    from vsr.pipeline.options import resolve_recipe
    from vsr.progress import Listener, progress_line
    from vsr.train.fit import TrainingListener, TrainingProgress

    page = output or _default_page(clip)
    check_record(page, [clip])
    if page.exists() and not overwrite:
        raise OutputError(f"{page} exists; give -y to replace it, or name another file with -o")
    recipe = resolve_recipe(None, [], given)
    moments = [parse_time(text) for text in at or []]
    with progress_line() as update, stop_on_signal("step") as should_stop:

        def show_training(state: TrainingProgress) -> None:
            share = state.share_done
            update(f"training: step {state.iteration} of {state.iterations}", share)

        def show_part(done: int, total: int | None) -> None:
            update(f"enlarging: step {done} of {total}", done / total if total else None)

        listener = Listener(notify, show_part, should_stop)
        on_training = TrainingListener(notify, show_training, should_stop)
        write_preview(
            clip, page, recipe, moments, whole=whole, listener=listener, on_training=on_training
        )
    notify(f"{page} shows the preview; open it in a browser")


def parse_time(text: str) -> float:
    """Read seconds, or hours, minutes and seconds with colons between. Raises UsageError."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text.strip()):
        raise UsageError(f"--at is {text!r}; expected seconds, such as 12.5, or 1:02:03.5.")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _default_page(clip: str) -> Path:
    path = Path(clip).absolute()
    # A numbered pattern has no name that a page could have.
    if "%" in path.name or clip == "-":
        raise UsageError(f"the input {clip} is not one file: name the page with -o PAGE.html.")
    return path.with_name(f"{path.name if path.is_dir() else path.stem}_preview.html")
