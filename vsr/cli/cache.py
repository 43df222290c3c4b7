"""`vsr cache`: the banks that `vsr run` keeps for clips that it was given no bank for."""

from typing import Annotated

import typer

from vsr.cli.terminal import notify

cache = typer.Typer(
    help="List or remove the models that vsr run keeps.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NAME_HELP = "Banks to remove, by their names or the clips'; default: all."


@cache.command("list")
def list_cache() -> None:
    """List the clips whose models are kept, the last used first."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from vsr.pipeline.cache import cache_folder, list_banks, size_limit
    from vsr.text import printable

    limit, banks = size_limit(), list_banks()
    if banks:
        clip = Column("clip", overflow="fold")
        table = Table("bank", clip, "kind", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in ("models", "MiB", "last used"):
            table.add_column(heading, justify="right", no_wrap=True)
        for bank in banks:
            table.add_row(
                bank.name,
                escape(printable(bank.clip)),
                escape(printable(bank.kind)),
                str(bank.models),
                f"{bank.size_bytes / 2**20:.1f}",
                f"{bank.last_used:%Y-%m-%d %H:%M}" + " (now)" * bank.is_used,
            )
        Console().print(table)
    total = sum(bank.size_bytes for bank in banks)
    notify(f"{total / 2**20:.1f} of {limit / 2**20:.0f} MiB in {cache_folder()}")


@cache.command("clear")
def clear_cache(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=NAME_HELP)] = None,
) -> None:
    """Remove kept models; they can be trained again."""
    from vsr.pipeline.cache import clear_banks

    removed = clear_banks(names or [], notify)
    total = sum(bank.size_bytes for bank in removed)
    notify(f"{len(removed)} banks removed, {total / 2**20:.1f} MiB")
