import json
import multiprocessing
from dataclasses import replace

import pytest
import torch

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import BRIEF
from vsr.errors import InputError, ModelError, OutputError, UsageError
from vsr.models.bank import load_bank, load_card
from vsr.train.fit import TrainingListener
from vsr.train.keyframe import keyframe_hash, train_keyframe
from vsr.train.methods import METHODS
from vsr.train.methods.quick import QuickTraining
from vsr.video.reader import open_clip


@pytest.fixture(autouse=True)
def brief_training(monkeypatch):
    """The quick recipe with few iterations: what is tested here is the book-keeping around it."""
    monkeypatch.setitem(
        METHODS, "quick", replace(METHODS["quick"], options=replace(BRIEF, iterations=12))
    )


def hearing(on_progress):
    return TrainingListener(on_progress=on_progress)


@pytest.fixture
def clip(tmp_path):
    return write_clip(
        tmp_path / "my clip.mkv", moving_pictures(8, 40, 48), codec="ffv1", pixel_format="bgr0"
    )


@pytest.fixture
def clip_of_two_shots(tmp_path):
    pictures = moving_pictures(20, 40, 48, step=(0.1, 0.2), seed=1)[:12]
    pictures += [255 - picture for picture in moving_pictures(20, 40, 48, step=(0.1, 0.2), seed=2)]
    return write_clip(tmp_path / "two.mkv", pictures, codec="ffv1", pixel_format="bgr0")


def test_models_of_the_seeds_asked_for_are_saved_with_their_origin(clip, tmp_path):
    report = train_keyframe(clip, tmp_path / "bank", count=2, seed=5)
    models = load_bank(tmp_path / "bank")
    assert tuple(model.name for model in models) == report.trained
    assert [model.card.seed for model in models] == [5, 6]
    card = models[0].card
    assert (card.clip, card.recipe, card.arch) == ("my clip.mkv", "quick", "singan-quick")
    assert card.frame_time == pytest.approx(card.keyframe / 25, abs=1e-3)
    assert card.shot_start_seconds <= card.frame_time < card.shot_end_seconds
    with open_clip(clip) as reader:
        frames = list(reader.frames())
        assert card.clip_identity == reader.info.identity
    assert card.keyframe_hash == keyframe_hash(frames[card.keyframe].pixels)
    with torch.inference_mode():
        scores = models[0].critic((2 * frames[card.keyframe].pixels - 1)[None])
    assert card.critic_mean == pytest.approx(float(scores.mean()), abs=1e-4)


def test_a_training_that_was_ended_goes_on_to_the_same_files(clip, tmp_path):
    def end_in_the_third(state):
        if state.models_done == 2:
            raise KeyboardInterrupt

    train_keyframe(clip, tmp_path / "whole", count=4, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_keyframe(
            clip, tmp_path / "bank", count=4, device="cpu", listener=hearing(end_in_the_third)
        )
    (tmp_path / "bank" / ".left-by-a-killed-one.safetensors.77.part").write_bytes(b"half")
    report = train_keyframe(clip, tmp_path / "bank", count=4, device="cpu")
    assert (len(report.kept), len(report.trained)) == (1, 3)
    whole, bank = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("whole", "bank")
    )
    assert bank == whole


def test_two_trainings_do_not_share_a_bank(clip, tmp_path):
    def begin_another(state):
        with pytest.raises(OutputError, match=r"models are being trained in it by process \d+ on"):
            train_keyframe(clip, tmp_path / "bank", count=1)

    train_keyframe(clip, tmp_path / "bank", count=1, listener=hearing(begin_another))


@pytest.mark.slow
def test_a_training_process_that_is_killed_is_told_and_the_others_models_stay(clip, tmp_path):
    def kill_one(state):
        if state.models_done == 1:
            multiprocessing.active_children()[0].kill()

    with pytest.raises(ModelError, match="process was killed"):
        train_keyframe(
            clip, tmp_path / "bank", count=6, workers=2, device="cpu", listener=hearing(kill_one)
        )
    assert len(train_keyframe(clip, tmp_path / "bank", count=6).kept) >= 1
    assert [path.name for path in (tmp_path / "bank").iterdir() if path.name.startswith(".")] == []


def test_a_model_does_not_depend_on_the_number_of_workers(clip, tmp_path, monkeypatch):
    # The workers import the recipe anew, so it is the real one here, cut by its own iterations.
    short = replace(METHODS["quick"], options=replace(BRIEF, iterations=3))
    monkeypatch.setitem(METHODS, "quick", short)
    train_keyframe(clip, tmp_path / "alone", count=2, device="cpu")
    train_keyframe(clip, tmp_path / "together", count=2, workers=2, device="cpu")
    for one, other in zip(
        load_bank(tmp_path / "alone"), load_bank(tmp_path / "together"), strict=True
    ):
        assert one.card == other.card
        states = one.generator.state_dict(), other.generator.state_dict()
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_finished_models_are_kept_and_the_same_command_continues(clip, tmp_path):
    bank = tmp_path / "bank"

    class StoppedError(Exception):
        pass

    def stop_in_the_second(state):
        if state.models_done == 1 and state.share_done > 0.5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_keyframe(clip, bank, count=3, device="cpu", listener=hearing(stop_in_the_second))
    (first,) = bank.glob("*.safetensors")
    before = first.stat().st_mtime_ns
    said = []
    report = train_keyframe(clip, bank, count=3, listener=TrainingListener(said.append))
    assert report.kept == (first.stem,)
    assert len(report.trained) == 2
    assert first.stat().st_mtime_ns == before
    assert said == ["1 of 3 models exist already and are kept"]
    assert [path.name for path in bank.iterdir() if path.name.startswith(".")] == []


def test_progress_reaches_the_end_and_tells_loss_and_time_left(clip, tmp_path):
    states = []
    train_keyframe(clip, tmp_path / "bank", count=2, listener=hearing(states.append))
    assert (states[-1].models_done, states[-1].models, states[-1].share_done) == (2, 2, 1.0)
    assert all(state.loss > 0 and state.seconds_left >= 0 for state in states)


def test_the_longest_shot_is_trained_unless_another_is_asked_for(clip_of_two_shots, tmp_path):
    said = []
    report = train_keyframe(
        clip_of_two_shots, tmp_path / "bank", count=1, listener=TrainingListener(said.append)
    )
    assert report.shots == 2
    assert report.keyframes[0] >= 12
    assert "--shots all would train 2 models" in said[0]
    assert train_keyframe(clip_of_two_shots, tmp_path / "bank", count=1, shots=0).keyframes[0] < 12
    both = train_keyframe(clip_of_two_shots, tmp_path / "bank", count=1, shots="all")
    assert len(both.keyframes) == 2
    assert both.trained == ()


def test_the_keyframe_that_is_named_is_the_one_trained_on(clip_of_two_shots, tmp_path):
    report = train_keyframe(clip_of_two_shots, tmp_path / "bank", count=1, keyframe=3)
    assert report.keyframes == (3,)
    (path,) = (tmp_path / "bank").glob("*.safetensors")
    assert load_card(path).keyframe == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, UsageError, "--count is 0"),
        ({"keyframe": 8}, UsageError, "expected 0 to 7"),
        ({"shots": 1}, UsageError, "expected 0 to 0"),
        ({"shots": "first"}, UsageError, "'longest' or 'all'"),
        ({"seed": -1}, UsageError, "--seed is -1"),
        ({"method": "quik"}, UsageError, "did you mean quick"),
        ({"device": "gpu"}, UsageError, "unknown device gpu"),
        ({"neighbours": -1}, UsageError, "--neighbours is -1"),
        ({"neighbours": 9}, UsageError, "expected a whole number from 0 to 8"),
        ({"neighbours": 1, "method": "faithful"}, UsageError, "it is for quick"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(clip, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        train_keyframe(clip, tmp_path / "bank", **options)
    assert not (tmp_path / "bank").exists()


def test_a_clip_that_is_too_small_is_refused(tmp_path):
    clip = write_clip(tmp_path / "small.mkv", moving_pictures(3, 24, 48))
    with pytest.raises(InputError, match="48x24"):
        train_keyframe(clip, tmp_path / "bank")


def test_a_model_of_another_keyframe_is_not_overwritten(clip, tmp_path):
    bank = tmp_path / "bank"
    train_keyframe(clip, bank, count=1, keyframe=2)
    write_clip(clip, moving_pictures(8, 40, 48, seed=7), codec="ffv1", pixel_format="bgr0")
    with pytest.raises(ModelError, match="another keyframe"):
        train_keyframe(clip, bank, count=1, keyframe=2)


def test_a_bank_that_cannot_be_written_is_told_before_training(clip, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write models"):
        train_keyframe(clip, tmp_path / "file" / "bank", count=1)


def test_models_made_steady_on_neighbours_tell_it_in_name_and_card(clip, tmp_path):
    plain = train_keyframe(clip, tmp_path / "plain", count=1, keyframe=4)
    steady = train_keyframe(clip, tmp_path / "steady", count=1, keyframe=4, neighbours=2)
    assert plain.trained == ("my_clip-000004-quick-000",)
    assert steady.trained == ("my_clip-000004-quick-n2-000",)
    (one,), (other,) = load_bank(tmp_path / "plain"), load_bank(tmp_path / "steady")
    assert (one.card.recipe, other.card.recipe) == ("quick", "quick-n2")
    assert one.card.keyframe_hash == other.card.keyframe_hash
    weights = one.generator.state_dict(), other.generator.state_dict()
    assert not torch.equal(weights[0]["body.0.0.weight"], weights[1]["body.0.0.weight"])
    assert (
        train_keyframe(clip, tmp_path / "steady", count=1, keyframe=4, neighbours=2).trained == ()
    )


def test_neighbours_come_from_the_keyframes_own_shot_as_far_as_it_goes(
    clip_of_two_shots, tmp_path, monkeypatch
):
    seen = []

    def remember(pictures, options, seed):
        seen[:] = pictures
        return QuickTraining(pictures, options, seed)

    monkeypatch.setitem(METHODS, "quick", replace(METHODS["quick"], begin=remember))
    train_keyframe(clip_of_two_shots, tmp_path / "bank", count=1, keyframe=10, neighbours=3)
    with open_clip(clip_of_two_shots) as reader:
        frames = [frame.pixels for frame in reader.frames()]
    expected = [frames[index] for index in (10, 7, 8, 9, 11)]
    assert len(seen) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


def test_a_shot_of_one_frame_has_no_neighbours_and_is_trained_all_the_same(tmp_path):
    clip = write_clip(
        tmp_path / "one.mkv", moving_pictures(1, 40, 48), codec="ffv1", pixel_format="bgr0"
    )
    assert train_keyframe(clip, tmp_path / "bank", count=1, neighbours=2).trained == (
        "one-000000-quick-n2-000",
    )


def test_models_of_one_keyframe_that_were_trained_otherwise_are_not_mixed(clip, tmp_path):
    train_keyframe(clip, tmp_path / "bank", count=1, keyframe=4)
    with pytest.raises(
        ModelError, match="same keyframe but was trained with quick, not with quick-n1"
    ):
        train_keyframe(clip, tmp_path / "bank", count=1, keyframe=4, neighbours=1)
    assert len(load_bank(tmp_path / "bank")) == 1
    # Another keyframe is another matter: policies never mix the two.
    assert train_keyframe(clip, tmp_path / "bank", count=1, keyframe=3, neighbours=1).trained


def test_the_report_is_strict_json(clip, tmp_path):
    report = train_keyframe(clip, tmp_path / "bank", count=1)
    assert json.loads(report.to_json())["trained"] == list(report.trained)


def test_a_model_of_each_frame_is_a_bank_for_the_baseline(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(2, 40, 48), codec="ffv1")
    monkeypatch.setitem(METHODS, "quick", replace(METHODS["quick"], options=BRIEF))
    report = train_keyframe(clip, tmp_path / "bank", keyframe="all", workers=1)
    assert report.trained == ("clip-000000-baseline-quick-000", "clip-000001-baseline-quick-000")
    manifest = vsr.run(clip, tmp_path / "out.mkv", policy="baseline", models=tmp_path / "bank")
    assert manifest.models == list(report.trained)
    # The models of keyframes are a system of their own beside them.
    train_keyframe(clip, tmp_path / "bank", keyframe=1, count=1, workers=1)
    manifest = vsr.run(clip, tmp_path / "smi.mkv", policy="smi", models=tmp_path / "bank")
    assert manifest.models == ["clip-000001-quick-000"]
