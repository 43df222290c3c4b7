"""Trains the models of a clip: finds its shots, takes a keyframe of each, fills the bank."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from vsr.checkpoints import ModelCard, load_card
from vsr.errors import InputError, ModelError, OutputError, UsageError
from vsr.frames import ClipInfo, Frame
from vsr.reader import open_clip
from vsr.shots import Shot, find_shots
from vsr.training import METHODS, check_keyframe
from vsr.training.bank import TrainingJob, TrainingState, train_all
from vsr.training.method import Method

ShotChoice = Literal["longest", "all"] | int

LARGEST_SEED = 2**31 - 1


def _ignore(_: object) -> None:
    """What is said to nobody."""


@dataclass(frozen=True)
class TrainingReport:
    """What `train_keyframe` did."""

    clip: str
    bank: str
    method: str
    keyframes: tuple[int, ...]
    """Frame numbers, one for each shot that was asked for."""
    shots: int
    """Shots of the whole clip."""
    trained: tuple[str, ...]
    """Names of the models made now."""
    kept: tuple[str, ...]
    """Names of those that were there already."""
    seconds: float

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def train_keyframe(
    clip: str | Path,
    models: str | Path,
    *,
    count: int = 15,
    shots: ShotChoice = "longest",
    keyframe: int | None = None,
    seed: int = 0,
    method: str = "quick",
    workers: int = 1,
    say: Callable[[str], None] = _ignore,
    progress: Callable[[TrainingState], None] = _ignore,
) -> TrainingReport:
    """Train `count` models, of seeds `seed` and up, on one keyframe of each chosen shot; save them in folder `models`.

    Models that are there already are kept. A model depends on its keyframe, method and seed alone, not on `workers`;
    more than one worker starts processes, which needs a guarded main module. Raises `UsageError`, `InputError`,
    `ModelError` or `OutputError`.
    """
    if count < 1:
        raise UsageError(f"--count is {count}; at least one model must be trained.")
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed is {seed}; expected 0 to {LARGEST_SEED}.")
    recipe = _method(method)
    start = perf_counter()
    with open_clip(clip) as reader:
        info = reader.info
        found = find_shots(reader.frames())
    if not found:
        raise InputError(f"{clip} has no frame to train on.")
    chosen = _choose_shots(found, shots, keyframe)
    if len(chosen) < len(found) and keyframe is None:
        say(
            f"training on {_shot_words(chosen[0])}, of {len(found)} shots; --shots all would train "
            f"{len(found) * count} models, about {len(found) // len(chosen)} times as long"
        )
    frames = _read_frames(clip, [shot.keyframe for shot in chosen])
    for frame in frames:
        check_keyframe(frame.pixels)
    jobs = [
        _plan_job(Path(models), info, shot, frame, method, recipe, seed + number)
        for shot, frame in zip(chosen, frames, strict=True)
        for number in range(count)
    ]
    _make_folder(Path(models))
    kept, missing = _split_jobs(jobs)
    if kept:
        say(f"{len(kept)} of {len(jobs)} models are there already and are kept")
    train_all(missing, workers, progress)
    return TrainingReport(
        clip=str(clip),
        bank=str(models),
        method=method,
        keyframes=tuple(shot.keyframe for shot in chosen),
        shots=len(found),
        trained=tuple(job.path.stem for job in missing),
        kept=tuple(job.path.stem for job in kept),
        seconds=perf_counter() - start,
    )


def keyframe_hash(pixels: torch.Tensor) -> str:
    """SHA-256 of a (3, H, W) frame's pixels, rounded to 16 bits, and its size."""
    levels = (pixels.cpu() * 65535).round().to(torch.int32).contiguous()
    return hashlib.sha256(repr(tuple(levels.shape)).encode() + levels.numpy().tobytes()).hexdigest()


def _method(name: str) -> Method:
    if name not in METHODS:
        nearest = get_close_matches(name, METHODS, n=1, cutoff=0)[0]
        raise UsageError(f"unknown training method {name}; did you mean {nearest}? Known: {', '.join(METHODS)}.")
    return METHODS[name]


def _choose_shots(found: Sequence[Shot], shots: ShotChoice, keyframe: int | None) -> list[Shot]:
    if keyframe is not None:
        for shot in found:
            if shot.first_frame <= keyframe <= shot.last_frame:
                return [replace(shot, keyframe=keyframe)]
        raise UsageError(f"--keyframe {keyframe} is not in the clip; its frames are 0 to {found[-1].last_frame}.")
    if shots == "all":
        return list(found)
    if shots == "longest":
        return [max(found, key=lambda shot: shot.num_frames)]
    if isinstance(shots, str) or not 0 <= shots < len(found):
        raise UsageError(f"--shots {shots} is not in the clip; its shots are 0 to {len(found) - 1}, longest or all.")
    return [found[shots]]


def _shot_words(shot: Shot) -> str:
    return f"frame {shot.keyframe} of the shot of frames {shot.first_frame} to {shot.last_frame}"


def _read_frames(clip: str | Path, indices: Sequence[int]) -> list[Frame]:
    """The frames of these numbers, in ascending order; reads no further than the last."""
    wanted = set(indices)
    frames = []
    with open_clip(clip) as reader:
        for frame in reader.frames():
            if frame.index in wanted:
                frames.append(frame)
            if len(frames) == len(wanted):
                return frames
    raise InputError(f"{clip} ended before frame {max(wanted)} when it was read again.")


def _plan_job(
    bank: Path, info: ClipInfo, shot: Shot, frame: Frame, method_name: str, method: Method, seed: int
) -> TrainingJob:
    stem = re.sub(r"[^\w-]+", "_", Path(info.path).stem).strip("_") or "clip"
    card = ModelCard(
        arch=method.arch,
        network=method.options.network,
        scale_factors=(method.options.step_ratio, method.options.step_ratio),
        noise_amplitude=0.0,
        recipe=method_name,
        seed=seed,
        clip=Path(info.path).name.encode(errors="backslashreplace").decode(),
        clip_identity=info.identity,
        keyframe=shot.keyframe,
        keyframe_hash=keyframe_hash(frame.pixels),
        frame_time=frame.seconds,
        shot_start_seconds=shot.start_seconds,
        shot_end_seconds=shot.end_seconds,
        critic_mean=0.0,
        critic_std=0.0,
        loss_curve=(),
        version=version("vsr"),
    )
    path = bank / f"{stem}-{shot.keyframe:06d}-{method_name}-{seed:03d}.safetensors"
    return TrainingJob(path, method, card, frame.pixels)


def _split_jobs(jobs: Sequence[TrainingJob]) -> tuple[list[TrainingJob], list[TrainingJob]]:
    """Jobs whose model is there already, and the others; a file of that name with another model is an error."""
    kept, missing = [], []
    for job in jobs:
        if not job.path.exists():
            missing.append(job)
            continue
        card = load_card(job.path)
        if (card.keyframe_hash, card.recipe, card.seed) != (job.card.keyframe_hash, job.card.recipe, job.card.seed):
            raise ModelError(
                f"{job.path} is a model of another keyframe (frame {card.keyframe} of {card.clip}). "
                "Use another folder for --models."
            )
        kept.append(job)
    return kept, missing


def _make_folder(bank: Path) -> None:
    try:
        bank.mkdir(parents=True, exist_ok=True)
        if not os.access(bank, os.W_OK):
            raise PermissionError(13, "no permission to write")
    except OSError as error:
        raise OutputError(f"cannot write models to {bank}: {error.strerror}. Choose another --models.") from None
