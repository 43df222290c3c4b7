"""Python calls that do as `vsr run` and `vsr steady` do, with the commands' options as keywords."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError
from vsr.pipeline import run as pipeline
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import RunFiles, resolve_recipe
from vsr.progress import Listener
from vsr.records import load_options
from vsr.upscale import PolicyFunction, name_of


def run(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    # options of vsr run, by tools/write_signatures.py
    models: str | Path | None = None,
    reference: str | Path | None = None,
    overwrite: bool = False,
    out_dir: str | Path | None = None,
    cluster: str | None = None,
    format: Literal["matroska", "y4m"] | None = None,
    work_dir: str | Path | None = None,
    keep_work: bool = False,
    restart: bool = False,
    policy: str | PolicyFunction | Path | None = None,
    upscaler: str | Path | None = None,
    scale: float | None = None,
    height: int | None = None,
    width: int | None = None,
    fit: str | None = None,
    steady: float | Literal["auto"] | None = None,
    target_flicker: float | None = None,
    restore: float | Literal["auto"] | None = None,
    grain: float | Literal["keep"] | None = None,
    train: Literal["auto", "never"] | None = None,
    train_ahead: bool | None = None,
    prior: Literal["auto", "fast", "balanced", "best", "none"] | None = None,
    metrics: Sequence[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    tile: int | None = None,
    threads: int | None = None,
    on_damage: Literal["keep", "repeat", "stop"] | None = None,
    deinterlace: Literal["auto", "frame", "field", "film", "off"] | None = None,
    allow_huge: bool | None = None,
    stream: int | None = None,
    quantizer: float | None = None,
    even_brightness: Literal["auto", "on", "off"] | None = None,
    remove_dirt: Literal["auto", "on", "off"] | None = None,
    remove_scratches: Literal["auto", "on", "off"] | None = None,
    remove_noise: Literal["auto", "on", "off"] | None = None,
    as_published: bool | None = None,
    quality: Literal["fast", "balanced", "best"] | None = None,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    verify: bool | None = None,
    # end of options
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    listener: Listener = Listener(),
) -> Manifest:
    """Upscale a clip as the command does and return its manifest.

    A keyword that is left out has the value of `recipe`, a TOML file, else its default. Damage of
    the input stands in the manifest's `damage`. Raises a `VsrError` for a user's mistake.
    """
    # By name: the keywords are written from the fields that they are read into.
    given = locals()
    if callable(policy):
        given["policy"] = name_of(policy)
    chosen = resolve_recipe(recipe, settings, given)
    if chosen.compare:
        raise UsageError("this recipe compares policies and writes no video; use vsr.compare.")
    return pipeline.run(clip, chosen, load_options(RunFiles, given=given), listener)


def compare(
    clip: str | Path,
    *,
    reference: str | Path,
    models: str | Path | None = None,
    recipe: str | Path,
    settings: Sequence[str] = (),
    listener: Listener = Listener(),
) -> list[Manifest]:
    """Run every policy that a recipe compares and score each against the truth; write nothing."""
    chosen = resolve_recipe(recipe, settings, {})
    return pipeline.compare(clip, chosen, RunFiles(None, models, reference), listener)


def steady(
    result: str | Path,
    low_resolution: str | Path,
    output: str | Path,
    *,
    # options of vsr steady, by tools/write_signatures.py
    reference: str | Path | None = None,
    overwrite: bool = False,
    format: Literal["matroska", "y4m"] | None = None,
    work_dir: str | Path | None = None,
    keep_work: bool = False,
    restart: bool = False,
    steady: float | Literal["auto"] | None = None,
    target_flicker: float | None = None,
    restore: float | Literal["auto"] | None = None,
    grain: float | Literal["keep"] | None = None,
    metrics: Sequence[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    on_damage: Literal["keep", "repeat", "stop"] | None = None,
    deinterlace: Literal["auto", "frame", "field", "film", "off"] | None = None,
    allow_huge: bool | None = None,
    stream: int | None = None,
    quantizer: float | None = None,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    verify: bool | None = None,
    # end of options
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    listener: Listener = Listener(),
) -> Manifest:
    """Apply flicker control to a video that another upscaler made of `low_resolution`.

    Keywords are those of the command. Raises a `VsrError` for a user's mistake.
    """
    given = locals()
    chosen = resolve_recipe(recipe, settings, given)
    return pipeline.steady(result, chosen, load_options(RunFiles, given=given), listener)
