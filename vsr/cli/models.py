"""Commands that list what can enlarge a frame: `vsr models` and `vsr upscalers`."""

from pathlib import Path
from typing import Annotated

import typer


def list_models(
    bank: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")],
) -> None:
    """List the models of a bank."""
    from rich.console import Console

    from vsr.cli.tables import bank_table

    Console().print(bank_table(bank))


def upscalers(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]", help="Name of an upscaler, or the file of a network."
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print all cards as Markdown, as in docs/upscalers.md."),
    ] = False,
) -> None:
    """Describe the upscalers and their costs. Each card gives the source and says when to use
    it."""
    from vsr.cli import cards

    if markdown:
        print(cards.markdown())
    elif name is None:
        _print_table()
    elif name not in cards.CARDS and Path(name).exists():
        print(cards.file_card(Path(name)))
    else:
        card = cards.named_card(name)
        print(
            f"{name}: {card.what}\nsource: {card.source}\ncost: {card.cost} for each output pixel "
            f"at x{cards.SCALE}"
        )
        print(f"when: {card.when}\nhow: {card.how.replace('`', '')}")


def _print_table() -> None:
    from rich.console import Console
    from rich.table import Table

    from vsr.cli.cards import CARDS

    table = Table(caption="vsr upscalers NAME tells more; NAME may be a network's file")
    for head in ("upscaler", "cost per output pixel at x4", "when to use it"):
        table.add_column(head, overflow="fold")
    for name, card in CARDS.items():
        table.add_row(name, card.cost, card.when)
    Console().print(table)
