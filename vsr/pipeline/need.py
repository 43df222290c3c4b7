"""Need of a run: the models that its policy works with, and which of them are still lacking."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from vsr.errors import InputError, ModelError, UsageError
from vsr.models.bank import SYSTEMS, bank_files, is_of_shot, load_card
from vsr.models.prior import kind_suffix, load_prior_for, names_of_other_priors
from vsr.models.shot_model import load_shot_model, shot_model_files
from vsr.pipeline.cache import bank_path
from vsr.pipeline.options import Recipe, RunFiles, with_scale
from vsr.progress import Listener
from vsr.train.clip import choose_shots
from vsr.train.methods import METHODS
from vsr.train.options import KeyframeTraining, ShotTraining
from vsr.upscale import POLICIES
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import open_clip
from vsr.video.shots import Shot, find_shots

T = TypeVar("T")

SHOT, STUDENT = "shot", "student"
TRAININGS = {
    "smi": KeyframeTraining(count=1),
    "ami": KeyframeTraining(),
    "avgi": KeyframeTraining(),
    "dsrfi": KeyframeTraining(),
    "selfrec": KeyframeTraining(count=1, shots="all"),
    "student": KeyframeTraining(),
    "zssr": KeyframeTraining(method="zssr"),
    "kernelgan": KeyframeTraining(method="zssr", kernel="auto"),
    "zssrgan": KeyframeTraining(method="zssrgan"),
}
"""Training of the models of each policy that takes them of a keyframe."""


@dataclass(frozen=True)
class Need:
    """Models that a run works with, kept with its clip, and those that are not there yet."""

    recipe: Recipe
    """With policy and scale decided."""
    info: ClipInfo
    bank: Path
    """Folder of the models; it may not exist yet."""
    kind: str
    """Kind of the models, as banks in the cache bear it."""
    is_cached: bool
    """Whether the bank is the clip's own in the cache."""
    shots: tuple[Shot, ...]
    """All of the clip."""
    seconds_to_find: float
    """Time that finding the shots took."""
    lacking: tuple[Shot, ...] = ()
    """Shots without the models that the policy wants for them."""
    models_lacking: int = 0
    """Models of keyframes to train; of shot models each of `lacking` takes one."""
    training: KeyframeTraining | None = None
    """Training of a policy that takes models of keyframes."""

    @property
    def shot_training(self) -> ShotTraining:
        """Training of shot models, with the options of the run."""
        recipe = self.recipe
        return ShotTraining(
            "all",
            recipe.training_seconds,
            prior=recipe.prior_choice,
            restore=recipe.restore,
            device=recipe.device,
            read=recipe.read,
        )

    @property
    def policy_name(self) -> str:
        return self.recipe.policy or ""


def find_need(
    clip: str | Path, recipe: Recipe, files: RunFiles, listener: Listener = Listener()
) -> Need | None:
    """Find which models a run lacks that trains them itself; None for a run that needs none, or
    uses a bank as it is.

    Reads the clip once for its shots. A pipe, which cannot be read twice, is for the shipped prior
    where nothing else was asked for, else raises `UsageError`. Raises `InputError`.
    """
    if files.low_resolution is not None or recipe.upscaler or not recipe.trains(files.models):
        return None
    # A function of the user's own takes what it is given; an unknown name is refused later.
    policy = POLICIES.get(recipe.policy or SHOT)
    if policy is None or policy.needs == "nothing":
        return None
    if str(clip) == "-":
        if recipe.policy is None and recipe.train is None and recipe.prior != "none":
            listener.notify(
                "a pipe cannot be read twice, so nothing is trained: the shipped prior enlarges it"
            )
            return None
        raise UsageError(
            f"policy {policy.name} trains on the clip, which is read twice, so it cannot be a "
            "pipe: give a file, a bank with --models DIR, or --policy bicubic."
        )
    with open_clip(clip, recipe.read) as reader:
        info = reader.info
        recipe = with_scale(recipe, info)
        if recipe.policy is None and (info.is_still or recipe.scale == 1):
            return None
        if policy.needs == "shot models":
            _check_size(info)
        start = perf_counter()
        shots = find_shots(_telling(reader.frames(), listener))
    if not shots:
        raise InputError(f"{clip} has no frame that can be decoded; nothing was written.")
    training = TRAININGS.get(policy.name)
    kind = SHOT if training is None else training_name(training)
    if training is None and recipe.prior == "none":
        kind += "-without-prior"
    if training is None:
        kind += kind_suffix(recipe.prior_choice)
    if training is None and recipe.prior != "none" and recipe.restore not in ("auto", 1):
        # The prior's networks follow it.
        kind += f"-restore{recipe.restore:g}"
    if recipe.training_seconds is not None:
        # Models that were trained briefly are not those of a run that has time.
        kind += f"-{recipe.training_seconds:g}s"
    bank = Path(files.models) if files.models else bank_path(info, recipe.read, kind)
    need = Need(
        recipe=replace(recipe, policy=policy.name),
        info=info,
        bank=bank,
        kind=kind,
        is_cached=not files.models,
        shots=tuple(shots),
        seconds_to_find=perf_counter() - start,
        training=training,
    )
    if training is None:
        return replace(need, lacking=tuple(_shots_without_model(need)))
    return _with_lacking_models(need, training)


def _check_size(info: ClipInfo) -> None:
    """Refuse a clip that no shot model can be trained on. Raises `InputError`."""
    from vsr.train.shot import MIN_SIDE_PX

    if min(info.height, info.width) < MIN_SIDE_PX:
        raise InputError(
            f"{info.path} is {info.width}x{info.height}; a shot model needs {MIN_SIDE_PX} pixels a "
            "side. Use --policy bicubic for a clip this small."
        )


def training_name(training: KeyframeTraining) -> str:
    """Name a training on keyframes, as banks in the cache bear it: policies of one name share their
    models."""
    words = [training.method, str(training.kernel or ""), str(training.shots)]
    return "-".join(word for word in words if word)


def _telling(frames: Iterator[Frame], listener: Listener) -> Iterator[Frame]:
    for frame in frames:
        listener.on_wait(f"looking for shots: frame {frame.index}", None)
        yield frame


def _shots_without_model(need: Need) -> Iterator[Shot]:
    from vsr.train.shot import check_prior

    models = _loaded(need, load_shot_model, shot_model_files(need.bank))
    for model in models:
        check_prior(model, need.recipe.prior)
    choice = need.recipe.prior_choice
    # Models of another quality's networks are too small for this one, or too slow.
    others = set() if choice == "none" else names_of_other_priors(choice)
    cards = [
        model.card
        for model in models
        if model.card.prior not in others
        or model.card.prior == load_prior_for(choice, model.card.degradation).name
    ]
    for shot in need.shots:
        if not any(is_of_shot(card, need.info.identity, shot.start_seconds) for card in cards):
            yield shot


def _with_lacking_models(need: Need, training: KeyframeTraining) -> Need:
    """Count the models that the keyframes lack which a training would choose."""
    chosen = choose_shots(need.shots, training.shots)
    # As many as one training makes, of the kind that it makes.
    method = METHODS[training.method]
    wanted = training.count or method.count
    system = need.policy_name if need.policy_name in SYSTEMS else method.arch.partition("-")[0]
    cards = _loaded(need, load_card, bank_files(need.bank))
    own = [card for card in cards if card.clip_identity == need.info.identity]
    lacking, count = [], 0
    for shot in chosen:
        of_shot = [card for card in own if card.keyframe == shot.keyframe]
        have = sum(card.system == system and not card.is_student for card in of_shot)
        has_student = any(card.is_student for card in of_shot)
        missing = max(0, wanted - have) + (need.policy_name == STUDENT and not has_student)
        if missing:
            lacking.append(shot)
            count += missing
    return replace(need, lacking=tuple(lacking), models_lacking=count)


def _loaded(need: Need, load: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    """Load files of a bank; in the cache a damaged one counts as lacking, and is replaced."""
    loaded = []
    for path in files:
        try:
            loaded.append(load(path))
        except ModelError:
            if not need.is_cached:
                raise
    return loaded
