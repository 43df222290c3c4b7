"""The command as a user meets it: exit codes, one clear line, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from tests.clips import moving_pictures, read_frames, read_times, write_clip
from tests.models import make_model, picture
from vsr import cli
from vsr.cli.terminal import stop_on_signal

COMMAND = [sys.executable, "-c", "from vsr.cli import main; main()"]


@pytest.fixture
def vsr(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vsr", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        output = capsys.readouterr()
        return code, output.out, output.err

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def clip(folder):
    pictures = moving_pictures(6, 40, 48)
    return write_clip(
        folder / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0", audio_codec="aac"
    )


@pytest.fixture(scope="module")
def bank(folder):
    make_model(folder / "bank", "a", picture(), seed=0)
    make_model(folder / "bank", "b", picture(), seed=1)
    return folder / "bank"


def broken(model):
    """Infinite weights are refused on loading, so one that overflows is made: the picture is not
    finite."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(model)
    metadata = read_metadata(model)
    tensors["generator.body.4.weight"].fill_(3e38)
    tensors["generator.body.3.0.bias"].fill_(3e38)
    save_file(tensors, model, metadata)


def read_metadata(model):
    content = model.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def test_the_three_commands_work_together(vsr, tmp_path, clip, bank):
    out, record = tmp_path / "out.mkv", tmp_path / "run.json"
    assert (
        vsr(
            "run",
            clip,
            "-o",
            out,
            "--policy",
            "smi",
            "--models",
            bank,
            "--scale",
            2,
            "--json",
            record,
        )[0]
        == 0
    )
    assert read_times(out) == read_times(clip)
    manifest = json.loads(record.read_text())
    assert (manifest["frames_in"], manifest["frames_out"], manifest["max_pts_error_seconds"]) == (
        6,
        6,
        0,
    )
    assert manifest["models"] == ["a"]
    assert len(manifest["streams_kept"]) == 1
    assert manifest["metrics"]["lr_psnr"]["mean"] > 30
    assert manifest["metrics"]["flicker_live"]["per_frame"][0] is None
    for field in (
        "resumed_at_frame",
        "policy",
        "decisions",
        "streams_dropped",
        "damage",
        "timings_seconds",
        "output",
    ):
        assert field in manifest
    code, text, _ = vsr(
        "score", out, "--low-resolution", clip, "--metrics", "lr_psnr,sharpness_live", "--json", "-"
    )
    scores = json.loads(text)
    assert code == 0
    assert scores["frames"] == 6
    assert scores["metrics"]["lr_psnr"]["higher_is_better"] is True


def test_the_output_is_named_after_the_clip_and_the_scale(vsr, tmp_path):
    clip = write_clip(tmp_path / "a b.mkv", moving_pictures(3, 32, 32))
    assert vsr("run", clip, "--policy", "bicubic", "--scale", 1.5)[0] == 0
    with av.open(str(tmp_path / "a b_x1.5.mkv")) as out:
        assert (out.streams.video[0].width, out.streams.video[0].height) == (48, 48)


def test_a_scale_of_one_with_bicubic_is_the_identity(vsr, tmp_path, clip):
    out = tmp_path / "same.mkv"
    assert vsr("run", clip, "-o", out, "--policy", "bicubic", "--scale", 1, "-c", "ffv1")[0] == 0
    for ours, theirs in zip(read_frames(out), read_frames(clip), strict=True):
        assert np.array_equal(ours.to_ndarray(format="rgb24"), theirs.to_ndarray(format="rgb24"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{clip}", "--policy", "bicubik"], 2, "did you mean bicubic"),
        (["{clip}", "--policy", "smi", "--train", "never"], 2, "needs a bank: --models DIR"),
        (["{clip}", "--policy", "bicubic", "--scale", "0.5"], 2, "expected a number from 1"),
        (["{clip}", "--policy", "bicubic", "--metrics", "psnrr"], 2, "did you mean 'psnr'"),
        (["{clip}", "--policy", "bicubic", "--metrics", "psnr"], 2, "needs a truth"),
        (["{clip}", "--policy", "bicubic", "--set", "encode.codek=x"], 2, "did you mean 'codec'"),
        (["{clip}", "--policy", "bicubic", "--device", "gpu"], 2, "unknown device gpu"),
        (["{clip}", "--no-such-option"], 2, "No such option"),
        (
            ["{clip}", "--policy", "bicubic", "--recipe", "{tmp}/none.toml"],
            2,
            "cannot read the recipe",
        ),
        (["{tmp}/none.mkv", "--policy", "bicubic"], 3, "none.mkv"),
        (["{nobank}", "--policy", "bicubic"], 3, "picture"),
        (["{empty}", "--policy", "bicubic"], 3, "empty"),
        (["{text}", "--policy", "bicubic"], 3, "text.mp4"),
        (["{sound}", "--policy", "bicubic"], 3, "no video"),
        (["{clip}", "--policy", "bicubic", "-o", "{clip}", "-y"], 4, "the input itself"),
        (["{clip}", "--policy", "bicubic", "-o", "{exists}"], 4, "give -y to replace it"),
        (["{clip}", "--policy", "bicubic", "-o", "{tmp}/none/out.mkv"], 4, "none"),
        (["{clip}", "--policy", "bicubic", "-o", "{tmp}/out.xyz"], 4, "suffix"),
        (["{clip}", "--policy", "smi", "--models", "{tmp}/none"], 5, "vsr train-keyframe"),
        (["{clip}", "--policy", "smi", "--models", "{nobank}"], 5, "policy smi needs"),
        (["{clip}", "--policy", "avgi", "--models", "{one}"], 5, "policy avgi needs 2 models"),
        (["{clip}", "--policy", "ami", "--models", "{one}"], 5, "policy ami needs 2 models"),
        (
            ["{clip}", "--policy", "smi", "--models", "{bank}", "--scale", "1.05"],
            5,
            "scale of 1.05",
        ),
        (
            ["{clip}", "--policy", "smi", "--models", "{bank}", "--set", "policies.model=c"],
            5,
            "no model c",
        ),
        (
            ["{clip}", "--policy", "smi", "--models", "{broken}", "--scale", "2"],
            5,
            "model a gave values that are not finite",
        ),
        (["{clip}", "--policy", "bicubic", "--device", "cuda:77"], 5, "cuda:77"),
        (["{clip}", "--policy", "bicubic", "--json", "{clip}"], 2, "would replace a clip"),
        (
            ["{clip}", "--policy", "bicubic", "-o", "{tmp}/o.mkv", "--json", "{tmp}/o.mkv"],
            2,
            "would replace a clip",
        ),
        (["{clip}", "--policy", "bicubic", "--json", "{tmp}"], 4, "it is a folder"),
        (
            ["{clip}", "--policy", "bicubic", "--json", "{tmp}/none/run.json"],
            4,
            "missing or read-only",
        ),
        (["{clip}", "--policy", "bicubic", "-o", "-", "--json", "-"], 2, "cannot carry both"),
        (
            ["{clip}", "--policy", "bicubic", "--set", "policies.back_projection_weight=nan"],
            2,
            "expected a number from 0 to 1",
        ),
        (
            ["{clip}", "--policy", "avgi", "--models", "{bank}", "--set", "policies.members=0"],
            2,
            "a whole number from 2",
        ),
        (
            [
                "{clip}",
                "--policy",
                "smi",
                "--models",
                "{bank}",
                "--set",
                "policies.back_projection_weight=7",
            ],
            2,
            "a number from 0 to 1",
        ),
        (["{clip}", "--policy", "smi", "--models", "{text}"], 5, "no folder of models"),
    ],
)
def test_a_mistake_gets_one_clear_line_its_exit_code_and_leaves_nothing(
    vsr, tmp_path, clip, bank, arguments, code, message
):
    places = {name: tmp_path / name for name in ("empty", "nobank", "one", "broken")}
    places |= {
        "text": tmp_path / "text.mp4",
        "sound": tmp_path / "sound.mka",
        "exists": tmp_path / "exists.mkv",
    }
    places["empty"] = tmp_path / "empty.mkv"
    places["empty"].write_bytes(b"")
    places["text"].write_text("not a film, " * 50)
    places["exists"].write_text("precious")
    write_sound(places["sound"])
    places["nobank"].mkdir()
    for name in ("one", "broken"):
        places[name].mkdir()
        (places[name] / "a.safetensors").write_bytes((bank / "a.safetensors").read_bytes())
    broken(places["broken"] / "a.safetensors")
    places |= {"clip": clip, "bank": bank, "tmp": tmp_path}
    before = sorted(path.name for path in (*tmp_path.rglob("*"), *clip.parent.iterdir()))
    filled = [argument.format(**places) for argument in arguments]
    left, text, errors = vsr("run", *filled)
    assert left == code
    assert message in errors
    assert "Traceback" not in errors
    assert text == ""
    assert sorted(path.name for path in (*tmp_path.rglob("*"), *clip.parent.iterdir())) == before
    assert places["exists"].read_text() == "precious"


def write_sound(path):
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_a_truncated_clip_finishes_with_what_could_be_decoded_and_exit_6(vsr, tmp_path):
    whole = write_clip(
        tmp_path / "whole.mp4",
        moving_pictures(48, 64, 64),
        container_options={"movflags": "+faststart"},
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    out, record = tmp_path / "out.mp4", tmp_path / "run.json"
    code, _, errors = vsr(
        "run", cut, "-o", out, "--policy", "bicubic", "--scale", 1, "--json", record
    )
    assert code == 6
    assert "damaged input" in errors
    manifest = json.loads(record.read_text())
    assert manifest["damage"]
    assert 0 < manifest["frames_out"] < 48
    assert len(read_frames(out)) == manifest["frames_out"] == manifest["frames_in"]


def test_damage_of_a_scored_clip_is_told_and_exits_6(vsr, tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", moving_pictures(30, 64, 64))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    code, _, errors = vsr("score", cut, "--reference", whole, "--metrics", "psnr")
    assert code == 6
    assert "damaged input" in errors


def test_frames_without_a_truth_are_told(vsr, tmp_path, clip):
    truth = write_clip(tmp_path / "short.mkv", moving_pictures(4, 40, 48))
    arguments = (
        "run",
        clip,
        "-o",
        tmp_path / "out.mkv",
        "--policy",
        "bicubic",
        "--scale",
        1,
        "--metrics",
        "psnr",
    )
    code, _, errors = vsr(*arguments, "--reference", truth)
    assert code == 0
    assert "2 frames, the first of them 4, have no truth" in errors


def test_a_comparison_prints_a_row_for_each_policy_and_writes_no_video(vsr, tmp_path, clip, bank):
    truth = tmp_path / "truth.mkv"
    assert (
        vsr(
            "run",
            clip,
            "-o",
            truth,
            "--policy",
            "lanczos",
            "--scale",
            2,
            "-c",
            "ffv1",
            "--metrics",
            "",
        )[0]
        == 0
    )
    recipe = tmp_path / "two.toml"
    recipe.write_text('compare = ["bicubic", "smi"]\nscale = 2\nmetrics = ["psnr_y", "flicker"]\n')
    record = tmp_path / "compare.json"
    arguments = ("run", clip, "--recipe", recipe, "--models", bank)
    code, _, errors = vsr(*arguments, "--reference", truth, "--json", record)
    assert code == 0
    assert "bicubic" in errors
    manifests = json.loads(record.read_text())
    assert [manifest["policy"] for manifest in manifests] == ["bicubic", "smi"]
    assert all(manifest["metrics"]["psnr_y"]["mean"] > 20 for manifest in manifests)
    assert {path.name for path in tmp_path.iterdir()} == {"truth.mkv", "two.toml", "compare.json"}
    assert vsr(*arguments)[0] == 2


def test_metrics_never_change_a_frame(vsr, tmp_path, clip, bank):
    results = []
    for metrics in ("", "flicker_live,sharpness_live,lr_psnr,warping_error"):
        out = tmp_path / f"out{len(metrics)}.mkv"
        arguments = (
            "--policy",
            "smi",
            "--models",
            bank,
            "--scale",
            2,
            "-c",
            "ffv1",
            "--metrics",
            metrics,
        )
        assert vsr("run", clip, "-o", out, *arguments)[0] == 0
        results.append(np.stack([frame.to_ndarray(format="rgb24") for frame in read_frames(out)]))
    assert np.array_equal(*results)


def test_models_are_listed_as_a_table(vsr, bank, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, text, _ = vsr("models", bank)
    assert code == 0
    assert "quick" in text
    assert "x1.41" in text
    assert vsr("models", tmp_path)[0] == 5


def test_training_is_a_command_too(vsr, tmp_path, clip):
    small = write_clip(tmp_path / "small.mkv", moving_pictures(3, 24, 24))
    code, _, errors = vsr("train-keyframe", small, "--models", tmp_path / "bank")
    assert code == 3
    assert "24x24" in errors
    assert vsr("train-keyframe", clip, "--models", tmp_path / "bank", "--shots", "first")[0] == 2
    assert not (tmp_path / "bank").exists()


def test_the_python_functions_do_what_the_commands_do(tmp_path, clip, bank):
    import vsr

    manifest = vsr.run(
        clip,
        tmp_path / "out.mkv",
        policy="smi",
        models=bank,
        scale=2,
        metrics=["lr_psnr"],
        codec="ffv1",
        pix_fmt="bgr0",
    )
    assert manifest.frames_out == 6
    scores = vsr.score([tmp_path / "out.mkv"], low_resolution=clip, metrics=["lr_psnr"])
    # Rounding to 8 bits costs a little of what was measured before it.
    before, after = manifest.metrics["lr_psnr"]["mean"], scores.results[0].metrics["lr_psnr"].mean
    assert after == pytest.approx(before, abs=3)
    with pytest.raises(vsr.VsrError):
        vsr.run(clip, tmp_path / "out.mkv", policy="smi", models=bank)


def test_standard_output_carries_only_the_video(tmp_path, clip):
    arguments = [*COMMAND, "run", str(clip), "-o", "-", "--policy", "bicubic", "--scale", "2"]
    done = subprocess.run(arguments, capture_output=True, check=True)
    piped = tmp_path / "piped.mkv"
    piped.write_bytes(done.stdout)
    assert read_times(piped) == read_times(clip)
    again = subprocess.run(
        [*COMMAND, "run", "-", "-o", "-", "--policy", "bicubic", "--scale", "1"],
        input=done.stdout,
        capture_output=True,
        check=True,
    )
    piped.write_bytes(again.stdout)
    assert len(read_frames(piped)) == 6


def test_an_interrupted_run_leaves_nothing_and_exits_130(tmp_path):
    clip = write_clip(tmp_path / "long.mkv", moving_pictures(20, 64, 64) * 60, pts=range(1200))
    before = {path.name for path in tmp_path.iterdir()}
    arguments = [*COMMAND, "run", str(clip), "-o", str(tmp_path / "out.mkv"), "--policy", "lanczos"]
    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        while {path.name for path in tmp_path.iterdir()} == before:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped after frame" in errors
    assert "Traceback" not in errors
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_closed_pipe_is_quiet(vsr, clip, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    code, _, errors = vsr("run", clip, "-o", "-", "--policy", "bicubic", "--scale", 8, "-c", "ffv1")
    assert code == 4
    assert "pipe" not in errors
    assert "Traceback" not in errors


def test_the_first_signal_asks_for_an_end_and_the_second_ends_at_once(capsys):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "interrupt again to stop at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_the_line_that_goes_on_never_throws_the_work_away():
    assert (
        cli.resume_command(["/usr/bin/vsr", "run", "a film.mkv", "--restart", "-y"])
        == "vsr run 'a film.mkv' -y"
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vsr.cli import app; print([m for m in ('torch', 'av', 'cv2', "
        "'lpips') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, text=True
        ).stdout
        == "[]\n"
    )


def test_the_metrics_that_nobody_named_look_at_a_sample_of_the_frames(vsr, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(20, 32, 32))
    figures = {}
    for name, named in (
        ("sample", ()),
        ("all", ("--metrics", "flicker_live,sharpness_live,lr_psnr")),
    ):
        record = tmp_path / f"{name}.json"
        arguments = (
            "--policy",
            "lanczos",
            "--scale",
            2,
            "-o",
            tmp_path / f"{name}.mkv",
            "--json",
            record,
        )
        assert vsr("run", clip, *arguments, *named)[0] == 0
        figures[name] = json.loads(record.read_text())["metrics"]
    # Without a truth the perceptual figure is NIQE, which these frames are too small for.
    niqe = figures["sample"].pop("niqe")
    assert niqe["mean"] is None
    assert niqe["reason"]
    for metric, result in figures["sample"].items():
        every = figures["all"][metric]["per_frame"]
        assert len(every) == len(result["per_frame"]) == 20
        first = 1 if metric == "flicker_live" else 0
        assert all(value is not None for value in every[first:])
        measured = {0, 1, 9, 17}
        assert result["per_frame"] == [
            value if i in measured else None for i, value in enumerate(every)
        ]


def test_a_folder_of_pictures_becomes_a_folder_of_pictures(vsr, tmp_path, clip):
    frames = tmp_path / "frames"
    assert vsr("run", clip, "-o", frames, "-c", "png", "--policy", "bicubic", "--scale", 1)[0] == 0
    assert len(list(frames.glob("*.png"))) == 6
    assert vsr("run", frames, "--policy", "bicubic", "--scale", 2)[0] == 0
    enlarged = sorted((tmp_path / "frames_x2").glob("*.png"))
    assert len(enlarged) == 6
    with av.open(str(enlarged[0])) as first:
        assert (first.streams.video[0].width, first.streams.video[0].height) == (96, 80)


def test_pictures_of_a_clip_go_into_a_folder_named_after_it(vsr, tmp_path):
    clip = write_clip(tmp_path / "film.mkv", moving_pictures(3, 32, 32))
    assert vsr("run", clip, "-c", "png", "--policy", "bicubic", "--scale", 2)[0] == 0
    assert len(list((tmp_path / "film_x2").glob("*.png"))) == 3
