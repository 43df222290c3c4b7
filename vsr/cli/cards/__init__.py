"""Model cards: description, source, cost and use of every upscaler.

`vsr upscalers` prints them, and `vsr upscalers --markdown` writes docs/upscalers.md from the same
text.
"""

from pathlib import Path

import torch

from vsr.cli.cards.costs import SCALE, Card, format_macs, network_macs
from vsr.cli.cards.texts import CARDS
from vsr.errors import UsageError
from vsr.upscale.networks.files import load_network

__all__ = ["CARDS", "SCALE", "Card", "file_card", "markdown", "named_card"]

INTRODUCTION = f"""\
# Upscalers

These can enlarge a frame: policies over models of the clip itself, networks trained on pictures,
and interpolation. Each is used by `vsr run`, gets the same flicker control and is scored by the
same metrics.

`vsr upscalers --markdown` writes this page. Costs are counted by running each network with its
default shape, for one output pixel at x{SCALE}. `vsr upscalers FILE` shows the card of a network
in a file: any that spandrel recognizes, FSRCNN, ESPCN and SRCNN as published, and those of
`vsr train`.

| upscaler | cost per output pixel | when to use it |
|---|---|---|"""


def file_card(path: Path) -> str:
    """Describe a network in a file. Raises `ModelError` as `load_network` does."""
    upscaler = load_network(path, torch.device("cpu"))
    cost = f"cost: {format_macs(network_macs(upscaler))} for each output pixel at x{upscaler.scale}"
    lines = [
        f"{path.name}: {upscaler.summary}",
        cost,
        upscaler.remark,
        f"use: vsr run CLIP --upscaler {path.name}",
    ]
    return "\n".join(filter(None, lines))


def named_card(name: str) -> Card:
    """Find a card by name. Raises `UsageError` for a name without one."""
    if name not in CARDS:
        raise UsageError(
            f"there is no upscaler {name}, and no file of that name; known: {', '.join(CARDS)}."
        )
    return CARDS[name]


def markdown() -> str:
    """Write all cards as a page."""
    lines = [
        INTRODUCTION,
        *(f"| [{name}](#{name}) | {card.cost} | {card.when} |" for name, card in CARDS.items()),
    ]
    for name, card in CARDS.items():
        lines += [
            "",
            f"## {name}",
            "",
            card.what,
            "",
            f"- Source: {card.source}",
            f"- Cost: {card.cost}",
        ]
        lines += [f"- When: {card.when}", f"- How: {card.how}"]
    return "\n".join(lines)
