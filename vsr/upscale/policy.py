"""Policies: their context, their decisions, and their stages."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from zlib import crc32

import torch

from vsr.engine.generator import FastGenerator, StepOptions, progressive_upscale
from vsr.engine.graphs import Autotuner, Upscale
from vsr.engine.options import EngineOptions
from vsr.errors import ModelError, UsageError
from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.image.noise import back_projection_weight_for_noise, noise_level
from vsr.models.bank import BASELINE, Model, ModelCard, is_of_shot, select_system
from vsr.models.shot_model import Quality, ShotModel
from vsr.records import from_table, option, to_table
from vsr.restore.data_term import DataTerm
from vsr.upscale.fitness import restoration_error
from vsr.video.frames import Frame
from vsr.video.step import FULL_TRUST, ShotRef, State, Step, Trust, split_done

SINGAN = "singan"
SINGAN_SYSTEMS = (SINGAN, BASELINE)
ZSSR_PROJECTIONS, KERNELGAN_PROJECTIONS = 10, 2
"""Rounds of back-projection of ZSSR on clean input, and of ZSSR behind KernelGAN."""
ShotModelSource = Callable[[Step], Sequence[ShotModel]]
"""The first step of a shot -> the models that it may choose among; may wait for one to be
trained."""
Needs = Literal["bank", "shot models", "file", "nothing"]


def no_shot_models(_: Step) -> Sequence[ShotModel]:
    """Offer none, as a bank without shot models does."""
    return ()


@dataclass(frozen=True)
class ModelSet:
    """The models that policies choose among."""

    bank: Sequence[Model] = ()
    shot_models: ShotModelSource = no_shot_models


@dataclass(frozen=True)
class PolicyOptions:
    """Options of policies; each policy reads its own."""

    model: str | None = option(None, "`smi`: name of the model to use.")
    order: tuple[str, ...] = option((), "`ami`: names of the models in the order of their turns.")
    alternating: int = option(
        2, "`ami`: number of models that take turns where `order` names none.", at_least=2
    )
    members: int | None = option(
        None, "`avgi`: number of models averaged; default: all of the keyframe's.", at_least=2
    )
    per_frame: bool = option(
        False, "`dsrfi`, `selfrec`: choose a model at every frame instead of once a shot."
    )
    hysteresis: float = option(
        0.2,
        "`per_frame`: share by which another model must be better to be switched to.",
        at_least=0,
    )
    back_projection_weight: float | None = option(
        None,
        "Weight of the back-projection onto the input; default: by the input's noise.",
        at_least=0,
        at_most=1,
        formerly="agreement",
    )
    projections: int = option(
        1,
        "Rounds of back-projection after each step; ZSSR takes 10 where the input is clean.",
        at_least=1,
    )
    self_ensemble: bool = option(
        False,
        "Median over the eight flips and quarter turns of a frame, as in ZSSR; takes 8 x the time.",
    )
    as_published: bool = option(
        False,
        "As the policy's source has it: SinGAN's without back-projection, restoration and flicker "
        "control, and with noise; ZSSR's with its rounds and its self-ensemble.",
        "--as-published",
        commands=("run",),
    )
    limit_overshoot: bool = option(
        True, "Keep results beside strong edges within what the input shows there."
    )
    quality: Quality = option(
        "balanced", "Policy shot: time spent on a frame.", "--quality", commands=("run",)
    )


@dataclass(frozen=True)
class Decision:
    """A policy's choice at a frame, and the reason."""

    frame: int
    models: tuple[str, ...]
    reason: str
    back_projection_weight: float
    noise: float
    """Estimated standard deviation of the input's noise, in grey levels."""
    ranking: tuple[tuple[str, float], ...] = ()
    """Model and score, best first, where models were ranked; lower is better."""
    trust: Trust = FULL_TRUST
    """Trust of the back-projection in the input."""

    @property
    def data_term(self) -> DataTerm:
        """Data term that results are pulled towards the input by."""
        return DataTerm(self.back_projection_weight, self.trust)

    @property
    def margin(self) -> float | None:
        """Distance of the second model's score from the first's, as a share of it; None without a
        ranking."""
        if len(self.ranking) < 2:
            return None
        best, second = self.ranking[0][1], self.ranking[1][1]
        # A misfit of 0 is possible: the very keyframe.
        return (second - best) / max(best, 1e-12)

    def summary(self) -> str:
        """Explain the decision in one line."""
        names = self.models
        shown = ", ".join(names)
        if len(names) > 3:
            shown = f"{len(names)} models, {names[0]} to {names[-1]}"
        line = (
            f"frame {self.frame}: {shown} ({self.reason}; back-projection "
            f"{self.back_projection_weight:.2f}"
        )
        if not self.trust.is_full:
            line += f", ignoring errors below {self.trust.luma_threshold:.1f} levels"
        line += ")"
        if self.margin is not None:
            ranking = ", ".join(f"{name} {score:.4f}" for name, score in self.ranking[:3])
            worse = 100 * self.margin
            line += f"; ranking {ranking}: the second is {worse:.0f} % worse than the first"
        return line


@dataclass(frozen=True)
class PolicyContext:
    """All that a policy works with."""

    bank: Sequence[Model]
    scale: float
    device: torch.device
    clip_identity: str
    options: PolicyOptions
    notify: Callable[[str], None] = lambda _: None
    """Takes one line for the user about every decision."""
    shot_models: ShotModelSource = no_shot_models
    """For policy `shot`, which alone uses them."""
    engine: EngineOptions = EngineOptions()
    use_students: bool = False
    """Work with the bank's students, not with the models that taught them."""
    system: str | None = None
    """Work with the bank's models of this system; None: with those of the first that it has."""
    network: Path | None = None
    """File of the network that `--upscaler` names."""
    sample: int = 0
    """Number of the noise that a stochastic network draws."""
    autotuner: Autotuner = field(default_factory=Autotuner)
    """Finds the fastest way for the shot at hand, on a GPU."""
    _generators: dict[str, FastGenerator] = field(default_factory=dict)
    _frame: list[int] = field(default_factory=lambda: [0])
    """Number of the frame at work, by which noise differs from frame to frame."""

    @property
    def models(self) -> list[Model]:
        """Models of the bank that this policy may use: students or their teachers, never both."""
        models = [model for model in self.bank if model.card.is_student == self.use_students]
        return select_system(models, self.system)

    def keyframe_groups(self) -> list[list[Model]]:
        """The bank's models, one list for each picture that models were trained on, each by
        name."""
        # Sorted, since `groupby` only joins what stands side by side.
        by_keyframe = sorted(self.models, key=lambda model: (model.card.keyframe_hash, model.name))
        groups = itertools.groupby(by_keyframe, key=lambda model: model.card.keyframe_hash)
        return sorted((list(group) for _, group in groups), key=lambda group: group[0].name)

    def require_models(self, count: int, policy: str) -> None:
        """Raise `ModelError` unless every keyframe of the bank has `count` models."""
        if not self.models:
            raise ModelError(
                f"policy {policy} needs a bank with models, and this one is empty. Train some with "
                "vsr train-keyframe."
            )
        # Each shot takes the models of one keyframe, so the poorest of them decides.
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
            if is_of_shot(group[0].card, self.clip_identity, first.seconds):
                return group, "trained on this shot"
        if len(groups) == 1:
            return groups[0], "the bank's only keyframe"
        errors = [restoration_error(self.generator_for(group[0]), first.pixels) for group in groups]
        return groups[
            errors.index(min(errors))
        ], "its keyframe's models best restore this shot's first frame"

    def generator_for(self, model: Model) -> FastGenerator:
        """The model's generator, made fast, once."""
        # Made once: a model may serve many shots.
        if model.name not in self._generators:
            kernel = none_if_bicubic(model.card.kernel)
            if self.options.self_ensemble and kernel is not None:
                raise UsageError(
                    f"policies.self_ensemble does not work with {model.name}, which was trained "
                    "with a blur kernel of one orientation. Leave the option out."
                )
            step_options = StepOptions(self.options.self_ensemble, self.options.projections, kernel)
            if self.options.as_published:
                step_options = _published_steps(model.card, kernel)
            ratio = model.card.step_ratio
            self._generators[model.name] = FastGenerator(
                model.name, model.generator, ratio, self.device, step_options, self.engine
            )
        return self._generators[model.name]

    def begin_frame(self, index: int) -> None:
        """Take note of the frame that is upscaled next."""
        self._frame[0] = index

    def draws(self, model: str) -> torch.Generator | None:
        """A source of the noise of a model at the frame at work, the same in every run; None where
        no noise is used."""
        if not self.options.as_published:
            return None
        # Python's own hash of a string differs from process to process.
        seed = crc32(f"{self.sample}/{self._frame[0]}/{model}".encode())
        return torch.Generator().manual_seed(seed)

    def kernel_of(self, decision: Decision) -> KernelTaps | None:
        """The blur kernel that the models of a decision were trained for; None: bicubic."""
        kernels = {model.name: model.card.kernel for model in self.bank}
        return none_if_bicubic(kernels.get(decision.models[0]))

    def decide(
        self,
        first: Frame,
        names: Sequence[str],
        reason: str,
        ranking: Sequence[tuple[str, float]] = (),
    ) -> Decision:
        """Decide for the models of these names in a shot that begins with `first`; the
        back-projection follows its noise unless the user chose a weight."""
        noise = noise_level(first.pixels)
        weight = self.options.back_projection_weight
        if weight is None:
            weight = back_projection_weight_for_noise(noise)
            if self.options.as_published:
                # SinGAN's has none; ZSSR and its kin trust the input wholly.
                systems = {model.name: model.card.system for model in self.models}
                weight = 0.0 if systems.get(names[0], SINGAN) in SINGAN_SYSTEMS else 1.0
        return Decision(first.index, tuple(names), reason, weight, noise, tuple(ranking))

    def trusting(self, decision: Decision, shot: ShotRef) -> Decision:
        """Set a decision's trust by the shot's degradation, unless the user chose a weight; clean
        shots stay as they are."""
        chosen = self.options.back_projection_weight is not None or self.options.as_published
        if shot.trust.is_full or chosen:
            return decision
        # What passes the thresholds is no error of the input, so it is followed in full.
        return replace(decision, back_projection_weight=1.0, trust=shot.trust)

    def alternate(self, decision: Decision, pixels: torch.Tensor) -> tuple[Upscale, str]:
        """Alternate the models of a decision over the steps (one model: SMI, several: AMI). Also
        returns a note on the fastest variant, which is measured on `pixels`."""
        generators = [self.generator_for(self.get_model(name)) for name in decision.models]
        weight, keep = decision.back_projection_weight, decision.data_term.keep

        def upscale(picture: torch.Tensor) -> torch.Tensor:
            random = self.draws(decision.models[0])
            return progressive_upscale(picture, generators, self.scale, weight, keep, random)

        if self.options.as_published:
            # Noise is drawn anew for every frame, which no recorded graph can do.
            return upscale, "as published"
        return self.autotuner.find({"": upscale}, pixels, (decision.models, weight, decision.trust))


class PolicyStage(ABC):
    """Stage of a policy: makes the picture of every step. Implements Stage.

    A policy that looks back or ahead overrides `state` and `restore` by more than its decisions.
    """

    name = "upscale"
    rewind = 0
    carries = True
    """Whether what is made of a frame depends on the frame before, of the same shot."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.decisions: list[Decision] = []
        self._notify = notify

    @abstractmethod
    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Give every step that is not done its picture."""

    def state(self) -> State:
        """The decisions up to the step that came out last."""
        return State(log={"decisions": [to_table(decision) for decision in self.decisions]})

    def restore(self, state: State) -> None:
        """Take over the decisions of an earlier run."""
        self.decisions = [from_table(Decision, each) for each in state.log["decisions"]]

    def record(self, decision: Decision) -> None:
        """Add a decision, and tell the user."""
        self.decisions.append(decision)
        self._notify(decision.summary())


class PlainPolicy(PolicyStage):
    """A function of the frame alone, with nothing to decide."""

    carries = False

    def __init__(self, context: PolicyContext, upscale: Upscale) -> None:
        super().__init__(context.notify)
        self._upscale = upscale

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Enlarge the steps of a clip."""
        for step in steps:
            if step.is_done:
                yield step
            else:
                yield replace(step, picture=self._upscale(step.frame.pixels))


class PerFramePolicy(PolicyStage):
    """A function of the frame alone, by a decision that is taken once a shot.

    `decide` is asked at the first frame of each shot, with None; if `every_frame`, at every other
    frame as well, with the decision in force, which it returns to keep it. `prepare` turns a
    decision into the function, with a note on how it is run; it may try that out on the pixels of
    the frame at hand.
    """

    def __init__(
        self,
        context: PolicyContext,
        decide: Callable[[Frame, Decision | None], Decision],
        prepare: Callable[[Decision, torch.Tensor], tuple[Upscale, str]],
        *,
        every_frame: bool = False,
    ) -> None:
        super().__init__(context.notify)
        self._context = context
        self._decide, self._prepare, self._every_frame = decide, prepare, every_frame
        # A choice at each frame weighs the one before.
        self.carries = every_frame

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Enlarge the steps of a clip, shot by shot."""
        for _, shot in itertools.groupby(steps, key=lambda step: step.shot.index):
            done, rest = split_done(shot)
            yield from done
            if (first := next(rest, None)) is not None:
                yield from self._through_shot(first.shot, itertools.chain([first], rest))

    def _through_shot(self, shot: ShotRef, steps: Iterator[Step]) -> Iterator[Step]:
        # A run that resumes inside a shot has its decision already.
        taken = [each for each in self.decisions[-1:] if each.frame >= shot.first_frame]
        decision = taken[0] if taken else None
        upscale: Upscale | None = None
        for step in steps:
            frame, before = step.frame, decision
            if decision is None or self._every_frame:
                decision = self._decide(frame, decision)
                if before is None:
                    decision = self._context.trusting(decision, step.shot)
            # Networks, and on a GPU their graph, are made ready only where the decision is new.
            if upscale is None or decision is not before:
                upscale, note = self._prepare(decision, frame.pixels)
                shot = replace(shot, kernel=self._context.kernel_of(decision))
                if decision is not before:
                    decision = replace(decision, reason=with_note(decision.reason, note))
                    self.record(decision)
            self._context.begin_frame(frame.index)
            yield replace(step, picture=upscale(frame.pixels), shot=shot)


@dataclass(frozen=True)
class Policy:
    """All that is to be known of a policy; `vsr.upscale.POLICIES` has one entry for each."""

    name: str
    make: Callable[[PolicyContext], PolicyStage]
    help: str
    """One line for the user."""
    needs: Needs = "bank"
    files: tuple[Path, ...] = ()
    """Files that it was made from, which a run that goes on must find unchanged."""
    deflickers: bool = False
    """True where it fuses along the motion itself, so that flicker control is off unless a
    strength is asked for."""


def _published_steps(card: ModelCard, kernel: KernelTaps | None) -> StepOptions:
    """Return what a model's own source does at each step."""
    if card.system in SINGAN_SYSTEMS:
        return StepOptions(noise=card.noise_amplitude)
    if card.system == "zssr":
        return StepOptions(self_ensemble=True, projections=ZSSR_PROJECTIONS)
    return StepOptions(projections=KERNELGAN_PROJECTIONS, kernel=kernel)


def with_note(reason: str, note: str) -> str:
    """Join the reason of a choice and a note on how it is run, where there is one."""
    return f"{reason}; {note}" if note else reason
