"""Runs on a Ray cluster: a film's segments are tasks, made on many machines and kept here.

The driver reads the clip once and cuts it into the very segments of a plain run. A worker opens a
session of its own for each, and sends back what a plain run keeps: the encoded frames and the state
behind them. The work folder is the only memory, so a lost worker, a lost driver and a plain run
that goes on all find the same.
"""

import queue
import secrets
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from vsr.engine.precision import dtype_name
from vsr.errors import InputError, InterruptedRunError, ModelError, UsageError
from vsr.pipeline.cache import cached_bank
from vsr.pipeline.cluster_worker import Job, MadeSegment, Part, Seam, make_part
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.need import Need, find_need
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import StageClock
from vsr.pipeline.resume import model_files
from vsr.pipeline.session import Session, choose_policy
from vsr.progress import Listener
from vsr.train.clip import bank_lock, make_folder
from vsr.train.cluster import Cluster, TaskPool, join_cluster, put
from vsr.train.fit import TrainingListener
from vsr.train.shot import ShotJob, plan_shots, read_jobs, train_job_in_worker
from vsr.train.workers import available_cores, write_model
from vsr.upscale.policy import ModelSet
from vsr.video.frames import Frame
from vsr.video.reader import SampledFrame
from vsr.video.shots import mark_shots
from vsr.video.step import State
from vsr.video.write.segment_store import (
    ClosedSegment,
    SegmentEnds,
    SegmentStore,
    checkpoint_records,
)
from vsr.video.writer import ClipWriter

WAIT_SECONDS = 0.1
STORE_SHARE = 0.5
"""Share of the driver's object store that frames on their way may take."""
MAX_REWIND = 64
"""Bound on the frames before a segment that its stages may want again."""
MAX_AHEAD = 64
"""Bound on the frames behind a segment that its stages look ahead at, of the same shot."""
PIECE_FRAMES = 32
"""Frames of one object in the store, so that not all of a neighbor is sent for a few frames."""
SPARE_SEGMENTS = 2
"""Segments that wait ready beside two for each worker, so that none waits for the reader."""
FIGURES = ("result/", "before/", "after/")
"""Begin the logs of figures, which nothing is made from."""

T = TypeVar("T")


def run_on_cluster(
    clip: str | Path,
    recipe: Recipe,
    files: RunFiles,
    listener: Listener = Listener(),
    clock: StageClock | None = None,
) -> Manifest:
    """Upscale a clip on the cluster `files.cluster`, with the frames of a plain run at as many
    threads as each worker has (`recipe.threads`, default 1).

    Raises a `VsrError` for a user's mistake; finished segments are kept in any case.
    """
    address = files.cluster
    assert address is not None, "only for runs on a cluster"
    _check_can_be_shared(clip, recipe, files)
    asked = replace(recipe, threads=recipe.threads or 1)
    with ExitStack() as stack:
        need = find_need(clip, asked, files, listener)
        models = None
        if need is not None:
            asked, files = need.recipe, replace(files, models=need.bank)
            if need.is_cached:
                stack.enter_context(cached_bank(need.info, asked.read, listener.notify, need.kind))
            if need.lacking and need.training is not None:
                # Only a run that lacks these.
                from vsr.pipeline.preparation import train_keyframes

                train_keyframes(clip, need, listener, address)
            elif need.lacking:
                # Models that are still to be trained are no part of the session.
                models = ModelSet()
        session = stack.enter_context(Session.open(clip, asked, files, listener, clock, models))
        threads, gpus = asked.threads or 1, session.device.type != "cpu"
        cluster = stack.enter_context(
            join_cluster(address, threads, gpus=gpus, cores=available_cores())
        )
        session.notes.notify(
            f"on the Ray cluster at {cluster.address}: room for {cluster.slots()} workers with "
            f"{threads} threads each"
        )
        trainer = None
        if need is not None and models is not None:
            trainer = stack.enter_context(_Trainer.open(clip, need, listener))
        driver = _Driver(session, asked, files, cluster, trainer)
        stack.callback(driver.close)
        driver.run()
        return driver.manifest()


def _check_can_be_shared(clip: str | Path, recipe: Recipe, files: RunFiles) -> None:
    """Raise `UsageError` for what only a single process can do."""
    if "-" in (str(clip), str(files.output)):
        raise UsageError(
            "--cluster keeps the work in a folder and may read the clip twice, so neither can be a "
            "pipe; name files."
        )
    if files.reference is not None:
        raise UsageError(
            "--cluster does not score against a truth, which each worker would have to read: leave "
            "out --reference, and run vsr score on the result."
        )
    if ":" in (recipe.policy or ""):
        raise UsageError(
            f"--policy {recipe.policy} is a function of your own, which --cluster cannot send to "
            "other machines; run it on one."
        )
    if files.low_resolution is not None:
        raise UsageError("--cluster is for vsr run; vsr steady runs on one machine.")


class _Ahead(Generic[T]):
    """Items made in a thread of its own, one in advance, that can be asked for without waiting."""

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items
        self._made: queue.Queue[T | BaseException | None] = queue.Queue(1)
        self._stopped = threading.Event()
        self.is_over = False
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def take(self) -> T | None:
        """The next item; None where there is none yet, or no more. Raises the items' error."""
        if self.is_over:
            return None
        try:
            item = self._made.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        self.is_over = item is None
        return item

    def close(self) -> None:
        """End the thread behind the item in the making."""
        self._stopped.set()
        self._thread.join()

    def _make(self) -> None:
        try:
            for item in self._items:
                self._hand_over(item)
                if self._stopped.is_set():
                    break
            self._hand_over(None)
        except BaseException as error:  # raised again where the items are wanted
            self._hand_over(error)
        finally:
            self._items.close()

    def _hand_over(self, item: T | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._made.put(item, timeout=WAIT_SECONDS)
            except queue.Full:
                continue
            return


@dataclass(frozen=True)
class _ReadSegment:
    """A segment as it was read: where it lies, and its frames."""

    part: Part
    frames: list[SampledFrame | Frame]
    """Frames that were changed since they were decoded travel as they are."""
    seconds: list[float]
    """Time of the first frame of each of its shots, or of the first that lies in it."""
    begins_shot: bool
    before: list[SampledFrame | Frame]
    """Frames before the first segment of all that is not done."""


@dataclass
class _Segment:
    """A segment and what is known of it."""

    part: Part
    begins_shot: bool
    seconds: list[float]
    frames: list[tuple[int, int, Any]] = field(default_factory=list)
    """First and last frame of each piece, with the reference to it in the object store, as long as
    somebody may want it."""
    is_given: bool = False
    closed: ClosedSegment | None = None
    """Its record, once it is made."""
    logs: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """The additions to the logs of each stage, but for figures."""

    @property
    def is_done(self) -> bool:
        return self.closed is not None

    def finish(self, closed: ClosedSegment) -> None:
        """Note that it is made. The times and figures, which grow with the clip, stay on the
        disk."""
        self.logs = {stage: _choices(state["log"]) for stage, state in closed.states.items()}
        records = {stage: {"record": state["record"]} for stage, state in closed.states.items()}
        self.closed = replace(closed, times=(), states=records)


def _choices(log: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: values for name, values in log.items() if not name.startswith(FIGURES)}


def _put_frames(frames: Sequence[SampledFrame | Frame]) -> list[tuple[int, int, Any]]:
    pieces = (frames[at : at + PIECE_FRAMES] for at in range(0, len(frames), PIECE_FRAMES))
    return [(piece[0].index, piece[-1].index, put(piece)) for piece in pieces]


def _num_bytes(frame: SampledFrame | Frame) -> int:
    return frame.num_bytes if isinstance(frame, SampledFrame) else frame.pixels.nbytes


def _merged(segments: Sequence[_Segment]) -> dict[str, dict[str, list[Any]]]:
    """Join the logs of segments, by stage and name."""
    merged: dict[str, dict[str, list[Any]]] = {}
    for segment in segments:
        for stage, log in segment.logs.items():
            for name, values in log.items():
                merged.setdefault(stage, {}).setdefault(name, []).extend(values)
    return merged


class _Driver:
    """The one process that reads the clip, gives the tasks, and keeps what comes back."""

    def __init__(
        self,
        session: Session,
        asked: Recipe,
        files: RunFiles,
        cluster: Cluster,
        trainer: "_Trainer | None",
    ) -> None:
        self._session, self._cluster = session, cluster
        assert session.writer is not None
        assert session.writer.work is not None
        assert session.writer.segment_form is not None
        self._writer: ClipWriter = session.writer
        self._work: SegmentStore = session.writer.work
        self._pool = TaskPool(cluster, session.notes.notify)
        self.trainer = trainer
        self._is_chained = session.policy.carries or session.stages.steady.is_on
        dtype = dtype_name(session.recipe.dtype, session.device)
        info = session.reader.info
        policy = None if trainer is not None else choose_policy(asked, files, None, info)
        bank = [] if policy is None else model_files(policy, session.recipe, files.models)
        self._job = Job(
            secrets.token_hex(8),
            # The policy as it was asked for: a worker finds the same one among the same models.
            replace(session.recipe, policy=asked.policy, dtype=dtype),
            session.reader.info,
            session.writer.segment_form,
            session.repair.options,
            {path.name: path.read_bytes() for path in bank},
            has_bank=files.models is not None,
            trains=trainer is not None,
            is_gpu=session.device.type != "cpu",
        )
        self._job_reference = put(self._job)
        self._segments: list[_Segment] = []
        """All that were read, in order; one lies for those that an earlier run has closed."""
        self._num_over = 0
        """Those at the start that are done."""
        self._reading = _Ahead(self._read())
        self._sends_frames: bool | None = None
        """Whether frames go through the object store; None before the first is read."""
        self._max_held = 1
        self._frames_done = self._work.frames_done
        self._notes: dict[int, list[str]] = {}
        """Notes of workers on segments that are not closed yet."""
        self._rewound = 0

    def close(self) -> None:
        """End all tasks and threads."""
        self._pool.cancel()
        self._reading.close()

    def run(self) -> None:
        """Have all segments made, and close them in order."""
        session = self._session
        total = session.reader.info.num_frames_from_header
        self._begin_behind_closed()
        while True:
            self._take_segments()
            self._give_segments()
            if self.trainer is not None:
                self.trainer.give(self._pool)
            if self._reading.is_over and self._num_over == len(self._segments):
                break
            for key, result in self._pool.wait(WAIT_SECONDS):
                if isinstance(key, _Segment):
                    self._keep(key, result)
                    session.notes.listener.on_progress(self._frames_done, total)
                elif self.trainer is not None:
                    self.trainer.keep(key, result)
            if session.notes.listener.should_stop():
                raise self._interrupted()
        if not self._work.frames_done:
            raise InputError(
                f"{session.reader.info.path} has no frame that can be decoded; nothing was written."
            )

    def manifest(self) -> Manifest:
        """Join the segments, and tell what was done."""
        session = self._session
        self._pool.summarize("frames")
        if self._rewound:
            session.notes.notify(
                f"{self._rewound} frames were read again at seams within shots, as context"
            )
        states = self._work.resumed().states
        for stage in session.stages:
            if stage.name in states:
                stage.restore(states[stage.name])
        for shot in session.stages.metrics.shots():
            session.notes.notify(shot.summary())
        with session.clock.measure("write"):
            report = self._writer.finish()
        return replace(session.manifest(report), cluster=self._pool.record())

    def _read(self) -> Generator[_ReadSegment, None, None]:
        """Read the clip in segments, those that are closed left out."""
        session, done = self._session, self._session.resumed.frames_done
        ends = SegmentEnds(done, session.recipe.encode.segment_frames)
        sampled: dict[int, tuple[Frame, SampledFrame]] = {}
        held: list[SampledFrame | Frame] = []
        shots: list[tuple[int, int, float]] = []
        before: deque[SampledFrame | Frame] = deque(maxlen=MAX_REWIND)
        pts_before: int | None = None
        begins_shot = True

        def see(frame: Frame, samples: SampledFrame) -> None:
            sampled[frame.index] = frame, samples

        def as_sent(frame: Frame) -> SampledFrame | Frame:
            # Pixels that were repaired since no longer follow from the samples.
            seen, samples = sampled.pop(frame.index)
            return samples if seen.pixels is frame.pixels else frame

        def cut() -> _ReadSegment:
            part = Part(
                held[0].index,
                held[-1].index,
                tuple((number, first) for number, first, _ in shots),
                pts_before,
            )
            seconds = [when for _, _, when in shots]
            return _ReadSegment(part, held, seconds, begins_shot, list(before))

        pairs = ((frame, None) for frame in session.reader.frames(seen=see))
        marked = mark_shots(pairs, session.recipe.shots, lambda pair: pair[0])
        repaired = session.repair.through(marked)
        for number, first_frame, (frame, _) in session.clock.through("read", repaired):
            session.frames_in += 1
            is_cut = number == len(session.shot_starts)
            if is_cut:
                session.shot_starts.append(first_frame)
            if held and ends.ends_at(frame.index - 1, before_cut=is_cut):
                yield cut()
                pts_before, held, before = held[-1].pts, [], deque()
            sent = as_sent(frame)
            if frame.index < done:
                before.append(sent)
                pts_before = frame.pts
                continue
            if not held:
                begins_shot, shots = is_cut, []
            if not shots or is_cut:
                shots.append((number, first_frame, frame.seconds))
            held.append(sent)
        if held:
            yield cut()

    def _begin_behind_closed(self) -> None:
        """Take the segments that an earlier run has closed for one that lies before all."""
        resumed = self._session.resumed
        if not resumed.frames_done:
            return
        part = Part(0, resumed.frames_done - 1, (), None)
        closed = _Segment(part, True, [], is_given=True)
        states = {
            stage: {"record": state.record, "log": dict(state.log)}
            for stage, state in resumed.states.items()
        }
        closed.finish(ClosedSegment(0, resumed.frames_done, 0, (), states))
        self._segments.append(closed)
        self._num_over = 1

    def _take_segments(self) -> None:
        """Take in what was read, as far as there is room for."""
        while self._num_pending() < self._max_held:
            read = self._reading.take()
            if read is None:
                return
            if self._sends_frames is None:
                self._choose_store(read)
            segment = _Segment(read.part, read.begins_shot, read.seconds)
            if self._sends_frames:
                # Only in a run that goes on: these frames are of segments that are closed, and
                # serve as context.
                if read.before and self._segments:
                    self._segments[-1].frames = _put_frames(read.before)
                segment.frames = _put_frames(read.frames)
            self._segments.append(segment)
            # Made for an earlier run, which ended before it could be closed.
            if (kept := self._work.read_ahead(read.part.first_frame)) is not None:
                segment.is_given = True
                segment.finish(kept)
                self._frames_done += kept.num_frames
                self._close()

    def _num_pending(self) -> int:
        return sum(not segment.is_done for segment in self._segments[self._num_over :])

    def _choose_store(self, read: _ReadSegment) -> None:
        """Choose how frames reach the workers, by the size of the first segment."""
        each = max(map(_num_bytes, read.frames))
        size = each * self._session.recipe.encode.segment_frames
        room = int(STORE_SHARE * self._cluster.store_bytes())
        wanted = 2 * self._cluster.slots() + SPARE_SEGMENTS
        # A segment is ready once the frames that it looks ahead at are read.
        least = 2 + -(-MAX_AHEAD // self._session.recipe.encode.segment_frames)
        self._max_held = max(least, min(wanted, room // size))
        self._sends_frames = room >= 2 * size
        if self._sends_frames:
            said = f"frames are sent through Ray's object store, {each / 1e6:.2g} MB each"
        else:
            self._max_held = max(least, wanted)
            said = (
                f"segments of {size / 1e6:.0f} MB do not fit into Ray's object store: workers read "
                f"{self._session.reader.info.path} themselves"
            )
        models = sum(map(len, self._job.models.values()))
        self._session.notes.notify(
            f"{said}; models ({models / 1e6:.2g} MB) are sent once to each machine"
        )

    def _give_segments(self) -> None:
        """Give all segments whose models and predecessors are there."""
        for number in range(self._num_over, len(self._segments)):
            segment = self._segments[number]
            if not segment.is_given and self._is_ready(number):
                segment.is_given = True
                self._give(number)

    def _is_ready(self, number: int) -> bool:
        segment = self._segments[number]
        if self.trainer is not None and not self.trainer.has_models(segment.seconds):
            return False
        if self._frames_ahead(number) is None:
            return False
        return segment.begins_shot or all(one.is_done for one in self._wanted_by(number))

    def _frames_ahead(self, number: int) -> int | None:
        """Count the frames of the same shot behind a segment, as far as they may be looked at; None
        where that many are not read yet."""
        count = 0
        for later in self._segments[number + 1 :]:
            if later.begins_shot:
                return count
            cuts = [start for _, start in later.part.shots[1:]]
            if cuts:
                return min(count + cuts[0] - later.part.first_frame, MAX_AHEAD)
            count += later.part.num_frames
            if count >= MAX_AHEAD:
                return MAX_AHEAD
        return count if self._reading.is_over else None

    def _wanted_by(self, number: int) -> list[_Segment]:
        """The segments that one in the middle of a shot goes on from: those from the one in which
        the shot begins, or that alone where no frame depends on the frame before."""
        (_, shot_start), *_ = self._segments[number].part.shots
        home = number - 1
        while self._segments[home].part.first_frame > shot_start:
            home -= 1
        return self._segments[home : number if self._is_chained else home + 1]

    def _give(self, number: int) -> None:
        segment, part = self._segments[number], self._segments[number].part
        ahead = self._frames_ahead(number)
        assert ahead is not None, "segments are given when they are ready"
        part = replace(part, num_ahead=ahead, is_cut_off=ahead == MAX_AHEAD)
        references = [self._job_reference]
        if self.trainer is not None:
            part = replace(part, models=self.trainer.models_of(segment.seconds))
        if not segment.begins_shot:
            seam = self._seam(number)
            part = replace(part, rewind=seam.rewind, has_seam=True)
            references.append(put(seam))
        if self._sends_frames:
            first, last = part.first_frame - part.rewind, part.last_frame + ahead
            pieces = [piece for one in self._segments for piece in one.frames]
            references += [each for start, end, each in pieces if start <= last and end >= first]
        else:
            part = replace(part, clip=str(self._session.reader.info.path.absolute()))
        self._pool.add(segment, make_part, (self._job.identity, part), references, part.num_frames)

    def _seam(self, number: int) -> Seam:
        """Gather what a segment in the middle of a shot goes on from."""
        wanted = self._wanted_by(number)
        logs = _merged(wanted)
        if not self._is_chained:
            return Seam.of({stage: State(log=log) for stage, log in logs.items()})
        assert wanted[-1].closed is not None
        picture, states = self._work.read_tensors(wanted[-1].closed)
        states = {stage: replace(state, log=logs.get(stage, {})) for stage, state in states.items()}
        policy = self._session.policy
        policy.restore(states[policy.name])
        rewind = self._session.stages.rewind
        assert rewind <= MAX_REWIND, f"{rewind} frames would have to come again"
        return Seam.of(states, picture, rewind)

    def _keep(self, segment: _Segment, made: MadeSegment) -> None:
        """Keep a segment that was made, and close what follows those that are closed."""
        closed = replace(made.segment, states=checkpoint_records(made.checkpoint))
        with self._session.clock.measure("write"):
            self._writer.keep_ahead(closed, made.content, made.picture, made.checkpoint)
        segment.finish(closed)
        self._frames_done += closed.num_frames
        self._rewound += made.num_rewound
        self._session.clock.add(made.seconds)
        self._notes[closed.first_frame] = made.notes
        self._close()

    def _close(self) -> None:
        with self._session.clock.measure("write"):
            self._writer.close_ahead()
        for first_frame in sorted(self._notes):
            if first_frame < self._work.frames_done:
                self._session.notes.notify_all(self._notes.pop(first_frame))
        self._let_go()

    def _let_go(self) -> None:
        """Forget the frames that nothing looks back at any more."""
        while self._num_over < len(self._segments) and self._segments[self._num_over].is_done:
            self._num_over += 1
        pending = [one.part for one in self._segments[self._num_over :] if not one.is_done]
        # The next segment, which is not known yet, may look back as well.
        frontier = self._segments[-1].part.last_frame + 1 if self._segments else 0
        windows = [(part.first_frame, part.last_frame) for part in pending]
        for segment in self._segments:
            part = segment.part
            if segment.frames and not any(
                first - MAX_REWIND <= part.last_frame and part.first_frame <= last + MAX_AHEAD
                for first, last in [*windows, (frontier, frontier)]
            ):
                segment.frames = []

    def _interrupted(self) -> InterruptedRunError:
        total = self._session.reader.info.num_frames_from_header
        of_all = f" of {total}" if total else ""
        return InterruptedRunError(
            f"stopped; {self._frames_done} frames{of_all} are kept in {self._work.folder}.",
            can_resume=self._frames_done > 0,
        )


class _Trainer:
    """Trains the shots of a clip on the same cluster: each is enlarged as soon as its model is
    there."""

    def __init__(self, clip: str | Path, jobs: Sequence[ShotJob]) -> None:
        self._jobs = jobs
        self._trained = {job.path for job in jobs if job.is_trained()}
        missing = [job for job in jobs if job.path not in self._trained]
        self._reading = _Ahead(_generate(clip, missing))

    @classmethod
    @contextmanager
    def open(cls, clip: str | Path, need: Need, listener: Listener) -> Iterator["_Trainer"]:
        """Find the shots of a clip, and hold the bank that takes their models."""
        hears = TrainingListener(listener.notify)
        plan = plan_shots(clip, need.bank, need.shot_training, hears)
        listener.notify(
            f"trains {len(need.lacking)} models, and enlarges each shot once its own is there; "
            f"kept in {need.bank}"
        )
        make_folder(plan.bank)
        with bank_lock(plan.bank):
            trainer = cls(clip, plan.jobs)
            try:
                yield trainer
            finally:
                trainer._reading.close()

    def give(self, pool: TaskPool) -> None:
        """Give the next training where there is room."""
        while pool.has_room and (read := self._reading.take()) is not None:
            job, frames = read
            pool.add(job, train_job_in_worker, job, [put(frames)], 0)

    def keep(self, job: ShotJob, model: bytes) -> None:
        """Save a model that was trained."""
        write_model(job.path, model)
        self._trained.add(job.path)

    def has_models(self, seconds: Sequence[float]) -> bool:
        """Whether the models of the shots in which these times lie are there."""
        return self._trained.issuperset(self._path_at(when) for when in seconds)

    def models_of(self, seconds: Sequence[float]) -> dict[str, bytes]:
        """Read their files, by name."""
        paths = {self._path_at(when) for when in seconds}
        return {path.name: path.read_bytes() for path in sorted(paths)}

    def _path_at(self, seconds: float) -> Path:
        for job in self._jobs:
            if job.shot.start_seconds <= seconds < job.shot.end_seconds:
                return job.path
        raise ModelError(f"no shot was found at {seconds:.3f} s: is the clip being changed?")


def _generate(
    clip: str | Path, jobs: Sequence[ShotJob]
) -> Generator[tuple[ShotJob, list[list[Any]]], None, None]:
    if jobs:
        yield from read_jobs(clip, jobs, jobs[0].options.read)
