"""What a run would do, found out before it: everything is opened and checked, and the first frames are really made."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, sleep

import av

from vsr.engine.cores import use_threads
from vsr.engine.device import choose_device
from vsr.errors import UsageError
from vsr.frames import ClipInfo, Frame
from vsr.manifest import Manifest, check_output
from vsr.pipeline.listener import Listener
from vsr.pipeline.running import Notes, bank_for, check, output_path, record, shot_models_for, with_policy
from vsr.pipeline.upscaling import Upscaling
from vsr.reader import ClipReader, open_clip
from vsr.recipe import Recipe
from vsr.resample import scaled_size
from vsr.stage_clock import TOTAL, StageClock
from vsr.writer import STANDARD_OUTPUT, ClipWriter

SAMPLE_SECONDS = 2.0
FEWEST_FRAMES = 3
"""Flicker control and live metrics look at two at once."""
MOST_AHEAD = 3
"""Frames read beyond those that are done: a sample must not outlast its time by what is waiting."""
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class RunPlan:
    """What a run would do, and what it would take."""

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
    device: str
    dtype: str
    encoder: str | None
    streams_kept: list[str]
    streams_dropped: list[str]
    """Each with the reason."""
    notes: list[str]
    """What was chosen, changed or will be lost."""
    sampled_frames: int
    seconds_per_frame: float
    stage_seconds_per_frame: dict[str, float]
    """Stages run side by side, so these add up to more than a frame takes."""
    seconds: float | None
    """Of the whole run."""
    output_bytes: int | None
    work_bytes: int | None
    """What the run needs on its disk at the most: the finished segments and the file that is made of them."""
    free_bytes: int | None
    peak_memory_bytes: int

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def plan(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    recipe: Recipe = Recipe(),
    models: str | Path | None = None,
    reference: str | Path | None = None,
    listener: Listener = Listener(),
) -> RunPlan:
    """Try the run that these options ask for on its first frames, for two seconds, and write nothing that stays.

    Raises what the run would raise.
    """
    if str(clip) == STANDARD_OUTPUT:
        raise UsageError("a plan reads the clip before the run does, so it cannot be a pipe; give a file.")
    if recipe.train_ahead:
        raise UsageError("the training of --train-ahead cannot be planned; train with vsr train-shot, then plan.")
    recipe = with_policy(recipe, models)
    check(recipe, models)
    device = choose_device(recipe.device)
    if recipe.threads is not None:
        use_threads(recipe.threads)
    clock = StageClock()
    with ExitStack() as stack:
        reader = stack.enter_context(open_clip(clip, recipe.read))
        height, width = scaled_size(reader.info.height, reader.info.width, recipe.scale)
        target = output_path(reader.info, recipe) if output is None else Path(output)
        check_output(target, [reference])
        trial = Path(stack.enter_context(tempfile.TemporaryDirectory())) / (f"sample{target.suffix}" or "sample")
        writer = stack.enter_context(
            ClipWriter(trial, reader.info, height, width, recipe.encode, overwrite=False, device=device)
        )
        notes = Notes(listener)
        notes.say_all([*reader.notes, *writer.notes])
        sample = Sample(reader)
        bank, shot_models = bank_for([recipe], models), shot_models_for([recipe], models)
        upscaling = Upscaling(recipe, bank, device, reader, notes.say, shot_models, frames=sample.frames)
        sample.stages = upscaling
        manifest = record(upscaling, reader, writer, str(trial), recipe, reference, notes, clock, device)
        return _described(manifest, reader.info, target, sample.seconds(), (width, height), trial)


class Sample:
    """The first frames of a clip, until the time of a sample is over."""

    def __init__(self, reader: ClipReader) -> None:
        self.stages: Upscaling | None = None
        self._reader = reader
        self._start = perf_counter()

    def frames(self) -> Iterator[Frame]:
        """At least `FEWEST_FRAMES`, where the clip has them; the next only when those before are nearly done."""
        assert self.stages is not None
        self._start = perf_counter()
        for frame in self._reader.frames():
            while frame.index >= max(FEWEST_FRAMES, self.stages.frames_out + MOST_AHEAD):
                if self.seconds() > SAMPLE_SECONDS:
                    return
                sleep(POLL_SECONDS)
            if frame.index >= FEWEST_FRAMES and self.seconds() > SAMPLE_SECONDS:
                return
            yield frame

    def seconds(self) -> float:
        """Since the first frame was asked for."""
        return perf_counter() - self._start


def _described(
    manifest: Manifest, info: ClipInfo, target: Path, seconds: float, output_size: tuple[int, int], trial: Path
) -> RunPlan:
    done = manifest.frames_out
    frames = _num_frames(info)
    video_bytes, other_bytes = _bytes_of(trial)
    output_bytes = None if frames is None else round(video_bytes / done * frames) + other_bytes
    stages = {stage: spent / done for stage, spent in manifest.timings_seconds.items() if stage != TOTAL}
    return RunPlan(
        clip=str(info.path),
        output=str(target),
        output_exists=target.exists(),
        frames=frames,
        size=(info.width, info.height),
        output_size=output_size,
        policy=manifest.policy,
        models=manifest.models,
        device=manifest.device,
        dtype=manifest.dtype,
        encoder=manifest.encoder,
        streams_kept=manifest.streams_kept,
        streams_dropped=manifest.streams_dropped,
        notes=manifest.notes,
        sampled_frames=done,
        seconds_per_frame=seconds / done,
        stage_seconds_per_frame=stages,
        seconds=None if frames is None else seconds / done * frames,
        output_bytes=output_bytes,
        work_bytes=None if output_bytes is None else 2 * output_bytes,
        free_bytes=_free_bytes(target),
        peak_memory_bytes=manifest.peak_memory_bytes,
    )


def _num_frames(info: ClipInfo) -> int | None:
    if info.num_frames_from_header:
        return info.num_frames_from_header
    if info.duration_seconds_from_header and info.average_rate:
        return round(info.duration_seconds_from_header * float(info.average_rate))
    return None


def _bytes_of(result: Path) -> tuple[int, int]:
    """Of the pictures of a result, and of all that is beside them."""
    if result.is_dir():
        return sum(picture.stat().st_size for picture in result.iterdir()), 0
    with av.open(str(result)) as container:
        video = sum(packet.size for packet in container.demux(container.streams.video[0]))
    return video, os.path.getsize(result) - video


def _free_bytes(target: Path) -> int | None:
    folder = target.absolute().parent
    return shutil.disk_usage(folder).free if folder.is_dir() else None
