"""The preview: what it chooses to show, what it trains, and what stands on its page."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.clips import moving_pictures, textured_picture, two_shots, write_clip
from tests.test_page import data_of, decoded
from vsr.cli import app
from vsr.cli.preview import parse_time
from vsr.errors import InterruptedRunError, OutputError, UsageError
from vsr.evaluate.preview import excerpts, models, write_preview
from vsr.evaluate.preview.excerpts import (
    EXCERPT_FRAMES,
    choose_looks,
    looks_at,
    read_excerpt,
    survey_clip,
)
from vsr.evaluate.preview.versions import NUM_VERSIONS
from vsr.pipeline.cache import list_banks
from vsr.pipeline.options import Recipe
from vsr.progress import Listener
from vsr.train import keyframe
from vsr.train.methods.shot_network import ShotTrainingOptions
from vsr.video.reader import ReadOptions, open_clip

READ = ReadOptions()


def lossless(path, pictures):
    return write_clip(path, pictures, codec="ffv1", pixel_format="bgr0")


@pytest.fixture
def told(tmp_path):
    """A clip that is sharp, then moves, then is dark, and at last is black."""
    sharp = [textured_picture(64, 96, seed=1)] * 14
    moving = [np.roll(textured_picture(64, 96, seed=2) // 2 + 60, 5 * n, axis=1) for n in range(14)]
    dark = [textured_picture(64, 96, seed=3) // 6] * 14
    return lossless(tmp_path / "told.mkv", [*sharp, *moving, *dark])


def test_the_moments_are_those_of_detail_of_motion_and_of_darkness(told):
    survey = survey_clip(told, READ)
    assert survey.is_whole
    chosen = {reason: int(look.seconds * 25) // 14 for reason, look in choose_looks(survey)}
    assert chosen == {"the most detail": 0, "the most motion": 1, "the darkest part": 2}


def test_a_black_frame_is_no_dark_moment(tmp_path):
    black = [np.zeros((64, 96, 3), np.uint8)] * 14
    clip = lossless(tmp_path / "black.mkv", [*black, *moving_pictures(14, 64, 96), *black])
    assert {look.shot for _, look in choose_looks(survey_clip(clip, READ))} == {1}


def test_an_excerpt_stays_within_its_shot_and_shows_where_most_is_to_be_seen(tmp_path):
    flat = np.full((200, 300, 3), 100, np.uint8)
    pictures = []
    for number in range(30):
        picture = flat.copy()
        picture[120:180, 200:280] = textured_picture(60, 80, shift=(0, number))
        pictures.append(picture if number < 15 else 255 - picture)
    clip = lossless(tmp_path / "corner.mkv", pictures)
    survey = survey_clip(clip, READ)
    (chosen,) = looks_at(survey, [14 / 25])
    excerpt = read_excerpt(clip, READ, survey, chosen, whole=False)
    assert [frame.seconds for frame in excerpt.frames] == [n / 25 for n in range(3, 15)]
    window = excerpt.windows()[0]
    assert (window.height, window.width) == excerpts.WINDOW_PX
    found = (window.pixels.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    assert (found != 100).any(axis=2).sum() > 0.9 * 60 * 80
    whole = read_excerpt(clip, READ, survey, chosen, whole=True)
    assert (whole.windows()[0].height, whole.windows()[0].width) == (200, 300)


def test_a_time_beyond_the_clip_is_refused_with_its_length(told):
    with pytest.raises(UsageError, match=r"--at 9 is not in the clip; expected 0 to 1\.64"):
        looks_at(survey_clip(told, READ), [9.0])


def test_of_a_large_clip_only_glances_are_taken_and_times_stay_true(told, monkeypatch):
    whole = survey_clip(told, READ)
    monkeypatch.setattr(excerpts, "MAX_READ_PIXELS", 1)
    survey = survey_clip(told, READ)
    assert not survey.is_whole
    assert survey.num_shots is None
    assert len(survey.looks) <= excerpts.NUM_GLANCES
    true = {round(look.seconds, 3): look for look in whole.looks}
    assert all(
        abs(true[round(look.seconds, 3)].detail - look.detail) < 1e-6 for look in survey.looks
    )
    excerpt = read_excerpt(told, READ, survey, looks_at(survey, [0.8])[0], whole=False)
    assert excerpt.frames[0].seconds == 0.8
    assert len(excerpt.frames) <= EXCERPT_FRAMES


def test_a_clip_is_read_from_a_keyframe_before_a_time_and_frames_before_it_are_left_out(tmp_path):
    options = {"g": "4", "bf": "0"}
    pictures = moving_pictures(20, 48, 64)
    clip = write_clip(tmp_path / "clip.mp4", pictures, codec_options=options)
    with open_clip(clip) as reader:
        whole = {frame.seconds: frame.pixels for frame in reader.frames()}
    with open_clip(clip, start_seconds=0.6) as reader:
        frames = list(reader.frames(0.6))
    assert [frame.seconds for frame in frames] == [n / 25 for n in range(15, 20)]
    assert all((frame.pixels == whole[frame.seconds]).all() for frame in frames)


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", 12.5), ("1:02", 62), ("1:02:03.5", 3723.5), ("0", 0)]
)
def test_times_are_read_with_and_without_colons(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["-1", "1:2:3:4", "soon", "1e3", ""])
def test_other_times_are_refused(text):
    with pytest.raises(UsageError, match="--at is"):
        parse_time(text)


def test_a_page_that_exists_is_kept_and_a_pipe_is_refused(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", moving_pictures(4))
    (tmp_path / "clip_preview.html").write_text("mine")
    kept = CliRunner().invoke(app, ["preview", str(clip)])
    assert isinstance(kept.exception, OutputError)
    assert (tmp_path / "clip_preview.html").read_text() == "mine"
    piped = CliRunner().invoke(app, ["preview", "-", "-o", str(tmp_path / "page.html")])
    assert isinstance(piped.exception, UsageError)


# The whole preview


@pytest.fixture
def briefly(monkeypatch, tmp_path):
    """Trainings of a few iterations, and a cache of their own."""
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    brief = partial(ShotTrainingOptions, iterations=(3, 3))
    monkeypatch.setattr("vsr.train.shot.ShotTrainingOptions", brief)
    train = keyframe.train_bank
    monkeypatch.setattr(
        keyframe,
        "train_bank",
        lambda clip, bank, options, settings, *more: train(
            clip, bank, options, ("iterations=3",), *more
        ),
    )


def test_the_page_shows_every_way_with_its_figures_and_the_models_are_kept(tmp_path, briefly):
    clip = write_clip(tmp_path / "clip.mp4", moving_pictures(6, 32, 48))
    page = tmp_path / "page.html"
    write_preview(clip, page, replace(Recipe(), scale=2.0), at=[0.1])
    data = data_of(page)
    labels = [version["label"] for version in data["versions"]]
    assert labels[::2] == ["bicubic", "one model", "shot, fast", "shot, balanced", "shot, best"]
    assert len(labels) == NUM_VERSIONS
    assert data["shown"] == labels.index("shot, balanced")
    (moment,) = data["moments"]
    assert moment["loopFrames"] == [0, 6]
    pictures = [decoded(uri) for uri in moment["pictures"]]
    assert {picture.shape for picture in pictures} == {(64, 96, 3)}
    assert len({picture.tobytes() for picture in pictures}) >= 5
    text = page.read_text(encoding="utf-8")
    assert "time of the whole clip" in text
    assert "vsr run " in text
    # Of a keyframe, and of the shot with the networks of each quality.
    assert [bank.models for bank in list_banks()] == [1, 1, 1, 1]


def test_a_user_who_stops_it_gets_no_page_and_keeps_the_models(tmp_path, briefly):
    clip = write_clip(tmp_path / "clip.mp4", moving_pictures(6, 32, 48))
    stopping = Listener(should_stop=lambda: True)
    with pytest.raises(InterruptedRunError, match="Models that were trained are kept"):
        write_preview(clip, tmp_path / "page.html", Recipe(), at=[0.1], listener=stopping)
    assert not (tmp_path / "page.html").exists()
    # Of a keyframe, and of the shot with the networks of each quality.
    assert [bank.models for bank in list_banks()] == [1, 1, 1, 1]


@pytest.mark.slow
def test_models_of_a_large_clip_are_trained_on_its_excerpts_and_not_kept(
    tmp_path, briefly, monkeypatch
):
    monkeypatch.setattr(excerpts, "MAX_READ_PIXELS", 1)
    monkeypatch.setattr(models, "TRAINING_SECONDS", 0.0)
    monkeypatch.setattr(models, "MIN_SHOT_SECONDS", 1.0)
    clip = write_clip(tmp_path / "clip.mp4", two_shots(24, 64, 96))
    write_preview(clip, tmp_path / "page.html", Recipe(scale=2.0))
    assert data_of(tmp_path / "page.html")["moments"]
    assert "are not kept" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert list_banks() == []


@pytest.mark.slow
def test_a_run_finds_the_models_of_its_preview(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    clip = write_clip(tmp_path / "clip.mp4", moving_pictures(8, 48, 64))
    command = CliRunner()
    previewed = command.invoke(app, ["preview", str(clip), "--scale", "2"])
    assert previewed.exit_code == 0, previewed.output
    assert (tmp_path / "clip_preview.html").exists()
    before = sorted((tmp_path / "cache").rglob("*.safetensors"))
    record = tmp_path / "manifest.json"
    ran = command.invoke(app, ["run", str(clip), "--scale", "2", "--json", str(record)])
    assert ran.exit_code == 0, ran.output
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == before
    (model,) = json.loads(record.read_text())["models"]
    assert model in {Path(path).name.removesuffix(".shot.safetensors") for path in before}
