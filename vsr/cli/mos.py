"""`vsr mos`: mean opinion scores."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import JsonOption, OverwriteOption, notify

mos = typer.Typer(
    help="Blind ratings of clips by people, and their mean opinion scores.", no_args_is_help=True
)


@mos.command("sheet")
def mos_sheet(
    clips: Annotated[
        list[str], typer.Argument(metavar="CLIP...", help="Results of the same clip or set.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="SHEET.html", help="The page for the raters.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: SHEET.key.json. Keep it from the raters."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="TRUTH", help="Shown openly in every trial.")
    ] = None,
    window: Annotated[
        str, typer.Option(metavar="WxH", help="Part of the picture that is shown.")
    ] = "320x240",
    # options of vsr mos-sheet, by tools/write_signatures.py
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", help="Moments to rate, at most.")
    ] = 8,
    loop_frames: Annotated[
        int, typer.Option("--loop-frames", metavar="N", help="Frames of each loop; 1 for stills.")
    ] = 12,
    question: Annotated[
        str, typer.Option("--question", metavar="TEXT", help="The page's heading.")
    ] = "How good does each picture look?",
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Seed of the shuffle; default: random."),
    ] = None,
    stills: Annotated[
        bool, typer.Option("--stills", help="Folders of pictures: those of one name are one trial.")
    ] = False,
    # end of options
    overwrite: OverwriteOption = False,
) -> None:
    """Write a rating page with clips side by side under shuffled labels, and its key."""
    given = locals()
    from vsr.errors import OutputError
    from vsr.evaluate.mos import SheetOptions, write_sheet
    from vsr.files import check_record
    from vsr.records import load_options

    key = output.with_suffix(".key.json") if key is None else key
    for path in (output, key):
        check_record(path, [*clips, reference])
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already; give -y to replace it, or name another file")
    options = load_options(SheetOptions, None, [f"window_px={_window_px(window)}"], given)
    made = write_sheet(clips, output, key, reference, options)
    notify(f"{output}: {made}; its key is {key}: keep the key from the raters")


@mos.command("read")
def mos_read(
    ratings: Annotated[
        list[Path], typer.Argument(metavar="RATINGS...", help="Files that the raters saved.")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Key that was written with the sheet.")],
    json: JsonOption = None,
) -> None:
    """Turn ratings into a mean opinion score for each clip, with its confidence interval."""
    from rich.console import Console

    from vsr.evaluate.mos import opinion_table, read_opinions
    from vsr.files import check_record, strict_json, write_json

    check_record(json, [*ratings, key])
    opinions = read_opinions(ratings, key)
    write_json(strict_json(opinions.to_json()), json)
    if json != "-":
        Console().print(opinion_table(opinions))


def _window_px(text: str) -> list[int]:
    from vsr.errors import UsageError

    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--window is {text}; expected width x height in pixels, such as 320x240")
    return [int(height), int(width)]
