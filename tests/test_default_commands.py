"""Every command that the README and the cards of upscalers name, run in small on a machine without
any weight file."""

import re
import shlex

import cv2
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.clips import moving_pictures, read_times, textured_picture, write_clip
from tests.test_documents import ROOT, calls_of_vsr
from vsr.cli import app, cards

# Trainings start processes of their own: minutes for all.
pytestmark = pytest.mark.slow
FRAMES = 4
SMALL = {
    "train-keyframe": ["--count", "2", "--set", "iterations=4"],
    "train-keyframe quick": ["--set", "network.width=8", "--set", "crop_px=24"],
    "train-keyframe zssr": ["--set", "network.width=8", "--set", "crop_px=24"],
    "train-keyframe zssrgan": [
        *["--set", "network.width=8", "--set", "crop_px=24"],
        *["--set", "game.iterations=3", "--set", "game.crop_px=32"],
    ],
    "train-shot": ["--budget-seconds", "0.5"],
    "distil": ["--set", "iterations=3", "--set", "crop_px=24"],
    "train": ["--set", "steps=2", "--set", "batch=1", "--set", "crop_px=32"],
    "train srresnet": ["--set", "network.width=4", "--set", "network.blocks=1"],
    "train esrgan": ["--set", "network.width=4", "--set", "network.blocks=1"],
}
SMALL["train srgan"] = SMALL["train stochastic"] = [
    *SMALL["train srresnet"],
    *["--set", "discriminator_width=4"],
]
SMALL["train esrgan"] += ["--set", "discriminator_width=4"]
SMALL["train esrgan-fft"] = SMALL["train esrgan"]
"""What makes a training short, by command and by its method."""
WITHOUT_ARGUMENTS = {"upscalers", "weights", "doctor"}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A folder with the files that the documents speak of, and no weights anywhere."""
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path / "no"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "no"))
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", moving_pictures(FRAMES, 36, 48))
    large = [cv2.resize(each, (192, 144)) for each in moving_pictures(FRAMES, 36, 48)]
    for name in ("result", "truth", "a", "b"):
        write_clip(tmp_path / f"{name}.mp4", large)
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(textured_picture(48, 64, seed=seed)).save(f"photos/{seed}.png")
    return tmp_path


def run(words):
    """Run a command of the line, made small; fails the test where the command fails."""
    command = words[0]
    method = words[words.index("--method") + 1] if "--method" in words else "quick"
    small = [*SMALL.get(command, []), *SMALL.get(f"{command} {method}", [])]
    if command == "run":
        small = ["-y"]
    done = CliRunner().invoke(app, [*words, *small], catch_exceptions=True)
    assert done.exit_code == 0, (words, done.output[-500:], done.exception)
    return done.output


def steps_of(card):
    """The commands of a card: `vsr ...` as it stands, and options as those of a run."""
    for code in re.findall(r"`([^`]+)`", card.how):
        words = shlex.split(code)
        yield words[1:] if words[0] == "vsr" else ["run", "CLIP", *words]


@pytest.mark.parametrize("name", cards.CARDS)
def test_the_commands_of_a_card_run_without_weights(name, fresh):
    files = {
        "CLIP": "clip.mp4",
        "DIR": "bank",
        "FILE": f"{name}.safetensors",
        "sample=N": "sample=1",
    }
    if name in ("dsrfi", "selfrec", "student"):
        run(["train-keyframe", "clip.mp4", "--models", "bank"])
    if name == "srgan":
        files["SRRESNET"] = "srresnet.safetensors"
        run(["train", "--images", "photos", "-o", "srresnet.safetensors", "--method", "srresnet"])
    for words in steps_of(cards.CARDS[name]):
        is_training = words[0] == "train"
        run(
            [
                ("photos" if is_training and word == "DIR" else files.get(word, word))
                for word in words
            ]
        )
    assert read_times(fresh / "clip_x4.mp4") == read_times(fresh / "clip.mp4")


def test_the_commands_of_the_readme_run_without_weights(fresh):
    (fresh / "ckpts").mkdir()
    ran = []
    for words in calls_of_vsr(ROOT / "README.md"):
        if (
            "..." in words
            or "--recipe" in words
            or words[0] in ("mos", "experiment", "cache", "ui")
            or words[:2] == ["weights", "get"]
        ):
            # Recipes and experiments have tests of their own; the others name no arguments here.
            continue
        if words[0] not in WITHOUT_ARGUMENTS and not {"clip.mp4", "a.mp4", "photos/"} & set(words):
            continue
        if words[0] in ("train", "run"):
            run_words = ["fsrcnn.safetensors" if word == "FILE" else word for word in words]
        else:
            run_words = list(words)
        if "fsrcnn.safetensors" in run_words and words[0] == "run":
            run(["train", "--images", "photos", "-o", "fsrcnn.safetensors", "-y"])
        elif words[0] == "train":
            run_words.append("-y")
        run(run_words)
        ran.append(words[0])
    assert {"run", "score", "steady"} <= set(ran)
    assert read_times(fresh / "clip_x4.mp4") == read_times(fresh / "clip.mp4")
