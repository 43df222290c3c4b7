"""A session: all that is open while a clip is upscaled, made in one place for every kind of run.

reader -> shots -> repair -> inspection -> noise removal -> color -> policy -> flicker control ->
live metrics -> finishing -> writer
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch

from vsr.engine.machine import versions
from vsr.engine.options import choose_device
from vsr.engine.precision import choose_options, dtype_name
from vsr.engine.tiling import is_out_of_memory, limited_threads
from vsr.errors import InputError, InterruptedRunError, ModelError, OutputError, UsageError
from vsr.files import check_output
from vsr.image.resample import scaled_size
from vsr.models.bank import load_bank
from vsr.models.prior import load_prior_for, load_shipped_prior, shipped_prior_path
from vsr.models.shot_model import load_shot_models
from vsr.pipeline.given import GIVEN, GivenVideo, open_given
from vsr.pipeline.live_metrics import LIVE_METRICS, LiveMetrics, open_live_metrics
from vsr.pipeline.manifest import Manifest, peak_memory_bytes
from vsr.pipeline.options import Recipe, RunFiles, with_scale
from vsr.pipeline.profile import StageClock, stage_utilization
from vsr.pipeline.resume import model_files, resume_plan, with_earlier_choices
from vsr.progress import Listener
from vsr.records import to_table
from vsr.restore.color_restoration import ColorRestoration
from vsr.restore.finishing import Finishing
from vsr.restore.inspection import Inspection
from vsr.restore.noise_removal import NoiseRemoval
from vsr.restore.repair import NO_REPAIR, FilmRepair
from vsr.temporal.deflicker import AUTO_STRENGTH, FlickerControl
from vsr.upscale import POLICIES, RESTORATION, Policy, PolicyContext, PolicyStage, resolve_policy
from vsr.upscale.policy import ModelSet
from vsr.video.frames import ClipInfo, Frame
from vsr.video.read.image_sequence import is_numbered_pattern
from vsr.video.reader import ClipReader, open_clip
from vsr.video.shots import mark_shots
from vsr.video.step import Checkpoint, ShotRef, Stage, Step, run_stage
from vsr.video.write.default_output import choose_suffix
from vsr.video.write.segment_store import Resumed, SegmentEnds
from vsr.video.writer import STANDARD_OUTPUT, ClipWriter, WriteReport

MarkedFrame = tuple[int, int, tuple[Frame, torch.Tensor | None]]
"""Number and first frame of a shot, and a frame of it with the picture that it comes with."""


class Stages(NamedTuple):
    """All that a step passes through, in this order."""

    inspection: Inspection
    noise_removal: NoiseRemoval
    color: ColorRestoration
    policy: PolicyStage
    steady: FlickerControl
    metrics: LiveMetrics
    finishing: Finishing

    @property
    def rewind(self) -> int:
        """Number of frames that must come again to go on in the middle of a shot."""
        later = max(stage.rewind for stage in self if stage is not self.noise_removal)
        # What later stages look back at has to be clean as well.
        return self.noise_removal.rewind + later


QUEUE_DEPTHS = {
    "read": 4,
    "inspect": 0,
    "denoise": 2,
    "color": 0,
    "upscale": 2,
    "steady": 2,
    "metrics": 0,
    "finish": 0,
}
"""Number of steps that may wait for the next stage, which works beside; 0: they take turns.
More would take memory and gain nothing: one stage decides the speed."""
_STILL_NOTE = (
    "the input is one picture, without neighbors to learn from: it is enlarged by {}; --policy "
    "shot trains a model on it all the same"
)


@dataclass
class Session:
    """An open run. `open` makes it; `write`, or the caller's own loop over `steps`, runs it."""

    recipe: Recipe
    """With all choices made."""
    output: str | None
    """None where nothing is written."""
    device: torch.device
    reader: ClipReader
    given: GivenVideo | None
    """The clip and its source, where it is upscaled already."""
    repair: FilmRepair
    stages: Stages
    writer: ClipWriter | None
    resumed: Resumed
    notes: "NoteLog"
    clock: StageClock
    shot_starts: list[int] = field(default_factory=list)
    """Index of the first frame of each shot that was read."""
    known_shots: Sequence[tuple[int, int]] | None = None
    """Number and first frame of each shot, where only a part of the clip is run: cuts depend on all
    frames before them."""
    takes_turns: bool = False
    """Have the stages share one core, and not work beside each other."""
    frames_in: int = 0
    frames_out: int = 0

    @classmethod
    @contextmanager
    def open(
        cls,
        clip: str | Path,
        recipe: Recipe,
        files: RunFiles = RunFiles(),
        listener: Listener = Listener(),
        clock: StageClock | None = None,
        models: ModelSet | None = None,
        default_metrics: Sequence[str] = LIVE_METRICS,
        *,
        writes: bool = True,
    ) -> Iterator[Self]:
        """Open all that a run needs, check all that can be checked, and find earlier work.

        `models` take the place of those of `files.models`. Raises a `VsrError` for what a user can
        mend.
        """
        asked = recipe
        with ExitStack() as stack:
            # The number of threads is the process's own: it is given back after all else.
            stack.enter_context(limited_threads(recipe.threads))
            device = choose_device(recipe.device)
            given = None
            if files.low_resolution is not None:
                given = stack.enter_context(open_given(clip, files.low_resolution, recipe.read))
            reader = given.result if given else stack.enter_context(open_clip(clip, recipe.read))
            # Once the size is known: a run that does not enlarge has another policy.
            recipe = with_scale(asked, reader.info)
            policy = choose_policy(recipe, files, models, reader.info)
            recipe = replace(recipe, policy=policy.name)
            notes = NoteLog(listener)
            still = _still_note(asked, files, policy, reader.info) if models is None else []
            notes.notify_all([*still, *reader.notes, *(given.source.notes if given else ())])
            output, writer = None, None
            if writes:
                target = files.output
                if target is None:
                    target = output_path(reader.info, recipe, notes.notify, files.out_dir)
                    if files.trial is None:
                        _make_folder(target.parent)
                output = str(target)
                used = model_files(policy, recipe, files.models) if models is None else []
                if models is None and uses_prior_alone(policy, recipe, files.models):
                    used = [shipped_prior_path(recipe.prior_choice)]
                writer = _make_writer(output, reader.info, recipe, files, device, used)
                stack.enter_context(writer)
                notes.notify_all(writer.notes)
                # Before networks are made: frames of one film must not differ by the precision.
                recipe = with_earlier_choices(recipe, writer.work)
            models = models or load_models(policy, recipe, files.models)
            metrics = open_live_metrics(recipe, files.reference, default_metrics, notes.notify)
            # A given result was made of the frames as they are.
            repair = NO_REPAIR if given else recipe.repair.at_strength(recipe.restore_strength)
            stages = make_stages(
                recipe,
                policy,
                models,
                reader.info,
                device,
                stack.enter_context(metrics),
                notes.notify,
            )
            resumed = Resumed()
            if writer is not None and writer.work is not None:
                resumed = writer.work.resumed()
            for stage in stages:
                if stage.name in resumed.states:
                    stage.restore(resumed.states[stage.name])
            if resumed.frames_done:
                notes.notify(f"resuming at frame {resumed.frames_done}")
            clock = clock or StageClock()
            session = cls(
                recipe,
                output,
                device,
                reader,
                given,
                FilmRepair(repair, notes.notify),
                stages,
                writer,
                resumed,
                notes,
                clock,
            )
            session.frames_out = resumed.frames_done
            # Last, so that it sees the errors of whoever runs the session.
            stack.enter_context(report_out_of_memory())
            yield session

    @property
    def policy(self) -> PolicyStage:
        """The stage that makes pictures."""
        return self.stages.policy

    def read(self) -> Iterator[Step]:
        """Read the clip as steps, from as far before the first frame that is not done as a stage
        wants.

        Cuts depend on all frames before them, so the clip is decoded from its start in any case.
        """
        first_wanted = self.resumed.frames_done - self.stages.rewind
        ends = SegmentEnds(self.resumed.frames_done, self.recipe.encode.segment_frames)
        held: Step | None = None
        # All from the start as well: what a frame becomes depends on those around it.
        for number, first_frame, (frame, picture) in self.repair.through(self.marked()):
            self.frames_in += 1
            begins_shot = number == len(self.shot_starts)
            if begins_shot:
                self.shot_starts.append(first_frame)
                # One value for the whole shot: stages replace it as they find out more.
                shot = ShotRef(number, first_frame)
            if frame.index < first_wanted:
                continue
            # A step is held back by one frame, since only the next tells of a cut, and only the
            # end of the clip which is last.
            if held is not None:
                is_end = not held.is_done and ends.ends_at(held.frame.index, before_cut=begins_shot)
                yield self._with_checkpoint(held) if is_end else held
            held = self._step(frame, shot, picture)
        if held is not None:
            # The last segment ends here, however long it is.
            yield held if held.is_done else self._with_checkpoint(held)

    def steps(self) -> Generator[Step, None, None]:
        """Pass the clip through all stages; what comes out is to be written.

        Stages work beside each other, a few steps ahead of the next. Close it to end their threads.
        """
        depths = dict.fromkeys(QUEUE_DEPTHS, 0) if self.takes_turns else QUEUE_DEPTHS
        steps = self.clock.prefetch("read", self.read(), depths["read"])
        # Each stage pulls from a thread in which the stage before works.
        stage: Stage
        for stage in self.stages:
            worked_on = run_stage(stage, steps)
            if stage is self.stages.inspection:
                worked_on = self._onto_device(worked_on)
            steps = self.clock.prefetch(stage.name, worked_on, depths[stage.name])
        with closing(steps):
            for step in steps:
                # The others were only to be looked back at.
                if not step.is_done:
                    self.frames_out += 1
                    yield step

    def write(self) -> WriteReport:
        """Run the clip to its end and give the output its name.

        Raises `InterruptedRunError` where the user asks for an end.
        """
        assert self.writer is not None, "a session that writes was opened with a writer"
        listener, total = self.notes.listener, self.reader.info.num_frames_from_header
        with closing(self.steps()) as steps:
            for step in steps:
                with self.clock.measure("write"):
                    self.writer.write(step.result, step.checkpoint)
                listener.on_progress(step.frame.index + 1, total)
                listener.on_frame(step.frame.pixels, step.result.pixels)
                # Between two frames, so that no segment is left half written.
                if listener.should_stop():
                    raise self._interrupted()
        if not self.frames_out:
            raise InputError(
                f"{self.reader.info.path} has no frame that can be decoded; nothing was written."
            )
        with self.clock.measure("write"):
            return self.writer.finish()

    def manifest(self, report: WriteReport | None = None) -> Manifest:
        """Tell what was done, once the clip has come to its end."""
        # Comparisons write nothing and have no report: their frames are counted by the session.
        inspection, policy, metrics = self.stages.inspection, self.policy, self.stages.metrics
        reader, board = self.reader, metrics.board
        names = (name for decision in policy.decisions for name in decision.models)
        damage = [str(damage) for damage in reader.damage] + list(report.damage if report else ())
        lost = [f"dropped: {loss}" for loss in reader.late_losses]
        self.notes.notify_all([*(report.notes if report else ()), *metrics.notes(), *lost])
        if self.given is not None:
            source = self.given.source
            damage += [f"{source.info.path}: {damage}" for damage in source.damage]
            self.notes.lines += self.given.notes()
        seconds = self.clock.seconds()
        return Manifest(
            clip=str(reader.info.path),
            clip_identity=reader.info.identity,
            output=self.output,
            frames_in=self.frames_in,
            frames_out=report.frames_out if report else self.frames_out,
            max_pts_error_seconds=report.max_pts_error_seconds if report else 0.0,
            resumed_at_frame=self.resumed.frames_done,
            policy=self.recipe.policy or "",
            models=list(dict.fromkeys(names)),
            degradation=[
                {"first_frame": first, **asdict(each)} for first, each in inspection.found.items()
            ],
            repairs=[asdict(shot) for shot in self.repair.shots],
            decisions=[asdict(each) | {"margin": each.margin} for each in policy.decisions],
            shots=self.shot_starts,
            steady=[asdict(shot) for shot in metrics.shots()],
            streams_kept=list(report.streams_kept) if report else [],
            streams_dropped=list(report.streams_dropped) if report else [],
            damage=damage,
            losses=list(reader.losses),
            verified=report.verified.to_json() if report and report.verified else None,
            notes=self.notes.lines,
            encoder=report.encoder if report else None,
            device=str(self.device),
            dtype=dtype_name(self.recipe.dtype, self.device),
            timings_seconds=seconds,
            stage_shares=stage_utilization(seconds),
            peak_memory_bytes=peak_memory_bytes(),
            metrics={name: result.to_json() for name, result in board.compute().items()},
            baseline={
                name: result.to_json() for name, result in (board.compute_baseline() or {}).items()
            },
            recipe=to_table(self.recipe),
            command=sys.argv,
            versions=versions(),
        )

    def marked(self) -> Iterable[MarkedFrame]:
        """The frames of the clip, or of the part of it that is run, with their shots."""
        if self.known_shots is None:
            return mark_shots(self._pairs(), self.recipe.shots, lambda pair: pair[0])
        return self._marked_as_known(self.known_shots)

    def _marked_as_known(self, shots: Sequence[tuple[int, int]]) -> Iterator[MarkedFrame]:
        for pair in self._pairs():
            number, first = max(shot for shot in shots if shot[1] <= pair[0].index)
            yield number, first, pair

    def _pairs(self) -> Iterator[tuple[Frame, torch.Tensor | None]]:
        if self.given is not None:
            yield from self.given.pairs()
        else:
            for frame in self.reader.frames():
                yield frame, None

    def _step(self, frame: Frame, shot: ShotRef, picture: torch.Tensor | None) -> Step:
        """Begin the way of a frame, with what an earlier run has made of it."""
        frames_done = self.resumed.frames_done
        if frame.index < frames_done:
            # Of these only the last has its picture, from which the stages resume.
            last = None
            if frame.index == frames_done - 1:
                # Stages resume from the picture before its final touches.
                before = self.stages.finishing.before
                last = self.resumed.picture if before is None else before
            return Step(frame, shot, last, is_done=True)
        return Step(frame, shot, picture)

    def _onto_device(self, steps: Generator[Step, None, None]) -> Generator[Step, None, None]:
        """Bring steps onto the device, once their shot was looked at in main memory; from there
        only the writer brings pictures back."""
        with closing(steps):
            for step in steps:
                pixels = step.frame.pixels.to(self.device)
                picture = None if step.picture is None else step.picture.to(self.device)
                yield replace(step, frame=replace(step.frame, pixels=pixels), picture=picture)

    def _with_checkpoint(self, step: Step) -> Step:
        keeps = self.writer is not None or self.known_shots is not None
        return replace(step, checkpoint=Checkpoint()) if keeps else step

    def _interrupted(self) -> InterruptedRunError:
        """Tell a user who ended the run what is kept."""
        total = self.reader.info.num_frames_from_header
        of_all = f" of {total}" if total else ""
        work = None if self.writer is None else self.writer.work
        kept = 0 if work is None or work.plan is None else work.frames_done
        if work is None or work.plan is None:
            words = "nothing is kept: a run that reads or writes a pipe cannot be resumed"
        elif kept:
            words = f"{kept} are kept in {work.folder}"
        else:
            words = "nothing is kept yet: the first segment was not complete"
        return InterruptedRunError(
            f"stopped after frame {self.frames_out}{of_all}; {words}.", can_resume=kept > 0
        )


class NoteLog:
    """The sentences for the user, kept for the manifest."""

    def __init__(self, listener: Listener) -> None:
        self.lines: list[str] = []
        self.listener = listener

    def notify(self, note: str) -> None:
        """Tell the user."""
        self.lines.append(note)
        self.listener.notify(note)

    def notify_all(self, notes: Sequence[str]) -> None:
        """Tell the user what was not said before."""
        for note in notes:
            if note not in self.lines:
                self.notify(note)


def choose_policy(
    recipe: Recipe,
    files: RunFiles,
    models: ModelSet | None = None,
    info: ClipInfo | None = None,
) -> Policy:
    """Find the policy of a run, on a clip that may be known; raise `UsageError` for what can be
    seen to be impossible."""
    if files.low_resolution is not None:
        return GIVEN
    if recipe.scale == 1 and recipe.policy is None and not recipe.upscaler:
        return RESTORATION
    is_chosen = recipe.policy or recipe.upscaler or files.models or models
    is_still = info is not None and info.is_still
    if is_still and not is_chosen and recipe.trains(files.models) and recipe.prior == "none":
        return POLICIES["bicubic"]
    name = recipe.policy
    if not is_chosen and recipe.prior != "none":
        # Nothing is trained and there is no bank: the prior is there.
        name = "shot"
    policy = resolve_policy(name, recipe.upscaler, files.models)
    if uses_prior_alone(policy, recipe, files.models):
        return policy
    if policy.needs in ("bank", "shot models") and files.models is None and models is None:
        raise UsageError(
            f"policy {policy.name} needs a bank: --models DIR. Train one with vsr train-keyframe "
            "CLIP --models DIR."
        )
    return policy


def _still_note(asked: Recipe, files: RunFiles, policy: Policy, info: ClipInfo) -> list[str]:
    """Tell how a picture is enlarged that nothing was chosen for."""
    is_chosen = asked.policy or asked.upscaler or files.models or files.low_resolution
    if is_chosen or not info.is_still or policy is RESTORATION:
        return []
    how = "bicubic interpolation" if policy.needs == "nothing" else "the shipped prior"
    return [_STILL_NOTE.format(how)]


def make_stages(
    recipe: Recipe,
    policy: Policy,
    models: ModelSet,
    info: ClipInfo,
    device: torch.device,
    metrics: LiveMetrics,
    notify: Callable[[str], None],
) -> Stages:
    """Make all that frames of a clip pass through, in order."""
    context = PolicyContext(
        models.bank,
        recipe.scale,
        device,
        info.identity,
        recipe.policies,
        notify,
        models.shot_models,
        choose_options(recipe.dtype, recipe.tile, device),
        network=Path(recipe.upscaler) if recipe.upscaler else None,
        sample=recipe.sample,
    )
    restore = recipe.restore_strength
    return Stages(
        Inspection(
            restore,
            notify,
            looks=restore > 0 or recipe.repair.noise == "on",
            looks_back=recipe.read.quantizer is None,
        ),
        make_noise_removal(recipe, policy, notify),
        make_color_restoration(recipe, policy, info, device),
        policy.make(context),
        make_flicker_control(recipe, policy, notify),
        metrics,
        Finishing(
            recipe.grain,
            recipe.scale,
            # Interpolation stays what it is: others compare with it.
            limits_overshoot=policy.needs != "nothing" and recipe.policies.limit_overshoot,
        ),
    )


def uses_prior_alone(policy: Policy, recipe: Recipe, folder: str | Path | None) -> bool:
    """Tell whether a run has no shot models, and may use the shipped prior in their place."""
    return policy.needs == "shot models" and folder is None and recipe.prior != "none"


def load_models(policy: Policy, recipe: Recipe, folder: str | Path | None) -> ModelSet:
    """Load what a policy needs of the bank in a folder, or of what comes with the product."""
    if uses_prior_alone(policy, recipe, folder):
        choice = recipe.prior_choice
        # Read at once, since a missing one is told before any work.
        load_shipped_prior(choice)
        return ModelSet(
            shot_models=lambda first: [
                load_prior_for(choice, first.shot.known).as_shot_model(first.shot.known)
            ]
        )
    if policy.needs == "bank":
        return ModelSet(load_bank(Path(folder or "")))
    if policy.needs == "shot models":
        loaded = load_shot_models(Path(folder or ""))
        return ModelSet(shot_models=lambda _: loaded)
    return ModelSet()


def output_path(
    info: ClipInfo,
    recipe: Recipe,
    notify: Callable[[str], None] = lambda _: None,
    out_dir: str | Path | None = None,
) -> Path:
    """`<stem>_x<scale><suffix>` beside the clip or in `out_dir`; without the suffix for a folder of
    pictures.

    The suffix is the clip's own, or that of the nearest container that holds all of its streams,
    which is then said.

    Raises `UsageError` for standard input and for a numbered pattern, which have no name of their
    own.
    """
    if str(info.path) == "-" or (info.container == "images" and not info.path.is_dir()):
        raise UsageError(
            f"the input {info.path} is not one file, so the result has no name yet: give it with "
            "-o OUT."
        )
    # A clip in a folder of pictures is named after the folder.
    path = info.path.absolute()
    becomes_folder = path.is_dir() or recipe.encode.codec == "png"
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    if not becomes_folder:
        suffix, note = choose_suffix(info, recipe.encode)
        if note is not None:
            notify(note)
    folder = path.parent if out_dir is None else Path(out_dir)
    return folder / f"{stem}_x{recipe.scale:g}{'' if becomes_folder else suffix}"


def _make_folder(folder: Path) -> None:
    """Make the folder of a result. Raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be made: {error.strerror}. Choose another --out-dir."
        ) from None


def _make_writer(
    output: str,
    info: ClipInfo,
    recipe: Recipe,
    files: RunFiles,
    device: torch.device,
    models: Sequence[Path],
) -> ClipWriter:
    """Prepare the writer of the output, or of a trial that leaves nothing behind."""
    others = {"low_resolution": files.low_resolution, "reference": files.reference}
    check_output(output, others.values())
    size = (info.height, info.width)
    if files.low_resolution is None:
        size = scaled_size(*size, recipe.scale)
    if files.trial is not None:
        # Of the same kind as the output, so that it is refused or converted in the same way.
        trial = files.trial / _trial_name(Path(output))
        return ClipWriter(trial, info, *size, recipe.encode, False, device)
    plan = resume_plan(info, recipe, device, models, others, Path(output).suffix)
    return ClipWriter(
        output,
        info,
        *size,
        recipe.encode,
        files.overwrite,
        device,
        plan,
        files.work,
        files.format or "matroska",
    )


def _trial_name(output: Path) -> str:
    """Name a trial's result, which is of the same kind as the output."""
    if str(output) == STANDARD_OUTPUT:
        return "sample.mkv"
    # Numbered pictures need their number.
    return f"sample{'%06d' if is_numbered_pattern(output) else ''}{output.suffix}"


def make_noise_removal(
    recipe: Recipe, policy: Policy, notify: Callable[[str], None] = lambda _: None
) -> NoiseRemoval:
    """Make the removal of noise of a recipe."""
    switch, strength = recipe.repair.noise, recipe.restore_strength
    # A given result was made of the frames as they are.
    if policy is GIVEN or switch == "off" or (switch == "auto" and _is_interpolation(policy)):
        return NoiseRemoval(0.0)
    if switch == "auto":
        return NoiseRemoval(strength, notify)
    return NoiseRemoval(strength or 1.0, notify, least_sigma=0.0)


def make_color_restoration(
    recipe: Recipe, policy: Policy, info: ClipInfo, device: torch.device
) -> ColorRestoration:
    """Make the restoration of colors of a recipe, for a clip."""
    # A given result was made of the frames as they are.
    leaves_colors = policy is GIVEN or _is_interpolation(policy)
    strength = 0.0 if leaves_colors else recipe.restore_strength
    return ColorRestoration(
        strength,
        device,
        choose_options(recipe.dtype, recipe.tile, device),
        # A quantizer that the user gives is that of a file of before, which is unknown.
        has_full_color=info.has_full_color and recipe.read.quantizer is None,
    )


def _is_interpolation(policy: Policy) -> bool:
    """Whether a policy interpolates and does no more: that stays what it is, since others compare
    with it."""
    return policy.needs == "nothing" and policy is not RESTORATION


def make_flicker_control(
    recipe: Recipe, policy: Policy, notify: Callable[[str], None] = lambda _: None
) -> FlickerControl:
    """Make the flicker control of a recipe. Where that says nothing it is on, but for policies
    without models and for those that fuse by themselves."""
    strength = recipe.steady
    # A clip that is not enlarged is fused along its motion where it is degraded, else left alone.
    only_degraded = policy is RESTORATION and strength is None and recipe.target_flicker is None
    if strength is None:
        strength = 0.0 if policy.needs == "nothing" and not only_degraded else "auto"
    # One that is asked for holds for every policy, a network that fuses by itself included.
    if strength == "auto":
        strength = 0.0 if policy.deflickers else AUTO_STRENGTH
    weight = recipe.policies.back_projection_weight
    return FlickerControl(
        strength, recipe.target_flicker, weight, notify, only_degraded=only_degraded
    )


@contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Raise `ModelError` where there is no memory left for a frame."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            "there is not enough memory for a frame of this size. Use a smaller --scale or close "
            "other programs; the same command continues."
        ) from error
