"""Flicker control: the stage that keeps the enlarged frames of a shot steady along its motion."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby, islice

from vsr.image.noise import back_projection_weight_for_noise, noise_level
from vsr.records import from_table, to_table
from vsr.restore.data_term import DataTerm
from vsr.temporal.fusion import Enlarged, FusionOptions, fuse_shot
from vsr.temporal.strength_search import PROBE_FRAMES, search_strength
from vsr.video.step import FULL_TRUST, State, Steadying, Step, split_done

MAX_MEMORY = 0.99
"""Share of the frame before at full strength; a share of 1 would keep a shot's first frame for
ever."""
AUTO_STRENGTH = 0.99
"""A memory of 0.98. Less loses steadiness, detail and fidelity at once; more takes longer to forget
what was wrong."""
FLICKER_SAMPLE_INTERVAL = 8
"""Flicker is measured on a sample, since the motion between two frames takes most of the time in
which one model makes one: the first frame, the second, and every so many after that."""


def is_sampled(frame: int) -> bool:
    """True for the frames of the clip that a run measures, together with the frame before each."""
    return frame == 0 or frame % FLICKER_SAMPLE_INTERVAL == 1


def fusion_options(strength: float) -> FusionOptions:
    """The fusion that a strength of 0 to 1 stands for."""
    return FusionOptions(memory=MAX_MEMORY * strength, future_weight=strength)


class FlickerControl:
    """Fuses each picture with its motion-compensated neighbors, shot by shot. Implements Stage.

    To resume inside a shot it needs the choices for that shot, which are its state, and the last
    fused picture, which the last finished step carries.
    """

    name = "steady"
    rewind = 1

    def __init__(
        self,
        strength: float,
        target: float | None = None,
        back_projection_weight: float | None = None,
        notify: Callable[[str], None] = lambda _: None,
        *,
        only_degraded: bool = False,
    ) -> None:
        """With a `target` the strength is searched for each shot on its first frames.

        A `back_projection_weight` of None follows what is known of each shot: how far its input is
        trusted, else the noise of its first frame. With `only_degraded`, shots whose input is
        trusted in full are left alone.
        """
        self.strength = strength
        self._target = target
        self._back_projection_weight = back_projection_weight
        self._notify = notify
        self._only_degraded = only_degraded
        self.shots: list[Steadying] = []
        """The choices for each shot so far."""

    @property
    def is_on(self) -> bool:
        """False where it leaves all pictures alone."""
        return self.strength > 0 or self._target is not None

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Steady the steps of a clip."""
        if not self.is_on:
            yield from steps
            return
        for _, shot in groupby(steps, key=lambda step: step.shot.index):
            done, rest = split_done(shot)
            yield from done
            if (first := next(rest, None)) is not None:
                yield from self._steady(done, chain([first], rest))

    def state(self) -> State:
        """The choices for all shots up to that of the last step."""
        return State(log={"shots": [to_table(shot) for shot in self.shots]})

    def restore(self, state: State) -> None:
        """Take over the choices of an earlier run."""
        self.shots = [from_table(Steadying, shot) for shot in state.log["shots"]]

    def _steady(self, done: list[Step], steps: Iterator[Step]) -> Iterator[Step]:
        """Steady the steps of one shot, from its first frame or on from the last that is done."""
        # In the middle of a shot the choices stand, and are the last ones.
        if not done:
            probe = list(islice(steps, 1 if self._target is None else PROBE_FRAMES))
            self.shots.append(self._choose(probe))
            steps = chain(probe, steps)
        steadying = self.shots[-1]
        marked = (replace(step, shot=replace(step.shot, steadying=steadying)) for step in steps)
        return marked if steadying.strength == 0 else _fused(done[-1:], marked, steadying)

    def _choose(self, probe: list[Step]) -> Steadying:
        """Choose how a shot that begins with `probe` is steadied."""
        first = probe[0]
        weight, trust = self._back_projection_weight, FULL_TRUST
        if weight is None and not first.shot.trust.is_full:
            weight, trust = 1.0, first.shot.trust
        elif weight is None:
            weight = back_projection_weight_for_noise(noise_level(first.frame.pixels))
        strength = self.strength
        if self._only_degraded and first.shot.trust.is_full:
            strength = 0.0
        if self._target is not None:
            kernel = first.shot.kernel
            pictures = [Enlarged(one.low, one.picture, None) for one in map(_enlarged, probe)]
            found = search_strength(
                pictures,
                self._target,
                DataTerm(weight, trust),
                fusion_options,
                AUTO_STRENGTH,
                kernel,
            )
            strength = found.value
            if not found.reaches_target:
                self._notify(
                    f"shot from frame {first.frame.index}: full flicker control does not reach "
                    f"the target of {self._target:g} times the source's own flicker"
                )
        return Steadying(
            first.shot.first_frame, strength, weight, self._target, first.shot.kernel, trust
        )


def _fused(done: list[Step], steps: Iterable[Step], steadying: Steadying) -> Iterator[Step]:
    """Fuse the steps of a shot, after at most one that is done and comes out no more."""
    known = None
    if done:
        assert done[0].picture is not None, "the last frame of a resumed run comes with its picture"
        known = (0, done[0].picture)
    fused = fuse_shot(
        map(_enlarged, chain(done, steps)),
        fusion_options(steadying.strength),
        DataTerm(steadying.back_projection_weight, steadying.trust),
        done=known,
        kernel=steadying.kernel,
    )
    for one in islice(fused, len(done), None):
        index = one.owner.frame.index
        # The picture before is kept only where it will be measured: it is as large as the result.
        is_measured = is_sampled(index) or is_sampled(index + 1)
        before = one.owner.picture if is_measured else None
        yield replace(one.owner, picture=one.picture, upscaled=before)


def _enlarged(step: Step) -> Enlarged[Step]:
    assert step.picture is not None, "flicker control comes after the upscaler"
    return Enlarged(step.frame.pixels, step.picture, step)
