"""Runs: `run` writes an upscaled clip, `steady` one that was upscaled before, and `compare` scores
several policies and writes nothing."""

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from vsr.errors import UsageError
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import StageClock
from vsr.pipeline.session import Session, choose_policy
from vsr.progress import Listener
from vsr.upscale.policy import ModelSet

COMPARED_METRICS = ("psnr_y", "ssim_y", "sharpness", "lpips", "warping_error", "flicker", "lr_psnr")
"""Measured by a comparison of policies, which has a truth."""


def run(
    clip: str | Path,
    recipe: Recipe = Recipe(),
    files: RunFiles = RunFiles(),
    listener: Listener = Listener(),
    clock: StageClock | None = None,
    models: ModelSet | None = None,
) -> Manifest:
    """Upscale a clip, and train before or beside it what the recipe's policy lacks, where the
    recipe says so or no bank is given.

    `models` take the place of those of `files.models`; nothing is trained then. The output appears
    under its name only when it is whole; an earlier run that was stopped is continued. `clock`
    tells more of the stages than the manifest. Raises a `VsrError` for a user's mistake.
    """
    with ExitStack() as stack:
        if files.cluster is not None:
            # Only here: nothing of Ray is loaded by other runs.
            from vsr.pipeline.cluster import run_on_cluster

            return run_on_cluster(clip, recipe, files, listener, clock)
        if models is None and recipe.trains(files.models):
            # Only a run that may train needs the trainings.
            from vsr.pipeline.preparation import prepared

            ready = stack.enter_context(prepared(clip, recipe, files, listener))
            recipe, files, models = ready.recipe, ready.files, ready.models
            listener = listener.expecting(ready.frames)
        session = stack.enter_context(Session.open(clip, recipe, files, listener, clock, models))
        return session.manifest(session.write())


def steady(
    result: str | Path,
    recipe: Recipe,
    files: RunFiles,
    listener: Listener = Listener(),
) -> Manifest:
    """Keep `result` steady along the motion of `files.low_resolution`, which it was made from.

    Frames are matched by time; the streams of `result` are kept. Policies are not used, but for the
    weight of the back-projection. Raises a `VsrError` for a user's mistake.
    """
    if "-" in (str(result), str(files.low_resolution)):
        raise UsageError(
            "RESULT and LR are each read twice, which standard input cannot be: name files."
        )
    # A recipe that is shared with `run` may name a network; the pictures are there already.
    with Session.open(result, replace(recipe, upscaler=None), files, listener) as session:
        return session.manifest(session.write())


def compare(
    clip: str | Path,
    recipe: Recipe,
    files: RunFiles,
    listener: Listener = Listener(),
) -> list[Manifest]:
    """Run each policy of `recipe.compare` on a clip and score it against its truth,
    `files.reference`, before any encoding.

    Nothing is written. The manifests come in the recipe's order, each with the same metrics; an
    upscaler from a file comes last. Raises a `VsrError` for a user's mistake.
    """
    if files.output is not None or files.reference is None:
        raise UsageError(
            "a recipe that compares policies needs --reference TRUTH and writes no -o OUT."
        )
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
