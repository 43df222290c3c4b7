import itertools
import json
import threading
from time import sleep

import av
import pytest

from tests.clips import moving_pictures, write_clip
from tests.models import make_model, picture
from vsr.engine.prefetch import prefetch
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import StageClock, stage_utilization
from vsr.pipeline.run import run
from vsr.video.writer import EncodeOptions

SHORT_SECONDS = 0.02


def threads_now():
    return threading.active_count()


def test_items_come_in_order_and_all_of_them():
    assert list(prefetch(range(100), 3)) == list(range(100))
    assert list(prefetch([], 1)) == []


def test_no_more_is_made_in_advance_than_was_asked_for():
    made = []

    def items():
        for number in itertools.count():
            made.append(number)
            yield number

    source = prefetch(items(), 2)
    assert next(source) == 0
    sleep(10 * SHORT_SECONDS)
    # One taken, two waiting, one in the hands of the thread.
    assert made == [0, 1, 2, 3]
    source.close()


def test_an_error_comes_where_the_item_would_have_come_and_ends_the_thread():
    before = threads_now()

    def items():
        yield 1
        raise ValueError("broken")

    source = prefetch(items(), 2)
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)
    assert threads_now() == before


def test_leaving_early_closes_every_stage_of_a_chain_and_ends_its_threads():
    before, closed = threads_now(), []

    def stage(name, source):
        try:
            yield from source
        finally:
            closed.append(name)

    clock = StageClock()
    first = clock.prefetch("first", stage("first", itertools.count()), 2)
    second = clock.prefetch("second", stage("second", first), 2)
    assert next(second) == 0
    second.close()
    first.close()
    assert sorted(closed) == ["first", "second"]
    assert threads_now() == before


def test_an_error_of_the_first_stage_passes_through_all_others():
    def broken():
        yield 1
        raise OSError("disk")

    clock = StageClock()
    second = clock.prefetch("second", (item for item in clock.prefetch("first", broken(), 1)), 1)
    with pytest.raises(OSError, match="disk"):
        list(second)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_stage_is_charged_with_its_own_work_alone(side_by_side):
    def slow(items, seconds):
        for item in items:
            sleep(seconds)
            yield item

    clock = StageClock(traced=True)

    def stage(name, items):
        return clock.prefetch(name, items, 2) if side_by_side else clock.through(name, items)

    for _ in stage("slow", slow(stage("quick", slow(range(5), SHORT_SECONDS)), 3 * SHORT_SECONDS)):
        with clock.measure("write"):
            sleep(SHORT_SECONDS)
    seconds = clock.seconds()
    assert seconds["quick"] >= 5 * SHORT_SECONDS
    assert seconds["slow"] >= 15 * SHORT_SECONDS
    assert max(stage_utilization(seconds), key=stage_utilization(seconds).get) == "slow"
    whole = sum(seconds.values()) - seconds["total"]
    assert (seconds["total"] < whole) == side_by_side


def test_a_trace_is_in_the_format_that_viewers_open():
    clock = StageClock(traced=True)
    for _ in clock.prefetch("read", range(3), 2):
        with clock.measure("write"):
            pass
    events = json.loads(clock.trace())["traceEvents"]
    rows = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["name"] for event in spans} == {"read", "waiting for read", "write"}
    assert all(event["tid"] == rows["read"] for event in spans if event["name"] == "read")
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in spans)


def decoded(path):
    with av.open(str(path)) as clip:
        return [
            (frame.pts, frame.to_ndarray(format="rgb24").tobytes())
            for frame in clip.decode(video=0)
        ]


def one_after_the_other(self, stage, items, _):
    return self.through(stage, items)


@pytest.mark.parametrize("policy", ["smi", "bicubic"])
def test_stages_side_by_side_give_the_very_frames_of_stages_in_turn(tmp_path, monkeypatch, policy):
    clip = write_clip(
        tmp_path / "clip.mkv", moving_pictures(12, 32, 40), codec="ffv1", pixel_format="bgr0"
    )
    make_model(tmp_path / "bank", "a", picture(), seed=0)
    recipe = Recipe(policy, scale=2.0, steady="auto", encode=EncodeOptions(codec="ffv1"))
    results = []
    for name in ("beside.mkv", "in_turn.mkv"):
        manifest = run(clip, recipe, RunFiles(tmp_path / name, models=tmp_path / "bank"))
        assert manifest.frames_out == 12
        assert set(manifest.stage_shares) == {
            "read",
            "inspect",
            "denoise",
            "color",
            "upscale",
            "steady",
            "metrics",
            "finish",
            "write",
        }
        results.append(decoded(tmp_path / name))
        monkeypatch.setattr(StageClock, "prefetch", one_after_the_other)
    assert results[0] == results[1]


@pytest.mark.parametrize("stage", ["read", "upscale", "steady", "write"])
def test_an_error_in_any_stage_of_a_run_ends_it_and_all_its_threads(tmp_path, monkeypatch, stage):
    clip = write_clip(
        tmp_path / "clip.mkv", moving_pictures(8, 32, 40), codec="ffv1", pixel_format="bgr0"
    )

    def broken(*_, **__):
        raise RuntimeError(f"{stage} is broken")

    places = {
        "read": "vsr.video.reader.ClipReader._to_frame",
        "upscale": "vsr.upscale.interpolation.resize_on_cores",
        "steady": "vsr.temporal.fusion.fuse",
        "write": "vsr.video.writer.ClipWriter.write",
    }
    monkeypatch.setattr(places[stage], broken)
    before = threads_now()
    with pytest.raises(RuntimeError, match=f"{stage} is broken"):
        run(clip, Recipe("bicubic", scale=2.0, steady=0.5), RunFiles(tmp_path / "out.mkv"))
    assert threads_now() <= before
    assert not (tmp_path / "out.mkv").exists()
