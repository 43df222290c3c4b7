"""Any frame can be the last of a segment: each stage goes on behind it as if it had never been
ended."""

from collections import deque
from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.clips import moving_pictures
from tests.models import make_model, make_shot_model, picture
from tests.steps import frame_of
from vsr.pipeline.live_metrics import LIVE_METRICS, LiveMetrics
from vsr.restore.color_restoration import ColorRestoration
from vsr.temporal.deflicker import FlickerControl
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.video.step import Checkpoint, Degradation, ShotRef, State, Step, run_stage, split_done
from vsr.video.write.segment_store import FORMAT, REQUESTED, SegmentStore

CPU = torch.device("cpu")
CUT = 8
"""First frame of the second shot."""
FRAMES = 20


class LookingAhead:
    """A stage whose picture is the mean over its frame, two frames to come, and its own picture
    before, and grows with the frames that it has made."""

    name = "ahead"
    rewind = 1

    def __init__(self):
        self._count = 0

    def through(self, steps):
        done, rest = split_done(steps)
        yield from done
        before = done[-1].picture if done else torch.zeros(3, 24, 32)
        held = deque(islice(rest, 2))
        while held:
            held.extend(islice(rest, 1))
            self._count += 1
            seen = sum(step.frame.pixels for step in held)
            before = (before + seen + 0.01 * self._count) / (1 + len(held))
            yield replace(held.popleft(), picture=before)

    def state(self):
        return State({"count": self._count})

    def restore(self, state):
        self._count = state.record["count"]


def frames():
    first, second = (moving_pictures(FRAMES, 24, 32, seed=seed) for seed in (1, 2))
    pictures = [*first[:CUT], *(255 - one for one in second[CUT:])]
    return [torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in pictures]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    return [make_model(folder, f"m{seed}", picture(24, 32), seed) for seed in range(2)]


def policy_of(name, **options):
    def make(bank):
        context = PolicyContext(
            bank, 2.5, CPU, "", PolicyOptions(**options), shot_models=lambda _: [make_shot_model()]
        )
        return [POLICIES[name].make(context)]

    return make


def with_control(policy, *control):
    return lambda bank: [*policy(bank), FlickerControl(*control)]


def with_metrics(stages, names, is_sample):
    def make(bank):
        metrics = LiveMetrics(names, None, lambda _: None, is_sample=is_sample)
        return [*stages(bank), metrics]

    return make


SMI = policy_of("smi")
STAGES = {
    "a stage that looks ahead": lambda _: [LookingAhead()],
    "bicubic": policy_of("bicubic"),
    "smi": SMI,
    "avgi": policy_of("avgi"),
    "dsrfi, switching": policy_of("dsrfi", per_frame=True, hysteresis=0.0),
    "shot": policy_of("shot"),
    "shot, fast": policy_of("shot", quality="fast"),
    "shot, best": policy_of("shot", quality="best"),
    "smi, steady": with_control(SMI, 0.9),
    "smi, by target": with_control(SMI, 0.0, 1.1),
    "shot, steady": with_control(policy_of("shot"), 0.5),
    "color, shot": lambda bank: [ColorRestoration(1.0, CPU), *policy_of("shot")(bank)],
    "smi, steady, measured": with_metrics(with_control(SMI, 0.9), LIVE_METRICS, True),
    "smi, steady, all measured": with_metrics(with_control(SMI, 0.9), ("lr_psnr",), False),
}


def run_stages(stages, first_wanted=0, frames_done=0, last=None):
    """All steps of the clip, each with a checkpoint, from `first_wanted` on."""
    # The second was coded, which only the restoration of colors looks at.
    shots = ShotRef(0, 0), ShotRef(1, CUT, degradation=Degradation(qp=33.0))

    def read():
        for index, pixels in enumerate(frames()):
            step = Step(frame_of(pixels, index), shots[index >= CUT])
            if index >= frames_done:
                yield replace(step, checkpoint=Checkpoint())
            elif index >= max(0, first_wanted):
                picture = last if index == frames_done - 1 else None
                yield replace(step, picture=picture, is_done=True)

    steps = read()
    for stage in stages:
        steps = run_stage(stage, steps)
    return [step for step in steps if not step.is_done]


@pytest.fixture
def store(tmp_path):
    with SegmentStore(tmp_path / "work", {REQUESTED: {}, "format": FORMAT}) as store:
        yield store


def close(store, step):
    """Close a segment of one frame, as the writer does."""
    times = ((step.frame.pts, None, 0),)
    store.close_segment(1, 0, times, step.picture, step.checkpoint)
    return store.resumed()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_goes_on_behind_any_frame_as_if_it_had_not_been_ended(name, bank, store):
    stages = STAGES[name](bank)
    whole = run_stages(stages)
    assert [step.frame.index for step in whole] == list(range(FRAMES))
    for frame in range(FRAMES - 1):
        earlier = close(store, whole[frame])
        if frame % 4 and not name.startswith("a stage"):
            continue
        resumed = STAGES[name](bank)
        for stage in resumed:
            stage.restore(earlier.states[stage.name])
        rewind = max(stage.rewind for stage in resumed)
        rest = run_stages(resumed, frame + 1 - rewind, frame + 1, earlier.picture)
        assert [step.frame.index for step in rest] == list(range(frame + 1, FRAMES))
        for one, other in zip(rest, whole[frame + 1 :], strict=True):
            assert torch.equal(one.picture, other.picture), (frame, one.frame.index)
        for one, other in zip(resumed, stages, strict=True):
            assert one.state().log == other.state().log


def test_a_stage_that_looks_ahead_hangs_the_state_of_the_step_that_leaves_it(bank):
    whole = run_stages(STAGES["a stage that looks ahead"](bank))
    counts = [step.checkpoint.states["ahead"].record["count"] for step in whole]
    assert counts == list(range(1, FRAMES + 1))


def test_a_long_shot_is_gone_on_with_from_a_few_frames_before(bank, store):
    for step in run_stages(STAGES["shot"](bank)):
        earlier = close(store, step)
    (resumed,) = STAGES["shot"](bank)
    resumed.restore(earlier.states["upscale"])
    assert resumed.rewind <= 4
