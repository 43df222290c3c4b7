"""Models of a preview: the run's own where the clip is small, else some of what is shown alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2

from vsr.errors import InterruptedRunError
from vsr.evaluate.images import to_rgb_image
from vsr.evaluate.preview.excerpts import Excerpt, Survey
from vsr.models.prior import SHIPPED_PRIORS, PriorChoice
from vsr.models.shot_model import Quality
from vsr.pipeline.options import Recipe, RunFiles

if TYPE_CHECKING:
    from vsr.train.fit import TrainingListener

TRAINING_SECONDS = 40.0
"""Time after the start of a preview at which no further training is begun or gone on with."""
MIN_SHOT_SECONDS = 5.0
"""Time for each shot model of a large clip, at least."""


@dataclass(frozen=True)
class PreviewModels:
    """Banks of a preview, and what they have cost."""

    keyframe_bank: Path
    shot_banks: dict[Quality, tuple[Path, ...]]
    """The bank of each excerpt, for each quality."""
    keyframe_seconds: float
    """Time of the training of a keyframe's model; 0 where it was there already."""
    shot_seconds: dict[Quality, float]
    """Time of the training of a shot model, the longest; 0 where all were there already."""
    is_kept: bool
    """Whether a run will find these models."""
    notes: tuple[str, ...]


def train_models(
    clip: str | Path,
    recipe: Recipe,
    survey: Survey,
    excerpts: Sequence[Excerpt],
    resources: ExitStack,
    work: Path,
    began: float,
    listener: "TrainingListener",
) -> PreviewModels:
    """Train what a preview needs; `began` is when it did, by `perf_counter`, and `work` a folder
    for models that are not kept.

    Banks in the cache are held until `resources` are closed. Raises as the trainings do.
    """
    if survey.is_whole:
        return _train_own(clip, recipe, excerpts, resources, began, listener)
    return _train_excerpts(work, recipe, excerpts, began, listener)


def _train_own(
    clip: str | Path,
    recipe: Recipe,
    excerpts: Sequence[Excerpt],
    resources: ExitStack,
    began: float,
    listener: "TrainingListener",
) -> PreviewModels:
    """Train the models that a run would train, and keep them for it."""
    from vsr.pipeline.cache import cached_bank
    from vsr.pipeline.need import Need, find_need
    from vsr.train.keyframe import train_bank
    from vsr.train.shot import train_shots

    def begin(policy: str, quality: Quality = "balanced") -> Need:
        policies = replace(recipe.policies, quality=quality)
        need = find_need(clip, replace(recipe, policy=policy, policies=policies), RunFiles())
        assert need is not None, "these policies have models that a run trains"
        resources.enter_context(cached_bank(need.info, recipe.read, listener.notify, need.kind))
        return need

    of_keyframe = begin("smi")
    # Small networks train in a second or two. With a prior that was chosen, or none, all qualities
    # share their models.
    qualities: list[Quality] = list(SHIPPED_PRIORS) if recipe.prior == "auto" else ["balanced"]
    needs = {quality: begin("shot", quality) for quality in qualities}
    assert of_keyframe.training is not None
    keyframe = replace(of_keyframe.training, device=recipe.device, read=recipe.read)
    one = train_bank(clip, of_keyframe.bank, keyframe, (), 1, listener)
    seconds: dict[Quality, list[float]] = {quality: [] for quality in needs}
    left_out = []
    numbers = list(dict.fromkeys(excerpt.shot for excerpt in excerpts))
    for quality, number in product(needs, numbers):
        need, took = needs[quality], seconds[quality]

        def should_stop(took: list[float] = took) -> bool:
            # The first is always finished: without any, there would be nothing to show.
            is_late = bool(took) and perf_counter() > began + TRAINING_SECONDS
            return is_late or listener.should_stop()

        training = replace(need.shot_training, shots=number)
        try:
            report = train_shots(
                clip, need.bank, training, replace(listener, should_stop=should_stop)
            )
        except InterruptedRunError:
            if listener.should_stop():
                raise
            left_out.append(number)
        else:
            took.append(report.seconds if report.trained else 0.0)
    notes = []
    if left_out:
        moments = [each for each in excerpts if each.shot in left_out]
        at = ", ".join(f"{each.frames[0].seconds:.1f} s" for each in moments)
        notes.append(
            f"The shot at {at} is shown by the model of another shot: the time of a preview was "
            "over. A run trains its own, and goes on with what is there."
        )
    return PreviewModels(
        keyframe_bank=of_keyframe.bank,
        shot_banks={
            quality: (needs.get(quality, needs["balanced"]).bank,) * len(excerpts)
            for quality in SHIPPED_PRIORS
        },
        keyframe_seconds=one.seconds if one.trained else 0.0,
        shot_seconds={
            quality: max(seconds.get(quality, seconds["balanced"])) for quality in SHIPPED_PRIORS
        },
        is_kept=True,
        notes=tuple(notes),
    )


def _train_excerpts(
    work: Path,
    recipe: Recipe,
    excerpts: Sequence[Excerpt],
    began: float,
    listener: "TrainingListener",
) -> PreviewModels:
    """Train models on the excerpts of a large clip, whose shots there is no time to find."""
    from vsr.train.keyframe import train_bank
    from vsr.train.options import KeyframeTraining, ShotTraining
    from vsr.train.shot import train_shots

    clips = [_write_pictures(excerpt, work / f"excerpt-{n}") for n, excerpt in enumerate(excerpts)]
    banks = [clip.with_name(f"{clip.name}-models") for clip in clips]
    one = train_bank(
        clips[0], banks[0], KeyframeTraining(count=1, device=recipe.device), (), 1, listener
    )
    common: dict[str, Any] = {"restore": recipe.restore, "device": recipe.device}
    left = began + TRAINING_SECONDS - perf_counter()
    budget = max(MIN_SHOT_SECONDS, left / (len(excerpts) * len(SHIPPED_PRIORS)))
    shot_banks: dict[Quality, tuple[Path, ...]] = {}
    seconds: dict[Quality, float] = {}
    for quality in SHIPPED_PRIORS:
        choice: PriorChoice = quality if recipe.prior == "auto" else recipe.prior
        training = ShotTraining(budget_seconds=budget, prior=choice, **common)
        shot_banks[quality] = tuple(bank.with_name(f"{bank.name}-{quality}") for bank in banks)
        seconds[quality] = max(
            train_shots(clip, bank, training, listener).seconds
            for clip, bank in zip(clips, shot_banks[quality], strict=True)
        )
    note = (
        "The clip is too large for its shots to be found in the time of a preview: the models "
        "shown were trained on the excerpts for a short time and are not kept. A run trains "
        "better ones."
    )
    return PreviewModels(
        banks[0],
        shot_banks,
        one.seconds,
        seconds,
        is_kept=False,
        notes=(note,),
    )


def _write_pictures(excerpt: Excerpt, folder: Path) -> Path:
    folder.mkdir()
    for number, frame in enumerate(excerpt.frames):
        # OpenCV's order of channels is BGR.
        cv2.imwrite(str(folder / f"{number:03d}.png"), to_rgb_image(frame.pixels)[..., ::-1])
    return folder
