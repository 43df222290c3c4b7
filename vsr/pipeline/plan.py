"""What a run would do, found out before it: everything is opened and checked, and the first frames
are really made."""

import json
import os
import shutil
import tempfile
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import av

from vsr.engine.options import choose_device, dtype_name
from vsr.engine.strips import set_num_threads
from vsr.errors import InputError, UsageError
from vsr.files import check_output
from vsr.image.resample import scaled_size
from vsr.pipeline.live_metrics import LIVE_METRICS, open_live_metrics
from vsr.pipeline.manifest import peak_memory_bytes
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.pipeline.run import bank_for, check_recipe, output_path, shot_models_for, with_policy
from vsr.pipeline.stages import Stages, Upscaling
from vsr.progress import Listener
from vsr.video.frames import ClipInfo
from vsr.video.reader import open_clip
from vsr.video.writer import STANDARD_OUTPUT, ClipWriter

TRIAL_SECONDS = 2.0
MIN_TRIAL_FRAMES = 3
"""However long they take: from the first to the third is the least that says how long one takes."""


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
    """What the run needs on its disk at the most: the finished segments and the file that is made
    of them."""
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
    """Try the run that these options ask for on its first frames, for two seconds, and write
    nothing that stays.

    Raises what the run would raise.
    """
    if str(clip) == STANDARD_OUTPUT:
        raise UsageError(
            "a plan reads the clip before the run does, so it cannot be a pipe; give a file."
        )
    if recipe.train_ahead:
        raise UsageError(
            "the training of --train-ahead cannot be planned; train with vsr train-shot, then plan."
        )
    recipe = with_policy(recipe, models)
    check_recipe(recipe, models)
    device = choose_device(recipe.device)
    if recipe.threads is not None:
        set_num_threads(recipe.threads)
    with ExitStack() as stack:
        reader = stack.enter_context(open_clip(clip, recipe.read))
        height, width = scaled_size(reader.info.height, reader.info.width, recipe.scale)
        target = output_path(reader.info, recipe) if output is None else Path(output)
        check_output(target, [reference])
        trial = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"sample{target.suffix}"
        writer = stack.enter_context(
            ClipWriter(
                trial, reader.info, height, width, recipe.encode, overwrite=False, device=device
            )
        )
        bank, shot_models = bank_for([recipe], models), shot_models_for([recipe], models)
        upscaling = Upscaling(recipe, bank, device, reader, listener.notify, shot_models)
        sample = _run_trial(upscaling, writer, recipe, reference)
        report = writer.finish()
        frames = _num_frames(reader.info)
        video_bytes, other_bytes = _bytes_of(trial)
        output_bytes = (
            None if frames is None else round(video_bytes / sample.frames * frames) + other_bytes
        )
        return RunPlan(
            clip=str(reader.info.path),
            output=str(target),
            output_exists=target.exists(),
            frames=frames,
            size=(reader.info.width, reader.info.height),
            output_size=(width, height),
            policy=recipe.policy or "",
            models=list(
                dict.fromkeys(name for decision in upscaling.decisions for name in decision.models)
            ),
            device=str(device),
            dtype=dtype_name(recipe.dtype, device),
            encoder=report.encoder,
            streams_kept=list(report.streams_kept),
            streams_dropped=list(report.streams_dropped),
            notes=list(dict.fromkeys([*reader.notes, *report.notes])),
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
    """What the first frames took."""

    frames: int
    seconds_per_frame: float
    stages: dict[str, float]


def _run_trial(
    stages: Stages, writer: ClipWriter, recipe: Recipe, reference: str | Path | None
) -> TrialTimings:
    """Run the stages until the time is over; the first frame, for which much is made ready, counts
    little."""
    clock, finished = StageClock(), []
    start = perf_counter()
    with (
        open_live_metrics(recipe, reference, LIVE_METRICS) as live,
        closing(stages.pairs(clock)) as pairs,
    ):
        for low, large in pairs:
            with clock.measure("metrics"):
                live.update(low, large)
            with clock.measure("write"):
                writer.write(large)
            finished.append(perf_counter())
            if len(finished) >= MIN_TRIAL_FRAMES and finished[-1] - start > TRIAL_SECONDS:
                break
    if not finished:
        raise InputError("the clip has no frame that can be decoded.")
    between = finished[-1] - finished[0]
    each = between / (len(finished) - 1) if len(finished) > 1 else finished[0] - start
    return TrialTimings(len(finished), each, clock.seconds_per_item())


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
