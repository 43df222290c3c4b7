"""A page on which people rate clips side by side without knowing which is which; the key is a file
of its own."""

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from vsr.errors import UsageError
from vsr.evaluate.alignment import Source
from vsr.evaluate.images import LOSSLESS, data_uri
from vsr.evaluate.mos.clips import Trial, sample_stills, sample_trials
from vsr.files import write_text
from vsr.records import option

MAX_PICTURE_BYTES = 20_000_000
QUALITIES = (LOSSLESS, 98, 95, 90, 80)
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class SheetOptions:
    """Pictures that raters are shown."""

    trials: int = option(8, "Moments to rate, at most.", "--trials", metavar="N", at_least=1)
    loop_frames: int = option(
        12, "Frames of each loop; 1 for stills.", "--loop-frames", metavar="N", at_least=1
    )
    window_px: tuple[int, int] = option(
        (240, 320), "Height and width of the part of the picture that is shown.", at_least=16
    )
    question: str = option(
        "How good does each picture look?", "The page's heading.", "--question", metavar="TEXT"
    )
    seed: int | None = option(
        None, "Seed of the shuffle; default: random.", "--seed", metavar="N", at_least=0
    )
    """Drawn at random if not given; the key records it."""
    stills: bool = option(
        False, "Folders of pictures: those of one name are one trial.", "--stills"
    )


def write_sheet(
    clips: Sequence[Source],
    sheet: Path,
    key: Path,
    reference: Source | None = None,
    options: SheetOptions = SheetOptions(),
) -> str:
    """Write the page and, apart from it, the key that says which label stood for which clip in
    which trial.

    With a `reference` every trial shows it openly beside the others, not to be rated. Both files
    appear whole or not at all. Returns in words what was made. Raises UsageError for fewer than two
    clips, InputError for clips that cannot be shown together, OutputError.
    """
    if not 2 <= len(clips) <= len(LABELS):
        raise UsageError(f"{len(clips)} clips to compare; expected 2 to {len(LABELS)}")
    if sheet.absolute() == key.absolute():
        raise UsageError(f"the key would replace the page {sheet}; give it another name")
    sources = clips if reference is None else [*clips, reference]
    if options.stills:
        trials, frames_per_second = sample_stills(sources, options.trials, options.window_px)
    else:
        trials, frames_per_second = sample_trials(
            sources, options.trials, options.loop_frames, options.window_px
        )
    # By chance: raters who could guess the order would not be blind.
    seed = int.from_bytes(os.urandom(6)) if options.seed is None else options.seed
    random = np.random.default_rng(seed)
    orders = [[int(number) for number in random.permutation(len(clips))] for _ in trials]
    name = f"{int(random.integers(2**48)):012x}"
    loops, quality = _encode(trials)
    shown = [
        {
            "loops": [loop[number] for number in order],
            "reference": None if reference is None else loop[-1],
        }
        for loop, order in zip(loops, orders, strict=True)
    ]
    page = {"sheet": name, "framesASecond": frames_per_second, "trials": shown}
    # The key first: a page without its key could never be evaluated.
    write_text(key, json.dumps(_key(name, seed, clips, reference, trials, orders), indent=2))
    write_text(sheet, _render(page, options.question))
    stored = "as they are" if quality == LOSSLESS else f"as WebP of quality {quality}"
    return f"{len(trials)} trials of {len(clips)} clips, pictures stored {stored}"


def _key(
    name: str,
    seed: int,
    clips: Sequence[Source],
    reference: Source | None,
    trials: Sequence[Trial],
    orders: Sequence[list[int]],
) -> dict[str, Any]:
    return {
        "sheet": name,
        "seed": seed,
        "clips": [str(clip) for clip in clips],
        "reference": None if reference is None else str(reference),
        "trials": [
            {
                "picture": trial.picture,
                "seconds": trial.start_seconds,
                "left": trial.left,
                "top": trial.top,
                "order": order,
            }
            for trial, order in zip(trials, orders, strict=True)
        ],
    }


def _encode(trials: Sequence[Trial]) -> tuple[list[list[list[str]]], int]:
    """Encode pictures as data URIs by trial, clip and frame, at the best quality that there is room
    for; return both."""
    for quality in QUALITIES:
        uris = [
            [[data_uri(picture, quality) for picture in loop] for loop in trial.loops]
            for trial in trials
        ]
        size = sum(len(uri) for trial in uris for loop in trial for uri in loop)
        if size <= MAX_PICTURE_BYTES:
            return uris, quality
    raise UsageError(
        f"the pictures take {size / 1e6:.0f} MB; expected {MAX_PICTURE_BYTES / 1e6:.0f}: ask for "
        "fewer trials"
    )


def _render(page: dict[str, Any], question: str) -> str:
    folder = files("vsr.evaluate.mos")
    template, style, script = (
        folder.joinpath(f"sheet.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    # Inside a script element nothing is unescaped, but "</script" would end it.
    data = json.dumps(page).replace("<", "\\u003c")
    return Template(template).substitute(
        question=html.escape(question), style=style, script=script, data=data
    )
