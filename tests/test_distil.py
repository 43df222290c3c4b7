import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.clips import moving_pictures, write_clip
from tests.models import BRIEF, card_of, make_model, picture
from tests.steps import upscale_frames
from vsr.cli import app
from vsr.engine.generator import FastGenerator, progressive_upscale
from vsr.errors import ModelError, UsageError
from vsr.models.bank import load_bank, load_card, load_model
from vsr.train.distill import StudentOptions, Teacher, distil
from vsr.train.keyframe import train_keyframe
from vsr.train.methods import METHODS
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.video.reader import open_clip

BRIEFLY = StudentOptions(iterations=150, crop_px=24)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_clip(path, moving_pictures(6, 40, 48), codec="ffv1", pixel_format="bgr0")


@pytest.fixture(scope="module")
def taught(clip, tmp_path_factory):
    """A bank of three models with their student, and what was said of it."""
    bank = tmp_path_factory.mktemp("bank")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "quick", replace(METHODS["quick"], options=BRIEF))
        train_keyframe(clip, bank, count=3, keyframe=1, seed=1)
    return bank, distil(clip, bank, options=BRIEFLY)


def frames_of(clip):
    with open_clip(clip) as reader:
        return list(reader.frames()), reader.info.identity


def upscale(policy, bank, clip, decisions=None, **options):
    frames, identity = frames_of(clip)
    context = PolicyContext(bank, 4.0, CPU, identity, PolicyOptions(**options))
    made, decided = upscale_frames(POLICIES[policy], context, frames)
    if decisions is not None:
        decisions += decided
    return [frame.pixels for frame in made]


def psnr_db(one, other):
    return -10 * math.log10(float(((one - other) ** 2).mean()))


def test_a_student_is_nearer_to_the_mean_of_its_teachers_than_any_of_them(clip, taught):
    bank = load_bank(taught[0])
    mean = upscale("avgi", bank, clip)[5]
    student = upscale("student", bank, clip)[5]
    alone = [
        upscale("smi", bank, clip, model=model.name)[5]
        for model in bank
        if not model.card.is_student
    ]
    assert len(alone) == 3
    assert psnr_db(student, mean) > max(psnr_db(one, mean) for one in alone) + 0.5


def test_no_other_policy_counts_the_student(clip, taught):
    bank = load_bank(taught[0])
    members = [model for model in bank if not model.card.is_student]
    assert len(members) == len(bank) - 1
    for policy in ("smi", "dsrfi", "selfrec", "ami", "avgi"):
        for one, other in zip(
            upscale(policy, bank, clip), upscale(policy, members, clip), strict=True
        ):
            assert torch.equal(one, other)


def test_the_student_policy_runs_the_one_model_that_was_distilled(clip, taught):
    decisions = []
    bank = load_bank(taught[0])
    large = upscale("student", bank, clip, decisions)
    (student,) = [model for model in bank if model.card.is_student]
    assert decisions[0].models == (student.name,) == ("clip-000001-student-000",)
    assert decisions[0].reason == "trained on this shot"
    generator = FastGenerator(student.name, student.generator, student.card.step_ratio, CPU)
    torch.testing.assert_close(
        large[0], progressive_upscale(frames_of(clip)[0][0].pixels, [generator], 4.0, 1.0)
    )
    # Its teachers may be thrown away.
    assert torch.equal(upscale("student", [student], clip)[0], large[0])


def test_the_gap_to_the_teacher_is_stored_as_an_own_measurement_finds_it(clip, taught):
    """On a clip this small the frames are measured whole: the last two, the keyframe being the
    second of six."""
    bank, report = taught
    gap = report.students["clip-000001-student-000"]
    assert load_card(bank / "clip-000001-student-000.safetensors").distillation == gap
    assert gap.teachers == tuple(f"clip-000001-quick-{seed:03d}" for seed in (1, 2, 3))
    models = load_bank(bank)
    ours, theirs = upscale("student", models, clip), upscale("avgi", models, clip)
    assert gap.psnr_db == pytest.approx(
        (psnr_db(ours[4], theirs[4]) + psnr_db(ours[5], theirs[5])) / 2, abs=0.01
    )
    assert 0.5 < gap.flicker_ratio < 2
    said = json.loads(report.to_json())
    assert said["students"]["clip-000001-student-000"]["psnr_db"] == gap.psnr_db


def test_the_mean_after_every_step_is_what_averaged_chains_come_to(clip, taught):
    members = [model for model in load_bank(taught[0]) if not model.card.is_student]
    low = frames_of(clip)[0][1].pixels
    teacher = Teacher(members, "avgi")
    torch.testing.assert_close(teacher.upscale(low, 1.0), upscale("avgi", members, clip)[1])
    last = teacher.pairs(low, 1.0)[-1].target
    assert psnr_db((last + 1) / 2, teacher.upscale(low, 1.0)) > 30


def test_a_student_of_the_same_models_is_kept_and_one_of_others_replaced(clip, taught, tmp_path):
    bank = tmp_path / "bank"
    bank.mkdir()
    for path in taught[0].iterdir():
        (bank / path.name).write_bytes(path.read_bytes())
    again = distil(clip, bank, options=BRIEFLY)
    assert (again.students, again.kept) == ({}, ("clip-000001-student-000",))
    (bank / "clip-000001-quick-003.safetensors").unlink()
    fewer = distil(clip, bank, options=replace(BRIEFLY, iterations=2))
    assert fewer.students["clip-000001-student-000"].teachers[-1].endswith("002")


def test_a_bank_without_a_student_is_told_with_the_command_that_makes_one(clip, taught):
    members = [model for model in load_bank(taught[0]) if not model.card.is_student]
    with pytest.raises(ModelError, match="Make one with vsr distil"):
        upscale("student", members, clip)


def test_what_cannot_be_distilled_is_refused(clip, taught, tmp_path):
    with pytest.raises(UsageError, match="--teacher smi cannot be distilled; expected avgi"):
        distil(clip, taught[0], teacher="smi")
    with pytest.raises(UsageError, match="--seed is -1"):
        distil(clip, taught[0], seed=-1)
    identity = frames_of(clip)[1]
    lonely = tmp_path / "lonely"
    make_model(lonely, "one", picture(), clip_identity=identity)
    with pytest.raises(ModelError, match="no two models of a keyframe"):
        distil(clip, lonely)
    make_model(lonely, "two", picture(), clip_identity=identity, recipe="faithful")
    with pytest.raises(ModelError, match="trained with faithful and quick"):
        distil(clip, lonely)


def test_a_shot_of_one_frame_is_distilled_without_a_figure_for_flicker(tmp_path, monkeypatch):
    clip = write_clip(
        tmp_path / "one.mkv", moving_pictures(1, 40, 48), codec="ffv1", pixel_format="bgr0"
    )
    monkeypatch.setitem(
        METHODS, "quick", replace(METHODS["quick"], options=replace(BRIEF, iterations=2))
    )
    train_keyframe(clip, tmp_path / "bank", count=2)
    (gap,) = distil(
        clip, tmp_path / "bank", options=replace(BRIEFLY, iterations=2)
    ).students.values()
    assert gap.flicker_ratio is None
    assert gap.psnr_db > 0
    assert load_bank(tmp_path / "bank")[-1].card.distillation == gap


def test_a_model_saved_before_there_were_students_still_loads(taught, tmp_path):
    source = taught[0] / "clip-000001-quick-001.safetensors"
    with safe_open(source, "pt") as file:
        metadata = {
            name: value for name, value in file.metadata().items() if name != "distillation"
        }
    save_file(load_file(source), tmp_path / "old.safetensors", metadata)
    card = load_model(tmp_path / "old.safetensors").card
    assert not card.is_student
    assert card == load_card(source)


@pytest.mark.parametrize("value", ['"avgi"', '{"teacher": "avgi"}', "[1]"])
def test_a_wrong_distillation_in_a_card_is_named(taught, tmp_path, value):
    source = taught[0] / "clip-000001-student-000.safetensors"
    with safe_open(source, "pt") as file:
        metadata = file.metadata() | {"distillation": value}
    save_file(load_file(source), tmp_path / "wrong.safetensors", metadata)
    with pytest.raises(ModelError, match="distillation"):
        load_card(tmp_path / "wrong.safetensors")


def test_a_card_without_a_distillation_is_no_students():
    assert not card_of(picture()).is_student


def test_the_command_takes_the_students_settings_and_replaces_one_of_others(clip, taught, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(taught[0], bank)

    def distilled(*settings):
        flags = [each for setting in settings for each in ("--set", setting)]
        return CliRunner().invoke(app, ["distil", str(clip), "--models", str(bank), *flags])

    assert "1 students made" in distilled("crop_px=24", "iterations=4").output
    (student,) = [model for model in load_bank(bank) if model.card.is_student]
    assert student.card.distillation.settings == ("iterations=4", "crop_px=24")
    assert "0 students made, 1 kept" in distilled("iterations=4", "crop_px=24").output
    refused = distilled("iterations=0").exception
    assert isinstance(refused, UsageError)
    assert "iterations" in str(refused)
