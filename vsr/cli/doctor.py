"""`vsr doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import EXIT_DEVICE, JsonOption


def doctor(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where results would be written.")
    ] = Path(),
    json: JsonOption = None,
) -> None:
    """Check this machine. Tries device, precision, encoders, weights, memory and disk."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vsr.files import check_record, strict_json, write_json
    from vsr.pipeline.doctor import run_checks

    check_record(json, [])
    findings = list(run_checks(folder))
    table = Table("what", "", "found", "what to do")
    for finding in findings:
        state = Text(
            finding.state,
            style={"good": "green", "fair": "yellow", "bad": "red", "untried": "dim"}[
                finding.state
            ],
        )
        table.add_row(finding.subject, state, Text(finding.found), Text(finding.advice))
    Console(stderr=json == "-").print(table)
    write_json(strict_json([asdict(finding) for finding in findings]), json)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(EXIT_DEVICE)
