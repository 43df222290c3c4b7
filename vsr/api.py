"""The Python face of `vsr run`: the command's options as keywords."""

from collections.abc import Sequence
from pathlib import Path

from vsr import pipeline
from vsr.errors import UsageError
from vsr.manifest import Manifest
from vsr.recipe import Recipe, resolve_recipe


def run(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    policy: str | None = None,
    models: str | Path | None = None,
    scale: float | None = None,
    metrics: Sequence[str] | None = None,
    reference: str | Path | None = None,
    device: str | None = None,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    overwrite: bool = False,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    listener: pipeline.Listener = pipeline.Listener(),
) -> Manifest:
    """Upscale a clip as the command does and return its manifest; a keyword left out has the recipe's value.

    Damage of the input is told in the manifest's `damage`. Raises a `VsrError` for what a user can mend.
    """
    chosen = command_recipe(
        recipe, settings, policy, scale, metrics, device, codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt
    )
    if chosen.compare:
        raise UsageError("this recipe compares policies and writes no video; use vsr.compare.")
    return pipeline.run(
        clip, output, recipe=chosen, models=models, reference=reference, overwrite=overwrite, listener=listener
    )


def compare(
    clip: str | Path,
    *,
    reference: str | Path,
    models: str | Path | None = None,
    recipe: str | Path,
    settings: Sequence[str] = (),
    listener: pipeline.Listener = pipeline.Listener(),
) -> list[Manifest]:
    """Run every policy that a recipe compares and score each against the truth; nothing is written."""
    chosen = resolve_recipe(Path(recipe), settings, {})
    return pipeline.compare(clip, recipe=chosen, models=models, reference=reference, listener=listener)


def command_recipe(
    path: str | Path | None,
    settings: Sequence[str],
    policy: str | None,
    scale: float | None,
    metrics: Sequence[str] | None,
    device: str | None,
    *,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
) -> Recipe:
    """What a command's options make of a recipe file and of `--set`."""
    options = {
        "policy": policy,
        "scale": scale,
        "metrics": None if metrics is None else tuple(metrics),
        # A policy on the command line beats a recipe that compares several.
        "compare": None if policy is None else (),
        "device": device,
        "encode.codec": codec,
        "encode.crf": crf,
        "encode.preset": preset,
        "encode.pixel_format": pix_fmt,
    }
    return resolve_recipe(None if path is None else Path(path), settings, options)
