"""What options of a training mean, kernels in files, and systems side by side in one bank."""

import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.clips import moving_pictures, write_clip
from tests.models import make_model, picture
from tests.steps import upscale_frames
from tests.test_policies import context_of
from vsr.cli import app
from vsr.errors import ModelError, UsageError
from vsr.image.blur import bicubic_kernel, gaussian_kernel, taps_from_tensor
from vsr.models.bank import load_bank, load_model
from vsr.models.kernel_file import (
    KernelRecord,
    draw_kernel,
    kernel_summary,
    read_kernel,
    write_kernel,
)
from vsr.train.keyframe import train_keyframe
from vsr.train.methods.zssr import ZSSR_AS_PUBLISHED
from vsr.train.plan import plan_training
from vsr.upscale import POLICIES
from vsr.video.frames import Frame

SKEWED = gaussian_kernel(13, (2.2, 0.9), 30)


@pytest.fixture
def kernel_file(tmp_path):
    path = tmp_path / "kernel.json"
    write_kernel(
        KernelRecord(
            "clip.mkv", 3, 0, 2, taps_from_tensor(SKEWED), "spectrum", 0.2, 0.9, (0.5,), 1.0
        ),
        path,
    )
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_clip(path, moving_pictures(4, 40, 48), codec="ffv1", pixel_format="bgr0")


def test_options_of_a_training_change_its_name_and_nothing_else_does(kernel_file):
    plans = [
        plan_training("zssr"),
        plan_training("zssr", full=True),
        plan_training("zssr", settings=["crop_px=48"]),
        plan_training("zssr", settings=["crop_px=56"]),
        plan_training("zssr", kernel="auto"),
        plan_training("zssr", kernel=kernel_file),
        plan_training("zssrgan", regime="fixed"),
        plan_training("quick", neighbours=2),
    ]
    labels = [plan.label for plan in plans]
    assert len(set(labels)) == len(labels)
    assert labels[0] == "zssr"
    assert plan_training("zssrgan", kernel="auto").label == "zssrgan", "it finds its kernel anyway"
    assert plans[1].method.options == ZSSR_AS_PUBLISHED
    assert plans[2].method.options == replace(plans[0].method.options, crop_px=48)
    assert plans[5].method.options.kernel == taps_from_tensor(SKEWED)
    assert plans[6].method.options.regime == "fixed"


def test_quick_takes_steps_of_two_where_it_is_to_undo_a_kernel(kernel_file):
    assert plan_training("quick").method.options.step_ratio == pytest.approx(2**0.5)
    assert plan_training("quick", kernel=kernel_file).method.options.step_ratio == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "quick",
            {"full": True},
            "--full is only for methods whose default schedule is shorter than the published one: "
            "zssr, zssrgan",
        ),
        ("zssr", {"regime": "fixed"}, "--regime is not for method zssr; it is for zssrgan"),
        ("zssrgan", {"regime": "fixd"}, "did you mean 'fixed'"),
        ("faithful", {"kernel": "auto"}, "it is for quick, zssr, zssrgan"),
        ("zssr", {"settings": ["crop=3"]}, "did you mean 'crop_px'"),
        ("zssr", {"neighbours": 2}, "it is for quick"),
        ("zssr", {"settings": ["iterations=0"]}, "iterations is 0; expected a whole number from 1"),
        ("quick", {"settings": ["network.width=500"]}, "expected a whole number from 1 to 256"),
        (
            "quick",
            {"settings": ["learning_rate=-1"]},
            "learning_rate is -1; expected a number from 1e-09 to 1",
        ),
        (
            "quick",
            {"settings": ["adversarial_every=0"]},
            "adversarial_every is 0; expected a whole number from 1",
        ),
        (
            "quick",
            {"settings": ["pair_scales=[0.01]"]},
            r"pair_scales\[0\] is 0.01; expected a number from 0.4 to 1",
        ),
        (
            "zssrgan",
            {"settings": ["game.crop_px=8"]},
            "crop_px is 8; expected a whole number from 32",
        ),
        ("quick", {"settings": ["pair_scales=[]"]}, "pair_scales is empty"),
        ("zssr", {"settings": ["step_ratio=1.5"]}, "unknown key 'step_ratio'"),
        ("zssrgan", {"settings": ["adversarial_share=1.0"]}, "a number from 0 to below 1"),
        ("zsr", {}, "did you mean zssr"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        plan_training(name, **options)


def test_a_kernel_file_is_read_as_it_was_written(kernel_file):
    assert read_kernel(kernel_file) == taps_from_tensor(SKEWED)
    kernel_file.write_text(json.dumps(taps_from_tensor(SKEWED)))
    assert read_kernel(kernel_file) == taps_from_tensor(SKEWED)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no json", "is not JSON"),
        ("[" * 20000, "is not JSON"),
        ("{}", "kernel is missing"),
        ("[]", "is not a square"),
        ("[[1, 2], [3]]", "is not a square"),
        ('[["a"]]', "expected a finite number"),
        ("[[NaN]]", "expected a finite number"),
        ("[[0.4, 0.4], [0.4, 0.4]]", "has a sum of 1.6"),
        ('{"kernel": [[1]], "factor": 4}', "factor is 4; expected 2"),
    ],
)
def test_a_file_that_is_no_kernel_is_refused(tmp_path, content, problem):
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(UsageError, match=problem):
        read_kernel(tmp_path / "k.json")


def test_a_kernel_is_drawn_with_its_brightest_tap_where_it_is_largest():
    drawn = draw_kernel(taps_from_tensor(SKEWED)).astype(int).sum(axis=2)
    row, column = np.unravel_index(drawn[:, :296].argmax(), (296, 296))
    peak = divmod(int(SKEWED.argmax()), 13)
    # 13 taps of 22 pixels, with 5 of margin.
    assert ((row - 5) // 22, (column - 5) // 22) == peak
    assert drawn.shape == (296, 604)


def test_the_words_tell_a_kernels_widths_and_direction():
    words = kernel_summary(taps_from_tensor(SKEWED))
    assert "13x13 taps" in words
    assert "2.19 pixels at 30 degrees" in words
    assert "0.90 across" in words
    assert kernel_summary(taps_from_tensor(bicubic_kernel())).count("0.85") == 3


def test_a_clip_that_is_not_blurred_is_trained_on_as_without_a_kernel(clip, tmp_path):
    brief = ["iterations=4", "crop_px=24", "network.width=8"]
    banks = [tmp_path / "plain", tmp_path / "auto"]
    train_keyframe(clip, banks[0], count=1, settings=brief)
    train_keyframe(clip, banks[1], count=1, settings=brief, kernel="auto")
    (plain,), (found,) = map(load_bank, banks)
    assert (found.card.kernel, found.card.step_ratio) == (None, plain.card.step_ratio)
    for one, other in zip(plain.generator.parameters(), found.generator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_models_of_a_kernel_keep_it_and_share_a_bank_with_those_of_another_system(
    clip, tmp_path, kernel_file
):
    bank = tmp_path / "bank"
    brief = ["iterations=4", "crop_px=24", "network.width=8"]
    report = train_keyframe(clip, bank, method="zssr", kernel=kernel_file, settings=brief)
    (model,) = load_bank(bank)
    assert report.trained == (model.name,)
    assert model.card.kernel == taps_from_tensor(SKEWED)
    assert model.card.system == "kernelgan"
    assert model.critic is None
    again = train_keyframe(clip, bank, method="zssr", kernel=kernel_file, settings=brief)
    assert again.kept == (model.name,)
    assert train_keyframe(clip, bank, method="zssr", settings=brief).trained
    assert {one.card.system for one in load_bank(bank)} == {"zssr", "kernelgan"}
    with pytest.raises(ModelError, match="policies would mix the two"):
        train_keyframe(clip, bank, method="zssr", settings=["iterations=3", "network.width=8"])


def test_a_kernel_is_found_and_written_as_numbers_and_as_a_picture(clip, tmp_path):
    written = [tmp_path / "k.json", tmp_path / "k.png"]
    arguments = ["kernel", str(clip), "--set", "iterations=2", "--set", "crop_px=32"]
    app(
        [*arguments, *(word for path in written for word in ("-o", str(path)))],
        standalone_mode=False,
    )
    assert read_kernel(written[0]) == taps_from_tensor(bicubic_kernel())
    assert json.loads(written[0].read_text())["basis"] == "bicubic"
    assert cv2.imread(str(written[1])).shape == (296, 604, 3)


def test_policies_work_with_one_system_of_a_bank(tmp_path):
    bank = [
        make_model(tmp_path, name, picture(), seed, arch=arch)
        for seed, (name, arch) in enumerate(
            [("a", "zssr"), ("b", "zssrgan"), ("c", "singan-single-scale")]
        )
    ]
    used = {}
    for policy in ("smi", "zssr", "zssrgan"):
        frame = Frame(picture(), 0, 0, Fraction(1, 10))
        _, decisions = upscale_frames(POLICIES[policy], context_of(bank), [frame])
        used[policy] = decisions[0].models
    assert used == {"smi": ("c",), "zssr": ("a",), "zssrgan": ("b",)}
    with pytest.raises(ModelError, match="--method zssr --kernel auto"):
        POLICIES["kernelgan"].make(context_of(bank))


def test_a_model_of_before_relu_and_biases_were_options_is_still_read(tmp_path):
    model = make_model(tmp_path, "new", picture())
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = json.loads(metadata["network"])
    del network["leak"], network["bias"]
    for name in ("kernel", "remark"):
        del metadata[name]
    save_file(tensors, tmp_path / "old.safetensors", metadata | {"network": json.dumps(network)})
    old = load_model(tmp_path / "old.safetensors")
    assert old.card == model.card
    assert torch.equal(
        old.generator(*[picture()[None]] * 2), model.generator(*[picture()[None]] * 2)
    )
