"""`vsr experiment`: recipes that train systems and score them on still pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from tests.clips import textured_picture
from tests.test_pipelines import EXPERIMENTS
from vsr.errors import OutputError, UsageError
from vsr.train import dataset as external
from vsr.train.dataset.dataset import ImageDataset
from vsr.train.dataset.experiment import (
    INTERPOLATIONS,
    Experiment,
    System,
    load_experiment,
    run_experiment,
    score_system,
    to_markdown,
)
from vsr.upscale.networks.files import load_network

CPU = torch.device("cpu")
ONE_STEP = [
    "steps=1",
    "batch=1",
    "crop_px=32",
    "losses.perceptual=none",
    "losses.diversity_weight=0",
]
OF_CLASSICS = {"srcnn", "fsrcnn", "espcn"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for place in ("train", "test"):
        (folder / place).mkdir()
        for seed in range(2):
            Image.fromarray(textured_picture(49, 66, seed=seed)).save(
                folder / place / f"{seed}.png"
            )
    return folder


def at_no_size(system: System) -> System:
    """The same system with the smallest network, trained for one step."""
    shape = {"srcnn": "network.width=4", "fsrcnn": "network.d=4", "espcn": "network.width=4"}
    kind = (
        [shape[system.method]]
        if system.method in shape
        else ["network.width=4", "network.blocks=1"]
    )
    losses = (
        ["losses.adversarial=none"] if system.method in OF_CLASSICS else ["discriminator_width=2"]
    )
    return (
        replace(system, settings=(*system.settings, *ONE_STEP, *kind, *losses))
        if system.method
        else system
    )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_an_experiment_trains_its_systems_once_and_prints_a_row_for_each(path, data, tmp_path):
    recipe = load_experiment(path)
    systems = tuple(at_no_size(system) for system in recipe.systems if not system.file)
    small = replace(
        recipe,
        train=("train",),
        test=("test",),
        metrics=("psnr_y", "lr_psnr"),
        samples=2,
        systems=systems,
    )
    heard = []
    rows = run_experiment(small, data, tmp_path, listener=external.TrainingListener(heard.append))
    assert [row.system for row in rows] == [system.name for system in systems]
    assert all(row.figures["psnr_y"] is not None for row in rows), heard
    written = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert run_experiment(small, data, tmp_path) == rows
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
    table = to_markdown(small, rows)
    assert table.count("1 steps, 2 pictures") == sum(bool(system.method) for system in systems)


def test_a_system_without_its_weights_has_a_row_without_figures(data, tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    system = System("with VGG", method="srgan", settings=("losses.perceptual=vgg54", "crop_px=32"))
    heard = []
    experiment = Experiment("title", ("train",), ("test",), ("psnr_y",), (system,))
    rows = run_experiment(
        experiment, data, tmp_path, listener=external.TrainingListener(heard.append)
    )
    assert (rows[0].trained, rows[0].figures) == ("not available", {"psnr_y": None})
    assert any("vgg19" in line for line in heard)
    assert "| with VGG | not available | - |" in to_markdown(experiment, rows)


def test_scores_are_those_of_an_independent_implementation(data):
    """Nearest neighbour, by numpy, scored by scikit-image on luma of 8-bit colours."""
    store = ImageDataset(sorted((data / "test").iterdir()), 2)
    experiment = Experiment("title", ("train",), ("test",), ("psnr_y",), (), scale=2, border=3)
    ours = score_system(INTERPOLATIONS["nearest"], store, experiment, CPU)["psnr_y"]
    theirs = []
    for number in range(2):
        low, high = (
            each.permute(1, 2, 0).numpy().astype(float)
            for each in (store[number].low, store[number].high)
        )
        lumas = [
            each @ [65.481, 128.553, 24.966] / 255
            for each in (high, low.repeat(2, axis=0).repeat(2, axis=1))
        ]
        theirs.append(
            peak_signal_noise_ratio(*(luma[3:-3, 3:-3] for luma in lumas), data_range=255)
        )
    assert ours == pytest.approx(np.mean(theirs), abs=2e-3)


def test_pictures_of_an_experiment_are_kept_for_raters(data, tmp_path):
    from vsr.evaluate.mos import SheetOptions, write_sheet

    systems = tuple(System(name, interpolation=name) for name in ("nearest", "bicubic"))
    experiment = Experiment("title", ("train",), ("test",), ("psnr_y",), systems)
    run_experiment(experiment, data, tmp_path / "models", pictures=tmp_path / "kept")
    folders = sorted((tmp_path / "kept" / "test").iterdir())
    assert [folder.name for folder in folders] == ["bicubic", "nearest", "truth"]
    low = np.array(Image.open(data / "test" / "0.png").crop((0, 0, 64, 48)))
    assert np.array_equal(np.array(Image.open(folders[2] / "0.png")), low)
    nearest = np.array(Image.open(folders[1] / "0.png"))
    assert (nearest.reshape(12, 4, 16, 4, 3) == nearest[::4, ::4][:, None, :, None]).all()
    made = write_sheet(
        folders[:2],
        tmp_path / "sheet.html",
        tmp_path / "key.json",
        folders[2],
        SheetOptions(stills=True, window_px=(48, 64)),
    )
    assert "2 trials of 2 clips" in made


def test_figures_of_sets_are_of_the_whole_set(tmp_path):
    """The discrepancy of spectra, from the mean profiles of pictures of two sizes, by numpy."""
    for number, (height, width) in enumerate([(48, 64), (40, 40), (48, 52)]):
        pixels = textured_picture(height, width, seed=number)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    store = ImageDataset(sorted(tmp_path.iterdir()), 2)
    experiment = Experiment("title", ("a",), ("b",), ("spectrum", "psnr_y"), (), scale=2, border=0)
    figures = score_system(INTERPOLATIONS["nearest"], store, experiment, CPU)
    coarse, differences = np.arange(21) / 40, []
    for number in range(3):
        low, high = (
            each.permute(1, 2, 0).numpy().astype(float)
            for each in (store[number].low, store[number].high)
        )
        profiles = []
        for each in (low.repeat(2, axis=0).repeat(2, axis=1), high):
            luma = 16 + each @ [65.481, 128.553, 24.966] / 255
            height, width = luma.shape
            cycles = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * min(
                height, width
            )
            logs = np.log10(1 + np.abs(np.fft.fft2(luma)) ** 2)
            rings = np.array(
                [logs[np.rint(cycles) == r].mean() for r in range(min(height, width) // 2 + 1)]
            )
            profiles.append((rings - rings.min()) / (rings.max() - rings.min()))
        fine = np.arange(len(profiles[0])) / min(height, width)
        differences.append(np.interp(coarse, fine, profiles[0] - profiles[1]))
    assert figures["spectrum"] == pytest.approx(
        float((np.mean(differences, axis=0) ** 2).mean()), rel=1e-4
    )
    assert figures["psnr_y"] > 0


def test_a_start_is_the_network_of_the_system_before(data, tmp_path):
    first = at_no_size(System("first", method="espcn", settings=("learning_rate=1e-12",)))
    second = replace(
        first, name="second", start="first", settings=(*first.settings, "losses.pixel=l1")
    )
    experiment = Experiment("title", ("train",), ("test",), ("psnr_y",), (first, second))
    run_experiment(experiment, data, tmp_path)
    networks = [
        load_network(tmp_path / f"{name}.safetensors", CPU).run for name in ("first", "second")
    ]
    assert torch.allclose(networks[0].conv1.weight, networks[1].conv1.weight, atol=1e-9)


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ('name = "a"', "one of interpolation, file and method"),
        ('name = "a"\ninterpolation = "cubic"', "nearest, bicubic, lanczos"),
        ('name = "a"\nmethod = "espcn"\nstart = "b"', "which is not before it"),
        ('name = "a"\nmethd = "espcn"', "did you mean 'method'"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(system, words, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'title = "t"\ntrain = ["a"]\ntest = ["b"]\nmetrics = ["psnr_y"]\n[[systems]]\n{system}\n'
    )
    with pytest.raises(UsageError, match=words):
        load_experiment(recipe)


def test_a_folder_for_networks_that_cannot_be_made_is_told(data, tmp_path):
    (tmp_path / "file").touch()
    experiment = Experiment("title", ("train",), ("test",), ("psnr_y",), ())
    with pytest.raises(OutputError, match="no networks can be written to"):
        run_experiment(experiment, data, tmp_path / "file")


def test_full_settings_go_over_the_small_ones():
    for path in EXPERIMENTS:
        for system in load_experiment(Path(path)).systems:
            if system.method:
                small = {setting.partition("=")[0] for setting in system.settings}
                full = {setting.partition("=")[0] for setting in system.full}
                assert "steps" in small & full, f"{path.name}: {system.name}"
