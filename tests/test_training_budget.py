from dataclasses import replace

import pytest

from tests.clips import moving_pictures, write_clip
from tests.models import BRIEF, picture
from vsr.errors import UsageError
from vsr.models.bank import load_card
from vsr.train.budget import ROUND_TO, iterations_for_budget
from vsr.train.keyframe import train_keyframe
from vsr.train.methods import METHODS
from vsr.train.methods.quick import train_quick

QUICK = replace(METHODS["quick"], options=BRIEF)


def test_more_time_buys_more_iterations_and_more_models_share_them(tmp_path):
    def iterations(seconds, models, workers):
        return iterations_for_budget(seconds, models, workers, QUICK, picture(), tmp_path, "")

    assert iterations(600, 15, 2) > iterations(100, 15, 2)
    assert iterations(600, 16, 2) < iterations(600, 2, 2)
    assert iterations(600, 15, 2) % ROUND_TO == 0


def test_too_little_time_is_refused_with_what_is_needed(tmp_path):
    with pytest.raises(UsageError, match=r"15 models need about \d+ on 2 cores"):
        iterations_for_budget(1, 15, 2, QUICK, picture(), tmp_path, "")
    with pytest.raises(UsageError, match="is only for method quick"):
        iterations_for_budget(600, 1, 1, METHODS["zssrgan"], picture(), tmp_path, "")


def test_a_training_within_a_budget_goes_on_with_the_number_that_it_began_with(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(METHODS, "quick", QUICK)
    pictures = moving_pictures(8, 40, 48)
    clip = write_clip(tmp_path / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    with monkeypatch.context() as patch:
        # How many there are depends on this machine's speed.
        patch.setattr("vsr.train.keyframe.iterations_for_budget", lambda *_: 20)
        first = train_keyframe(clip, tmp_path / "bank", count=1, budget_seconds=60)
    second = train_keyframe(clip, tmp_path / "bank", count=2, budget_seconds=3600)
    assert second.kept == first.trained
    assert len(second.trained) == 1
    assert {load_card(path).recipe for path in (tmp_path / "bank").glob("*.safetensors")} == {
        "quick-20it"
    }


def test_the_first_part_ends_when_a_held_out_size_is_no_longer_done_better():
    options = replace(BRIEF, iterations=60, check_every=5, patience=2)
    heard = []

    def iterations_run(least_gain):
        heard.clear()
        train_quick(
            picture(),
            replace(options, least_gain=least_gain),
            0,
            lambda *news: heard.append(news[:2]),
        )
        assert heard[-1] == (60, 60)
        return len(heard)

    # Every look is a gain, however small; then none but the first is, so the third of them is the
    # last.
    assert iterations_run(-1e9) == 60
    assert iterations_run(0.999) == 15 + 30
