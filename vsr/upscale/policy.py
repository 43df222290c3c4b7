"""What a policy is, what it is given, and what it says of its choices."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

import torch

from vsr.engine.generator import FastGenerator, StepOptions
from vsr.engine.graphs import Autotuner
from vsr.engine.options import EngineOptions
from vsr.engine.progressive import progressive_upscale
from vsr.errors import ModelError, UsageError
from vsr.image.blur import none_if_bicubic
from vsr.image.noise import back_projection_weight_for_noise, noise_level
from vsr.models.bank import Model, select_system
from vsr.models.shot_model import ShotModel
from vsr.upscale.fitness import restoration_error
from vsr.video.frames import Frame

Policy = Callable[[Iterable[Frame]], Iterator[Frame]]
"""The frames of one shot -> the same frames, enlarged: same number, same times."""


ShotModelSource = Callable[[Frame], Sequence[ShotModel]]
"""The first frame of a shot -> the models that it may choose among; may wait for one to be
trained."""


def no_shot_models(_: Frame) -> Sequence[ShotModel]:
    """Of a bank without any."""
    return ()


@dataclass(frozen=True)
class PolicyOptions:
    """What a user may choose about policies; each policy reads its own."""

    model: str | None = None
    """`smi`: name of the model to use."""
    order: tuple[str, ...] = ()
    """`ami`: names of the models in the order in which they take turns."""
    alternating: int = 2
    """`ami`: how many models take turns where `order` names none."""
    members: int | None = None
    """`avgi`: how many models are averaged; all of the keyframe's where not given."""
    per_frame: bool = False
    """`dsrfi`, `selfrec`: choose for every frame, not once a shot."""
    hysteresis: float = 0.2
    """Share by which another model must be better before a choice per frame switches to it."""
    back_projection_weight: float | None = None
    """Weight of the back-projection onto the input, 0 to 1; where not given it follows the input's
    noise."""
    projections: int = 1
    """Rounds of that back-projection after each step; ZSSR takes 10 where the input is clean."""
    self_ensemble: bool = False
    """Median over the eight flips and quarter turns of a frame, as ZSSR has it: eight times the
    work."""
    quality: Literal["fast", "balanced", "best"] = "balanced"
    """`shot`: what is spent on a frame."""

    def __post_init__(self) -> None:
        limits = {
            "alternating": (self.alternating, 2, inf),
            "members": (self.members, 2, inf),
            "hysteresis": (self.hysteresis, 0, inf),
            "projections": (self.projections, 1, inf),
            "back_projection_weight": (self.back_projection_weight, 0, 1),
        }
        for name, (value, minimum, maximum) in limits.items():
            if value is not None and not minimum <= value <= maximum:
                to = "or more" if maximum == inf else f"to {maximum:g}"
                raise UsageError(f"policies.{name} is {value:g}; expected {minimum:g} {to}.")


@dataclass(frozen=True)
class Decision:
    """What a policy chose at a frame, and why."""

    frame: int
    models: tuple[str, ...]
    reason: str
    back_projection_weight: float
    noise: float
    """Estimated standard deviation of the input's noise, in grey levels."""
    ranking: tuple[tuple[str, float], ...] = ()
    """Model and score, best first, where models were ranked; lower is better."""

    @property
    def margin(self) -> float | None:
        """How much worse the second model's score is than the first's, as a share of it; None
        without a ranking."""
        if len(self.ranking) < 2:
            return None
        best, second = self.ranking[0][1], self.ranking[1][1]
        return (second - best) / max(best, 1e-12)


@dataclass(frozen=True)
class MiddleOfShot:
    """What a policy that looks back needs to go on behind frame `last`, in another process."""

    last: int
    lead: int
    """So many frames before it are wanted again."""
    pictures: tuple[torch.Tensor, ...]
    """The policy's own, on the CPU."""


@dataclass(frozen=True)
class ShotMemory:
    """Where a policy that looks back leaves what it needs to go on at certain frames, and finds
    what was left."""

    is_wanted: Callable[[int], bool]
    """Whether a run might have to go on behind this frame."""
    left: Callable[[MiddleOfShot], None]
    found: MiddleOfShot | None
    """Where this run begins: its shot's stream has the frames to choose by, then those from `lead`
    before `last` on."""


@dataclass(frozen=True)
class PolicyContext:
    """What a policy works with."""

    bank: Sequence[Model]
    scale: float
    device: torch.device
    clip_identity: str
    options: PolicyOptions
    on_decision: Callable[[Decision], None]
    """Told of every choice; the run prints and records it."""
    shot_models: ShotModelSource = no_shot_models
    """For policy `shot`, which alone uses them."""
    engine: EngineOptions = EngineOptions()
    use_students: bool = False
    """Work with the bank's students, not with the models that taught them."""
    system: str | None = None
    """Work with the bank's models of this system; None: with those of the first that it has."""
    memory: ShotMemory | None = None
    """For policies that look back."""
    autotuner: Autotuner = field(default_factory=Autotuner)
    """What suits the device for the shot at hand."""
    _generators: dict[str, FastGenerator] = field(default_factory=dict)

    @property
    def models(self) -> list[Model]:
        """Those of the bank that count here: a student is no further member of the models that
        taught it."""
        models = [model for model in self.bank if model.card.is_student == self.use_students]
        return select_system(models, self.system)

    def keyframe_groups(self) -> list[list[Model]]:
        """The bank's models, one list for each picture that models were trained on, each by
        name."""
        by_keyframe = sorted(self.models, key=lambda model: (model.card.keyframe_hash, model.name))
        groups = itertools.groupby(by_keyframe, key=lambda model: model.card.keyframe_hash)
        return sorted((list(group) for _, group in groups), key=lambda group: group[0].name)

    def require_models(self, count: int, policy: str) -> None:
        """Raise `ModelError` unless every keyframe of the bank has `count` models."""
        if not self.models:
            raise ModelError(
                f"policy {policy} needs a bank with models, and this one is empty. Run vsr "
                "train-keyframe."
            )
        fewest = min(self.keyframe_groups(), key=len)
        if len(fewest) < count:
            raise ModelError(
                f"policy {policy} needs {count} models of a keyframe; the bank has {len(fewest)} "
                f"of the keyframe of {fewest[0].name}. Train more with vsr train-keyframe --count "
                f"{count}."
            )

    def get_model(self, name: str) -> Model:
        """The model of that name, or `ModelError` with the names that exist."""
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise ModelError(f"the bank has no model {name}; it has {known}.")

    def own_models(self, first: Frame) -> tuple[list[Model], str]:
        """The models of the shot that begins with `first`, and why these.

        Those trained on a keyframe of this very shot, else those whose keyframe's first model best
        restores `first`.
        """
        groups = self.keyframe_groups()
        for group in groups:
            card = group[0].card
            same_clip = card.clip_identity == self.clip_identity != ""
            if same_clip and card.shot_start_seconds <= first.seconds < card.shot_end_seconds:
                return group, "trained on this shot"
        if len(groups) == 1:
            return groups[0], "the bank's only keyframe"
        errors = [restoration_error(self.generator_for(group[0]), first.pixels) for group in groups]
        return groups[
            errors.index(min(errors))
        ], "its keyframe's models best restore this shot's first frame"

    def generator_for(self, model: Model) -> FastGenerator:
        """The model's generator, made fast, once."""
        if model.name not in self._generators:
            if self.options.self_ensemble and none_if_bicubic(model.card.kernel) is not None:
                raise UsageError(
                    f"policies.self_ensemble turns the picture, and {model.name} was trained for a "
                    "blur that would not be turned with it. Leave it out."
                )
            step_options = StepOptions(
                self.options.self_ensemble,
                self.options.projections,
                none_if_bicubic(model.card.kernel),
            )
            ratio = model.card.step_ratio
            self._generators[model.name] = FastGenerator(
                model.name, model.generator, ratio, self.device, step_options, self.engine
            )
        return self._generators[model.name]

    def back_projection_weight(self, first: Frame) -> tuple[float, float]:
        """Weight of the back-projection for a shot that begins with `first`, and the noise that it
        follows."""
        noise = noise_level(first.pixels)
        chosen = self.options.back_projection_weight
        return (back_projection_weight_for_noise(noise) if chosen is None else chosen), noise

    def alternate(
        self, frames: Iterable[Frame], models: Sequence[Model], reason: str
    ) -> Iterator[Frame]:
        """Enlarge a shot with models that take turns over the steps (one model: SMI, several:
        AMI)."""
        first, frames = peek(frames)
        back_projection_weight, noise = self.back_projection_weight(first)
        generators = [self.generator_for(model) for model in models]
        names = tuple(model.name for model in models)
        upscale, note = self.autotuner.find(
            {
                "": lambda pixels: progressive_upscale(
                    pixels, generators, self.scale, back_projection_weight
                )
            },
            first.pixels,
            (names, back_projection_weight),
        )
        self.on_decision(
            Decision(first.index, names, with_note(reason, note), back_projection_weight, noise)
        )
        return per_frame(upscale)(frames)


def with_note(reason: str, remark: str) -> str:
    """Why a policy chose what it did, and how that is run, where there is something to tell."""
    return f"{reason}; {remark}" if remark else reason


def per_frame(upscale: Callable[[torch.Tensor], torch.Tensor]) -> Policy:
    """A policy that looks at one frame at a time: (3, h, w) -> (3, H, W)."""

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield replace(frame, pixels=upscale(frame.pixels))

    return policy


def peek(frames: Iterable[Frame]) -> tuple[Frame, Iterator[Frame]]:
    """The first frame of a shot, and an iterator over all of it. A shot has at least one frame."""
    iterator = iter(frames)
    first = next(iterator)
    return first, itertools.chain([first], iterator)
