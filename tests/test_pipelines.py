"""Every recipe that the project ships, run on eight frames."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.clips import moving_pictures, read_times, write_clip
from tests.models import make_model, picture
from vsr.cli.tables import print_comparison
from vsr.evaluate.selection import is_selection_study
from vsr.image.blur import bicubic_kernel, taps_from_tensor
from vsr.image.resample import scaled_size
from vsr.models.bank import load_bank, save_model
from vsr.pipeline import api
from vsr.pipeline.options import resolve_recipe
from vsr.video.reader import open_clip

ALL = sorted((Path(__file__).parents[1] / "pipelines").glob("*.toml"))
EXPERIMENTS = [path for path in ALL if "[[systems]]" in path.read_text(encoding="utf-8")]
STUDIES = [path for path in ALL if is_selection_study(path)]
RECIPES = [path for path in ALL if path not in EXPERIMENTS + STUDIES]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """(clip of eight frames, stand-ins for its truth by scale, a bank of two models and one of each
    other system)."""
    folder = tmp_path_factory.mktemp("recipes")
    clip = write_clip(
        folder / "clip.mkv", moving_pictures(8, 32, 40), codec="ffv1", pixel_format="bgr0"
    )
    truths = {
        scale: write_clip(
            folder / f"truth{scale}.mkv", moving_pictures(8, *scaled_size(32, 40, scale))
        )
        for scale in (2, 4)
    }
    for seed in range(2):
        make_model(folder / "bank", f"m{seed}", picture(32, 40), seed)
    kernel = {"kernel": taps_from_tensor(bicubic_kernel()), "scale_factors": (2.0, 2.0)}
    for name, card in {
        "zssr": {"arch": "zssr"},
        "kernelgan": {"arch": "zssr", **kernel},
        "zssrgan": {"arch": "zssrgan", **kernel},
    }.items():
        make_model(folder / "bank", name, picture(32, 40), **card)
    with open_clip(clip) as reader:
        identity = reader.info.identity
    # A model of each frame: here one network under eight cards.
    model = load_bank(folder / "bank")[0]
    for number in range(8):
        card = replace(
            model.card,
            arch="baseline-singan-quick",
            clip_identity=identity,
            frame_time=number / 25,
        )
        path = folder / "bank" / f"baseline-{number}.safetensors"
        save_model(path, card, model.generator, model.critic)
    return clip, truths, folder / "bank"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_keeps_every_frame_and_its_time(path, material, tmp_path):
    clip, truths, bank = material
    recipe = resolve_recipe(path, [], {})
    if recipe.compare:
        manifests = api.compare(clip, reference=truths[recipe.scale], models=bank, recipe=path)
        assert [manifest.policy for manifest in manifests] == list(recipe.compare)
    else:
        manifests = [api.run(clip, tmp_path / "out.mkv", models=bank, recipe=path)]
        assert read_times(tmp_path / "out.mkv") == read_times(clip)
    for manifest in manifests:
        assert manifest.frames_in == manifest.frames_out == 8
        assert manifest.max_pts_error_seconds == 0


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_the_first_line_of_a_recipe_says_when_to_use_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 30


@pytest.mark.parametrize("name", ["singanxsr.toml", "zssrgan.toml"])
def test_a_table_of_a_source_is_made_without_what_the_source_has_not(name):
    """Flicker control would add up to a dB to every system."""
    recipe = resolve_recipe(ALL[0].parent / name, [], {})
    assert recipe.policies.as_published
    assert (recipe.steady, recipe.restore) == (0, 0)


def test_a_comparison_cuts_no_figure_on_a_narrow_terminal(material, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    clip, truths, bank = material
    manifests = api.compare(
        clip,
        reference=truths[4],
        models=bank,
        recipe=Path(ALL[0]).parent / "singanxsr.toml",
        settings=['compare=["bicubic", "smi"]'],
    )
    print_comparison(manifests)
    shown = capsys.readouterr().err
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for manifest in manifests:
        for result in manifest.metrics.values():
            assert result["mean"] is None or f"{result['mean']:.3f}" in shown
