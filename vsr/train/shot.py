"""Trains shot models: finds the shots of a clip, takes frames of each, fills the bank."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

import numpy as np
import torch

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.engine.tiling import single_thread
from vsr.errors import InputError, InterruptedRunError, ModelError
from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.image.degradation import CLEAN_SHOT, KnownDegradation
from vsr.models.bank import SHOT_MODEL_SUFFIX
from vsr.models.kernel_file import kernel_summary, read_kernel
from vsr.models.prior import Prior, PriorChoice, kind_suffix, load_prior_for, quality_of
from vsr.models.shot_model import (
    ARCH,
    Quality,
    ShotCard,
    ShotModel,
    load_shot_model,
    save_shot_model,
)
from vsr.progress import ignore
from vsr.records import load_options
from vsr.restore.data_term import is_noisy, known_degradation, strength_of, trust_for
from vsr.restore.noise_removal import remove_noise
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
from vsr.train.cluster import TaskPool, join_cluster, put
from vsr.train.degraded import degradations_of_shots
from vsr.train.fit import (
    IterationProgress,
    ProgressAggregator,
    TrainingListener,
    TrainingReport,
)
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.shot_network import (
    ADAPTATIONS,
    ShotTrainingOptions,
    TrainedShotNetworks,
    train_shot_model,
)
from vsr.train.options import AUTO, ShotTraining
from vsr.train.state_file import StateFile
from vsr.train.workers import POLL_SECONDS, available_cores, write_model
from vsr.video.frames import ClipInfo
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import Shot
from vsr.video.step import Degradation

MAX_TRAINING_FRAMES = 48
"""Limit for a shot: more add little, and all are held in memory while the model is trained."""
MAX_TRAINING_PIXELS = 6_000_000
"""Limit for all those frames together; a window takes some 50 bytes of memory a pixel."""
RUN_FRAMES = 8
"""Frames in a row, so that windows have their neighbours. A long shot gives several runs, evenly
spread."""
MIN_SIDE_PX = 16
MIN_KERNEL_SIDE_PX = 32
MIN_ADAPTED_FRAMES = 10
"""Shots that are shorter use the prior as it is: too little of them is left to tell by whether a
training on the rest has made it better."""
MAX_DEGRADED_STEPS = 60
"""Steps of the first network on a compressed or noisy shot: more of them learn its errors too. At
crf 23 150 steps gain .64 dB on bicubic interpolation (nine clips, 96x64), 60 steps .74 dB."""
MAX_ADAPTATION_FRAMES = 16
MAX_ADAPTATION_PIXELS = 420_000
"""Limit for all those frames together; of larger frames the middle is trained on, so that a shot
takes some eight seconds of a busy core at any size."""


def train_shot(
    clip: str | Path,
    models: str | Path,
    *,
    # options of vsr train-shot, by tools/write_signatures.py
    shots: int | Literal["longest", "all"] = "longest",
    budget_seconds: float | None = None,
    kernel: str | Path | None = None,
    prior: Literal["auto", "fast", "balanced", "best", "none"] = "auto",
    restore: float | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    cluster: str | None = None,
    on_damage: Literal["keep", "repeat", "stop"] = "keep",
    deinterlace: Literal["auto", "frame", "field", "film", "off"] = "auto",
    allow_huge: bool = False,
    stream: int | None = None,
    quantizer: float | None = None,
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
    start = perf_counter()
    plan = plan_shots(clip, models, options, listener)
    make_folder(plan.bank)
    # As for keyframes: a model must not depend on how many cores there are.
    with bank_lock(plan.bank), single_thread():
        missing = [job for job in plan.jobs if not job.is_trained()]
        gather = ProgressAggregator(len(missing), listener)
        if options.cluster is not None:
            _train_on_cluster(options.cluster, clip, missing, listener, gather)
        else:
            for number, job in enumerate(missing):
                # The frames are read shot by shot, so that memory holds those of one.
                frames = _read_runs(clip, job.runs, options.read, job.region)
                job.train(frames, partial(gather.update, number), listener)
    kept = [job for job in plan.jobs if job not in missing]
    if kept:
        listener.notify(f"{len(kept)} of {len(plan.jobs)} shot models exist already and are kept")
    return TrainingReport(
        clip=str(clip),
        bank=str(plan.bank),
        method="shot",
        shots=plan.num_shots,
        trained=tuple(_model_name(job.path) for job in missing),
        kept=tuple(_model_name(job.path) for job in kept),
        seconds=perf_counter() - start,
    )


@dataclass(frozen=True)
class ShotJob:
    """The training of one shot's model, without its frames."""

    path: Path
    info: ClipInfo
    shot: Shot
    runs: list[range]
    """Numbers of the frames to train on, in rows; none where the prior serves as it is."""
    region: tuple[slice, slice]
    """Rows and columns of them."""
    options: ShotTraining
    method: ShotTrainingOptions
    kernel: KernelTaps | None
    """Blur that the user gave; one that is to be found is found on the frames."""
    has_prior: bool
    """Whether the training begins from the shipped prior."""
    degradation: Degradation
    """Degradation of the shot; its noise is removed from what is trained on."""
    known: KnownDegradation
    """Degradation that the prior's networks are made for."""
    device: str

    def is_trained(self) -> bool:
        """Whether the model is there already. Raises `ModelError` where one of another clip has its
        name, or one that began from a prior where none is wanted."""
        if not self.path.exists():
            return False
        model = load_shot_model(self.path)
        card = model.card
        if card.clip_identity != self.info.identity:
            raise ModelError(
                f"{self.path} is a model of another clip ({card.clip}). Use another folder for "
                "--models."
            )
        check_prior(model, self.options.prior)
        return True

    def train(
        self,
        frames: list[list[torch.Tensor]],
        progress: IterationProgress,
        listener: TrainingListener,
    ) -> None:
        """Train on the frames of the runs, from the state of a stopped training where there is one,
        and save the model."""
        seed, kernel = self.options.seed, self.kernel
        prior = load_prior_for(self.options.prior, self.known) if self.has_prior else None
        if prior is not None and not self.runs:
            made = TrainedShotNetworks(prior.networks_for(self.known), (0, 0), ())
            card = _model_card(self.info, self.shot, seed, made, 0, prior, self.known)
            save_shot_model(self.path, card, made.networks)
            progress(1, 1, 0.0)
            shot, known = self.shot, self.known
            why = "is short" if known.is_clean else f"is degraded ({known.summary()})"
            listener.notify(
                f"the shot of frames {shot.first_frame} to {shot.last_frame} {why}: the prior "
                "serves it without training"
            )
            return
        if is_noisy(self.degradation):
            strength = strength_of(self.options.restore)
            frames = [list(remove_noise(run, self.degradation, strength)) for run in frames]
        if self.options.kernel == AUTO:
            kernel = _estimated_kernel(self.shot, frames, listener)
        method = replace(self.method, kernel=kernel)
        # Everything that the model follows from: the state of another training must not be taken
        # up.
        plan = {
            "clip": self.info.identity,
            "runs": [[run.start, run.stop] for run in self.runs],
            "seed": seed,
            "budget_seconds": self.options.budget_seconds,
            "options": asdict(method),
            "read": asdict(self.options.read),
            "version": __version__,
            "prior": "" if prior is None else prior.sha256,
            "degradation": asdict(self.known),
            "noise": self.degradation.noise_sigma if is_noisy(self.degradation) else 0.0,
        }
        states = StateFile(self.path, plan, listener.notify, begins_anew=True)
        made = train_shot_model(
            frames,
            method,
            seed,
            progress,
            self.options.budget_seconds,
            device=choose_device(self.device),
            states=states,
            should_stop=listener.should_stop,
            starts=None if prior is None else prior.networks_for(self.known),
        )
        num_frames = sum(map(len, self.runs))
        card = _model_card(self.info, self.shot, seed, made, num_frames, prior, self.known)
        save_shot_model(self.path, replace(card, kernel=kernel), made.networks)
        states.remove()


@dataclass(frozen=True)
class ShotPlan:
    """The trainings that a clip needs."""

    bank: Path
    num_shots: int
    jobs: list[ShotJob]
    """Those of the chosen shots, in order."""


def plan_shots(
    clip: str | Path, models: str | Path, options: ShotTraining, listener: TrainingListener
) -> ShotPlan:
    """Read a clip for its shots, and plan the training of each chosen one."""
    device = str(choose_device(options.device))
    kernel, label = _given_kernel(options.kernel)
    label += kind_suffix(options.prior)
    has_prior = options.prior != "none" and options.kernel is None
    if options.prior != "none" and not has_prior:
        listener.notify("the prior knows bicubic reduction: it stays out where a blur is undone")
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
    jobs = []
    degradations = degradations_of_shots(clip, chosen, options.read, options.restore)
    for shot, degradation in zip(chosen, degradations, strict=True):
        known, method = CLEAN_SHOT, ShotTrainingOptions()
        if has_prior:
            strength = strength_of(options.restore)
            known = known_degradation(degradation, strength)
            method = adaptation_for(degradation, strength, quality_of(options.prior))
        runs, region = training_part(shot, info.height, info.width, has_prior)
        if has_prior and needs_no_training(shot, known):
            runs = []
        jobs.append(
            ShotJob(
                bank / _file_name(info, shot, options.seed, label),
                info,
                shot,
                runs,
                region,
                options,
                method,
                kernel,
                has_prior,
                degradation,
                known,
                device,
            )
        )
    return ShotPlan(bank, len(found), jobs)


def read_jobs(
    clip: str | Path, jobs: Sequence[ShotJob], read: ReadOptions
) -> Iterator[tuple[ShotJob, list[list[np.ndarray]]]]:
    """Read the frames of each job, (3, h, w) as arrays, in one pass over the clip; memory holds
    those of one shot."""
    in_order = sorted(jobs, key=lambda job: job.shot.first_frame)
    # These need no frames, so they do not wait for any.
    yield from ((job, []) for job in in_order if not job.runs)
    wanted = iter([job for job in in_order if job.runs])
    job = next(wanted, None)
    held: dict[int, np.ndarray] = {}
    with open_clip(clip, read) as reader:
        for frame in reader.frames():
            # The rest of the clip need not be decoded.
            if job is None:
                return
            if any(frame.index in run for run in job.runs):
                # A region is copied: as a view it would keep the whole frame in memory.
                held[frame.index] = frame.pixels[:, *job.region].contiguous().numpy()
            if frame.index == job.runs[-1][-1]:
                yield job, [[held[index] for index in run] for run in job.runs]
                held, job = {}, next(wanted, None)
    if job is not None:
        raise InputError(f"{clip} ended before frame {job.runs[-1][-1]} when it was read again.")


def train_job_in_worker(job: ShotJob, references: Sequence[object]) -> bytes:
    """Train a model on a cluster; returns its file. The one reference is to its frames."""
    import ray

    frames = ray.get(references[0])
    # Ray hands out read-only arrays, and torch wants writable ones.
    runs = [[torch.from_numpy(frame.copy()) for frame in run] for run in frames]
    # A worker may lack the user's folders: the model travels back as bytes.
    with TemporaryDirectory() as folder:
        here = replace(job, path=Path(folder) / job.path.name)
        here.train(runs, ignore, TrainingListener())
        return here.path.read_bytes()


def _train_on_cluster(
    address: str,
    clip: str | Path,
    missing: Sequence[ShotJob],
    listener: TrainingListener,
    gather: ProgressAggregator,
) -> None:
    """Train each shot's model where there is room, one thread each, and save it here."""
    if not missing:
        return
    gpus = missing[0].device != "cpu"
    numbers = {job.path: number for number, job in enumerate(missing)}
    with join_cluster(address, 1, gpus=gpus, cores=available_cores()) as cluster:
        pool = TaskPool(cluster, listener.notify)
        try:
            material = read_jobs(clip, missing, missing[0].options.read)
            is_all_read = False
            while not is_all_read or pool.num_at_work:
                # Read only as there is room: memory then holds few shots' frames.
                while not is_all_read and pool.has_room:
                    if (read := next(material, None)) is None:
                        is_all_read = True
                        break
                    job, frames = read
                    pool.add(job, train_job_in_worker, job, [put(frames)])
                for job, model in pool.wait(POLL_SECONDS):
                    write_model(job.path, model)
                    gather.update(numbers[job.path], 1, 1, 0.0)
                if listener.should_stop():
                    raise InterruptedRunError(
                        f"stopped after {pool.finished} of {len(missing)} models, which are kept",
                        can_resume=True,
                    )
        finally:
            pool.cancel()
        pool.summarize("models")


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
    known: KnownDegradation,
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
        degradation=known,
    )


def needs_no_training(shot: Shot, known: KnownDegradation) -> bool:
    """Tell whether the prior serves a shot as it is."""
    return shot.num_frames < MIN_ADAPTED_FRAMES or not known.is_clean


def adaptation_for(
    degradation: Degradation, strength: float, quality: Quality
) -> ShotTrainingOptions:
    """Settings for training a prior's networks on a shot: fewer steps where its frames cannot be
    trusted in full."""
    settings = ADAPTATIONS[quality]
    if trust_for(degradation, strength).is_full:
        return settings
    first, second = settings.iterations
    return replace(settings, iterations=(min(first, MAX_DEGRADED_STEPS), second))


def training_part(
    shot: Shot, height: int, width: int, is_adaptation: bool
) -> tuple[list[range], tuple[slice, slice]]:
    """Choose the frames to train on, and the rows and columns of them: all, or for a mere
    adaptation of a prior the middle."""
    if not is_adaptation:
        return training_runs(shot, height * width), (slice(None), slice(None))
    # The root: the limit is on the area, the share is one of the sides.
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
    # A run at least, however large the frames are: windows need neighbors.
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
    return [[frames[index].pixels[:, *region].contiguous() for index in run] for run in runs]


def _file_name(info: ClipInfo, shot: Shot, seed: int, label: str) -> str:
    stem = file_stem(clip_name(info))
    frames = f"{shot.first_frame:06d}-{shot.last_frame:06d}"
    return f"{stem}-{frames}-{seed:03d}{label}{SHOT_MODEL_SUFFIX}"
