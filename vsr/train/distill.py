"""Distils the models of a keyframe into one student, and measures how far it stays from them."""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F

from vsr import __version__
from vsr.engine.generator import FastGenerator, StepOptions, progressive_upscale, step_sizes
from vsr.engine.options import choose_device
from vsr.engine.tiling import single_thread
from vsr.errors import InputError, ModelError, OutputError, UsageError
from vsr.image.blur import none_if_bicubic
from vsr.image.noise import back_projection_weight_for_noise, noise_level
from vsr.image.resample import resize
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Distillation, Model, ModelCard, load_bank, save_model, select_system
from vsr.models.networks.singan import Generator, pad
from vsr.records import load_options, option
from vsr.train.clip import bank_lock
from vsr.train.crops import (
    MIN_CROP_PX,
    TrainingPair,
    crop_batch,
    draw_placement,
    integer_sampler,
)
from vsr.train.fit import (
    IterationProgress,
    ProgressAggregator,
    Training,
    TrainingListener,
    TrainingReport,
    fit,
    loss_curve_summary,
)
from vsr.train.keyframe import model_file
from vsr.train.methods.quick import restored
from vsr.train.optimizer import AveragedNetwork, cosine_decay
from vsr.train.options import Distilling
from vsr.train.state_file import StateFile
from vsr.train.workers import CPU
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions, open_clip


@dataclass(frozen=True)
class StudentOptions:
    """Settings of a student's training. With these it ends 50 to 55 dB from fifteen teachers on
    clips of Vid4."""

    iterations: int = option(1500, "Crops that are learned from.", at_least=1)
    crop_px: int = option(48, "Side of the crops.", at_least=MIN_CROP_PX)
    learning_rate: float = option(3e-3, "Learning rate of the first step.", above=0)
    average_decay: float = option(
        0.99,
        "Decay of the exponential moving average of the weights, which is what is kept.",
        at_least=0,
        below=1,
    )


class StudentTraining(Training):
    """Training of a generator to reproduce the outputs of its teachers on some crops.

    It begins as a copy of one of them: from scratch it was 9 dB farther from its teachers after 500
    iterations. Crops are neither flipped nor turned, since what the teachers would make of those
    was not asked. Deterministic for a seed, on one device and one thread.
    """

    kept = ("losses", "_random", "_student")

    def __init__(
        self, start: Generator, pairs: Sequence[TrainingPair], options: StudentOptions, seed: int
    ) -> None:
        """`pairs` lie on the device that is to train."""
        super().__init__(options.iterations)
        self._pairs, self._options = pairs, options
        self._random = torch.Generator().manual_seed(seed)
        # Eval mode throughout: statistics of a normalization are kept as the keyframe's training
        # left them.
        # A copy: the bank's model stays where and as it is.
        student = copy.deepcopy(start).to(pairs[0].target.device).eval().requires_grad_(True)
        self._student = AveragedNetwork(student)

    def step(self) -> None:
        """Learn from one crop of one pair."""
        options, draw = self._options, integer_sampler(self._random)
        pair = self._pairs[draw(len(self._pairs))]
        place = draw_placement(pair.target.shape[-2:], options.crop_px, draw, augmented=False)
        padded, target = crop_batch(pair, [place])
        loss = F.l1_loss(restored(self._student.network, padded), target)
        rate = cosine_decay(options.learning_rate, self.iterations_done / self.iterations)
        self._student.descend(loss, rate, options.average_decay)
        self.losses.append(loss.item())

    def trained(self) -> Generator:
        """Hand over the averaged student, on the CPU, in eval mode."""
        return self._student.average.cpu()


SCALE = 4.0
"""Enlargement at which students learn and are measured; they serve any other, as their teachers
do."""
CROP_PX = 128
NUM_CROPS = 3
"""Squares of the keyframe that are taught: fifteen teachers are slow, and the keyframe is what they
know."""
EVALUATION_PX = 160
"""Side of the middle of the frames on which student and teachers are compared."""
RECIPE = "student"
FLICKER = "flicker_live"
MIN_MSE = 1e-12
"""So that equal pictures are 120 dB apart, which JSON can hold."""


def mean_prediction(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Average pictures as AVGI does. Averaging after every step gives pictures 67 dB from those of
    AVGI, which averages after the last step."""
    return torch.stack(list(pictures)).mean(dim=0)


TEACHERS: dict[str, Callable[[Sequence[torch.Tensor]], torch.Tensor]] = {"avgi": mean_prediction}
"""Functions that combine the pictures of a keyframe's models into the one that is taught, by
policy."""


def distil(
    clip: str | Path,
    models: str | Path,
    *,
    # options of vsr distil, by tools/write_signatures.py
    teacher: str = "avgi",
    seed: int = 0,
    device: str = "auto",
    on_damage: Literal["keep", "repeat", "stop"] = "keep",
    deinterlace: Literal["auto", "frame", "field", "film", "off"] = "auto",
    allow_huge: bool = False,
    stream: int | None = None,
    # end of options
    options: StudentOptions = StudentOptions(),
    listener: TrainingListener = TrainingListener(),
) -> TrainingReport:
    """Train one student for each keyframe of `clip` that has models in the folder `models`, and
    save it among them.

    The other keywords are the options of the command, described in `Distilling`. A student of the
    same models and options is kept, one of others is replaced; a stopped training resumes. Raises
    `UsageError`, `InputError`, `ModelError`, `OutputError`, or `InterruptedRunError` where the
    listener asks for an end.
    """
    chosen = load_options(Distilling, given=locals())
    return distil_bank(clip, models, chosen, listener, options)


def distil_bank(
    clip: str | Path,
    models: str | Path,
    options: Distilling,
    listener: TrainingListener,
    training: StudentOptions = StudentOptions(),
) -> TrainingReport:
    """Do what `distil` says, with its options as one value."""
    teacher = options.teacher
    if teacher not in TEACHERS:
        raise UsageError(
            f"--teacher {teacher} cannot be distilled; expected {', '.join(TEACHERS)}."
        )
    on = choose_device(options.device)
    start = perf_counter()
    bank = load_bank(Path(models))
    with open_clip(clip, options.read) as reader:
        groups = _group_by_keyframe(bank, reader.info.identity)
    if not groups:
        raise ModelError(
            f"{models} has no two models of a keyframe of {clip}. Train some with vsr "
            f"train-keyframe {clip} --models {models}."
        )
    made, kept, missing = {}, [], []
    with bank_lock(Path(models)):
        for group in groups:
            card = _plan_card(group[0].card, options.seed)
            name = Path(model_file(card)).stem
            if any(
                model.name == name
                and _is_distilled_from(model.card, teacher, group, _settings_of(training))
                for model in bank
            ):
                kept.append(name)
            else:
                missing.append((name, card, group))
        gather = ProgressAggregator(len(missing), listener)
        for number, (name, card, group) in enumerate(missing):
            scene = _read_shot_frames(clip, card, options.read)
            made[name] = _distill_group(
                Path(models),
                card,
                Teacher(group, teacher, on),
                scene,
                training,
                listener,
                partial(gather.update, number),
            )
            listener.notify(f"{name}: {describe_gap(made[name])}")
    return TrainingReport(
        clip=str(clip),
        bank=str(models),
        method=RECIPE,
        shots=0,
        trained=tuple(made),
        kept=tuple(kept),
        seconds=perf_counter() - start,
        students=made,
    )


def describe_gap(gap: Distillation) -> str:
    """A student's distance to its teacher in words."""
    flicker = "" if gap.flicker_ratio is None else f", {gap.flicker_ratio:.3f} x its flicker"
    return f"{gap.psnr_db:.1f} dB from {gap.teacher} of {len(gap.teachers)} models{flicker}"


class Teacher:
    """Many generators that make one picture together after every step; stands where one
    `FastGenerator` does."""

    def __init__(self, group: Sequence[Model], policy: str, device: torch.device = CPU) -> None:
        """`group` are the models of a keyframe; they stay where they are, copies of their weights
        run on the device."""
        self.models, self.policy, self.device = group, policy, device
        self.spec = group[0].generator.spec
        self.step_ratio = group[0].card.step_ratio
        self._generators = [
            FastGenerator(
                model.name,
                model.generator,
                self.step_ratio,
                device,
                StepOptions(kernel=none_if_bicubic(model.card.kernel)),
            )
            for model in group
        ]
        self._combine = TEACHERS[policy]

    def add_detail(self, base: torch.Tensor) -> torch.Tensor:
        """Add detail to (3, H, W) in [0, 1]; not clamped."""
        return self._combine([generator.add_detail(base) for generator in self._generators])

    def pairs(self, window: torch.Tensor, back_projection_weight: float) -> list[TrainingPair]:
        """Make pairs of what it sees and makes at every step from the (3, h, w) `window` up to
        `SCALE`."""
        height, width = window.shape[-2:]
        image, pairs = window, []
        for size in step_sizes(height, width, SCALE, self.step_ratio):
            # The same start at every step as in use: the student is to replace what comes after it.
            base = resize(image, *size)
            detailed = self.add_detail(base)
            pairs.append(TrainingPair(pad((2 * base - 1)[None], self.spec)[0], 2 * detailed - 1))
            # Projection does not depend on the generator, so any of them does it for all.
            image = self._generators[0].back_project(
                detailed.clamp(0, 1), window, back_projection_weight
            )
        return pairs

    def upscale(self, low: torch.Tensor, back_projection_weight: float) -> torch.Tensor:
        """Upscale (3, h, w) to `SCALE` as the policy itself does: each generator by itself, the
        results combined at the end, not step by step."""
        return self._combine(
            [
                progressive_upscale(low, [one], SCALE, back_projection_weight)
                for one in self._generators
            ]
        )


@dataclass(frozen=True, eq=False)
class _ShotFrames:
    """Frames that are read of a shot."""

    keyframe: Frame
    measured: list[Frame]
    """Its first or last two frames, whichever are farther from the keyframe; one where it has no
    more."""


def _group_by_keyframe(bank: Sequence[Model], clip_identity: str) -> list[list[Model]]:
    """Group the clip's own models that can be taught from by keyframe; raises `ModelError` for a
    mix of recipes."""
    own = select_system(
        [
            model
            for model in bank
            if model.card.clip_identity == clip_identity and not model.card.is_student
        ]
    )
    # By name within a keyframe, so that the first, from which the student starts, is always the
    # same.
    own.sort(key=lambda model: (model.card.keyframe_hash, model.name))
    groups = [list(group) for _, group in groupby(own, key=lambda model: model.card.keyframe_hash)]
    for group in groups:
        recipes = sorted({model.card.recipe for model in group})
        if len(recipes) > 1:
            raise ModelError(
                f"the models of the keyframe of {group[0].name} were trained with "
                f"{' and '.join(recipes)}; a student learns from models of one kind. Move the "
                "others to another folder."
            )
    return [group for group in groups if len(group) > 1]


def _plan_card(card: ModelCard, seed: int) -> ModelCard:
    """Make a student's card, complete but for what training and measuring tell; its critic is its
    first teacher's."""
    return replace(card, recipe=RECIPE, seed=seed, loss_curve=(), version=__version__)


def _settings_of(options: StudentOptions) -> tuple[str, ...]:
    """Return the options that are not the defaults, as `--set` takes them."""
    defaults = asdict(StudentOptions())
    given = asdict(options).items()
    return tuple(f"{name}={value}" for name, value in given if value != defaults[name])


def _is_distilled_from(
    card: ModelCard, teacher: str, group: Sequence[Model], settings: tuple[str, ...]
) -> bool:
    """Tell whether a student was taught by exactly these models with these settings."""
    taught = card.distillation
    names = tuple(model.name for model in group)
    same_keyframe = card.keyframe_hash == group[0].card.keyframe_hash
    return (
        taught is not None
        and same_keyframe
        and (taught.teacher, taught.teachers, taught.settings) == (teacher, names, settings)
    )


def _read_shot_frames(clip: str | Path, card: ModelCard, read: ReadOptions) -> _ShotFrames:
    keyframe = None
    first: list[Frame] = []
    last: deque[Frame] = deque(maxlen=2)
    with open_clip(clip, read) as reader:
        for frame in reader.frames():
            if frame.seconds >= card.shot_end_seconds:
                break
            if frame.seconds >= card.shot_start_seconds:
                first = [*first, frame][:2]
                last.append(frame)
            if frame.index == card.keyframe:
                keyframe = frame
    if keyframe is None or not first:
        raise InputError(
            f"{clip} ended before frame {card.keyframe}, which its models were trained on."
        )
    # Where the models know least the student is judged.
    is_late = keyframe.index - first[0].index > last[-1].index - keyframe.index
    return _ShotFrames(keyframe, first if is_late else list(last))


def _distill_group(
    bank: Path,
    card: ModelCard,
    teacher: Teacher,
    scene: _ShotFrames,
    options: StudentOptions,
    listener: TrainingListener,
    progress: IterationProgress,
) -> Distillation:
    """Train, measure and save the student that `card` describes."""
    models, path = teacher.models, bank / model_file(card)
    names = tuple(model.name for model in models)
    pixels = scene.keyframe.pixels.to(teacher.device)
    # As in use, where a noisy input is not to be restored to the letter.
    back_projection_weight = back_projection_weight_for_noise(noise_level(pixels))
    pairs = [
        pair
        for window in _random_crops(pixels, card.seed)
        for pair in teacher.pairs(window, back_projection_weight)
    ]
    plan = {"card": asdict(card), "teachers": list(names), "options": asdict(options)}
    states = StateFile(path, plan, listener.notify, begins_anew=True)
    training = StudentTraining(models[0].generator, pairs, options, card.seed)
    with single_thread():
        fit(training, progress, states, listener.should_stop)
    generator = training.trained()
    step_options = StepOptions(kernel=none_if_bicubic(card.kernel))
    student = FastGenerator(RECIPE, generator, card.step_ratio, teacher.device, step_options)
    psnr_db, flicker_ratio = _measure_gap(student, teacher, scene.measured, back_projection_weight)
    settings = _settings_of(options)
    distillation = Distillation(teacher.policy, names, psnr_db, flicker_ratio, settings)
    try:
        card = replace(
            card, loss_curve=loss_curve_summary(training.losses), distillation=distillation
        )
        save_model(path, card, generator, models[0].critic)
        states.remove()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.") from None
    return distillation


def _random_crops(pixels: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Cut squares of (3, H, W) at random places, `CROP_PX` a side or as large as the picture."""
    draw = integer_sampler(torch.Generator().manual_seed(seed))
    height, width = pixels.shape[-2:]
    tall, wide = min(CROP_PX, height), min(CROP_PX, width)
    corners = [(draw(height - tall + 1), draw(width - wide + 1)) for _ in range(NUM_CROPS)]
    return [pixels[:, top : top + tall, left : left + wide] for top, left in corners]


def _measure_gap(
    student: FastGenerator, teacher: Teacher, frames: Sequence[Frame], back_projection_weight: float
) -> tuple[float, float | None]:
    """Measure PSNR in dB between what both make of the middle of consecutive frames, and their
    flicker's ratio."""
    boards = [Scoreboard([FLICKER], has_truth=False, has_low_resolution=True) for _ in range(2)]
    psnr_db = []
    for frame in frames:
        low = _center_crop(frame.pixels.to(teacher.device))
        ours, theirs = (
            progressive_upscale(low, [student], SCALE, back_projection_weight),
            teacher.upscale(low, back_projection_weight),
        )
        # The teachers' picture is the truth here.
        psnr_db.append(-10 * float(F.mse_loss(ours, theirs).clamp(min=MIN_MSE).log10()))
        for board, large in zip(boards, (ours, theirs), strict=True):
            board.update(replace(frame, pixels=large), None, low)
    of_student, of_teacher = (board.compute()[FLICKER].mean for board in boards)
    return fmean(
        psnr_db
    ), of_student / of_teacher if of_student is not None and of_teacher else None


def _center_crop(pixels: torch.Tensor) -> torch.Tensor:
    """Cut out the middle of a (3, H, W) picture, at most `EVALUATION_PX` a side."""
    height, width = pixels.shape[-2:]
    tall, wide = min(EVALUATION_PX, height), min(EVALUATION_PX, width)
    top, left = (height - tall) // 2, (width - wide) // 2
    return pixels[:, top : top + tall, left : left + wide]
