"""Options of a run. Nothing is assigned to them after loading, and no key inherits from another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError
from vsr.records import load_options, option
from vsr.restore.repair import RepairOptions
from vsr.upscale import PolicyOptions, is_in_file
from vsr.video.reader import ReadOptions
from vsr.video.shots import ShotOptions
from vsr.video.writer import EncodeOptions, WorkOptions

UPSCALING = ("run",)
"""Commands that make larger frames; `vsr steady` has all options but those of this part."""

BY_HAND = ("",)
"""No command's options but its arguments, which differ from command to command."""


@dataclass(frozen=True)
class Recipe:
    """Options that decide the result. The command line beats the recipe file, which beats these
    defaults."""

    policy: str | None = option(
        None,
        "shot, smi, student, dsrfi, selfrec, ami, avgi, zssr, kernelgan, zssrgan, bicubic or "
        "lanczos; default: shot where the bank has a shot model, else smi.",
        "--policy",
        metavar="NAME|FILE.py:FUNCTION",
        commands=UPSCALING,
    )
    upscaler: str | None = option(
        None,
        "Use a network from a file instead of a policy.",
        "--upscaler",
        metavar="FILE",
        commands=UPSCALING,
    )
    """An empty text is the same as none."""
    sample: int = option(0, "Number of the noise that a network with noise draws.")
    scale: float = option(
        4.0,
        "Output sides over input sides, any number from 1 to 16.",
        "-s",
        "--scale",
        at_least=1,
        at_most=16,
        commands=UPSCALING,
    )
    # None: `auto` for policies with models, else 0.
    steady: float | Literal["auto"] | None = option(
        None,
        "Flicker control: 0 none, 1 strongest.",
        "--steady",
        metavar="0..1|auto",
        at_least=0,
        at_most=1,
    )
    target_flicker: float | None = option(
        None,
        "Choose the strength for each shot so that flicker is X times the source's own.",
        "--target-flicker",
        metavar="X",
        above=0,
    )
    restore: float | Literal["auto"] = option(
        "auto",
        "Undo compression and noise: 0 not, 1 in full; auto as far as they are found.",
        "--restore",
        metavar="0..1|auto",
        at_least=0,
        at_most=1,
    )
    grain: float | Literal["keep"] = option(
        0.0,
        "Add grain to the finished frames: 0 none, 1 strong; keep follows the source's own noise.",
        "--grain",
        metavar="0..1|keep",
        at_least=0,
        at_most=1,
    )
    train_ahead: bool = option(
        False,
        "Policy shot: train the model of each shot while the previous shot is upscaled.",
        "--train-ahead",
        commands=UPSCALING,
    )
    # None: those that cost little.
    metrics: tuple[str, ...] | None = option(
        None,
        "Metrics measured before encoding; an empty string disables them.",
        "--metrics",
        metavar="A,B",
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "--device")
    dtype: str = option(
        "auto",
        "Precision of networks; auto takes the fastest.",
        "--dtype",
        metavar="auto|fp32|bf16|fp16",
        commands=UPSCALING,
    )
    # Smaller tiles would spend their time on their borders.
    tile: int | None = option(
        None,
        "At most N x N pixels at once, where memory is short.",
        "--tile",
        metavar="N",
        at_least=32,
        commands=UPSCALING,
    )
    threads: int | None = option(
        None, "Cores to use; default: all.", "--threads", metavar="N", at_least=1
    )
    compare: tuple[str, ...] = option(
        (), "Policies to compare on a clip with a truth: prints a table, writes no video."
    )
    read: ReadOptions = ReadOptions()
    repair: RepairOptions = RepairOptions()
    policies: PolicyOptions = PolicyOptions()
    shots: ShotOptions = ShotOptions()
    encode: EncodeOptions = EncodeOptions()

    def __post_init__(self) -> None:
        if self.target_flicker is not None and self.steady is not None:
            raise UsageError(
                "steady and target_flicker both set the strength of the flicker control; give one."
            )


@dataclass(frozen=True)
class RunFiles:
    """Files that a run reads and writes beside the clip."""

    output: str | Path | None = option(
        None, "Default: <stem>_x<scale> beside the clip.", "-o", "--output", commands=BY_HAND
    )
    models: str | Path | None = option(
        None, "The bank: a folder of models.", "--models", metavar="DIR", commands=UPSCALING
    )
    reference: str | Path | None = option(
        None, "The clip at the output's size, as a truth.", "--reference", metavar="TRUTH"
    )
    low_resolution: str | Path | None = option(
        None, "Source of a clip that is upscaled already.", "--low-resolution", commands=BY_HAND
    )
    overwrite: bool = option(False, "Replace an existing output.", "-y", "--overwrite")
    work: WorkOptions = WorkOptions()
    trial: Path | None = None
    """Folder to write into instead, without a record of the work."""


def resolve_recipe(
    path: str | Path | None, settings: Sequence[str], given: Mapping[str, object]
) -> Recipe:
    """Read a recipe file, with `settings` ("a.b=value") over it, and over both the options that a
    call was `given`, by keyword.

    Raises UsageError as `load_options` does.
    """
    if given.get("policy") is not None:
        if given.get("upscaler") is not None:
            raise UsageError(
                "an upscaler takes the policy's place: give --policy or --upscaler, not both."
            )
        # A policy that is named beats a recipe's network, and a recipe that compares several.
        settings = [*settings, "upscaler=''", "compare=[]"]
    if path is not None:
        in_file = load_options(Recipe, Path(path))
        code = [name for name in (in_file.policy or "", *in_file.compare) if is_in_file(name)]
        if code:
            # A recipe is data, and may come from anywhere: only the user's own words run code.
            raise UsageError(
                f"{path} names the policy {code[0]}, which would run code; give it with --policy."
            )
    chosen = load_options(Recipe, None if path is None else Path(path), settings, given)
    return _as_published(chosen) if chosen.policies.as_published else chosen


def _as_published(recipe: Recipe) -> Recipe:
    """Switch off what no source has, unless the user asked for it."""
    steady, restore = recipe.steady, recipe.restore
    if steady is None and recipe.target_flicker is None:
        steady = 0.0
    return replace(recipe, steady=steady, restore=0.0 if restore == "auto" else restore)
