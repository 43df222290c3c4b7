"""Trains shot models: finds the shots of a clip, takes frames of each, fills the bank."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from math import sqrt
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.errors import InputError, ModelError
from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.models.bank import SHOT_MODEL_SUFFIX
from vsr.models.kernel_file import kernel_summary, read_kernel
from vsr.models.prior import Prior, PriorChoice, load_shipped_prior
from vsr.models.shot_model import ARCH, ShotCard, ShotModel, load_shot_model, save_shot_model
from vsr.records import load_options
from vsr.train.clip import (
    bank_lock,
    choose_shots,
    clip_name,
    file_stem,
    make_folder,
    read_frames,
    short_hash,
    shots_of_clip,
)
from vsr.train.fit import ProgressAggregator, TrainingListener, TrainingReport
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.shot_network import (
    ADAPTATION,
    ShotTrainingOptions,
    TrainedShotNetworks,
    train_shot_model,
)
from vsr.train.optimizer import single_thread
from vsr.train.options import AUTO, ShotTraining
from vsr.train.state_file import StateFile
from vsr.video.frames import ClipInfo
from vsr.video.reader import ReadOptions
from vsr.video.shots import Shot

MAX_TRAINING_FRAMES = 48
"""Of a shot: more add little, and all are held in memory while the model is trained."""
MAX_TRAINING_PIXELS = 6_000_000
"""Of all those frames together; a window takes some 50 bytes of memory a pixel."""
RUN_FRAMES = 8
"""Frames in a row, so that windows have their neighbours. A long shot gives several runs, evenly
spread."""
MIN_SIDE_PX = 16
MIN_KERNEL_SIDE_PX = 32
MIN_ADAPTED_FRAMES = 10
"""Shots that are shorter use the prior as it is: too little of them is left to tell by whether a
training on the rest has made it better."""
MAX_ADAPTATION_FRAMES = 16
MAX_ADAPTATION_PIXELS = 420_000
"""Of all those frames together; of larger frames the middle is trained on, so that a shot takes
some five seconds of a core at any size."""


def train_shot(
    clip: str | Path,
    models: str | Path,
    *,
    # options of vsr train-shot, by tools/write_signatures.py
    shots: int | Literal["longest", "all"] = "longest",
    budget_seconds: float | None = None,
    kernel: str | Path | None = None,
    prior: Literal["auto", "none"] = "auto",
    seed: int = 0,
    device: str = "auto",
    on_damage: Literal["keep", "repeat", "stop"] = "keep",
    deinterlace: Literal["auto", "frame", "field", "film", "off"] = "auto",
    allow_huge: bool = False,
    stream: int | None = None,
    # end of options
    listener: TrainingListener = TrainingListener(),
) -> TrainingReport:
    """Train the shot model of each chosen shot and save it in folder `models`; those that are there
    are kept, and a training that was stopped goes on.

    The keywords are the options of the command, told in `ShotTraining`. Without `budget_seconds` a
    fixed number of iterations makes the result the same every time on one device. Raises
    `UsageError`, `InputError`, `ModelError`, `OutputError`, or `InterruptedRunError` where the
    listener asks for an end.
    """
    return train_shots(clip, models, load_options(ShotTraining, given=locals()), listener)


def train_shots(
    clip: str | Path, models: str | Path, options: ShotTraining, listener: TrainingListener
) -> TrainingReport:
    """Do what `train_shot` says, with its options as one value."""
    on, seed = choose_device(options.device), options.seed
    given, label = _given_kernel(options.kernel)
    prior = None
    if options.prior == "auto" and options.kernel is None:
        prior = load_shipped_prior()
    elif options.prior == "auto":
        listener.notify("the prior knows bicubic reduction: it stays out where a blur is undone")
    method = ShotTrainingOptions() if prior is None else ADAPTATION
    start = perf_counter()
    info, found = shots_of_clip(clip, options.read)
    if min(info.height, info.width) < MIN_SIDE_PX:
        raise InputError(
            f"{clip} is {info.width}x{info.height}; a shot model needs {MIN_SIDE_PX} pixels a side."
        )
    chosen = choose_shots(found, options.shots)
    if len(chosen) < len(found):
        listener.notify(
            f"training on the shot of frames {chosen[0].first_frame} to {chosen[0].last_frame}, of "
            f"{len(found)} shots"
        )
    bank = Path(models)
    make_folder(bank)
    # As for keyframes: a model must not depend on how many cores there are.
    with bank_lock(bank), single_thread():
        paths = {bank / _file_name(info, shot, seed, label): shot for shot in chosen}
        kept = [path for path in paths if _is_trained(path, info, options.prior)]
        missing = [path for path in paths if path not in kept]
        gather = ProgressAggregator(len(missing), listener)
        for number, path in enumerate(missing):
            shot = paths[path]
            if prior is not None and shot.num_frames < MIN_ADAPTED_FRAMES:
                made = TrainedShotNetworks(prior.networks, (0, 0), ())
                save_shot_model(path, _model_card(info, shot, seed, made, 0, prior), prior.networks)
                gather.update(number, 1, 1, 0.0)
                listener.notify(
                    f"the shot of frames {shot.first_frame} to {shot.last_frame} is short: the "
                    "prior serves it as it is"
                )
                continue
            # The frames are read shot by shot, so that memory holds those of one.
            runs, region = training_part(shot, info.height, info.width, prior is not None)
            material = _read_runs(clip, runs, options.read, region)
            kernel = given
            if options.kernel == AUTO:
                kernel = _estimated_kernel(shot, material, listener)
            method = replace(method, kernel=kernel)
            plan = {
                "clip": info.identity,
                "runs": [[run.start, run.stop] for run in runs],
                "seed": seed,
                "budget_seconds": options.budget_seconds,
                "options": asdict(method),
                "read": asdict(options.read),
                "version": __version__,
                "prior": "" if prior is None else prior.sha256,
            }
            # Everything that the model follows from: the state of another training must not be
            # taken up.
            states = StateFile(path, plan, listener.notify, begins_anew=True)
            made = train_shot_model(
                material,
                method,
                seed,
                partial(gather.update, number),
                options.budget_seconds,
                device=on,
                states=states,
                should_stop=listener.should_stop,
                starts=None if prior is None else prior.networks,
            )
            card = _model_card(info, shot, seed, made, sum(map(len, runs)), prior)
            save_shot_model(path, replace(card, kernel=kernel), made.networks)
            states.remove()
    if kept:
        listener.notify(f"{len(kept)} of {len(chosen)} shot models exist already and are kept")
    return TrainingReport(
        clip=str(clip),
        bank=str(bank),
        method="shot",
        shots=len(found),
        trained=tuple(map(_model_name, missing)),
        kept=tuple(map(_model_name, kept)),
        seconds=perf_counter() - start,
    )


def _given_kernel(choice: str | None) -> tuple[KernelTaps | None, str]:
    """The kernel of a file, and what tells models apart that were trained with another choice."""
    if choice is None:
        return None, ""
    if choice == AUTO:
        return None, "-kernel"
    rows = read_kernel(Path(choice))
    return none_if_bicubic(rows), f"-kernel_{short_hash(repr(rows))}"


def _estimated_kernel(
    shot: Shot, runs: Sequence[Sequence[torch.Tensor]], listener: TrainingListener
) -> KernelTaps | None:
    """Estimate the blur of a shot on the frame in the middle of what is trained on; None where no
    blur explains it clearly better than bicubic reduction."""
    frames = [frame for run in runs for frame in run]
    if min(frames[0].shape[-2:]) < MIN_KERNEL_SIDE_PX:
        listener.notify(f"frames under {MIN_KERNEL_SIDE_PX} pixels a side do not show their blur")
        return None
    # One seed for all, as for keyframes: the same shot always has the same kernel.
    estimate = estimate_kernel(
        frames[len(frames) // 2], KernelGanOptions(), 0, lambda *_: None, listener.should_stop
    )
    listener.notify(
        f"shot from frame {shot.first_frame}: {estimate.kernel_fit.summary()}; "
        f"{kernel_summary(estimate.kernel)}"
    )
    return none_if_bicubic(estimate.kernel)


def _model_name(path: Path) -> str:
    return path.name.removesuffix(SHOT_MODEL_SUFFIX)


def _is_trained(path: Path, info: ClipInfo, prior: PriorChoice) -> bool:
    """Whether the model is there already. Raises `ModelError` where one of another clip has its
    name, or one that began from a prior where none is wanted."""
    if not path.exists():
        return False
    model = load_shot_model(path)
    card = model.card
    if card.clip_identity != info.identity:
        raise ModelError(
            f"{path} is a model of another clip ({card.clip}). Use another folder for --models."
        )
    check_prior(model, prior)
    return True


def check_prior(model: ShotModel, wanted: PriorChoice) -> None:
    """Raise `ModelError` for a model that began from a prior where none is wanted."""
    if model.card.prior and wanted == "none":
        raise ModelError(
            f"the model {model.name} began from the prior {model.card.prior}, and --prior none "
            "asks for one that knows the clip alone. Use another folder for --models."
        )


def _model_card(
    info: ClipInfo,
    shot: Shot,
    seed: int,
    made: TrainedShotNetworks,
    num_frames: int,
    prior: Prior | None,
) -> ShotCard:
    first, second = (network.spec for network in made.networks)
    return ShotCard(
        arch=ARCH,
        network=first,
        second_network=None if second == first else second,
        prior="" if prior is None else prior.name,
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


def training_part(
    shot: Shot, height: int, width: int, is_adaptation: bool
) -> tuple[list[range], tuple[slice, slice]]:
    """Choose the frames to train on, and the rows and columns of them: all, or for a mere
    adaptation of a prior the middle."""
    if not is_adaptation:
        return training_runs(shot, height * width), (slice(None), slice(None))
    share = min(1.0, sqrt(MAX_ADAPTATION_PIXELS / RUN_FRAMES / (height * width)))
    sides = [max(MIN_SIDE_PX, round(side * share)) for side in (height, width)]
    rows, columns = (
        slice((whole - side) // 2, (whole - side) // 2 + side)
        for whole, side in zip((height, width), sides, strict=True)
    )
    runs = training_runs(shot, sides[0] * sides[1], MAX_ADAPTATION_FRAMES, MAX_ADAPTATION_PIXELS)
    return runs, (rows, columns)


def training_runs(
    shot: Shot,
    frame_px: int,
    max_frames: int = MAX_TRAINING_FRAMES,
    max_pixels: int = MAX_TRAINING_PIXELS,
) -> list[range]:
    """Choose the frames to train on: the whole shot where it is short, else runs evenly spread over
    it."""
    budget = max(RUN_FRAMES, min(max_frames, max_pixels // frame_px))
    if shot.num_frames <= budget:
        return [range(shot.first_frame, shot.last_frame + 1)]
    # Runs rather than single frames, for windows need neighbors; spread, for shots change.
    count = budget // RUN_FRAMES
    latest = shot.last_frame + 1 - RUN_FRAMES
    spread = max(count - 1, 1)
    if count == 1:
        # The middle has the most in common with both ends.
        middle = (shot.first_frame + latest) // 2
        return [range(middle, middle + RUN_FRAMES)]
    starts = [
        shot.first_frame + (latest - shot.first_frame) * number // spread for number in range(count)
    ]
    return [range(start, start + RUN_FRAMES) for start in starts]


def _read_runs(
    clip: str | Path, runs: Sequence[range], read: ReadOptions, region: tuple[slice, slice]
) -> list[list[torch.Tensor]]:
    """Read the pixels of runs of frames, those of the region's rows and columns."""
    frames = read_frames(clip, {index for run in runs for index in run}, read)
    return [[frames[index].pixels[:, *region] for index in run] for run in runs]


def _file_name(info: ClipInfo, shot: Shot, seed: int, label: str) -> str:
    stem = file_stem(clip_name(info))
    frames = f"{shot.first_frame:06d}-{shot.last_frame:06d}"
    return f"{stem}-{frames}-{seed:03d}{label}{SHOT_MODEL_SUFFIX}"
