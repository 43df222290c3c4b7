"""Trains the models of a clip: finds its shots, takes a keyframe of each, fills the bank."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.errors import ModelError
from vsr.models.bank import BASELINE, ModelCard, bank_files, load_card
from vsr.records import load_options
from vsr.train.budget import iterations_for_budget
from vsr.train.clip import (
    bank_lock,
    choose_shots,
    clip_name,
    file_stem,
    make_folder,
    read_frames,
    shots_of_clip,
)
from vsr.train.fit import TrainingListener, TrainingReport
from vsr.train.methods import check_keyframe
from vsr.train.methods.method import Method
from vsr.train.options import KeyframeTraining
from vsr.train.plan import plan_training
from vsr.train.workers import CPU, TrainingJob, is_batchable, train_all
from vsr.video.frames import ClipInfo, Frame
from vsr.video.shots import Shot

_GPU_LIMITS = (
    "a GPU trains methods faithful and pyramid, and quick without --neighbours and batch "
    "normalization on keyframes large enough for a crop"
)


def train_keyframe(
    clip: str | Path,
    models: str | Path,
    *,
    # options of vsr train-keyframe, by tools/write_signatures.py
    count: int | None = None,
    shots: int | Literal["longest", "all"] = "longest",
    keyframe: int | Literal["auto", "all"] = "auto",
    seed: int = 0,
    method: str = "quick",
    full: bool = False,
    regime: str | None = None,
    kernel: str | Path | None = None,
    neighbours: int = 0,
    budget_seconds: float | None = None,
    device: str = "auto",
    cluster: str | None = None,
    on_damage: Literal["keep", "repeat", "stop"] = "keep",
    deinterlace: Literal["auto", "frame", "field", "film", "off"] = "auto",
    allow_huge: bool = False,
    stream: int | None = None,
    # end of options
    settings: Sequence[str] = (),
    workers: int = 1,
    listener: TrainingListener = TrainingListener(),
) -> TrainingReport:
    """Train `count` models, of seeds `seed` and up, on one keyframe of each chosen shot; save them
    in folder `models`.

    The keywords are the options of the command, described in `KeyframeTraining`; `settings`
    ("a.b=value") change the options of the method. Models that are there already are kept, and a
    stopped training resumes. Models are made steady on as many `neighbours` as the shot has. A
    model depends on its frames, method and seed alone, not on `workers`; more than one worker
    starts processes, which needs a guarded main module. On a GPU the models of a keyframe are one
    job where the method can do that, and differ from a CPU's by rounding, which training magnifies.
    Raises `UsageError`, `InputError`, `ModelError`, `OutputError`, or `InterruptedRunError` where
    the listener asks for an end.
    """
    options = load_options(KeyframeTraining, given=locals())
    return train_bank(clip, models, options, settings, workers, listener)


def train_bank(
    clip: str | Path,
    models: str | Path,
    options: KeyframeTraining,
    settings: Sequence[str],
    workers: int,
    listener: TrainingListener,
) -> TrainingReport:
    """Do what `train_keyframe` says, with its options as one value."""
    on, notify = choose_device(options.device), listener.notify
    make_plan = partial(
        plan_training,
        options.method,
        full=options.full,
        regime=options.regime,
        settings=settings,
        kernel=options.kernel,
        neighbours=options.neighbours,
    )
    plan = make_plan()
    is_baseline = options.keyframe == "all"
    count = options.count or (1 if is_baseline else plan.method.count)
    start = perf_counter()
    info, found = shots_of_clip(clip, options.read)
    chosen = choose_shots(found, options.shots, options.keyframe)
    if len(chosen) < len(found) and options.keyframe == "auto":
        notify(
            f"training on {_describe_shot(chosen[0])}, of {len(found)} shots; --shots all would "
            f"train {len(found) * count} models, about {len(found) // len(chosen)} times as long"
        )
    # All frames in one pass over the clip.
    around = [_frames_around(shot, options.neighbours) for shot in chosen]
    frames = read_frames(clip, {index for indices in around for index in indices}, options.read)
    material = [[frames[index].pixels for index in indices] for indices in around]
    for keyframe_pixels, *_ in material:
        check_keyframe(keyframe_pixels)
    if advice := plan.advice(material[0][0]):
        notify(advice)
    if options.budget_seconds is not None:
        pixels, models_wanted = material[0][0], count * len(chosen)
        # Finding shots has taken some of it.
        left = options.budget_seconds - (perf_counter() - start)
        where = CPU if options.neighbours else on
        iterations = iterations_for_budget(
            left,
            models_wanted,
            workers,
            plan.method,
            pixels,
            Path(models),
            keyframe_hash(pixels),
            where,
        )
        notify(f"{iterations} iterations at most for each of {models_wanted} models")
        plan = make_plan(iterations=iterations)
    recipe, label = plan.method, plan.label
    if is_baseline:
        # Of a system of their own: the other policies work with the models of keyframes.
        recipe, label = replace(recipe, arch=f"{BASELINE}-{recipe.arch}"), f"{BASELINE}-{label}"
    cards = [_plan_card(info, shot, frames[shot.keyframe], label, recipe) for shot in chosen]
    jobs = [
        _plan_job(Path(models), replace(card, seed=options.seed + number), recipe, pictures)
        for card, pictures in zip(cards, material, strict=True)
        for number in range(count)
    ]
    # Before the folder is made: a refusal leaves nothing behind.
    _check_bank(Path(models), jobs)
    make_folder(Path(models))
    with bank_lock(Path(models)):
        kept, missing = _split_jobs(jobs)
        if kept:
            notify(f"{len(kept)} of {len(jobs)} models exist already and are kept")
        planned = plan.with_kernels(missing, notify)
        if options.cluster is not None:
            notify("each model is a task of the cluster, on one core of a CPU")
        elif on != CPU and not all(is_batchable(job) for job in planned):
            notify(f"trained on the CPU: {_GPU_LIMITS}")
        train_all(planned, workers, listener, on, options.cluster)
    for job in missing:
        if remark := load_card(job.path).remark:
            notify(f"{job.path.stem}: {remark}")
    return TrainingReport(
        clip=str(clip),
        bank=str(models),
        method=options.method,
        keyframes=tuple(shot.keyframe for shot in chosen),
        shots=len(found),
        trained=tuple(job.path.stem for job in missing),
        kept=tuple(job.path.stem for job in kept),
        seconds=perf_counter() - start,
    )


def keyframe_hash(pixels: torch.Tensor) -> str:
    """SHA-256 of a (3, H, W) frame's pixels, rounded to 16 bits, and its size."""
    # Of rounded values: other decoders differ in the last digits of a float.
    levels = (pixels.cpu() * 65535).round().to(torch.int32).contiguous()
    return hashlib.sha256(repr(tuple(levels.shape)).encode() + levels.numpy().tobytes()).hexdigest()


def _describe_shot(shot: Shot) -> str:
    return f"frame {shot.keyframe} of the shot of frames {shot.first_frame} to {shot.last_frame}"


def _frames_around(shot: Shot, neighbours: int) -> list[int]:
    """Number of the keyframe, then those of the frames near it, inside the shot."""
    first = max(shot.keyframe - neighbours, shot.first_frame)
    last = min(shot.keyframe + neighbours, shot.last_frame)
    return [shot.keyframe, *(index for index in range(first, last + 1) if index != shot.keyframe)]


def _plan_card(info: ClipInfo, shot: Shot, frame: Frame, recipe: str, method: Method) -> ModelCard:
    """Make the card of any model of this keyframe, complete but for its seed and what training
    tells."""
    return ModelCard(
        arch=method.arch,
        network=method.options.network,
        scale_factors=(method.options.step_ratio, method.options.step_ratio),
        noise_amplitude=0.0,
        recipe=recipe,
        seed=0,
        clip=clip_name(info),
        clip_identity=info.identity,
        keyframe=shot.keyframe,
        keyframe_hash=keyframe_hash(frame.pixels),
        frame_time=frame.seconds,
        shot_start_seconds=shot.start_seconds,
        shot_end_seconds=shot.end_seconds,
        critic_mean=0.0,
        critic_std=0.0,
        loss_curve=(),
        version=__version__,
        kernel=getattr(method.options, "kernel", None),
    )


def _plan_job(
    bank: Path, card: ModelCard, method: Method, pictures: Sequence[torch.Tensor]
) -> TrainingJob:
    """Make the job of the keyframe, the first of `pictures`, with the others for neighbors."""
    return TrainingJob(bank / model_file(card), method, card, pictures[0], tuple(pictures[1:]))


def model_file(card: ModelCard) -> str:
    """File name of a model: clip, keyframe, recipe and seed."""
    return f"{file_stem(card.clip)}-{card.keyframe:06d}-{card.recipe}-{card.seed:03d}.safetensors"


def _check_bank(bank: Path, jobs: Sequence[TrainingJob]) -> None:
    """Refuse, with `ModelError`, a bank with models of the same keyframe that were trained
    otherwise."""
    recipes = {(job.card.keyframe_hash, job.card.system): job.card.recipe for job in jobs}
    # Policies average all models of a keyframe: those of two recipes would make neither's picture.
    for path in bank_files(bank):
        card = load_card(path)
        recipe = recipes.get((card.keyframe_hash, card.system), card.recipe)
        if card.recipe != recipe and not card.is_student:
            raise ModelError(
                f"{path} belongs to the same keyframe but was trained with {card.recipe}, "
                f"not with {recipe}; policies would mix the two. Use another folder for --models."
            )


def _split_jobs(jobs: Sequence[TrainingJob]) -> tuple[list[TrainingJob], list[TrainingJob]]:
    """Jobs whose model is there already, and the others; a file of that name with another model is
    an error."""
    kept, missing = [], []
    for job in jobs:
        if not job.path.exists():
            missing.append(job)
            continue
        card = load_card(job.path)
        if (card.keyframe_hash, card.recipe, card.seed) != (
            job.card.keyframe_hash,
            job.card.recipe,
            job.card.seed,
        ):
            raise ModelError(
                f"{job.path} is a model of another keyframe (frame {card.keyframe} of "
                f"{card.clip}). Use another folder for --models."
            )
        kept.append(job)
    return kept, missing
