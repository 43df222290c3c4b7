"""Preparation of a run: what its policy lacks is trained before it or beside it, and its first
lines say what will be done, for how long, and where the result goes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vsr.errors import OutputError
from vsr.pipeline.cache import cached_bank
from vsr.pipeline.estimate import STAND_IN, run_seconds, stand_ins, training_cost
from vsr.pipeline.need import STUDENT, Need, find_need
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.plan import RunPlan, plan_session, run_trial, trial
from vsr.progress import Listener, format_duration
from vsr.train.ahead import training_ahead
from vsr.train.fit import TrainingListener, TrainingProgress
from vsr.train.keyframe import train_bank
from vsr.train.options import Distilling
from vsr.train.workers import available_cores
from vsr.upscale.policy import ModelSet


@dataclass(frozen=True)
class Prepared:
    """Material that a session is opened with."""

    recipe: Recipe
    files: RunFiles
    models: ModelSet | None = None
    """In the place of those of `files.models`."""
    frames: int | None = None
    """Number of frames of the clip, where they were counted."""


@contextmanager
def prepared(
    clip: str | Path, recipe: Recipe, files: RunFiles, listener: Listener = Listener()
) -> Iterator[Prepared]:
    """Make ready what a run lacks; where it lacks nothing of ours it stays as it is.

    Shot models are trained beside the run, each while the shot before it is enlarged, models of
    keyframes before it. Raises a `VsrError` for what a user can mend.
    """
    need = find_need(clip, recipe, files, listener)
    if need is None:
        yield Prepared(recipe, files)
        return
    plan = plan_need(need, files)
    if need.training and need.lacking and plan.output_exists and not files.overwrite:
        # The run would refuse it too, but behind the training.
        raise OutputError(f"{plan.output}: exists already; -y overwrites it")
    for line in _announcement(need, plan):
        listener.notify(line)
    frames = sum(shot.num_frames for shot in need.shots)
    with ExitStack() as stack:
        if need.is_cached:
            info, read = need.info, need.recipe.read
            stack.enter_context(cached_bank(info, read, listener.notify, need.kind))
        files = replace(files, models=need.bank)
        if need.training is not None:
            if need.lacking:
                train_keyframes(clip, need, listener)
            yield Prepared(need.recipe, files, frames=frames)
            return
        source = training_ahead(
            clip,
            need.info,
            need.bank,
            need.shot_training,
            trains=bool(need.lacking),
            threads=need.recipe.threads,
            on_wait=listener.on_wait,
        )
        models = ModelSet(shot_models=stack.enter_context(source))
        yield Prepared(need.recipe, files, models, frames)


def plan_need(need: Need, files: RunFiles, listener: Listener = Listener()) -> RunPlan:
    """Plan a run that trains what it lacks: it is tried with models that are not trained, and so is
    a training. Nothing stays."""
    cost = training_cost(need)
    with trial(need.info.path, need.recipe, files, listener, stand_ins(need)) as session:
        sample = run_trial(session)
        planned = plan_session(session, sample)
    names = [each for each in planned.models if not each.startswith(STAND_IN)]
    cores = need.recipe.threads or available_cores()
    return replace(
        planned,
        models=names,
        models_to_train=need.models_lacking if need.training else len(need.lacking),
        frames=sum(shot.num_frames for shot in need.shots),
        training_seconds=None if cost is None else cost.total,
        seconds=None
        if cost is None
        else run_seconds(need, cost, sample.seconds_per_frame, sample.busy_cores, cores),
    )


def _announcement(need: Need, plan: RunPlan) -> list[str]:
    """Say what will be done, how long it takes, and where the result goes."""
    recipe = need.recipe
    sizes = " to ".join(f"{width}x{height}" for width, height in (plan.size, plan.output_size))
    quality = f", quality {recipe.policies.quality}" if need.training is None else ""
    shots = f"{len(need.shots)} shot{'s' * (len(need.shots) != 1)}"
    frames = sum(shot.num_frames for shot in need.shots)
    lines = [f"{plan.clip}: {frames} frames in {shots}, {sizes}, by policy {plan.policy}{quality}"]
    kept = "" if not need.is_cached else " (vsr cache list)"
    if plan.models_to_train:
        beside = ", each while the shot before it is enlarged" if len(need.lacking) > 1 else ""
        beside = beside if need.training is None else ""
        models = f"{plan.models_to_train} model{'s' * (plan.models_to_train != 1)}"
        lines.append(f"trains {models} first{beside}; kept in {need.bank}{kept}")
    else:
        lines.append(f"uses the models in {need.bank}{kept}")
    time = "a time that is known once the models are trained"
    if plan.seconds is not None:
        time = f"about {format_duration(plan.seconds)}"
        if plan.training_seconds:
            time += f", of which {format_duration(plan.training_seconds)} are training"
    lines.append(f"takes {time}; writes {plan.output}")
    return lines


def train_keyframes(
    clip: str | Path, need: Need, listener: Listener, cluster: str | None = None
) -> None:
    """Train the models of keyframes, before the run, on all cores, or on a cluster."""
    assert need.training is not None, "shot models are trained beside the run"

    def show(state: TrainingProgress) -> None:
        done = f"training: {state.models_done} of {state.models} models"
        listener.on_wait(done, state.share_done)

    hears = TrainingListener(listener.notify, show, listener.should_stop)
    options = replace(
        need.training,
        device=need.recipe.device,
        read=need.recipe.read,
        budget_seconds=need.recipe.training_seconds,
        cluster=cluster,
    )
    workers = need.recipe.threads or available_cores()
    train_bank(clip, need.bank, options, (), workers, hears)
    if need.policy_name == STUDENT:
        # One policy of many takes what this brings.
        from vsr.train.distill import distil_bank

        distilling = Distilling(device=need.recipe.device, read=need.recipe.read)
        distil_bank(clip, need.bank, distilling, hears)
