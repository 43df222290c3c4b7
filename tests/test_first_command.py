"""`vsr run CLIP` alone: what is lacking is trained, kept, used, and told in advance."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import vsr
from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from vsr.errors import OutputError, UsageError
from vsr.pipeline.estimate import TrainingCost, run_seconds
from vsr.pipeline.need import Need, find_need
from vsr.pipeline.options import Recipe, RunFiles, parse_size, resolve_recipe, with_scale
from vsr.pipeline.plan import plan
from vsr.pipeline.run import run
from vsr.progress import Listener
from vsr.train.ahead import training_ahead
from vsr.train.options import ShotTraining
from vsr.video.reader import open_clip
from vsr.video.shots import Shot
from vsr.video.step import ShotRef, Step

COMMAND = [sys.executable, "-c", "from vsr.cli import main; main()"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "banks"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return write_two_shots(folder / "clip.mkv", 8)


def write_two_shots(path, length):
    """Write a clip of two shots of so many frames."""
    pictures = moving_pictures(length, 36, 64, step=(0.1, 0.2), seed=1)
    pictures += [255 - each for each in moving_pictures(length, 36, 64, step=(0.1, 0.2), seed=2)]
    return write_clip(path, pictures, codec="ffv1", pixel_format="bgr0")


def decoded(path):
    return [frame.to_ndarray(format="rgb24") for frame in read_frames(path)]


def test_a_clip_alone_is_enlarged_by_models_that_are_trained_and_kept(tmp_path, clip, cache):
    command = [*COMMAND, "run", str(clip), "--set", "training_seconds=0.5", "-c", "ffv1"]
    command += ["--prior", "none"]
    first = [*command, "-o", str(tmp_path / "a.mkv"), "--json", str(tmp_path / "a.json")]
    done = subprocess.run(first, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert "16 frames in 2 shots, 64x36 to 256x144, by policy shot, quality balanced" in lines[0]
    assert lines[1].startswith("trains 2 models first, each while the shot before it is enlarged")
    assert "takes about" in lines[2]
    assert lines[2].endswith(f"writes {tmp_path / 'a.mkv'}")
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["policy"], record["shots"], record["frames_out"]) == ("shot", [0, 8], 16)
    assert [each["reason"] for each in record["decisions"]] == ["trained on this shot"] * 2
    # A second run trains nothing, and the bank by hand gives the same picture.
    (bank,) = cache.iterdir()
    notes = []
    again = run(
        clip,
        Recipe(
            training_seconds=0.5,
            prior="none",
            scale=4.0,
            encode=replace(Recipe().encode, codec="ffv1"),
        ),
        RunFiles(tmp_path / "b.mkv"),
        Listener(notes.append),
    )
    assert again.models == record["models"]
    assert notes[1].startswith(f"uses the models in {bank}")
    vsr.run(clip, tmp_path / "c.mkv", models=bank, codec="ffv1")
    assert np.array_equal(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv"))
    assert np.array_equal(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "c.mkv"))


def test_models_of_keyframes_are_counted_and_planned(clip, cache):
    need = find_need(clip, Recipe("avgi"), RunFiles())
    assert (need.models_lacking, need.kind) == (15, "quick-longest")
    planned = plan(clip, Recipe("smi", scale=2.0))
    assert (planned.models_to_train, planned.models) == (1, [])
    assert planned.seconds > planned.training_seconds > 0
    assert not cache.exists()
    assert find_need(clip, Recipe("selfrec"), RunFiles()).models_lacking == 2


def test_a_bank_that_is_given_is_used_as_it_is(tmp_path, clip):
    make_model(tmp_path / "bank", "a", picture())
    files = RunFiles(models=tmp_path / "bank")
    for recipe in (Recipe(), Recipe("avgi"), Recipe("bicubic", train="auto"), Recipe(scale=1.0)):
        assert find_need(clip, recipe, files) is None
    asked = find_need(clip, Recipe(train="auto"), files)
    assert (asked.recipe.policy, asked.bank, len(asked.lacking)) == ("shot", files.models, 2)
    older = find_need(clip, Recipe(train_ahead=True), files)
    assert older.lacking == asked.lacking
    assert run(
        clip, Recipe("smi", scale=2.0), replace(files, output=tmp_path / "o.mkv")
    ).models == ["a"]


def test_without_training_and_without_a_bank_a_policy_is_refused(clip):
    with pytest.raises(UsageError, match="needs a bank: --models DIR"):
        run(clip, Recipe("smi", train="never"))
    with pytest.raises(UsageError, match="needs a bank: --models DIR"):
        run(clip, Recipe("shot", train="never", prior="none"))
    with pytest.raises(UsageError, match="give one"):
        Recipe(train="never", train_ahead=True)
    with pytest.raises(UsageError, match="cannot be a pipe"):
        run("-", Recipe(train="auto"), RunFiles("out.mkv"))


def test_an_existing_result_is_found_before_the_models_are_trained(tmp_path, clip, cache):
    (tmp_path / "there.mkv").touch()
    with pytest.raises(OutputError, match="exists already"):
        run(clip, Recipe("smi", scale=2.0), RunFiles(tmp_path / "there.mkv"))
    assert not cache.exists()


@pytest.mark.slow
def test_the_error_that_ends_a_training_reaches_the_run(tmp_path, clip):
    (tmp_path / "file").touch()
    with open_clip(clip) as reader:
        info, frame = reader.info, next(reader.frames())
    options = ShotTraining("all", 0.5)
    with (
        training_ahead(clip, info, tmp_path / "file", options) as source,
        pytest.raises(OutputError, match="cannot write models"),
    ):
        source(Step(frame, ShotRef(0, 0)))


def test_one_picture_becomes_one_png_and_the_run_says_how(tmp_path):
    picture = moving_pictures(1, 36, 64)
    form = {"codec": "png", "pixel_format": "rgb24", "container_format": "image2"}
    still = write_clip(tmp_path / "still.png", picture, **form)
    ways = {
        "none": ("bicubic", "enlarged by bicubic interpolation"),
        "auto": ("shot", "enlarged by the shipped prior"),
    }
    for prior, (policy, told) in ways.items():
        notes = []
        recipe = Recipe(prior=prior, scale=2.0)
        files = RunFiles(out_dir=tmp_path / "results" / prior)
        done = run(still, recipe, files, Listener(notes.append))
        output = tmp_path / "results" / prior / "still_x2.png"
        assert (done.policy, done.output, done.frames_out) == (policy, str(output), 1)
        assert any(told in note for note in notes)
        assert decoded(output)[0].shape == (72, 128, 3)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"height": 100}, (100, 178)),
        ({"width": 100}, (56, 100)),
        ({"fit": "128x100"}, (72, 128)),
        ({"fit": "1000x90"}, (90, 160)),
    ],
)
def test_the_size_of_the_result_can_be_asked_for(tmp_path, clip, options, size):
    output = tmp_path / "out.mkv"
    vsr.run(clip, output, policy="bicubic", codec="ffv1", **options)
    assert decoded(output)[0].shape[:2] == size
    assert plan(clip, resolve_recipe(None, [], {"policy": "bicubic", **options})).output_size == (
        size[1],
        size[0],
    )


def test_sizes_are_those_that_a_player_shows(clip):
    with open_clip(clip) as reader:
        info = reader.info
    turned = replace(info, rotation_degrees=90)
    assert with_scale(Recipe(height=128), turned).scale == 2
    assert with_scale(Recipe(width=72), turned).scale == 2
    wide = replace(info, sample_aspect_ratio=Fraction(2))
    assert with_scale(Recipe(fit="256x1000"), wide).scale == 2
    assert with_scale(Recipe(scale=3.0), info).scale == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": 20}, "--height 20 is 0.556 times the size"),
        ({"width": 64 * 17}, "expected 1 to 16 times"),
        ({"fit": "32x32"}, "--fit 32x32 is 0.5 times"),
        ({"fit": "wide"}, "such as 1920x1080"),
        ({"height": 0}, "at least 1"),
        ({"height": 72, "width": 128}, "--height and --width both set the size"),
        ({"height": 72, "scale": 2.0}, "--scale and --height both set the size"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(clip, given, message):
    with pytest.raises(UsageError, match=message):
        run(clip, resolve_recipe(None, [], {"policy": "bicubic", **given}))


def test_a_size_that_is_given_beats_that_of_the_recipe(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("height = 72")
    assert parse_size("1920X1080") == (1920, 1080)
    assert not resolve_recipe(recipe, [], {"scale": 2.0}).height
    assert resolve_recipe(recipe, [], {"fit": "10x10"}).fit == "10x10"
    assert resolve_recipe(recipe, [], {}).height == 72


def need_of(lengths, lacking):
    shots, first = [], 0
    for index, length in enumerate(lengths):
        shots.append(Shot(index, first, first + length - 1, 0.0, 1.0, first))
        first += length
    return Need(
        Recipe(),
        None,
        None,
        "shot",
        True,
        tuple(shots),
        0.0,
        tuple(shots[index] for index in lacking),
    )


@pytest.mark.parametrize(
    ("lengths", "lacking", "models", "busy", "cores", "seconds"),
    [
        # One shot: setup, its training, its frames.
        ([10], [0], (30.0,), 2.0, 2, 1 + 30 + 10),
        # The second training is hidden behind the first shot where there are cores for both.
        ([40, 10], [0, 1], (30.0, 30.0), 1.0, 2, 1 + 30 + 40 + 10),
        # A short first shot leaves the second waiting.
        ([10, 10], [0, 1], (30.0, 30.0), 1.0, 2, 1 + 30 + 30 + 10),
        # Both at half their speed, while both are at work.
        ([10, 10], [0, 1], (30.0, 30.0), 3.0, 2, 1 + 30 + 20 + 20 + 10),
        # Only the second lacks a model.
        ([40, 10], [1], (30.0,), 1.0, 2, 1 + 40 - 1 + 10),
    ],
)
def test_the_time_of_a_run_with_trainings_beside_follows_from_its_parts(
    lengths, lacking, models, busy, cores, seconds
):
    cost = TrainingCost(1.0, models, is_beside=True)
    assert run_seconds(need_of(lengths, lacking), cost, 1.0, busy, cores) == pytest.approx(
        seconds, abs=1.01
    )


@pytest.mark.slow
def test_the_result_is_that_of_the_separate_commands(tmp_path, cache):
    # Long enough that the prior is adapted to each.
    clip = write_two_shots(tmp_path / "clip.mkv", 12)
    for words in (
        ["train-shot", str(clip), "--models", str(tmp_path / "bank"), "--shots", "all"],
        ["run", str(clip), "--models", str(tmp_path / "bank"), "-o", str(tmp_path / "apart.mkv")],
        ["run", str(clip), "-o", str(tmp_path / "alone.mkv")],
    ):
        # On all cores: a model must not depend on how many there are.
        environment = {key: os.environ[key] for key in os.environ if key != "OMP_NUM_THREADS"}
        done = subprocess.run([*COMMAND, *words], capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    assert np.array_equal(decoded(tmp_path / "apart.mkv"), decoded(tmp_path / "alone.mkv"))
    (bank,) = cache.iterdir()
    models = [sorted(folder.glob("*.safetensors")) for folder in (bank, tmp_path / "bank")]
    assert [path.read_bytes() for path in models[0]] == [path.read_bytes() for path in models[1]]


@pytest.mark.slow
def test_a_run_that_is_interrupted_goes_on_with_the_same_command(tmp_path, clip):
    whole = [*COMMAND, "run", str(clip), "--set", "encode.segment_frames=4", "-o"]
    assert subprocess.run([*whole, str(tmp_path / "whole.mkv")], check=False).returncode == 0
    command = [*whole, str(tmp_path / "out.mkv"), "--json", str(tmp_path / "run.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    # What is told runs ahead of what is kept.
    while process.poll() is None and not list(tmp_path.glob(".out.mkv.vsr-work/segment-*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert "resume with: vsr run" in errors
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["resumed_at_frame"] > 0
    assert np.array_equal(decoded(tmp_path / "whole.mkv"), decoded(tmp_path / "out.mkv"))


@pytest.mark.slow
def test_two_processes_with_one_clip_train_its_models_once(tmp_path, clip, cache):
    command = [*COMMAND, "run", str(clip), "--set", "training_seconds=2", "-o"]
    both = [
        subprocess.Popen([*command, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)
        for name in ("a.mkv", "b.mkv")
    ]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert np.array_equal(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv"))
    assert len(list(next(cache.iterdir()).glob("*.shot.safetensors"))) == 2


@pytest.mark.slow
def test_a_policy_of_keyframes_has_its_models_trained(tmp_path, clip, cache):
    environment = os.environ | {"VSR_CACHE": str(cache.parent)}
    command = [*COMMAND, "run", str(clip), "--policy", "smi", "-o", str(tmp_path / "out.mkv")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 models trained" not in done.stdout
    assert len(list(next(cache.iterdir()).glob("*.safetensors"))) == 1
