"""What other programs read and run: y4m through pipes, and ONNX files."""

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import card_of, make_shot_model, picture
from vsr import cli
from vsr.engine.generator import FastGenerator
from vsr.engine.shot_network import FastShotNetwork
from vsr.errors import ModelError, OutputError, UsageError
from vsr.models.bank import Distillation, load_model, save_model
from vsr.models.export import PACKAGES, export
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.models.shot_model import save_shot_model
from vsr.pipeline.options import RunFiles
from vsr.video.reader import open_clip
from vsr.video.write.y4m import PIXEL_FORMATS
from vsr.video.writer import ClipWriter, EncodeOptions

COMMAND = (sys.executable, "-m", "vsr", "run")
AS_IT_IS = ("--policy", "bicubic", "--scale", "1", "--restore", "0", "--metrics", "")
PLAIN = ("--policy", "bicubic", "--scale", "2", "--metrics", "")


def stream(arguments, given=None):
    """Run `vsr run` with bytes on standard input; the bytes that came out, and the messages."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], input=given, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, done.stderr.decode()


def decoded(data, path):
    path.write_bytes(data)
    return [frame.to_ndarray() for frame in read_frames(path)]


def write_y4m(clip, capfdbinary, monkeypatch, **options):
    """Write a clip to standard output as it is; the report and the bytes."""
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
    with open_clip(clip) as reader:
        info = reader.info
        size = (info.height, info.width)
        cpu = torch.device("cpu")
        chosen = EncodeOptions(**options)
        with ClipWriter("-", info, *size, chosen, False, cpu, pipe_format="y4m") as writer:
            for frame in reader.frames():
                writer.write(frame)
            report = writer.finish()
    sys.stdout.close()
    return report, capfdbinary.readouterr().out


def test_y4m_goes_through_pipes_in_both_directions(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(4, 24, 32), codec="ffv1", audio_codec="aac"
    )
    out, told = stream([clip, "-o", "-", "--format", "y4m", *AS_IT_IS])
    assert out.startswith(b"YUV4MPEG2 W32 H24 F25:1 ")
    assert "audio (aac): y4m holds pictures alone" in told
    # The same pictures as in a file without loss.
    same = {"policy": "bicubic", "scale": 1, "restore": 0, "metrics": (), "codec": "ffv1"}
    vsr.run(clip, tmp_path / "b.mkv", **same)
    pictures = [frame.to_ndarray() for frame in read_frames(tmp_path / "b.mkv")]
    assert np.array_equal(pictures, decoded(out, tmp_path / "b.y4m"))
    # The other way, with nothing but the first bytes to know it by.
    _, told = stream(["-", "-o", tmp_path / "c.mkv", *PLAIN], out)
    assert len(read_frames(tmp_path / "c.mkv")) == 4
    assert "dropped" not in told


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_y4m_holds_the_format_of_the_clip(tmp_path, capfdbinary, monkeypatch, pixel_format):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(2, 24, 32), codec="ffv1")
    report, data = write_y4m(clip, capfdbinary, monkeypatch, pixel_format=pixel_format)
    assert report.pixel_format == pixel_format
    (tmp_path / "b.y4m").write_bytes(data)
    first, _ = read_frames(tmp_path / "b.y4m")
    assert first.format.name == pixel_format
    # By libswscale, which knows nothing of our conversions.
    before, after = (
        frame.reformat(format="gray16le").to_ndarray().astype(float).ravel()
        for frame in (read_frames(clip)[0], first)
    )
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_what_y4m_does_not_hold_is_named(tmp_path, capfdbinary, monkeypatch):
    clip = write_clip(
        tmp_path / "a.mkv",
        moving_pictures(3, 24, 32),
        codec="ffv1",
        pixel_format="bgra",
        pts=[0, 40, 300],
        time_base=Fraction(1, 1000),
    )
    report, _ = write_y4m(clip, capfdbinary, monkeypatch)
    notes = " ".join(report.notes)
    for lost in ("no RGB", "transparency (alpha) is dropped", "no tags of color", "no times but"):
        assert lost in notes
    assert report.max_pts_error_seconds > 0.1


def test_a_reader_of_y4m_that_leaves_is_no_noise(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(4, 24, 32))
    process = subprocess.Popen(
        [*COMMAND, str(clip), "-o", "-", "--format", "y4m", *PLAIN[:2], "--scale", "16"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    told = process.stderr.read().decode()
    assert process.wait() == 4
    assert "ipe" not in told
    assert "Traceback" not in told


def test_options_that_y4m_cannot_follow_are_refused(tmp_path, capfdbinary, monkeypatch):
    for output in (None, "out.mkv"):
        with pytest.raises(UsageError, match="--format y4m is for standard output"):
            RunFiles(output, format="y4m")
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(2, 24, 32))
    for options in ({"codec": "ffv1"}, {"crf": 10.0}, {"pixel_format": "gbrp"}):
        with pytest.raises(UsageError, match="y4m"):
            write_y4m(clip, capfdbinary, monkeypatch, **options)


def run_onnx(path, array):
    """The output of an ONNX file, and what it says of itself."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return session.run(None, {name: array})[0], session.get_modelmeta().custom_metadata_map


@pytest.fixture(scope="module")
def keyframe_file(tmp_path_factory):
    """A student's file; its network has all that a keyframe model may have."""
    torch.manual_seed(0)
    spec = NetworkSpec(width=8, layers=3, batch_norm=True, tanh=True)
    taught = Distillation("avgi", ("a", "b"), 50.0, 1.0)
    card = card_of(picture(), network=spec, critic_mean=None, critic_std=None, distillation=taught)
    path = tmp_path_factory.mktemp("bank") / "student.safetensors"
    save_model(path, card, Generator(spec), None)
    return path


@pytest.fixture(scope="module")
def shot_file(tmp_path_factory):
    model = make_shot_model()
    path = tmp_path_factory.mktemp("bank") / "a.shot.safetensors"
    save_shot_model(path, model.card, model.networks)
    return path


def test_an_exported_student_adds_the_detail_that_vsr_adds(keyframe_file, tmp_path):
    export(keyframe_file, tmp_path / "a.onnx", None, overwrite=False)
    model = load_model(keyframe_file)
    fast = FastGenerator(model.name, model.generator, 1.5, torch.device("cpu"))
    for height, width in ((24, 32), (17, 41)):
        low = torch.rand(3, height, width)
        found, said = run_onnx(tmp_path / "a.onnx", low[None].numpy())
        assert np.abs(found[0] - fast.add_detail(low).clamp(0, 1).numpy()).max() < 1e-4
    assert said["kind"] == "student"
    for lost in ("nor back-projects", "nor fuses frames along the motion"):
        assert lost in said["limits"]
    # Traces of the source would tell where it lies on the machine that made the file.
    assert b"site-packages" not in (tmp_path / "a.onnx").read_bytes()


@pytest.mark.parametrize("stage", [1, 2])
def test_an_exported_stage_finds_the_detail_that_vsr_finds(shot_file, tmp_path, capsys, stage):
    arguments = ["export", shot_file, "-o", tmp_path / "a.onnx", "--stage", stage]
    cli.app(list(map(str, arguments)), standalone_mode=False)
    output, told = capsys.readouterr()
    assert output == ""
    fast = FastShotNetwork(make_shot_model().networks[stage - 1])
    for height, width in ((24, 32), (18, 42)):
        planes = torch.rand(3, height, width)
        found, said = run_onnx(tmp_path / "a.onnx", planes[None].numpy())
        assert np.abs(found[0] - fast.missing_detail(planes).numpy()).max() < 1e-4
    assert said["stage"] == str(stage)
    assert "nor fuses frames along the motion, nor back-projects" in said["limits"]
    assert f"limits: {said['limits']}" in told


def test_an_export_that_cannot_be_is_refused(keyframe_file, shot_file, tmp_path, monkeypatch):
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(b"mine")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    fresh = tmp_path / "a.onnx"
    for model, output, stage, error, told in (
        (keyframe_file, kept, None, OutputError, "exists already; give -y"),
        (keyframe_file, tmp_path / "none" / "a.onnx", None, OutputError, "there is no folder"),
        (keyframe_file, tmp_path / "a.pt", None, UsageError, "ends in .onnx"),
        (keyframe_file, fresh, 1, UsageError, "--stage is for shot models"),
        (shot_file, fresh, None, UsageError, "give --stage 1"),
        (broken, fresh, None, ModelError, "broken.safetensors"),
        (tmp_path / "no.safetensors", fresh, None, ModelError, "no.safetensors"),
        (tmp_path, fresh, None, ModelError, str(tmp_path)),
    ):
        with pytest.raises(error, match=told):
            export(model, output, stage, overwrite=False)
    monkeypatch.setattr("vsr.models.export.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=f"{PACKAGES[0]} is not installed"):
        export(keyframe_file, fresh, None, overwrite=False)
    assert kept.read_bytes() == b"mine"
    assert not fresh.exists()
