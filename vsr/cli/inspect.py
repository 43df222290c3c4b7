"""`vsr inspect`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import JsonOption, exit_if_damaged

if TYPE_CHECKING:
    from rich.table import Table

    from vsr.pipeline.inspection import ShotInspection
    from vsr.video.step import Degradation


def inspect(
    clip: Annotated[
        str,
        typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input."),
    ],
    # options of vsr inspect, by tools/write_signatures.py
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
    deinterlace: Annotated[
        str | None,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="frame: one frame per frame; field: one per field; film: undo 3:2 pulldown; "
            "auto: frame where interlaced, else off; default: auto.",
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
    """Estimate how each shot of CLIP is degraded, and list what a run would do about it."""
    given = locals()
    from rich.console import Console

    from vsr.files import check_record, strict_json, write_json
    from vsr.pipeline.inspection import inspect_clip
    from vsr.pipeline.options import resolve_recipe

    check_record(json, [clip])
    recipe = resolve_recipe(None, [], given)
    shots, damage = inspect_clip(clip, recipe.read, recipe.restore_strength, recipe.shots)
    console = Console(stderr=json == "-")
    console.print(_table(shots))
    for line in _remedies(shots):
        console.print(line, highlight=False, markup=False)
    if json is not None:
        write_json(strict_json({"shots": [shot.to_json() for shot in shots]}), json)
    exit_if_damaged(damage)


def _quantizer(found: "Degradation") -> str:
    if found.earlier_qp is not None:
        return f"{found.earlier_qp:.0f}, earlier"
    return "unknown" if found.qp is None else f"{found.qp:.0f}"


def _table(shots: "list[ShotInspection]") -> "Table":
    from rich.table import Table

    table = Table("from frame", "quantizer", "noise", "blur", "fields", "flicker", "dirt")
    for shot in shots:
        found = shot.degradation
        fields = "telecined" if found.telecined else "interlaced" if found.interlaced else "-"
        table.add_row(
            str(shot.first_frame),
            _quantizer(found),
            f"{found.noise_sigma:.1f}",
            "-" if found.blur is None else f"{found.blur:.2f} px",
            fields,
            f"{found.brightness_flicker:.1f}",
            f"{100 * found.dirt:.2f} %",
        )
    return table


def _remedies(shots: "list[ShotInspection]") -> Iterator[str]:
    """List what a run would do, once for all shots that have it in common."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for shot in shots:
        alike.setdefault(shot.remedies, []).append(str(shot.first_frame))
    for remedies, first_frames in alike.items():
        shots_named = "shot" if len(first_frames) == 1 else "shots"
        about = f"{shots_named} from frame {', '.join(first_frames)}" if len(alike) > 1 else "it"
        yield f"What a run does about {about}:{'' if remedies else ' nothing.'}"
        yield from (f"  - {remedy}" for remedy in remedies)
