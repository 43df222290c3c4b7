"""Trains shot models: finds the shots of a clip, takes frames of each, fills the bank."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from time import perf_counter

import torch

from vsr import __version__
from vsr.errors import InputError, ModelError, UsageError
from vsr.models.bank import SHOT_MODEL_SUFFIX
from vsr.models.shot_model import ARCH, ShotCard, load_shot_model, save_shot_model
from vsr.train.keyframe import (
    MAX_SEED,
    ShotChoice,
    choose_shots,
    clip_name,
    file_stem,
    make_folder,
    read_frames,
)
from vsr.train.methods.shot_network import (
    ShotTrainingOptions,
    TrainedShotNetworks,
    train_shot_model,
)
from vsr.train.workers import bank_lock
from vsr.video.frames import ClipInfo
from vsr.video.reader import open_clip
from vsr.video.shots import Shot, find_shots

MAX_TRAINING_FRAMES = 48
"""Of a shot: more add little, and all are held in memory while the model is trained."""
MAX_TRAINING_PIXELS = 6_000_000
"""Of all those frames together; a window takes some 50 bytes of memory a pixel."""
RUN_FRAMES = 8
"""Frames in a row, so that windows have their neighbours. A long shot gives several runs, evenly
spread."""
MIN_SIDE_PX = 16


def _ignore(*_: object) -> None:
    """What is said to nobody."""


@dataclass(frozen=True)
class ShotTrainingReport:
    """What `train_shot` did."""

    clip: str
    bank: str
    shots: int
    """Of the whole clip."""
    trained: tuple[str, ...]
    """Names of the models made now."""
    kept: tuple[str, ...]
    """Names of those that were there already."""
    seconds: float

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def train_shot(
    clip: str | Path,
    models: str | Path,
    *,
    shots: ShotChoice = "longest",
    budget_seconds: float | None = None,
    seed: int = 0,
    say: Callable[[str], None] = _ignore,
    progress: Callable[[int, int, float], None] = _ignore,
) -> ShotTrainingReport:
    """Train the shot model of each chosen shot and save it in folder `models`; those that are there
    are kept.

    `budget_seconds` is for each model; without one a fixed number of iterations makes the result
    the same every time. Raises `UsageError`, `InputError`, `ModelError` or `OutputError`.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"--seed is {seed}; expected 0 to {MAX_SEED}.")
    if budget_seconds is not None and not 0 < budget_seconds < inf:
        raise UsageError(f"--budget-seconds is {budget_seconds:g}; expected a number above 0.")
    start = perf_counter()
    with open_clip(clip) as reader:
        info = reader.info
        found = find_shots(reader.frames())
    if not found:
        raise InputError(f"{clip} has no frame to train on.")
    if min(info.height, info.width) < MIN_SIDE_PX:
        raise InputError(
            f"{clip} is {info.width}x{info.height}; a shot model needs {MIN_SIDE_PX} pixels a side."
        )
    chosen = choose_shots(found, shots, None)
    if len(chosen) < len(found):
        say(
            f"training on the shot of frames {chosen[0].first_frame} to {chosen[0].last_frame}, of "
            f"{len(found)} shots"
        )
    bank = Path(models)
    make_folder(bank)
    trained, kept = [], []
    with bank_lock(bank):
        for shot in chosen:
            path = bank / _file_name(info, shot, seed)
            name = path.name.removesuffix(SHOT_MODEL_SUFFIX)
            if _is_trained(path, info):
                kept.append(name)
                continue
            runs = _read_runs(clip, training_runs(shot, info.height * info.width))
            made = train_shot_model(runs, ShotTrainingOptions(), seed, progress, budget_seconds)
            num_frames = sum(len(run) for run in runs)
            save_shot_model(path, _model_card(info, shot, seed, made, num_frames), made.networks)
            trained.append(name)
    if kept:
        say(f"{len(kept)} of {len(chosen)} shot models exist already and are kept")
    return ShotTrainingReport(
        str(clip), str(bank), len(found), tuple(trained), tuple(kept), perf_counter() - start
    )


def _is_trained(path: Path, info: ClipInfo) -> bool:
    """Whether the model is there already. Raises `ModelError` where one of another clip has its
    name."""
    if not path.exists():
        return False
    card = load_shot_model(path).card
    if card.clip_identity != info.identity:
        raise ModelError(
            f"{path} is a model of another clip ({card.clip}). Use another folder for --models."
        )
    return True


def _model_card(
    info: ClipInfo, shot: Shot, seed: int, made: TrainedShotNetworks, num_frames: int
) -> ShotCard:
    return ShotCard(
        arch=ARCH,
        network=made.networks[0].spec,
        iterations=made.iterations,
        seed=seed,
        clip=clip_name(info),
        clip_identity=info.identity,
        first_frame=shot.first_frame,
        last_frame=shot.last_frame,
        shot_start_seconds=shot.start_seconds,
        shot_end_seconds=shot.end_seconds,
        frames_trained_on=num_frames,
        loss_curve=made.loss_curve,
        version=__version__,
    )


def training_runs(shot: Shot, frame_px: int) -> list[range]:
    """Frame numbers to train on: the whole shot where it is short, else runs evenly spread over
    it."""
    budget = max(RUN_FRAMES, min(MAX_TRAINING_FRAMES, MAX_TRAINING_PIXELS // frame_px))
    if shot.num_frames <= budget:
        return [range(shot.first_frame, shot.last_frame + 1)]
    count = budget // RUN_FRAMES
    latest = shot.last_frame + 1 - RUN_FRAMES
    spread = max(count - 1, 1)
    if count == 1:
        middle = (shot.first_frame + latest) // 2
        return [range(middle, middle + RUN_FRAMES)]
    starts = [
        shot.first_frame + (latest - shot.first_frame) * number // spread for number in range(count)
    ]
    return [range(start, start + RUN_FRAMES) for start in starts]


def _read_runs(clip: str | Path, runs: Sequence[range]) -> list[list[torch.Tensor]]:
    """The pixels of runs of frames."""
    frames = read_frames(clip, {index for run in runs for index in run})
    return [[frames[index].pixels for index in run] for run in runs]


def _file_name(info: ClipInfo, shot: Shot, seed: int) -> str:
    stem = file_stem(clip_name(info))
    return f"{stem}-{shot.first_frame:06d}-{shot.last_frame:06d}-{seed:03d}{SHOT_MODEL_SUFFIX}"
