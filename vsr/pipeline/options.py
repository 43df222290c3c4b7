"""Options of a run. Nothing is assigned to them after loading, and no key inherits from another."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError
from vsr.models.prior import PriorChoice
from vsr.records import load_options, option
from vsr.restore.data_term import strength_of
from vsr.restore.repair import RepairOptions
from vsr.upscale import PolicyOptions, is_in_file
from vsr.video.frames import ClipInfo
from vsr.video.reader import ReadOptions
from vsr.video.shots import ShotOptions
from vsr.video.writer import STANDARD_OUTPUT, EncodeOptions, PipeFormat, WorkOptions

MIN_SCALE, MAX_SCALE = 1.0, 16.0
TARGET_SIZES = ("height", "width", "fit")
"""Options in place of the scale."""

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
        "shot, smi, student, baseline, dsrfi, selfrec, ami, avgi, zssr, kernelgan, zssrgan, "
        "bicubic or lanczos; default: shot, or smi where --models has no shot model.",
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
        at_least=MIN_SCALE,
        at_most=MAX_SCALE,
        commands=UPSCALING,
    )
    # At most one of these three, 0 and an empty text being none; they decide the scale once the
    # clip's size is known.
    height: int | None = option(
        None,
        "Lines of the output, in place of --scale.",
        "--height",
        metavar="N",
        at_least=0,
        commands=UPSCALING,
    )
    width: int | None = option(
        None,
        "Columns of the output, in place of --scale.",
        "--width",
        metavar="N",
        at_least=0,
        commands=UPSCALING,
    )
    fit: str | None = option(
        None,
        "The largest output that fits W x H pixels of a screen, in place of --scale.",
        "--fit",
        metavar="WxH",
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
        "Undo compression, noise and blur: 0 not, 1 in full; auto as far as they are found.",
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
    # None: auto where no bank is given, never where one is.
    train: Literal["auto", "never"] | None = option(
        None,
        "Train the models that the policy lacks, or never; default: auto without --models, never "
        "with it.",
        "--train",
        metavar="auto|never",
        commands=UPSCALING,
    )
    train_ahead: bool = option(
        False, "Earlier name of --train auto.", "--train-ahead", commands=UPSCALING
    )
    training_seconds: float | None = option(
        None,
        "Seconds for the training of each shot model, or of all models of keyframes; default: a "
        "fixed number of iterations.",
        above=0,
    )
    prior: PriorChoice = option(
        "auto",
        "Policy shot: begin with the shipped prior of fast, balanced or best (auto: of --quality), "
        "or from random weights: none.",
        "--prior",
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
        sizes = [name for name in TARGET_SIZES if getattr(self, name)]
        if len(sizes) > 1:
            raise UsageError(f"{' and '.join(sizes)} both set the size of the output; give one.")
        if self.fit:
            parse_size(self.fit)
        if self.train_ahead and self.train == "never":
            raise UsageError("train_ahead asks for a training and train=never for none; give one.")

    @property
    def restore_strength(self) -> float:
        """Strength of restoration, 0 to 1."""
        return strength_of(self.restore)

    @property
    def prior_choice(self) -> PriorChoice:
        """The prior that shot models begin with: by itself that of the quality."""
        return self.policies.quality if self.prior == "auto" else self.prior

    def trains(self, models: str | Path | None) -> bool:
        """Tell whether models that are lacking are trained, where a run is given the bank
        `models`."""
        return self.train_ahead or (self.train or ("never" if models else "auto")) == "auto"


@dataclass(frozen=True)
class RunFiles:
    """Files that a run reads and writes beside the clip."""

    output: str | Path | None = option(
        None, "Default: <stem>_x<scale> beside the clip.", "-o", "--output", commands=BY_HAND
    )
    models: str | Path | None = option(
        None,
        "The bank: a folder of models; default: the clip's own, in the cache.",
        "--models",
        metavar="DIR",
        commands=UPSCALING,
    )
    reference: str | Path | None = option(
        None, "The clip at the output's size, as a truth.", "--reference", metavar="TRUTH"
    )
    low_resolution: str | Path | None = option(
        None, "Source of a clip that is upscaled already.", "--low-resolution", commands=BY_HAND
    )
    overwrite: bool = option(False, "Replace an existing output.", "-y", "--overwrite")
    out_dir: str | Path | None = option(
        None,
        "Folder for the results, under their default names.",
        "--out-dir",
        metavar="DIR",
        commands=UPSCALING,
    )
    cluster: str | None = option(
        None,
        "Run on a Ray cluster: auto starts one on this machine, an address joins one.",
        "--cluster",
        metavar="auto|ADDRESS",
        commands=UPSCALING,
    )
    # None: Matroska, which holds sound and times; an option of its own, since a file's name tells.
    format: PipeFormat | None = option(
        None,
        "What -o - streams; default: matroska, with all streams.",
        "--format",
        metavar="matroska|y4m",
    )
    work: WorkOptions = WorkOptions()
    trial: Path | None = None
    """Folder to write into instead, without a record of the work."""

    def __post_init__(self) -> None:
        if self.output is not None and self.out_dir is not None:
            raise UsageError("output and out_dir both say where the result goes; give one.")
        if self.format is not None and str(self.output) != STANDARD_OUTPUT:
            raise UsageError(
                f"--format {self.format} is for standard output, -o -, and this goes to "
                f"{self.output or 'a file'}: leave it out, a file's suffix names its format."
            )


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
    sizes = [name for name in ("scale", *TARGET_SIZES) if given.get(name) is not None]
    if len(sizes) > 1:
        raise UsageError(
            f"--{' and --'.join(sizes)} both set the size of the output; give one of them."
        )
    for name in sizes:
        # 0 and an empty text are the same as none, for what follows.
        if not given[name]:
            raise UsageError(f"--{name} is {given[name]!r}; expected a size of at least 1.")
    if sizes and (path is not None or settings):
        # Beats another kind of size in the recipe.
        settings = [*settings, "height=0", "width=0", "fit=''"]
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


def parse_size(text: str) -> tuple[int, int]:
    """Read `1920x1080` as width and height. Raises `UsageError`."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if found is None or not int(found[1]) or not int(found[2]):
        raise UsageError(f"--fit is {text!r}; expected width and height, such as 1920x1080.")
    return int(found[1]), int(found[2])


def with_scale(recipe: Recipe, info: ClipInfo) -> Recipe:
    """Turn the size that a recipe asks for into the scale of this clip.

    A clip that a player turns is meant as it is shown, and fits a screen with its pixels as wide as
    they are shown. Raises `UsageError` for a size that is smaller than the clip, or too large.
    """
    is_turned = info.rotation_degrees % 180 != 0
    width, height = (info.height, info.width) if is_turned else (info.width, info.height)
    if recipe.height:
        scale = recipe.height / height
    elif recipe.width:
        scale = recipe.width / width
    elif recipe.fit:
        aspect = float(info.sample_aspect_ratio or 1)
        shown = (width, height / aspect) if is_turned else (width * aspect, height)
        scale = min(side / own for side, own in zip(parse_size(recipe.fit), shown, strict=True))
    else:
        return recipe
    if not MIN_SCALE <= scale <= MAX_SCALE:
        asked = next(name for name in TARGET_SIZES if getattr(recipe, name))
        raise UsageError(
            f"--{asked} {getattr(recipe, asked)} is {scale:.3g} times the size of {info.path}, "
            f"which has {width}x{height} pixels; expected {MIN_SCALE:g} to {MAX_SCALE:g} times."
        )
    return replace(recipe, scale=scale)
