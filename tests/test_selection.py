"""Choosing among the models of a bank, judged by the truth: `vsr experiment` with a study."""

import json

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from tests.clips import moving_pictures, textured_picture, write_clip
from tests.models import make_model, picture
from tests.test_pipelines import STUDIES
from vsr.cli import app
from vsr.evaluate.selection import PictureTrial, judge
from vsr.models.bank import load_model
from vsr.upscale.fitness import dsrf


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
    from vsr.evaluate.selection import load_selection_study, run_selection_study
    from vsr.image.resample import resize

    bank = tmp_path / "bank"
    for seed in range(2):
        make_model(bank, f"m{seed}", picture(40, 48, seed=seed), seed)
    pixels = textured_picture(128, 160, seed=3)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), pixels[..., ::-1])
    study = load_selection_study(STUDIES[0])
    (trial,) = run_selection_study(study, tmp_path / "in", bank, device="cpu").trials
    import torch

    low = resize(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, 32, 40).clamp(0, 1)
    for name, misfit in trial.misfits["dsrfi"].items():
        model = load_model(bank / f"{name}.safetensors")
        assert misfit == pytest.approx(abs(dsrf(model, low)), rel=1e-4)
