"""`run` writes an upscaled clip; `compare` scores several policies and writes nothing."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path

import torch

from vsr.engine.options import choose_device, dtype_name
from vsr.engine.strips import set_num_threads
from vsr.errors import InputError, UsageError
from vsr.files import check_output
from vsr.image.resample import scaled_size
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model, has_shot_model, load_bank
from vsr.models.shot_model import load_shot_models
from vsr.pipeline.interrupt import interrupted_error, report_out_of_memory
from vsr.pipeline.live_metrics import LIVE_METRICS, LiveMetrics, open_live_metrics
from vsr.pipeline.manifest import Manifest, peak_memory_bytes, versions
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock, stage_utilization
from vsr.pipeline.resume import (
    Resumed,
    model_files,
    resume_plan,
    resumed_from,
    with_earlier_choices,
)
from vsr.pipeline.stages import Stages, Upscaling
from vsr.progress import Listener
from vsr.records import to_table
from vsr.upscale import MODEL_FREE, POLICIES
from vsr.upscale.network_policy import UPSCALER
from vsr.upscale.policy import ShotModelSource, no_shot_models
from vsr.video.frames import ClipInfo
from vsr.video.reader import ClipReader, open_clip
from vsr.video.writer import ClipWriter, WorkOptions, WriteReport

COMPARED_METRICS = ("psnr_y", "ssim_y", "sharpness", "lpips", "warping_error", "flicker", "lr_psnr")
"""Of a comparison of policies, which has a truth."""


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
    recipe = with_policy(recipe, models)
    check_recipe(recipe, models)
    clock = clock or StageClock()
    device = choose_device(recipe.device)
    if recipe.threads is not None:
        set_num_threads(recipe.threads)
    with ExitStack() as stack:
        reader = stack.enter_context(open_clip(clip, recipe.read))
        height, width = scaled_size(reader.info.height, reader.info.width, recipe.scale)
        target = output_path(reader.info, recipe) if output is None else output
        check_output(target, [reference])
        files = model_files(recipe, None if shot_models else models)
        plan = resume_plan(
            reader.info, recipe, device, files, {"reference": reference}, Path(target).suffix
        )
        writer = stack.enter_context(
            ClipWriter(
                target, reader.info, height, width, recipe.encode, overwrite, device, plan, work
            )
        )
        notes = NoteLog(listener)
        notes.notify_all([*reader.notes, *writer.notes])
        recipe, resumed = with_earlier_choices(recipe, writer.work), resumed_from(writer.work)
        bank, shot_models = (
            bank_for([recipe], models),
            shot_models or shot_models_for([recipe], models),
        )
        segment_frames = None if plan is None else recipe.encode.segment_frames
        upscaling = Upscaling(
            recipe, bank, device, reader, notes.notify, shot_models, resumed, segment_frames
        )
        return record(
            upscaling, reader, writer, str(target), recipe, reference, notes, clock, device, resumed
        )


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
    recipes = [replace(recipe, policy=policy, upscaler=None) for policy in recipe.compare]
    if recipe.upscaler:
        recipes.append(replace(recipe, policy=UPSCALER))
    for one in recipes:
        check_recipe(one, models)
    device = choose_device(recipe.device)
    bank, shot_models = bank_for(recipes, models), shot_models_for(recipes, models)
    manifests = []
    for one in recipes:
        clock = StageClock()
        listener.notify(f"policy {one.policy}")
        with ExitStack() as stack:
            reader = stack.enter_context(open_clip(clip, one.read))
            upscaling = Upscaling(one, bank, device, reader, listener.notify, shot_models)
            live = stack.enter_context(open_live_metrics(one, reference, COMPARED_METRICS))
            for low, large in stack.enter_context(closing(upscaling.pairs(clock))):
                with clock.measure("metrics"):
                    live.update(low, large)
                listener.on_progress(large.index + 1, reader.info.num_frames_from_header)
        manifests.append(
            _manifest(reader, None, one, upscaling, live.board, None, [], clock, device)
        )
    return manifests


def output_path(info: ClipInfo, recipe: Recipe) -> Path:
    """`<stem>_x<scale><suffix>` beside the clip; without the suffix for a folder of pictures.

    Raises `UsageError` for standard input and for a numbered pattern, which have no name of their
    own.
    """
    if str(info.path) == "-" or (info.container == "images" and not info.path.is_dir()):
        raise UsageError(
            f"the input {info.path} is not one file, so the result has no name yet: give it with "
            "-o OUT."
        )
    path = info.path.absolute()
    becomes_folder = path.is_dir() or recipe.encode.codec == "png"
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    return path.with_name(f"{stem}_x{recipe.scale:g}{'' if becomes_folder else suffix}")


class NoteLog:
    """What is said to the user in passing, kept for the record, each sentence once."""

    def __init__(self, listener: Listener) -> None:
        self.lines: list[str] = []
        self.listener = listener

    def notify(self, note: str) -> None:
        self.lines.append(note)
        self.listener.notify(note)

    def notify_all(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self.lines:
                self.notify(note)


def record(
    stages: Stages,
    reader: ClipReader,
    writer: ClipWriter,
    output: str,
    recipe: Recipe,
    reference: str | Path | None,
    notes: NoteLog,
    clock: StageClock,
    device: torch.device,
    resumed: Resumed = Resumed(),
) -> Manifest:
    """Run the stages to the end of the clip, measure and write what comes out, and tell what was
    done."""
    with ExitStack() as stack:
        live = stack.enter_context(open_live_metrics(recipe, reference, LIVE_METRICS))
        stack.enter_context(report_out_of_memory())
        if resumed.frames_done:
            notes.notify(f"resuming at frame {resumed.frames_done}")
            live.load_state(resumed.measured)
        total = reader.info.num_frames_from_header
        _write_frames(stages, writer, live, resumed, notes.listener, total, clock)
        if not stages.frames_out:
            raise InputError(
                f"{reader.info.path} has no frame that can be decoded; nothing was written."
            )
        with clock.measure("write"):
            report = writer.finish()
        notes.notify_all([*report.notes, *live.notes()])
    return _manifest(
        reader,
        output,
        recipe,
        stages,
        live.board,
        report,
        notes.lines,
        clock,
        device,
        resumed.frames_done,
    )


def _write_frames(
    stages: Stages,
    writer: ClipWriter,
    live: LiveMetrics,
    resumed: Resumed,
    listener: Listener,
    total: int | None,
    clock: StageClock,
) -> None:
    """Measure and write what the stages make, and keep beside each segment what the run knew at its
    end.

    Raises `InterruptedRunError` where the user asks for an end.
    """
    first_of_segment = resumed.frames_done
    with closing(stages.pairs(clock)) as pairs:
        for low, large in pairs:
            if large.index == resumed.frames_done and stages.last_done is not None:
                assert resumed.last_picture is not None
                done = resumed.last_picture.to(large.pixels.device)
                live.set_previous(stages.last_done, replace(stages.last_done, pixels=done))
            with clock.measure("metrics"):
                live.update(low, large)
            with clock.measure("write"):
                writer.write(large)
                if writer.is_segment_full:
                    writer.close_segment(
                        *stages.memory(large.index, first_of_segment, live.memory())
                    )
                    first_of_segment = large.index + 1
            listener.on_progress(large.index + 1, total)
            if listener.should_stop():
                raise interrupted_error(stages.frames_out, total, writer.work)
    with clock.measure("write"):
        writer.close_segment(*stages.memory(stages.frames_out - 1, first_of_segment, live.memory()))


def with_policy(recipe: Recipe, models: str | Path | None) -> Recipe:
    """The recipe with a policy: its own, else the one that suits the bank; an upscaler from a file
    beats both."""
    if recipe.upscaler:
        return replace(recipe, policy=UPSCALER)
    return recipe if recipe.policy is not None else replace(recipe, policy=default_policy(models))


def default_policy(models: str | Path | None) -> str:
    """What a bank is used with where nobody says: its shot model, where it has one."""
    return "shot" if models is not None and has_shot_model(Path(models)) else "smi"


def check_recipe(recipe: Recipe, models: str | Path | None) -> None:
    """Raise `UsageError` for what can be seen to be impossible before any work."""
    if recipe.policy not in POLICIES and not recipe.upscaler:
        nearest = get_close_matches(str(recipe.policy), POLICIES, n=1, cutoff=0)[0]
        raise UsageError(
            f"unknown policy {recipe.policy}; did you mean {nearest}? Known: {', '.join(POLICIES)}."
        )
    if not 1 <= recipe.scale <= 16:
        raise UsageError(f"the scale is {recipe.scale:g}; expected a number from 1 to 16.")
    if recipe.policy not in MODEL_FREE | {UPSCALER} and models is None:
        raise UsageError(
            f"policy {recipe.policy} needs a bank: --models DIR. Train one with vsr train-keyframe "
            "CLIP --models DIR."
        )


def bank_for(recipes: Sequence[Recipe], models: str | Path | None) -> list[Model]:
    """The keyframe models, where a policy uses them."""
    return (
        load_bank(Path(models or ""))
        if {recipe.policy for recipe in recipes} - MODEL_FREE - {"shot", UPSCALER}
        else []
    )


def shot_models_for(recipes: Sequence[Recipe], models: str | Path | None) -> ShotModelSource:
    """The bank's shot models, where a policy uses them."""
    if not any(recipe.policy == "shot" for recipe in recipes):
        return no_shot_models
    loaded = load_shot_models(Path(models or ""))
    return lambda _: loaded


def _manifest(
    reader: ClipReader,
    output: str | None,
    recipe: Recipe,
    stages: Stages,
    board: Scoreboard,
    report: WriteReport | None,
    notes: list[str],
    clock: StageClock,
    device: torch.device,
    resumed_at_frame: int = 0,
) -> Manifest:
    used = [name for decision in stages.decisions for name in decision.models]
    seconds = clock.seconds()
    return Manifest(
        clip=str(reader.info.path),
        clip_identity=reader.info.identity,
        output=output,
        frames_in=stages.frames_in,
        frames_out=report.frames_out if report else stages.frames_out,
        max_pts_error_seconds=report.max_pts_error_seconds if report else 0.0,
        resumed_at_frame=resumed_at_frame,
        policy=recipe.policy or "",
        models=list(dict.fromkeys(used)),
        decisions=[asdict(decision) | {"margin": decision.margin} for decision in stages.decisions],
        shots=stages.shot_starts,
        steady=[asdict(shot) for shot in stages.steadiness],
        streams_kept=list(report.streams_kept) if report else [],
        streams_dropped=list(report.streams_dropped) if report else [],
        damage=[*(str(damage) for damage in reader.damage), *(report.damage if report else ())],
        notes=notes,
        encoder=report.encoder if report else None,
        device=str(device),
        dtype=dtype_name(recipe.dtype, device),
        timings_seconds=seconds,
        stage_shares=stage_utilization(seconds),
        peak_memory_bytes=peak_memory_bytes(),
        metrics={name: result.to_json() for name, result in board.compute().items()},
        baseline={
            name: result.to_json() for name, result in (board.compute_baseline() or {}).items()
        },
        recipe=to_table(recipe),
        command=sys.argv,
        versions=versions(),
    )
