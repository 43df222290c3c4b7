"""A run that was ended goes on, and nobody can tell from the result."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import moving_pictures, read_frames, two_shots, write_clip
from tests.models import make_model, make_shot_model, picture
from vsr.engine.shot_network import FastShotNetwork
from vsr.errors import InterruptedRunError, OutputError, UsageError
from vsr.files import FolderLock
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.shot_model import save_shot_model
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles
from vsr.progress import Listener
from vsr.upscale import PolicyOptions
from vsr.video.writer import EncodeOptions, WorkOptions

FRAMES = 24
ENCODE = EncodeOptions("libx264", preset="ultrafast", segment_frames=5)
BICUBIC = Recipe("bicubic", scale=2.0, encode=ENCODE)
RECIPES = {
    "bicubic": BICUBIC,
    "smi": replace(BICUBIC, policy="smi", steady=0.0),
    "smi steady": replace(BICUBIC, policy="smi"),
    "avgi steady by target": replace(BICUBIC, policy="avgi", target_flicker=1.0),
    "dsrfi switching": replace(
        BICUBIC, policy="dsrfi", policies=PolicyOptions(per_frame=True, hysteresis=0.0)
    ),
    "shot": replace(BICUBIC, policy="shot"),
    "shot, best": replace(
        BICUBIC, policy="shot", scale=3.0, policies=PolicyOptions(quality="best")
    ),
    "shot steady": replace(BICUBIC, policy="shot", steady=0.5),
    "every metric on every frame": replace(
        BICUBIC, metrics=("flicker_live", "sharpness_live", "lr_psnr")
    ),
}
ENDS = ((11, 13), (12, 23))
"""Where a run is ended, and where the one that goes on: about the start of the shot at frame 12,
and late in it."""
SAME = (
    "frames_in",
    "frames_out",
    "policy",
    "models",
    "decisions",
    "shots",
    "steady",
    "metrics",
    "baseline",
    "damage",
)
"""What a record says alike, whether the run was ended or not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def clip(folder):
    return write_clip(
        folder / "clip.mkv",
        two_shots(FRAMES, 32, 40),
        codec="ffv1",
        pixel_format="bgr0",
        audio_codec="aac",
    )


@pytest.fixture(scope="module")
def bank(folder):
    for seed in range(2):
        make_model(folder / "bank", f"m{seed}", picture(32, 40), seed)
    model = make_shot_model()
    save_shot_model(folder / "bank" / "m.shot.safetensors", model.card, model.networks)
    return folder / "bank"


def end_after(frame):
    """A listener that ends the run when so many frames are written."""

    def on_progress(done, _):
        if done == frame:
            raise KeyboardInterrupt

    return Listener(on_progress=on_progress)


def run_until(frame, clip, output, recipe, **files):
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(clip, recipe, RunFiles(output, **files), end_after(frame))


def packets(path):
    """All that a film holds but the random number by which Matroska tells one file from another."""
    with av.open(str(path)) as film:
        return [
            (
                packet.stream_index,
                packet.pts,
                packet.dts,
                packet.duration,
                packet.is_keyframe,
                bytes(packet),
            )
            for packet in film.demux()
        ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def policy_is_quick(recipe):
    return recipe.policy == "smi"


@pytest.mark.parametrize(
    "name",
    [
        name
        if name not in ("shot steady", "shot, best")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in RECIPES
    ],
)
def test_the_result_of_a_run_that_was_ended_twice_is_that_of_one_that_was_not(
    tmp_path, clip, bank, name
):
    recipe, out = RECIPES[name], tmp_path / "out.mkv"
    whole = pipeline.run(clip, recipe, RunFiles(tmp_path / "whole.mkv", models=bank))
    for first, second in ENDS if policy_is_quick(recipe) else ENDS[:1]:
        run_until(first, clip, out, recipe=recipe, models=bank)
        run_until(second, clip, out, recipe=recipe, models=bank)
        assert not out.exists()
        resumed = pipeline.run(clip, recipe, RunFiles(out, models=bank))
        assert resumed.resumed_at_frame == second // 5 * 5
        assert packets(out) == packets(tmp_path / "whole.mkv")
        assert {field: getattr(resumed, field) for field in SAME} == {
            field: getattr(whole, field) for field in SAME
        }
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]
        out.unlink()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "avi", "mkv"])
def test_containers_are_the_same_byte_for_byte(tmp_path, suffix):
    """Also with sound, a font, chapters and tags, each of which Matroska gives a number."""
    clip = write_clip(
        tmp_path / "clip.mkv",
        two_shots(FRAMES, 32, 40),
        codec="ffv1",
        pixel_format="bgr0",
        audio_codec="aac",
        attachment=("f.ttf", "application/x-truetype-font", b"font") if suffix == "mkv" else None,
        chapters=[(0, 0.3, "one"), (0.3, 0.8, "two")],
        tags={"title": "a film"},
    )
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    pipeline.run(clip, BICUBIC, RunFiles(whole))
    run_until(13, clip, out, recipe=BICUBIC)
    assert pipeline.run(clip, BICUBIC, RunFiles(out)).resumed_at_frame == 10
    assert out.read_bytes() == whole.read_bytes()
    assert len(read_frames(out)) == FRAMES


@pytest.mark.parametrize("overwrites", [False, True])
def test_pictures_go_on_too(tmp_path, clip, overwrites):
    recipe = replace(BICUBIC, encode=EncodeOptions("png", segment_frames=5))
    pipeline.run(clip, recipe, RunFiles(tmp_path / "whole"))
    out = tmp_path / "out"
    if overwrites:
        out.mkdir()
        (out / "000077.png").write_text("of an earlier, longer run")
        (out / "notes.txt").write_text("mine")
    run_until(13, clip, out, recipe=recipe, overwrite=overwrites)
    assert pipeline.run(clip, recipe, RunFiles(out, overwrite=overwrites)).resumed_at_frame == 10
    mine = {"notes.txt": b"mine"} if overwrites else {}
    assert contents(out) == contents(tmp_path / "whole") | mine
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_metric_of_the_whole_clip_survives_a_stop(tmp_path, clip):
    truth = tmp_path / "truth.mkv"
    pipeline.run(clip, replace(BICUBIC, policy="lanczos"), RunFiles(truth))
    recipe = replace(BICUBIC, metrics=("spectrum", "psnr"))
    run_until(13, clip, tmp_path / "out.mkv", recipe=recipe, reference=truth)
    metrics = pipeline.run(clip, recipe, RunFiles(tmp_path / "out.mkv", reference=truth)).metrics
    whole = pipeline.run(clip, recipe, RunFiles(tmp_path / "whole.mkv", reference=truth)).metrics
    assert metrics["psnr"] == whole["psnr"]
    assert metrics["spectrum"]["mean"] == whole["spectrum"]["mean"] > 0


def test_a_steadied_video_goes_on(tmp_path, clip, bank):
    plain = tmp_path / "plain.mkv"
    pipeline.run(clip, RECIPES["smi"], RunFiles(plain, models=bank))
    recipe = replace(BICUBIC, policy=None)
    pipeline.steady(plain, recipe, RunFiles(tmp_path / "whole.mkv", low_resolution=clip))
    for frame in (8, 18):
        with pytest.raises(KeyboardInterrupt):
            pipeline.steady(
                plain,
                recipe,
                RunFiles(tmp_path / "out.mkv", low_resolution=clip),
                listener=end_after(frame),
            )
    assert (
        pipeline.steady(
            plain, recipe, RunFiles(tmp_path / "out.mkv", low_resolution=clip)
        ).resumed_at_frame
        == 15
    )
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")


@pytest.mark.parametrize("neighbours", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_shot_policy_does_not_begin_a_long_take_anew(tmp_path, monkeypatch, neighbours):
    clip = write_clip(tmp_path / "take.mkv", moving_pictures(FRAMES, 24, 32))
    networks = tuple(
        ShotNetwork(ShotNetworkSpec(neighbours, 8, 3)).eval().requires_grad_(False)
        for _ in range(2)
    )
    card = replace(make_shot_model().card, network=networks[0].spec)
    (tmp_path / "bank").mkdir()
    save_shot_model(tmp_path / "bank" / "m.shot.safetensors", card, networks)
    made, recipe = [], replace(RECIPES["shot"], scale=4.0)
    make = FastShotNetwork.missing_detail
    monkeypatch.setattr(
        FastShotNetwork, "missing_detail", lambda *given: made.append(1) or make(*given)
    )
    pipeline.run(clip, recipe, RunFiles(tmp_path / "whole.mkv", models=tmp_path / "bank"))
    assert len(made) == 2 * FRAMES
    run_until(22, clip, tmp_path / "out.mkv", recipe=recipe, models=tmp_path / "bank")
    made.clear()
    assert (
        pipeline.run(
            clip, recipe, RunFiles(tmp_path / "out.mkv", models=tmp_path / "bank")
        ).resumed_at_frame
        == 20
    )
    assert len(made) <= 2 * (FRAMES - 20 + 5)
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")


def test_what_was_changed_is_named_and_the_work_stays(tmp_path, bank):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(12, 32, 40))
    out = tmp_path / "out.mkv"
    run_until(8, clip, out, recipe=RECIPES["smi"], models=bank)
    work = contents(tmp_path / ".out.mkv.vsr-work")
    other = replace(RECIPES["smi"], encode=replace(ENCODE, crf=30.0), scale=3.0)
    with pytest.raises(
        UsageError,
        match=r"scale was 2.0 and is 3.0; options.encode.crf was not set and is 30.0.*--restart",
    ):
        pipeline.run(clip, other, RunFiles(out, models=bank))
    os.utime(clip, (1, 1))
    with pytest.raises(UsageError, match=r"input.changed_at_ns was"):
        pipeline.run(clip, RECIPES["smi"], RunFiles(out, models=bank))
    assert contents(tmp_path / ".out.mkv.vsr-work") == work
    manifest = pipeline.run(clip, other, RunFiles(out, models=bank, work=WorkOptions(restart=True)))
    assert manifest.resumed_at_frame == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "out.mkv"]


def test_a_changed_model_is_named(tmp_path, clip):
    make_model(tmp_path / "bank", "a", picture(), 0)
    run_until(8, clip, tmp_path / "out.mkv", recipe=RECIPES["smi"], models=tmp_path / "bank")
    make_model(tmp_path / "bank", "a", picture(), 1)
    with pytest.raises(UsageError, match=r"models.a.safetensors was"):
        pipeline.run(clip, RECIPES["smi"], RunFiles(tmp_path / "out.mkv", models=tmp_path / "bank"))


def test_work_without_a_closed_segment_hinders_nothing(tmp_path, clip):
    run_until(3, clip, tmp_path / "out.mkv", recipe=BICUBIC)
    assert list(tmp_path.iterdir()) == []
    assert (
        pipeline.run(
            clip, replace(BICUBIC, scale=3.0), RunFiles(tmp_path / "out.mkv")
        ).resumed_at_frame
        == 0
    )


def test_the_work_can_be_elsewhere_and_can_be_kept(tmp_path, clip):
    places = WorkOptions(tmp_path / "work", keep=True)
    places.folder.mkdir()
    out = tmp_path / "out.mkv"
    run_until(8, clip, out, recipe=BICUBIC, work=places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]
    manifest = pipeline.run(clip, BICUBIC, RunFiles(out, work=places))
    assert manifest.resumed_at_frame == 5
    kept = {path.name for path in (tmp_path / "work" / ".out.mkv.vsr-work").iterdir()}
    assert {f"segment-00000{number}.mkv" for number in range(5)} <= kept
    segment = read_frames(tmp_path / "work" / ".out.mkv.vsr-work" / "segment-000001.mkv")
    film = read_frames(out)[5:10]
    assert all(
        np.array_equal(a.to_ndarray(), b.to_ndarray()) for a, b in zip(segment, film, strict=True)
    )


def test_a_folder_for_work_that_is_not_there_is_told(tmp_path, clip):
    with pytest.raises(OutputError, match=r"--work-dir .*none: there is no such folder"):
        pipeline.run(
            clip, BICUBIC, RunFiles(tmp_path / "out.mkv", work=WorkOptions(tmp_path / "none"))
        )
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_may_be_has_work_too(tmp_path, clip):
    out = tmp_path / ("\udcff" + 250 * "o" + ".mkv")
    run_until(8, clip, out, recipe=BICUBIC)
    assert pipeline.run(clip, BICUBIC, RunFiles(out)).resumed_at_frame == 5
    assert list(tmp_path.iterdir()) == [out]


def test_damaged_work_is_told_and_not_used(tmp_path, clip):
    out = tmp_path / "out.mkv"
    run_until(13, clip, out, recipe=BICUBIC)
    segment = tmp_path / ".out.mkv.vsr-work" / "segment-000001.mkv"
    segment.write_bytes(segment.read_bytes()[:-100])
    with pytest.raises(OutputError, match=r"is damaged .*--restart"):
        pipeline.run(clip, BICUBIC, RunFiles(out))
    assert segment.exists()


def test_the_second_run_on_an_output_says_who_holds_it(tmp_path, clip):
    out = tmp_path / "out.mkv"

    def begin_another(done, _):
        if done == 7:
            with pytest.raises(OutputError, match=f"is being done by process {os.getpid()} on"):
                pipeline.run(clip, BICUBIC, RunFiles(out))

    pipeline.run(clip, BICUBIC, RunFiles(out), listener=Listener(on_progress=begin_another))
    assert len(read_frames(out)) == FRAMES


def test_a_lock_whose_owner_was_killed_holds_nobody_up(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from vsr.files import FolderLock
with FolderLock(Path({str(tmp_path)!r}), "a test is being done"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with FolderLock(tmp_path, "a test is being done"):
        owner = json.loads((tmp_path / "lock").read_text())
        assert owner["process"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_a_run_that_was_killed_between_naming_and_tidying_up_is_finished_by_the_same_command(
    tmp_path, clip, monkeypatch
):
    out = tmp_path / "out.mkv"
    pipeline.run(clip, BICUBIC, RunFiles(tmp_path / "whole.mkv"))
    with monkeypatch.context() as patch:
        # What follows the naming is left out, as where the process is killed there.
        patch.setattr(
            "vsr.video.write.segment_store.SegmentStore.mark_finished",
            lambda _: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(clip, BICUBIC, RunFiles(out))
    assert out.exists()
    assert (tmp_path / ".out.mkv.vsr-work").is_dir()
    assert pipeline.run(clip, BICUBIC, RunFiles(out)).resumed_at_frame == FRAMES
    assert packets(out) == packets(tmp_path / "whole.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]
    with pytest.raises(OutputError, match="exists already"):
        pipeline.run(clip, BICUBIC, RunFiles(out))


def test_a_run_that_was_killed_while_tidying_up_still_ends_well(tmp_path, clip, monkeypatch):
    out = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(
            "vsr.video.write.segment_store.shutil.rmtree",
            lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(clip, BICUBIC, RunFiles(out))
    whole = packets(out)
    assert [path.name for path in (tmp_path / ".out.mkv.vsr-work.gone").iterdir()] == [
        "naming.json"
    ]
    pipeline.run(clip, BICUBIC, RunFiles(out))
    assert packets(out) == whole
    assert list(tmp_path.iterdir()) == [out]


def test_an_end_that_is_asked_for_keeps_the_work_and_says_so(tmp_path, clip):
    out, done = tmp_path / "out.mkv", []
    listener = Listener(
        on_progress=lambda frame, _: done.append(frame), should_stop=lambda: len(done) == 13
    )
    with pytest.raises(InterruptedRunError, match="stopped after frame 13; 10 are kept in") as end:
        pipeline.run(clip, BICUBIC, RunFiles(out), listener=listener)
    assert end.value.can_resume
    assert pipeline.run(clip, BICUBIC, RunFiles(out)).resumed_at_frame == 10


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_command_with_130_and_the_line_that_goes_on(tmp_path, number):
    clip = write_clip(tmp_path / "a clip.mkv", moving_pictures(20, 32, 40) * 10, pts=range(200))
    options = [
        "--policy",
        "bicubic",
        "--scale",
        "2",
        "--set",
        "encode.segment_frames=5",
        "--restart",
    ]
    command = [sys.executable, "-c", "from vsr.cli import main; main()", "run", str(clip), *options]
    work = tmp_path / ".a clip_x2.mkv.vsr-work"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (work / "segment-000002.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "are kept in" in said
    line = (
        f"vsr: resume with: vsr run '{clip}' --policy bicubic --scale 2 --set "
        "encode.segment_frames=5"
    )
    assert said.splitlines()[-1] == line
    assert work.is_dir()
    assert not Path(f"{tmp_path}/a clip_x2.mkv").exists()
