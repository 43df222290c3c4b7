"""`vsr score`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.common import Json, frame_progress, leave_damaged, names, say


def score(
    results: Annotated[list[str], typer.Argument(metavar="RESULT...", help="Videos to score.")],
    reference: Annotated[str | None, typer.Option(metavar="TRUTH", help="What they should look like.")] = None,
    low_resolution: Annotated[str | None, typer.Option(metavar="LR", help="What they were made from.")] = None,
    metrics: Annotated[str | None, typer.Option(metavar="A,B", help="Default: all that can be computed.")] = None,
    border: Annotated[int, typer.Option(metavar="PX", help="Pixels left off at each side.")] = 0,
    json: Json = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="One row per frame.")] = None,
) -> None:
    """Score videos against a truth or their input: quality, sharpness and flicker, frame by frame."""
    from rich.console import Console

    from vsr import scoring
    from vsr.manifest import check_record, strict_json, write_json

    for record in (json, csv):
        check_record(record, [*results, reference, low_resolution])
    with frame_progress("scoring") as advance:
        scores = scoring.score(
            results,
            reference=reference,
            low_resolution=low_resolution,
            metrics=None if metrics is None else names(metrics),
            border=border,
            progress=lambda _, done: advance(done, None),
        )
    for clip in scores.results:
        for note in clip.notes:
            say(note)
    if csv is not None:
        scoring.write_csv(scores, csv)
    if json is not None:
        write_json(strict_json(scores.to_json()), json)
    if json != "-":
        Console().print(scoring.score_table(scores))
    leave_damaged([str(line) for clip in scores.results for line in clip.damage])
