"""The middle of a run: frames of the clip go in, each comes out again beside its enlargement."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from pathlib import Path

import torch

from vsr.engine.options import choose_options
from vsr.image.blur import KernelTaps, none_if_bicubic
from vsr.image.noise import back_projection_weight_for_noise, noise_level
from vsr.models.bank import Model
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.pipeline.resume import Resumed, memory_of, rerun_of
from vsr.temporal import FlickerControl, Pair, ShotFlickerReport
from vsr.temporal.deflicker import AUTO_STRENGTH, no_kernel_at
from vsr.upscale import MODEL_FREE, POLICIES, SELF_STEADY, Decision, Policy, PolicyContext
from vsr.upscale.network_policy import UPSCALER, network_policy
from vsr.upscale.policy import MiddleOfShot, ShotMemory, ShotModelSource, no_shot_models
from vsr.video.frames import Frame
from vsr.video.reader import ClipReader
from vsr.video.shots import ShotFrames, split_shots
from vsr.video.write.segment_store import Json

PairOfShot = tuple[int, Frame, Frame]
"""Number of the shot, frame, enlargement."""
FRAME_QUEUE_DEPTH, PAIR_QUEUE_DEPTH = 4, 2
"""How many may wait for the next stage. More would take memory and gain nothing: one stage decides
the speed."""


class Stages:
    """Frames -> shots -> a policy -> flicker control."""

    def __init__(
        self,
        recipe: Recipe,
        frames: Callable[[], Iterator[Frame]],
        policy: Policy,
        device: torch.device,
        notify: Callable[[str], None],
        resumed: Resumed = Resumed(),
        kernel_at: Callable[[int], KernelTaps | None] = no_kernel_at,
    ) -> None:
        """With frames that are done already, the others come out as if those had been made as well.

        `kernel_at` tells flicker control the blur kernel that the shot from this frame on is
        enlarged for.
        """
        self.shot_starts: list[int] = []
        """Number of the first frame of each shot."""
        self.decisions: list[Decision] = []
        self.frames_in = 0
        self.frames_out = resumed.frames_done
        self.last_done: Frame | None = None
        """The last frame of the clip that was done already, once it is read."""
        self._frames, self._policy, self._shots = frames, policy, recipe.shots
        self._device, self._notify = device, notify
        self._waiting: deque[Frame] = deque()
        self._control = make_flicker_control(recipe, notify, kernel_at)
        self._resumed = resumed
        self._rerun = rerun_of(recipe, resumed)
        self.middles: dict[int, MiddleOfShot] = {}
        """What the policy left for a later run, by the last frame that it speaks of."""

    @property
    def steadiness(self) -> list[ShotFlickerReport]:
        """What flicker control did with each shot."""
        return [] if self._control is None else self._control.record

    def pairs(self, clock: StageClock) -> Generator[Pair, None, None]:
        """(frame, the same frame enlarged), in order. Close it to end its threads.

        Frames are read, enlarged and steadied side by side, a few ahead of what is done with these.
        """
        frames = clock.prefetch("read", self._read(), FRAME_QUEUE_DEPTH)
        enlarged = clock.prefetch("upscale", self._enlarged(frames), PAIR_QUEUE_DEPTH)
        with closing(
            clock.prefetch("steady", self._steadied(enlarged), PAIR_QUEUE_DEPTH)
        ) as steadied:
            for low, large in steadied:
                if large.index >= self._resumed.frames_done:
                    self.frames_out += 1
                    yield low, large
        assert not self._waiting, "a policy must keep every frame"

    def memory(self, frame: int, first: int, measured: Json) -> tuple[Json, Sequence[torch.Tensor]]:
        """What a later run must know to go on behind `frame`, but for what was told of the frames
        before `first`.

        Pictures that the policy wants then come apart from it.
        """
        if self._control is not None:
            self._control.discard_before(first)
        middle = self.middles.pop(frame, None)
        memory = memory_of(
            frame,
            [start for start in self.shot_starts if start >= first],
            [decision for decision in self.decisions if first <= decision.frame <= frame],
            [] if self._control is None else self._control.begun,
            measured,
            None if middle is None else middle.lead,
        )
        return memory, () if middle is None else middle.pictures

    def _read(self) -> Iterator[Frame]:
        for frame in self._frames():
            self.frames_in += 1
            if frame.index == self._resumed.frames_done - 1:
                self.last_done = replace(frame, pixels=frame.pixels.to(self._device))
            yield frame

    def _enlarged(self, frames: Generator[Frame, None, None]) -> Iterator[PairOfShot]:
        with closing(frames):
            for shot in split_shots(frames, self._shots):
                self.shot_starts.append(shot.first_frame)
                needed = self._needed(shot)
                first = next(needed, None)
                if first is None:
                    self._take_over(shot.first_frame)
                    continue
                for large in self._policy(self._remembered(chain([first], needed))):
                    low = self._waiting.popleft()
                    assert low.pts == large.pts, "a policy must keep every frame and its time"
                    yield shot.index, low, large

    def _needed(self, shot: ShotFrames) -> Iterator[Frame]:
        """The frames of a shot, but for those that are done and that no other depends on."""
        done = self._resumed.frames_done
        if self._resumed.is_shot_done(shot.first_frame):
            deque(shot.frames, maxlen=0)
        elif shot.first_frame >= done or self._rerun is None:
            yield from shot.frames
        else:
            # Among these the last that is done, which flicker control goes on from.
            held: list[Frame] = []
            for position, frame in enumerate(shot.frames):
                if frame.index >= done:
                    yield from chain(held, [frame], shot.frames)
                elif position < self._rerun.first or frame.index >= done - 1 - self._rerun.lead:
                    held.append(frame)

    def _take_over(self, first_frame: int) -> None:
        """What is known of a shot that is done."""
        following = min(
            (start for start in self._resumed.shot_starts if start > first_frame), default=None
        )
        for decision in self._resumed.decisions:
            if first_frame <= decision.frame and (following is None or decision.frame < following):
                self.decisions.append(decision)
        if self._control is not None and first_frame in self._resumed.progress:
            self._control.record.append(self._resumed.progress[first_frame].report())

    def _remembered(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames on the run's device; each waits until its enlargement comes."""
        for frame in frames:
            moved = replace(frame, pixels=frame.pixels.to(self._device))
            self._waiting.append(moved)
            yield moved

    def _steadied(self, enlarged: Generator[PairOfShot, None, None]) -> Iterator[Pair]:
        with closing(enlarged):
            for _, shot in groupby(enlarged, key=itemgetter(0)):
                pairs = ((low, large) for _, low, large in shot)
                yield from (
                    pairs if self._control is None else self._controlled(self._control, pairs)
                )

    def _controlled(self, control: FlickerControl, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """The pairs of one shot, steadied: from its first frame, or on from the last that is
        done."""
        first = next(pairs)
        last = self._resumed.frames_done - 1
        if self._rerun is None or first[0].index > last:
            return control.steady(chain([first], pairs))
        assert self._resumed.last_picture is not None
        progress = self._resumed.progress[first[0].index]
        rest = (pair for pair in chain([first], pairs) if pair[0].index >= last)
        return control.resume(rest, progress, self._resumed.last_picture.to(self._device))


class Upscaling(Stages):
    """The stages with a policy over a bank. Lists of what was decided grow while `pairs` is run
    through."""

    def __init__(
        self,
        recipe: Recipe,
        bank: Sequence[Model],
        device: torch.device,
        reader: ClipReader,
        notify: Callable[[str], None],
        shot_models: ShotModelSource = no_shot_models,
        resumed: Resumed = Resumed(),
        segment_frames: int | None = None,
    ) -> None:
        """With `segment_frames`, what a later run may go on from is left behind each so many
        frames."""
        identity = reader.info.identity
        engine = choose_options(recipe.dtype, recipe.tile, device)
        context = PolicyContext(
            bank,
            recipe.scale,
            device,
            identity,
            recipe.policies,
            self._decide,
            shot_models,
            engine,
            memory=None
            if segment_frames is None
            else self._shot_memory(recipe, resumed, segment_frames),
        )
        if recipe.upscaler:
            policy = network_policy(context, Path(recipe.upscaler), recipe.sample)
        else:
            policy = POLICIES[resolve_policy(recipe)](context)
        self._kernels = {model.name: none_if_bicubic(model.card.kernel) for model in bank}
        super().__init__(recipe, reader.frames, policy, device, notify, resumed, self._kernel_at)

    def _kernel_at(self, frame: int) -> KernelTaps | None:
        """The blur kernel of the models that a shot which begins with `frame` is enlarged with."""
        until_then = (decision for decision in self.decisions if decision.frame <= frame)
        chosen = max(until_then, key=attrgetter("frame"), default=None)
        return self._kernels.get(chosen.models[0]) if chosen is not None and chosen.models else None

    def _shot_memory(self, recipe: Recipe, resumed: Resumed, segment_frames: int) -> ShotMemory:
        def is_wanted(frame: int) -> bool:
            return frame >= resumed.frames_done and (frame + 1) % segment_frames == 0

        def keep(middle: MiddleOfShot) -> None:
            self.middles[middle.last] = middle

        return ShotMemory(
            is_wanted, keep, None if rerun_of(recipe, resumed) is None else resumed.middle
        )

    def _decide(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self._notify(decision_summary(decision))


def resolve_policy(recipe: Recipe) -> str:
    """The recipe's policy, else `smi`; a network from a file takes the place of either."""
    return UPSCALER if recipe.upscaler else recipe.policy or "smi"


def make_flicker_control(
    recipe: Recipe,
    notify: Callable[[str], None],
    kernel_at: Callable[[int], KernelTaps | None] = no_kernel_at,
) -> FlickerControl | None:
    """As the recipe asks: where it says nothing, for policies that have models and do not fuse by
    themselves."""
    policy = resolve_policy(recipe)
    steady = recipe.steady
    if steady is None:
        steady = 0.0 if policy in MODEL_FREE else "auto"
    if steady == "auto":
        steady = 0.0 if policy in SELF_STEADY else AUTO_STRENGTH
    if steady == 0 and recipe.target_flicker is None:
        return None
    chosen = recipe.policies.back_projection_weight
    return FlickerControl(
        steady,
        recipe.target_flicker,
        lambda low: (
            back_projection_weight_for_noise(noise_level(low)) if chosen is None else chosen
        ),
        notify,
        kernel_at,
    )


def decision_summary(decision: Decision) -> str:
    """One line that explains a decision."""
    names = decision.models
    shown = (
        ", ".join(names) if len(names) <= 3 else f"{len(names)} models, {names[0]} to {names[-1]}"
    )
    line = (
        f"frame {decision.frame}: {shown} ({decision.reason}; back-projection "
        f"{decision.back_projection_weight:.2f})"
    )
    if decision.margin is not None:
        ranking = ", ".join(f"{name} {score:.4f}" for name, score in decision.ranking[:3])
        line += (
            f"; ranking {ranking}: the second is {100 * decision.margin:.0f} % worse than the first"
        )
    return line
