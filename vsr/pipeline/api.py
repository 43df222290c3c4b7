"""The Python face of `vsr run` and `vsr steady`: the commands' options as keywords."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vsr import pipeline
from vsr.errors import UsageError
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import Recipe, resolve_recipe
from vsr.pipeline.profile import StageClock
from vsr.video.writer import WorkOptions

Steady = float | Literal["auto"]
Quality = Literal["fast", "balanced", "best"]


def run(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    policy: str | None = None,
    models: str | Path | None = None,
    upscaler: str | Path | None = None,
    scale: float | None = None,
    steady: Steady | None = None,
    target_flicker: float | None = None,
    quality: Quality | None = None,
    train_ahead: bool | None = None,
    metrics: Sequence[str] | None = None,
    reference: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    tile: int | None = None,
    threads: int | None = None,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    on_damage: Literal["keep", "repeat", "stop"] | None = None,
    deinterlace: bool | None = None,
    allow_huge: bool | None = None,
    overwrite: bool = False,
    work_dir: str | Path | None = None,
    keep_work: bool = False,
    restart: bool = False,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    listener: pipeline.Listener = pipeline.Listener(),
) -> Manifest:
    """Upscale a clip as the command does and return its manifest; a keyword left out has the
    recipe's value.

    Damage of the input is told in the manifest's `damage`. Raises a `VsrError` for what a user can
    mend.
    """
    chosen = command_recipe(
        recipe,
        settings,
        policy=policy,
        upscaler=upscaler,
        scale=scale,
        steady=steady,
        target_flicker=target_flicker,
        quality=quality,
        train_ahead=train_ahead,
        metrics=metrics,
        device=device,
        dtype=dtype,
        tile=tile,
        threads=threads,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        on_damage=on_damage,
        deinterlace=deinterlace,
        allow_huge=allow_huge,
    )
    if chosen.compare:
        raise UsageError("this recipe compares policies and writes no video; use vsr.compare.")
    return run_recipe(
        clip,
        output,
        recipe=chosen,
        models=models,
        reference=reference,
        overwrite=overwrite,
        work=work_options(work_dir, keep_work, restart),
        listener=listener,
    )


def run_recipe(
    clip: str | Path,
    output: str | Path | None,
    *,
    recipe: Recipe,
    models: str | Path | None,
    reference: str | Path | None,
    overwrite: bool,
    work: WorkOptions,
    listener: pipeline.Listener,
    clock: StageClock | None = None,
) -> Manifest:
    """Upscale by a recipe, with shot models trained ahead where it asks for that."""
    with ExitStack() as stack:
        source = None
        if recipe.train_ahead:
            if recipe.policy not in (None, "shot"):
                raise UsageError(
                    f"policy {recipe.policy} has no models that could be trained ahead; use policy "
                    "shot."
                )
            from vsr.train.ahead import training_ahead

            recipe = replace(recipe, policy="shot")
            source = stack.enter_context(training_ahead(clip, models, recipe.read, recipe.device))
        return pipeline.run(
            clip,
            output,
            recipe=recipe,
            models=models,
            reference=reference,
            overwrite=overwrite,
            listener=listener,
            shot_models=source,
            work=work,
            clock=clock,
        )


def work_options(folder: str | Path | None, keep: bool, restart: bool) -> WorkOptions:
    """Where work is kept, by a command's options."""
    return WorkOptions(None if folder is None else Path(folder), keep, restart)


def compare(
    clip: str | Path,
    *,
    reference: str | Path,
    models: str | Path | None = None,
    recipe: str | Path,
    settings: Sequence[str] = (),
    listener: pipeline.Listener = pipeline.Listener(),
) -> list[Manifest]:
    """Run every policy that a recipe compares and score each against the truth; nothing is
    written."""
    chosen = resolve_recipe(Path(recipe), settings, {})
    return pipeline.compare(
        clip, recipe=chosen, models=models, reference=reference, listener=listener
    )


def steady(
    result: str | Path,
    low_resolution: str | Path,
    output: str | Path,
    *,
    steady: Steady | None = None,
    target_flicker: float | None = None,
    metrics: Sequence[str] | None = None,
    reference: str | Path | None = None,
    device: str | None = None,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    overwrite: bool = False,
    work_dir: str | Path | None = None,
    keep_work: bool = False,
    restart: bool = False,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    listener: pipeline.Listener = pipeline.Listener(),
) -> Manifest:
    """Steady a video that another upscaler made of `low_resolution`, as the command does, and
    return the manifest."""
    chosen = command_recipe(
        recipe,
        settings,
        steady=steady,
        target_flicker=target_flicker,
        metrics=metrics,
        device=device,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
    )
    return pipeline.steady(
        result,
        low_resolution,
        output,
        recipe=chosen,
        reference=reference,
        overwrite=overwrite,
        listener=listener,
        work=work_options(work_dir, keep_work, restart),
    )


def command_recipe(
    path: str | Path | None,
    settings: Sequence[str],
    *,
    policy: str | None = None,
    upscaler: str | Path | None = None,
    scale: float | None = None,
    steady: Steady | None = None,
    target_flicker: float | None = None,
    quality: str | None = None,
    train_ahead: bool | None = None,
    metrics: Sequence[str] | None,
    device: str | None,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
    on_damage: str | None = None,
    deinterlace: bool | None = None,
    allow_huge: bool | None = None,
    dtype: str | None = None,
    tile: int | None = None,
    threads: int | None = None,
) -> Recipe:
    """What a command's options make of a recipe file and of `--set`."""
    if policy is not None and upscaler is not None:
        raise UsageError(
            "an upscaler takes the policy's place: give --policy or --upscaler, not both."
        )
    options = {
        "policy": policy,
        # A policy on the command line beats a recipe's upscaler.
        "upscaler": "" if policy is not None else None if upscaler is None else str(upscaler),
        "policies.quality": quality,
        "train_ahead": train_ahead,
        "scale": scale,
        "steady": steady,
        "target_flicker": target_flicker,
        "metrics": None if metrics is None else tuple(metrics),
        # A policy on the command line beats a recipe that compares several.
        "compare": None if policy is None else (),
        "device": device,
        "dtype": dtype,
        "tile": tile,
        "threads": threads,
        "encode.codec": codec,
        "encode.crf": crf,
        "encode.preset": preset,
        "encode.pixel_format": pix_fmt,
        "read.on_damage": on_damage,
        "read.deinterlace": deinterlace,
        "read.allow_huge": allow_huge,
    }
    return resolve_recipe(None if path is None else Path(path), settings, options)
