"""Whatever breaks inside a run: it ends, soon, with an error, and what was done is still there."""

import contextlib
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from tests.test_writer import skip_without_ffmpeg
from vsr.errors import ModelError, OutputError
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles
from vsr.progress import Listener
from vsr.video.writer import EncodeOptions

PATIENCE_SECONDS = 60
FRAMES = 12
RECIPE = Recipe(
    "smi", scale=2.0, encode=EncodeOptions("libx264", preset="ultrafast", segment_frames=5)
)
STAGES = {
    "reading": "vsr.video.reader.ClipReader._to_frame",
    "finding cuts": "vsr.video.shots._detection_picture",
    "enlarging": "vsr.engine.generator.FastGenerator.enlarge",
    "steadying": "vsr.temporal.fusion.back_project_twice",
    "measuring": "vsr.pipeline.live_metrics.LiveMetrics.update",
    "converting": "vsr.video.write.segments.FrameConverter.__call__",
    "encoding": "vsr.video.write.segments.LibavEncoder.encode",
    "closing a segment": "vsr.video.write.segment_store.SegmentStore.close_segment",
    "putting together": "vsr.video.write.mux.VideoMuxer.finish",
    "naming": "vsr.video.write.destination.FileDestination.commit",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def clip(folder):
    return write_clip(
        folder / "clip.mkv", moving_pictures(FRAMES, 32, 40), codec="ffv1", pixel_format="bgr0"
    )


@pytest.fixture(scope="module")
def bank(folder):
    make_model(folder / "bank", "a", picture(32, 40), 0)
    return folder / "bank"


class BrokenPartError(Exception):
    """What no part of the program expects."""


def failing(original, after, error):
    """The function, which raises `error` when it was called so often."""
    calls = []

    def call(*arguments, **keywords):
        calls.append(1)
        if len(calls) > after:
            error()
        return original(*arguments, **keywords)

    return call


def outcome_of(call):
    """What a call raises, or None; the test fails where it has not come back in time."""
    outcome = []

    def run():
        try:
            call()
        except BaseException as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert outcome, f"it hangs: nothing after {PATIENCE_SECONDS} s"
    return outcome[0]


def find(dotted):
    """The object that has the last name as an attribute, that name, and what is there."""
    import importlib

    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            holder = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:-1]:
            holder = getattr(holder, part)
        return holder, parts[-1], getattr(holder, parts[-1])
    raise AssertionError(f"there is no {dotted}")


def raise_broken():
    raise BrokenPartError("a part broke")


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_any_stage_ends_the_run_and_the_same_command_goes_on(
    tmp_path, clip, bank, monkeypatch, stage
):
    out = tmp_path / "out.mkv"
    holder, name, original = find(STAGES[stage])
    once_a_run = stage in ("closing a segment", "putting together", "naming")
    after = {"closing a segment": 1}.get(stage, 0) if once_a_run else 7
    threads = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(holder, name, failing(original, after, raise_broken))
        error = outcome_of(lambda: pipeline.run(clip, RECIPE, RunFiles(out, models=bank)))
    assert isinstance(error, BrokenPartError)
    assert not out.exists()
    assert [
        thread.name
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith("ThreadPool")
    ] == []
    manifest = pipeline.run(clip, RECIPE, RunFiles(out, models=bank))
    assert len(read_frames(out)) == manifest.frames_out == FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv"]


def test_no_memory_for_a_frame_is_one_clear_line(tmp_path, clip, bank, monkeypatch):
    holder, name, original = find(STAGES["enlarging"])
    # What torch itself says where it cannot get so much.
    monkeypatch.setattr(holder, name, failing(original, 3, lambda: torch.empty(1 << 60)))
    error = outcome_of(
        lambda: pipeline.run(clip, RECIPE, RunFiles(tmp_path / "out.mkv", models=bank))
    )
    assert isinstance(error, ModelError)
    assert "not enough memory" in str(error)
    assert "\n" not in str(error)


def test_an_encoding_program_that_is_killed_ends_the_run(tmp_path, clip):
    skip_without_ffmpeg("libx264")

    def kill_the_encoder(done, _):
        if done == 7:
            # Threads and children come and go while they are listed.
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    for child in (task / "children").read_text().split():
                        if "ffmpeg" in Path(f"/proc/{child}/cmdline").read_text():
                            os.kill(int(child), signal.SIGKILL)

    recipe = replace(
        RECIPE, policy="bicubic", encode=EncodeOptions("ffmpeg:libx264", segment_frames=5)
    )
    out = tmp_path / "out.mkv"
    error = outcome_of(
        lambda: pipeline.run(
            clip, recipe, RunFiles(out), listener=Listener(on_progress=kill_the_encoder)
        )
    )
    assert isinstance(error, OutputError)
    assert "ffmpeg" in str(error)
    assert not out.exists()
    assert pipeline.run(clip, recipe, RunFiles(out)).resumed_at_frame == 5
    assert len(read_frames(out)) == FRAMES
