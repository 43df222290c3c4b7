"""`vsr score`."""

from pathlib import Path
from typing import Annotated

import typer

from vsr.cli.terminal import JsonOption, counter, exit_if_damaged, notify


def score(
    results: Annotated[list[str], typer.Argument(metavar="RESULT...", help="Videos to score.")],
    reference: Annotated[
        str | None, typer.Option(metavar="TRUTH", help="The original at the results' size.")
    ] = None,
    low_resolution: Annotated[
        str | None, typer.Option(metavar="LR", help="The clip that the results were made from.")
    ] = None,
    # options of vsr score, by tools/write_signatures.py
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="A,B",
            help="Metrics to measure; default: all that can be computed.",
        ),
    ] = None,
    border: Annotated[
        int, typer.Option("--border", metavar="PX", help="Pixels ignored at each side.")
    ] = 0,
    flow: Annotated[
        str,
        typer.Option(
            "--flow", metavar="medium|fast", help="Preset of the optical flow; fast is less exact."
        ),
    ] = "medium",
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
    json: JsonOption = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row per frame.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML page with pictures.")
    ] = None,
) -> None:
    """Score videos against a truth or their input. Several results are ranked; differences within
    the noise are ties."""
    given = locals()
    from rich.console import Console

    from vsr import evaluate as scoring
    from vsr.errors import UsageError
    from vsr.files import check_distinct, check_record, strict_json, write_json
    from vsr.records import load_options

    if str(csv) == "-":
        raise UsageError("--csv writes a file; standard output is for --json - or the table.")
    check_distinct({"--json": json, "--csv": csv, "--html": html})
    # Before any work: hours of scoring must not end at their record.
    for record in (json, csv, html):
        check_record(record, [*results, reference, low_resolution])
    options = load_options(scoring.ScoreOptions, given=given)
    with counter("scoring") as on_progress:
        scores = scoring.score_clips(results, reference, low_resolution, options, on_progress)
    for note in dict.fromkeys(note for clip in scores.results for note in clip.notes):
        notify(note)
    if csv is not None:
        scoring.write_csv(scores, csv)
    write_json(strict_json(scores.to_json()), json)
    if html is not None:
        from vsr.evaluate.report import write_score_page

        with counter("page") as on_progress:
            write_score_page(scores, html, on_progress)
    if json != "-":
        Console().print(
            scoring.score_table(scores, scoring.SUMMARY_ROWS if metrics is None else None)
        )
    exit_if_damaged([line for clip in scores.results for line in clip.damage])
