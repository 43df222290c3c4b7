"""Runs: `run` writes an upscaled clip, `steady` one that was upscaled before, and `compare` scores
several policies and writes nothing."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from vsr.errors import UsageError
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.pipeline.session import RunFiles, Session, choose_policy
from vsr.progress import Listener
from vsr.upscale.policy import ShotModelSource
from vsr.video.writer import WorkOptions

COMPARED_METRICS = ("psnr_y", "ssim_y", "sharpness", "lpips", "warping_error", "flicker", "lr_psnr")
"""Measured by a comparison of policies, which has a truth."""


def run(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    recipe: Recipe = Recipe(),
    models: str | Path | None = None,
    reference: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = Listener(),
    shot_models: ShotModelSource | None = None,
    work: WorkOptions = WorkOptions(),
    clock: StageClock | None = None,
) -> Manifest:
    """Upscale a clip into `output` (default: `<stem>_x<scale><suffix>` beside it) and tell what was
    done.

    `shot_models` gives policy `shot` its models; where not given, those of the bank. The output
    appears under its name only when it is whole; a run that was ended before is gone on with.
    `clock` tells more of the stages than the manifest does. Raises a `VsrError` for what a user can
    mend.
    """
    files = RunFiles(output, models, reference, overwrite=overwrite, work=work)
    with Session.open(clip, recipe, files, listener, clock, shot_models) as session:
        return session.manifest(session.write())


def steady(
    result: str | Path,
    low_resolution: str | Path,
    output: str | Path,
    *,
    recipe: Recipe = Recipe(),
    reference: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = Listener(),
    work: WorkOptions = WorkOptions(),
) -> Manifest:
    """Keep `result` steady along the motion of `low_resolution`, which it was made from, and write
    it to `output`.

    Frames are matched by time; the streams of `result` are kept. Of the recipe, what concerns
    policies is not used but the weight of the back-projection. Raises a `VsrError` for what a user
    can mend.
    """
    if "-" in (str(result), str(low_resolution)):
        raise UsageError(
            "RESULT and LR are each read twice, which standard input cannot be: name files."
        )
    recipe = replace(recipe, upscaler=None)
    files = RunFiles(output, None, reference, low_resolution, overwrite, work)
    with Session.open(result, recipe, files, listener) as session:
        return session.manifest(session.write())


def compare(
    clip: str | Path,
    *,
    recipe: Recipe,
    models: str | Path | None = None,
    reference: str | Path,
    listener: Listener = Listener(),
) -> list[Manifest]:
    """Run each policy of `recipe.compare` on a clip and score it against its truth, before any
    encoding.

    Nothing is written. The manifests come in the recipe's order, each with the same metrics; an
    upscaler from a file comes last.
    """
    files = RunFiles(models=models, reference=reference)
    recipes = [replace(recipe, policy=policy, upscaler=None) for policy in recipe.compare]
    if recipe.upscaler:
        recipes.append(recipe)
    # All are checked before the first is run.
    names = [choose_policy(one, files).name for one in recipes]
    manifests = []
    for name, one in zip(names, recipes, strict=True):
        listener.notify(f"policy {name}")
        opened = Session.open(
            clip, one, files, listener, default_metrics=COMPARED_METRICS, writes=False
        )
        with opened as session, closing(session.steps()) as steps:
            total = session.reader.info.num_frames_from_header
            for step in steps:
                listener.on_progress(step.frame.index + 1, total)
            manifests.append(session.manifest())
    return manifests
