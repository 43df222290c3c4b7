import json
import sys

import pytest

from tests.clips import moving_pictures, write_clip
from tests.models import make_model, picture
from vsr import cli
from vsr.errors import OutputError, UsageError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.plan import plan
from vsr.pipeline.run import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("planning")


@pytest.fixture(scope="module")
def clip(folder):
    pictures = moving_pictures(12, 32, 40)
    return write_clip(folder / "clip.mp4", pictures, audio_codec="aac")


@pytest.fixture(scope="module")
def bank(folder):
    make_model(folder / "bank", "a", picture(), seed=0)
    return folder / "bank"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["vsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_a_plan_is_what_the_run_then_does_and_leaves_nothing(folder, clip, bank):
    before = sorted(path.name for path in folder.iterdir())
    planned = plan(clip, Recipe(scale=2.0), RunFiles(models=bank))
    assert sorted(path.name for path in folder.iterdir()) == before
    done = run(clip, Recipe(scale=2.0), RunFiles(models=bank))
    assert planned.output == done.output
    assert not planned.output_exists
    assert (planned.frames, planned.size, planned.output_size) == (12, (40, 32), (80, 64))
    assert (planned.policy, planned.models, planned.dtype) == (done.policy, done.models, done.dtype)
    assert (planned.encoder, planned.streams_kept) == (done.encoder, done.streams_kept)
    assert set(planned.stage_seconds_per_frame) == set(done.stage_shares)
    assert planned.seconds == pytest.approx(planned.seconds_per_frame * 12)
    assert planned.output_bytes == pytest.approx((folder / "clip_x2.mp4").stat().st_size, rel=0.5)


def test_what_a_run_would_refuse_its_plan_refuses(folder, clip, bank):
    with pytest.raises(UsageError, match="needs a bank"):
        plan(clip, Recipe("smi", train="never"))
    with pytest.raises(OutputError, match="gif takes neither"):
        plan(clip, Recipe("bicubic"), RunFiles(folder / "out.gif"))
    with pytest.raises(UsageError, match="cannot be a pipe"):
        plan("-", Recipe("bicubic"))


def test_the_command_and_the_dry_run_print_the_same_plan(monkeypatch, capsys, clip, tmp_path):
    options = [clip, "-o", tmp_path / "out.mkv", "--policy", "bicubic"]
    printed = []
    for arguments in (["plan", *options], ["run", *options, "--dry-run"]):
        assert command(monkeypatch, *arguments) == 0
        printed.append([line.split()[0] for line in capsys.readouterr().out.splitlines()])
    assert printed[0] == printed[1]
    assert printed[0][:7] == ["clip", "output", "policy", "time", "stages", "memory", "disk"]
    assert not (tmp_path / "out.mkv").exists()
    assert command(monkeypatch, "plan", *options, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 12


def test_a_profile_is_a_table_and_a_trace(monkeypatch, capsys, clip, tmp_path):
    trace = tmp_path / "trace.json"
    options = ["-o", tmp_path / "out.mkv", "--policy", "bicubic", "--profile", trace]
    assert command(monkeypatch, "run", clip, *options) == 0
    printed = capsys.readouterr().err
    assert "ms a frame" in printed
    spans = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    assert {"read", "upscale", "steady", "metrics", "write"} <= {event["name"] for event in spans}
    assert sum(event["name"] == "read" for event in spans) >= 12


@pytest.mark.parametrize("output", ["-", "out/%06d.png"])
def test_a_stream_and_numbered_pictures_are_planned_as_such(tmp_path, monkeypatch, clip, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    planned = plan(clip, Recipe("bicubic", scale=1.5), RunFiles(output))
    assert (planned.output, planned.frames) == (output, 12)
    assert list((tmp_path / "out").iterdir()) == []
