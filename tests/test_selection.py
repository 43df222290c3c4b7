"""Choosing among the models of a bank, judged by the truth: `vsr experiment` with a study."""

import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

from tests.clips import moving_pictures, textured_picture, write_clip
from tests.models import make_model, picture
from tests.steps import upscale_frames
from tests.test_pipelines import STUDIES
from vsr.cli import app
from vsr.evaluate.selection import (
    PictureTrial,
    judge,
    load_selection_study,
    run_selection_study,
)
from vsr.image.resample import resize
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import load_bank, load_model
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.upscale.fitness import dsrf
from vsr.video.frames import Frame


def test_a_study_counts_as_by_hand():
    """Three pictures and four models, worked out by hand; PSNR, so that more is better."""
    figures = [[30, 28, 27, 20], [25, 26, 24, 23], [22, 21, 20, 24]]
    misfits = [[0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]]
    names = "abcd"
    trials = [
        PictureTrial(
            str(number),
            {"psnr_y": dict(zip(names, figure, strict=True))},
            {"dsrfi": dict(zip(names, misfit, strict=True))},
        )
        for number, (figure, misfit) in enumerate(zip(figures, misfits, strict=True))
    ]
    policy, chance = judge(trials, "psnr_y", ["dsrfi"])
    # The best is first once, and last twice.
    assert policy.top == (pytest.approx(1 / 3),) * 3
    assert policy.regret == pytest.approx((0 + 2 + 2) / 3)
    by_scipy = spearmanr(np.ravel(misfits), -np.ravel(figures)).statistic
    assert policy.correlation == pytest.approx(by_scipy)
    assert chance.top == (0.25, 0.5, 0.75)
    means = [max(figure) - sum(figure) / 4 for figure in figures]
    assert chance.regret == pytest.approx(sum(means) / 3)


@pytest.mark.parametrize("kind", ["folder", "clip"])
def test_the_recipe_prints_its_tables_and_draws_the_maps(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (recipe,) = STUDIES
    bank = tmp_path / "bank"
    for seed in range(3):
        make_model(bank, f"m{seed}", picture(40, 48, seed=seed), seed)
    if kind == "folder":
        data = tmp_path / "pictures"
        data.mkdir()
        for seed in range(2):
            pixels = textured_picture(128, 162, seed=seed)
            cv2.imwrite(str(data / f"{seed}.png"), pixels[..., ::-1])
    else:
        data = write_clip(tmp_path / "clip.mkv", moving_pictures(2, 128, 160), codec="ffv1")
    command = ["experiment", str(recipe), "--data", str(data), "--models", str(bank)]
    record = tmp_path / "study.json"
    done = CliRunner().invoke(
        app, [*command, "--pictures", str(tmp_path / "maps"), "--json", str(record)]
    )
    assert done.exit_code == 0, done.output
    assert "| chance | 0.33 | 0.67 | 1.00 |" in done.output
    # Without weights LPIPS has no figures, and says so.
    assert "| not available |" in done.output
    told = json.loads(record.read_text())
    assert told["models"] == ["m0", "m1", "m2"]
    assert len(told["trials"]) == 2
    for trial in told["trials"]:
        assert trial["figures"]["lpips"] == dict.fromkeys(told["models"])
        assert min(trial["figures"]["psnr_y"].values()) > 10
    maps = sorted((tmp_path / "maps").iterdir())
    assert len(maps) == 2
    assert cv2.imread(str(maps[0])).shape == (32 + 16, 4 * 40, 3)


def test_misfits_of_a_study_are_those_of_the_critics(tmp_path):
    bank = tmp_path / "bank"
    for seed in range(2):
        make_model(bank, f"m{seed}", picture(40, 48, seed=seed), seed)
    pixels = textured_picture(128, 160, seed=3)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), pixels[..., ::-1])
    study = load_selection_study(STUDIES[0])
    (trial,) = run_selection_study(study, tmp_path / "in", bank, device="cpu").trials
    low = resize(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, 32, 40).clamp(0, 1)
    for name, misfit in trial.misfits["dsrfi"].items():
        model = load_model(bank / f"{name}.safetensors")
        assert misfit == pytest.approx(abs(dsrf(model, low)), rel=1e-4)


def test_a_study_enlarges_as_the_policies_source_does(tmp_path):
    """PSNR of what `smi --as-published` makes, by the scoreboard; back-projection changes it."""
    bank = tmp_path / "bank"
    for seed in range(2):
        make_model(bank, f"m{seed}", picture(40, 48, seed=seed), seed, noise_amplitude=0.1)
    pixels = textured_picture(128, 160, seed=3)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), pixels[..., ::-1])
    study = replace(load_selection_study(STUDIES[0]), metrics=("psnr_y",))
    assert study.as_published
    truth = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    low = Frame(resize(truth, 32, 40).clamp(0, 1), 0, 0, Fraction(1, 25))
    for published in (True, False):
        chosen = replace(study, as_published=published)
        (trial,) = run_selection_study(chosen, tmp_path / "in", bank, device="cpu").trials
        for name, figure in trial.figures["psnr_y"].items():
            options = PolicyOptions(model=name, as_published=True)
            context = PolicyContext(load_bank(bank), 4.0, torch.device("cpu"), "", options)
            (made,), _ = upscale_frames(POLICIES["smi"], context, [low])
            board = Scoreboard(["psnr_y"], has_truth=True, has_low_resolution=True, border=8)
            board.update(made, truth, low.pixels)
            by_hand = board.compute()["psnr_y"].mean
            assert (figure == pytest.approx(by_hand, abs=1e-4)) == published
