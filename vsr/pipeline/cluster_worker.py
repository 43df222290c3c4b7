"""The part of a run on a cluster that works on other machines: a session for each segment."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import torch

from vsr.engine.options import choose_device
from vsr.errors import InputError, OutputError
from vsr.models.shot_model import ShotModel, load_shot_model
from vsr.pipeline.live_metrics import LIVE_METRICS, LiveMetrics, open_live_metrics
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import TOTAL, StageClock
from vsr.pipeline.session import (
    NoteLog,
    Session,
    choose_policy,
    load_models,
    make_stages,
    report_out_of_memory,
)
from vsr.progress import Listener
from vsr.restore.repair import NO_REPAIR, FilmRepair, RepairOptions
from vsr.upscale.policy import ModelSet
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import PartReader, SampledFrame, open_clip
from vsr.video.shots import mark_shots
from vsr.video.step import Checkpoint, Json, State, Step
from vsr.video.write.segment_store import ClosedSegment, Resumed
from vsr.video.writer import SegmentForm

KEPT_FRAMES = 160
"""Frames that a worker which reads the clip itself holds, to look back at."""


@dataclass(frozen=True)
class Job:
    """The common part of all segments of a run; sent once to each machine."""

    identity: str
    """Key of the run, another one for each."""
    recipe: Recipe
    info: ClipInfo
    form: SegmentForm
    repair: RepairOptions
    models: Mapping[str, bytes]
    """Files of the bank, or of the network in a file, by name."""
    has_bank: bool
    """Whether the run was given a bank, or has its own."""
    trains: bool
    """Whether the models are trained in the run, and come with each segment."""
    is_gpu: bool


@dataclass(frozen=True)
class Part:
    """A segment to make, without its frames. Numbers of frames count from the first of the clip."""

    first_frame: int
    last_frame: int
    """It belongs to the segment."""
    shots: tuple[tuple[int, int], ...]
    """Number and first frame of each shot."""
    pts_before: int | None
    """Time of the frame before the segment."""
    rewind: int = 0
    """Frames before the segment that come again."""
    num_ahead: int = 0
    """Frames of the same shot behind the segment that may be looked ahead at."""
    is_cut_off: bool = False
    """Whether the shot goes on behind those."""
    has_seam: bool = False
    """Whether it goes on in the middle of a shot."""
    models: Mapping[str, bytes] | None = None
    """Files of the models of its shots, where these are trained in the run."""
    clip: str | None = None
    """Where the worker finds the clip, if frames are not sent."""

    @property
    def num_frames(self) -> int:
        return self.last_frame + 1 - self.first_frame


@dataclass(frozen=True)
class Seam:
    """The state that a segment in the middle of a shot goes on from."""

    states: dict[str, tuple[Json, dict[str, np.ndarray], dict[str, list[Any]]]]
    """Record, tensors and log of each stage."""
    picture: np.ndarray | None
    """The last picture; None where no frame depends on the frame before."""
    rewind: int

    @classmethod
    def of(
        cls, states: Mapping[str, State], picture: torch.Tensor | None = None, rewind: int = 0
    ) -> "Seam":
        """Make it of states, as it travels."""
        return cls(_sent(states), None if picture is None else picture.cpu().numpy(), rewind)


@dataclass(frozen=True)
class MadeSegment:
    """The answer of a worker."""

    segment: ClosedSegment
    """Its record without the states."""
    content: dict[str, bytes]
    """Files, by name."""
    last_picture: np.ndarray
    states: dict[str, tuple[Json, dict[str, np.ndarray], dict[str, list[Any]]]]
    notes: list[str]
    seconds: dict[str, float]
    """Time of each stage."""
    num_rewound: int

    @property
    def picture(self) -> torch.Tensor:
        """The last picture, before it was encoded."""
        return torch.from_numpy(self.last_picture.copy())

    @property
    def checkpoint(self) -> Checkpoint:
        """The states behind the last frame, with what the segment has added to their logs."""
        return Checkpoint(_received(self.states))


def make_part(arguments: tuple[str, Part], references: Sequence[Any]) -> MadeSegment:
    """Make a segment: the task of a worker.

    The references are to the job, the seam where there is one, and the frames, those before the
    segment first.
    """
    import ray

    identity, part = arguments
    if identity not in _jobs:
        _jobs.clear()
        _jobs[identity] = _OpenJob(ray.get(references[0]))
    seam: Seam | None = ray.get(references[1]) if part.has_seam else None
    sent = references[2:] if part.has_seam else references[1:]
    job, first = _jobs[identity], part.first_frame - part.rewind
    last = part.last_frame + part.num_ahead
    read: Iterator[SampledFrame | Frame]
    if part.clip is None:
        read = (each for reference in sent for each in ray.get(reference))
    else:
        read = job.read_clip(part.clip, first)
    frames = (each for each in read if first <= each.index)
    return _make(job, part, seam, _until(frames, last, part.is_cut_off))


class _OpenJob:
    """A job with its models loaded, kept by a worker from task to task."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        for name, content in job.models.items():
            (folder / name).write_bytes(content)
        recipe = job.recipe
        if recipe.upscaler:
            recipe = replace(recipe, upscaler=str(folder / Path(recipe.upscaler).name))
        self.recipe = recipe
        self.device = choose_device("cuda" if job.is_gpu else "cpu")
        files = RunFiles(models=folder if job.has_bank else None)
        known = ModelSet() if job.trains else None
        self.policy = choose_policy(recipe, files, known, job.info)
        self.models = known or load_models(self.policy, recipe, folder if job.has_bank else None)
        self._trained: dict[str, ShotModel] = {}
        self._clip: _OpenClip | None = None

    def models_for(self, part: Part) -> ModelSet:
        """The models that a segment may use."""
        if part.models is None:
            return self.models
        for name, content in part.models.items():
            if name not in self._trained:
                path = Path(self._folder.name) / name
                path.write_bytes(content)
                self._trained[name] = load_shot_model(path)
        found = [self._trained[name] for name in part.models]

        def of_shot(first: Step) -> Sequence[ShotModel]:
            return [
                model
                for model in found
                if model.card.shot_start_seconds
                <= first.frame.seconds
                < model.card.shot_end_seconds
            ]

        return ModelSet(shot_models=of_shot)

    def read_clip(self, path: str, first: int) -> Iterator[Frame]:
        """Read the frames of the clip from `first` on, from where the last task has stopped if that
        is not behind it."""
        if self._clip is None or self._clip.first > first:
            self._clip = _OpenClip(path, self.job)
        return self._clip.read_from(first)


class _OpenClip:
    """A clip that a worker reads itself, always forward: seeking is not exact in every
    container."""

    def __init__(self, path: str, job: Job) -> None:
        # Its file is open as long as the process, or until another is opened.
        self._reader = open_clip(path, job.recipe.read)
        if self._reader.info.identity != job.info.identity:
            raise InputError(
                f"{path} is another clip on this worker: its content differs from the driver's."
            )
        # As the driver reads them: what a repair makes of a frame depends on those around it.
        pairs = ((frame, None) for frame in self._reader.frames())
        marked = mark_shots(pairs, job.recipe.shots, lambda pair: pair[0])
        repaired = FilmRepair(job.repair).through(marked)
        self._frames = (frame for _, _, (frame, _) in repaired)
        self._recent: deque[Frame] = deque(maxlen=KEPT_FRAMES)
        self._next = 0

    @property
    def first(self) -> int:
        """The first frame that can still be read."""
        return self._recent[0].index if self._recent else self._next

    def read_from(self, first: int) -> Iterator[Frame]:
        """Read on, after those of the last frames that are wanted again."""
        yield from [each for each in self._recent if each.index >= first]
        for each in self._frames:
            self._recent.append(each)
            self._next = each.index + 1
            if each.index >= first:
                yield each


_jobs: dict[str, _OpenJob] = {}
"""The job at hand in this process, by its identity."""


def _until(
    frames: Iterator[SampledFrame | Frame], last: int, is_cut_off: bool
) -> Iterator[SampledFrame | Frame]:
    for each in frames:
        yield each
        if each.index == last:
            # A stage that looked further would take this for the end of the shot.
            assert not is_cut_off, f"a stage looks further ahead than frame {last}"
            return
    raise InputError(f"the clip ended before frame {last} when a worker read it.")


def _make(
    job: _OpenJob, part: Part, seam: Seam | None, frames: Iterator[SampledFrame | Frame]
) -> MadeSegment:
    told: list[str] = []
    notes, clock = NoteLog(Listener(notify=told.append)), StageClock()
    with ExitStack() as stack:
        stack.enter_context(report_out_of_memory())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        # Shots that go on in another segment would be told of twice: the driver does it.
        metrics = stack.enter_context(
            open_live_metrics(job.recipe, None, LIVE_METRICS, lambda _: None)
        )
        stages = make_stages(
            job.recipe,
            job.policy,
            job.models_for(part),
            job.job.info,
            job.device,
            metrics,
            notes.notify,
        )
        states = {} if seam is None else _received(seam.states)
        for stage in stages:
            if isinstance(stage, LiveMetrics):
                stage.begin_at(part.first_frame, states.get(stage.name))
            elif stage.name in states:
                stage.restore(states[stage.name])
        picture = None if seam is None or seam.picture is None else seam.picture.copy()
        number = part.shots[0][0]
        session = Session(
            job.recipe,
            None,
            job.device,
            PartReader(job.job.info, frames),
            None,
            # The frames of the part are repaired already.
            FilmRepair(NO_REPAIR),
            stages,
            None,
            Resumed(part.first_frame, None if picture is None else torch.from_numpy(picture)),
            notes,
            clock,
            shot_starts=[0] * number,
            known_shots=part.shots,
            takes_turns=job.recipe.threads == 1,
        )
        keeper = _OneSegment(folder, part.first_frame)
        try:
            output = job.job.form.open(keeper, job.device, stack)
            if part.pts_before is not None:
                output.go_on_after(part.pts_before)
            with closing(session.steps()) as steps:
                for step in steps:
                    with clock.measure("write"):
                        output.write(step.result)
                        if step.checkpoint is not None:
                            output.close_segment(step.checkpoint)
                    if step.frame.index == part.last_frame:
                        break
            again = session.frames_in - part.num_frames
            return keeper.made(told, clock, again)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"a worker cannot encode: {error}") from error


@dataclass
class _OneSegment:
    """Takes the one segment that a task makes. Implements SegmentKeeper."""

    folder: Path
    frames_done: int
    num_segments: int = 0
    segment: ClosedSegment | None = None
    picture: torch.Tensor | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    def segment_path(self, number: int, suffix: str) -> Path:
        """Path of its file or folder."""
        return self.folder / f"segment-{number}{suffix}"

    def close_segment(
        self,
        num_frames: int,
        num_bytes: int,
        times: tuple[tuple[int, int | None, int], ...],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Take note of the segment, which is whole."""
        assert self.segment is None, "a task makes one segment"
        self.segment = ClosedSegment(self.frames_done, num_frames, num_bytes, times, {})
        self.picture, self.checkpoint = picture, checkpoint

    def made(self, notes: list[str], clock: StageClock, num_rewound: int) -> MadeSegment:
        """Read the files of the segment into what is sent back."""
        assert self.segment is not None, "the last frame of a task ends its segment"
        assert self.picture is not None
        (path,) = self.folder.glob("segment-*")
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        seconds = clock.seconds()
        seconds.pop(TOTAL)
        return MadeSegment(
            self.segment,
            {file.name: file.read_bytes() for file in files},
            self.picture.cpu().numpy(),
            _sent(self.checkpoint.states),
            notes,
            seconds,
            num_rewound,
        )


def _sent(
    states: Mapping[str, State],
) -> dict[str, tuple[Json, dict[str, np.ndarray], dict[str, list[Any]]]]:
    return {
        stage: (
            state.record,
            {name: tensor.cpu().numpy() for name, tensor in state.tensors.items()},
            dict(state.log),
        )
        for stage, state in states.items()
    }


def _received(
    states: Mapping[str, tuple[Json, dict[str, np.ndarray], dict[str, list[Any]]]],
) -> dict[str, State]:
    # Copies: what comes out of the object store cannot be written to.
    return {
        stage: State(
            record, {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, log
        )
        for stage, (record, tensors, log) in states.items()
    }
