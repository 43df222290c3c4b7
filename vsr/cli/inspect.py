"""`vsr inspect`."""

from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import JsonOption, exit_if_damaged

if TYPE_CHECKING:
    from rich.table import Table

    from vsr.pipeline.inspection import ShotInspection


def inspect(
    clip: Annotated[
        str,
        typer.Argument(help="A video, a folder or pattern of pictures, or - for standard input."),
    ],
    restore: Annotated[
        str,
        typer.Option("--restore", metavar="0..1|auto", help="The strength that a run would use."),
    ] = "auto",
    grain: Annotated[
        str, typer.Option("--grain", metavar="0..1|keep", help="The grain that a run would add.")
    ] = "0",
    deinterlace: Annotated[
        str,
        typer.Option(
            "--deinterlace",
            metavar="auto|frame|field|film|off",
            help="The mode that a run would use.",
        ),
    ] = "auto",
    json: JsonOption = None,
) -> None:
    """Estimate how each shot of CLIP is degraded, and list what a run would do about it."""
    given = {"restore": restore, "grain": grain, "deinterlace": deinterlace}
    from rich.console import Console

    from vsr.files import check_record, strict_json, write_json
    from vsr.pipeline.inspection import inspect_clip
    from vsr.pipeline.options import resolve_recipe

    check_record(json, [clip])
    recipe = resolve_recipe(None, [], given)
    strength = 1.0 if recipe.restore == "auto" else recipe.restore
    shots, damage = inspect_clip(clip, recipe.read, strength, recipe.shots)
    Console(stderr=json == "-").print(_table(shots))
    if json is not None:
        write_json(strict_json({"shots": [shot.to_json() for shot in shots]}), json)
    exit_if_damaged(damage)


def _table(shots: "list[ShotInspection]") -> "Table":
    from rich.table import Table

    table = Table("from frame", "quantizer", "noise", "blur", "fields", "flicker", "dirt", "remedy")
    for shot in shots:
        found = shot.degradation
        fields = "telecined" if found.telecined else "interlaced" if found.interlaced else "-"
        table.add_row(
            str(shot.first_frame),
            "unknown" if found.qp is None else f"{found.qp:.0f}",
            f"{found.noise_sigma:.1f}",
            "-" if found.blur is None else f"{found.blur:.2f} px",
            fields,
            f"{found.brightness_flicker:.1f}",
            f"{100 * found.dirt:.2f} %",
            "; ".join(shot.remedies) or "nothing",
        )
    return table
