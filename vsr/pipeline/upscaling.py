"""The middle of a run: frames of the clip go in, each comes out again beside its enlargement."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import torch

from vsr.checkpoints import Model
from vsr.flicker import FlickerControl, Pair, ShotSteadiness
from vsr.flicker.control import AUTO_STRENGTH
from vsr.frames import Frame
from vsr.manifest import StageClock
from vsr.policies import MODEL_FREE, POLICIES, SELF_STEADY, Decision, Policy, PolicyContext
from vsr.policies.agreement import agreement_for_noise, noise_level
from vsr.policies.protocol import ShotModelSource, no_shot_models
from vsr.reader import ClipReader
from vsr.recipe import Recipe
from vsr.shots import ShotFrames, split_shots

PairOfShot = tuple[int, Frame, Frame]
"""Number of the shot, frame, enlargement."""


class Stages:
    """Frames -> shots -> a policy -> flicker control."""

    def __init__(
        self,
        recipe: Recipe,
        frames: Callable[[], Iterator[Frame]],
        policy: Policy,
        device: torch.device,
        say: Callable[[str], None],
    ) -> None:
        self.shot_starts: list[int] = []
        """Number of the first frame of each shot."""
        self.decisions: list[Decision] = []
        self.frames_in = 0
        self.frames_out = 0
        self._frames, self._policy, self._shots = frames, policy, recipe.shots
        self._device, self._say = device, say
        self._waiting: deque[Frame] = deque()
        self._control = flicker_control(recipe, say)

    @property
    def steadiness(self) -> list[ShotSteadiness]:
        """What flicker control did with each shot."""
        return [] if self._control is None else self._control.record

    def pairs(self, clock: StageClock) -> Iterator[Pair]:
        """(frame, the same frame enlarged), in order."""
        shots = split_shots(clock.through("read", self._frames()), self._shots)
        enlarged = clock.through("upscale", self._enlarged(shots))
        for low, large in clock.through("steady", self._steadied(enlarged)):
            self.frames_out += 1
            yield low, large
        assert not self._waiting, "a policy must keep every frame"

    def _enlarged(self, shots: Iterable[ShotFrames]) -> Iterator[PairOfShot]:
        for shot in shots:
            self.shot_starts.append(shot.first_frame)
            for large in self._policy(self._remembered(shot.frames)):
                low = self._waiting.popleft()
                assert low.pts == large.pts, "a policy must keep every frame and its time"
                yield shot.index, low, large

    def _remembered(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames on the run's device; each waits until its enlargement comes."""
        for frame in frames:
            moved = replace(frame, pixels=frame.pixels.to(self._device))
            self.frames_in += 1
            self._waiting.append(moved)
            yield moved

    def _steadied(self, enlarged: Iterable[PairOfShot]) -> Iterator[Pair]:
        for _, shot in groupby(enlarged, key=itemgetter(0)):
            pairs = ((low, large) for _, low, large in shot)
            yield from pairs if self._control is None else self._control.steady(pairs)


class Upscaling(Stages):
    """The stages with a policy over a bank. Lists of what was decided grow while `pairs` is run through."""

    def __init__(
        self,
        recipe: Recipe,
        bank: Sequence[Model],
        device: torch.device,
        reader: ClipReader,
        say: Callable[[str], None],
        shot_models: ShotModelSource = no_shot_models,
    ) -> None:
        identity = reader.info.identity
        context = PolicyContext(bank, recipe.scale, device, identity, recipe.policies, self._decide, shot_models)
        super().__init__(recipe, reader.frames, POLICIES[resolve_policy(recipe)](context), device, say)

    def _decide(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self._say(decision_words(decision))


def resolve_policy(recipe: Recipe) -> str:
    """The recipe's policy, else `smi`."""
    return recipe.policy or "smi"


def flicker_control(recipe: Recipe, say: Callable[[str], None]) -> FlickerControl | None:
    """As the recipe asks: where it says nothing, for policies that have models and do not fuse by themselves."""
    policy = resolve_policy(recipe)
    steady = recipe.steady
    if steady is None:
        steady = 0.0 if policy in MODEL_FREE else "auto"
    if steady == "auto":
        steady = 0.0 if policy in SELF_STEADY else AUTO_STRENGTH
    if steady == 0 and recipe.target_flicker is None:
        return None
    chosen = recipe.policies.agreement
    return FlickerControl(
        steady,
        recipe.target_flicker,
        lambda low: agreement_for_noise(noise_level(low)) if chosen is None else chosen,
        say,
    )


def decision_words(decision: Decision) -> str:
    """One line that explains a decision."""
    names = decision.models
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} models, {names[0]} to {names[-1]}"
    line = f"frame {decision.frame}: {shown} ({decision.reason}; back-projection {decision.agreement:.2f})"
    if decision.clearness is not None:
        ranking = ", ".join(f"{name} {score:.4f}" for name, score in decision.ranking[:3])
        line += f"; ranking {ranking}: the second is {100 * decision.clearness:.0f} % worse than the first"
    return line
