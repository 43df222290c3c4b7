"""The plan of a run, made before it: everything is opened and checked, and the first frames
are really made."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import av

from vsr.engine.precision import dtype_name
from vsr.errors import InputError, UsageError
from vsr.image.resample import scaled_size
from vsr.pipeline.manifest import peak_memory_bytes
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.session import Session
from vsr.progress import Listener
from vsr.upscale.policy import ModelSet
from vsr.video.frames import ClipInfo
from vsr.video.writer import STANDARD_OUTPUT

TRIAL_SECONDS = 2.0
FULL_TRIAL_FRAMES, LONGEST_TRIAL_SECONDS = 7, 8.0
"""So many frames even out what the first have less of, unless they take longer than this."""
MIN_TRIAL_FRAMES = 3
"""However long they take: from the first to the third is the least that says how long one takes."""


@dataclass(frozen=True)
class RunPlan:
    """The course of a run and its cost, estimated."""

    clip: str
    output: str
    output_exists: bool
    frames: int | None
    """By the clip's header; None where it does not say."""
    size: tuple[int, int]
    """Width and height of the clip."""
    output_size: tuple[int, int]
    policy: str
    models: list[str]
    """Names of those that are there."""
    device: str
    dtype: str
    encoder: str | None
    streams_kept: list[str]
    streams_dropped: list[str]
    """Each with the reason."""
    notes: list[str]
    """Choices, changes and losses."""
    sampled_frames: int
    seconds_per_frame: float
    stage_seconds_per_frame: dict[str, float]
    """Stages run side by side, so these add up to more than a frame takes."""
    seconds: float | None
    """Time of the whole run, its trainings among it."""
    output_bytes: int | None
    work_bytes: int | None
    """Largest need of disk space: the finished segments and the file that is made
    of them."""
    free_bytes: int | None
    peak_memory_bytes: int
    models_to_train: int = 0
    training_seconds: float | None = 0.0
    """Time of all trainings, some of which go on beside; None where it cannot be told."""

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def plan(
    clip: str | Path,
    recipe: Recipe = Recipe(),
    files: RunFiles = RunFiles(),
    listener: Listener = Listener(),
) -> RunPlan:
    """Try the run that these options ask for on its first frames, for two seconds, and write
    nothing that stays.

    Raises what the run would raise.
    """
    if str(clip) == STANDARD_OUTPUT:
        raise UsageError(
            "a plan reads the clip before the run does, so it cannot be a pipe; give a file."
        )
    if recipe.compare:
        raise UsageError("a recipe that compares policies has no plan; name one with --policy.")
    # Only a run that may train needs the trainings.
    if recipe.trains(files.models):
        from vsr.pipeline.need import find_need
        from vsr.pipeline.preparation import plan_need

        need = find_need(clip, recipe, files, listener)
        if need is not None:
            return plan_need(need, files, listener)
    with trial(clip, recipe, files, listener) as session:
        return plan_session(session, run_trial(session))


@contextmanager
def trial(
    clip: str | Path,
    recipe: Recipe,
    files: RunFiles,
    listener: Listener,
    models: ModelSet | None = None,
) -> Iterator[Session]:
    """Open a session that leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        files = replace(files, trial=Path(folder))
        with Session.open(clip, recipe, files, listener, models=models) as session:
            yield session


def plan_session(session: Session, sample: "TrialTimings") -> RunPlan:
    """Estimate all frames of a session from the first."""
    writer, recipe, info = session.writer, session.recipe, session.reader.info
    assert writer is not None
    assert session.output is not None
    report = writer.finish()
    target = Path(session.output)
    frames = _num_frames(info)
    # Sound and subtitles are copied whole even into a trial; only the pictures grow with the clip.
    video_bytes, other_bytes = _bytes_of(writer.target)
    output_bytes = None
    if frames is not None:
        output_bytes = round(video_bytes / sample.frames * frames) + other_bytes
    height, width = scaled_size(info.height, info.width, recipe.scale)
    names = (name for decision in session.policy.decisions for name in decision.models)
    return RunPlan(
        clip=str(info.path),
        output=str(target),
        output_exists=target.exists(),
        frames=frames,
        size=(info.width, info.height),
        output_size=(width, height),
        policy=recipe.policy or "",
        models=list(dict.fromkeys(names)),
        device=str(session.device),
        dtype=dtype_name(recipe.dtype, session.device),
        encoder=report.encoder,
        streams_kept=list(report.streams_kept),
        streams_dropped=list(report.streams_dropped),
        notes=list(dict.fromkeys([*session.reader.notes, *report.notes])),
        sampled_frames=sample.frames,
        seconds_per_frame=sample.seconds_per_frame,
        stage_seconds_per_frame=sample.stages,
        seconds=None if frames is None else sample.seconds_per_frame * frames,
        output_bytes=output_bytes,
        work_bytes=None if output_bytes is None else 2 * output_bytes,
        free_bytes=_free_bytes(target),
        peak_memory_bytes=peak_memory_bytes(),
    )


@dataclass(frozen=True)
class TrialTimings:
    """The time of the first frames."""

    frames: int
    seconds_per_frame: float
    stages: dict[str, float]
    busy_cores: float
    """Number of cores at work, on average."""


def run_trial(session: Session) -> TrialTimings:
    """Run the stages until the time is over; the first frame, for which much is made ready, counts
    little."""
    assert session.writer is not None
    finished, busy = [], []
    start = perf_counter()
    with closing(session.steps()) as steps:
        for step in steps:
            with session.clock.measure("write"):
                session.writer.write(step.result)
            finished.append(perf_counter())
            busy.append(process_time())
            elapsed = finished[-1] - start
            # Slow frames are few and are measured for longer.
            is_enough = len(finished) >= FULL_TRIAL_FRAMES or elapsed > LONGEST_TRIAL_SECONDS
            if len(finished) >= MIN_TRIAL_FRAMES and elapsed > TRIAL_SECONDS and is_enough:
                break
    if not finished:
        raise InputError("the clip has no frame that can be decoded.")
    # The first frame pays for what is made once: graphs, threads, the encoder.
    between = finished[-1] - finished[0]
    each = between / (len(finished) - 1) if len(finished) > 1 else finished[0] - start
    cores = (busy[-1] - busy[0]) / between if between else 1.0
    return TrialTimings(len(finished), each, session.clock.seconds_per_item(), cores)


def _num_frames(info: ClipInfo) -> int | None:
    if info.num_frames_from_header:
        return info.num_frames_from_header
    if info.duration_seconds_from_header and info.average_rate:
        return round(info.duration_seconds_from_header * float(info.average_rate))
    return None


def _bytes_of(result: Path) -> tuple[int, int]:
    """Count the bytes of the pictures of a result, and of all that is beside them."""
    if result.is_dir():
        return sum(picture.stat().st_size for picture in result.iterdir()), 0
    with av.open(str(result)) as container:
        video = sum(packet.size for packet in container.demux(container.streams.video[0]))
    return video, os.path.getsize(result) - video


def _free_bytes(target: Path) -> int | None:
    # Work lies beside the output unless another place is named.
    folder = target.absolute().parent
    return shutil.disk_usage(folder).free if folder.is_dir() else None
