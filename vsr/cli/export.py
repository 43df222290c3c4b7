"""`vsr export`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import OverwriteOption, notify


def export(
    model: Annotated[
        Path, typer.Argument(help="A model of a bank: DIR/NAME.safetensors, or .shot.safetensors.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.onnx")],
    stage: Annotated[
        int | None,
        typer.Option(
            "--stage",
            metavar="1|2",
            min=1,
            max=2,
            help="Of a shot model: 1 the first doubling, 2 those after it.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the network of MODEL as an ONNX file, for programs that run networks without vsr."""
    from vsr.models.export import export as export_model

    exported = export_model(model, output, stage, overwrite=overwrite)
    for key in ("input", "output", "limits"):
        notify(f"{key}: {exported.metadata[key]}")
    notify(f"{output}: {exported.metadata['kind']} {exported.metadata['model']}")
