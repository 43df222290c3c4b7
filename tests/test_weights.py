import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from vsr.cli import app
from vsr.errors import ModelError
from vsr.models.weights import (
    NIQE_MODEL,
    VGG16,
    find_weights,
    is_published,
    load_weights,
    placement_hint,
    weight_folders,
)
from vsr.pipeline.doctor import run_checks

SHAPES = {"features.0.weight": torch.Size([4, 3, 3, 3]), "features.0.bias": torch.Size([4])}


class Attack:
    """A pickle that would run code when opened."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def genuine_tensors():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}


def test_tensors_come_back_as_they_were_stored(tmp_path):
    torch.save(genuine_tensors() | {"classifier.1.weight": torch.zeros(2)}, tmp_path / "net.pth")
    loaded = load_weights(tmp_path / "net.pth", SHAPES)
    assert set(loaded) == set(SHAPES)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in genuine_tensors().items())


def test_half_precision_becomes_float32(tmp_path):
    torch.save(
        {name: tensor.half() for name, tensor in genuine_tensors().items()}, tmp_path / "net.pth"
    )
    loaded = load_weights(tmp_path / "net.pth", SHAPES)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())


def test_safetensors_are_read_as_well(tmp_path):
    save_file(genuine_tensors(), tmp_path / "net.safetensors")
    loaded = load_weights(tmp_path / "net.safetensors", SHAPES)
    assert torch.equal(loaded["features.0.bias"], genuine_tensors()["features.0.bias"])


def lacking(tensors):
    return {"features.0.weight": tensors["features.0.weight"]}


def misshapen(tensors):
    return tensors | {"features.0.bias": torch.zeros(5)}


def not_finite(tensors):
    return tensors | {"features.0.bias": torch.full((4,), torch.nan)}


@pytest.mark.parametrize("spoil", [lacking, misshapen, not_finite])
def test_a_file_with_other_tensors_is_refused_naming_file_and_tensor(tmp_path, spoil):
    torch.save(spoil(genuine_tensors()), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"net\.pth.*features\.0\.bias"):
        load_weights(tmp_path / "net.pth", SHAPES)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept_bytes", [0, 1, 300])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, kept_bytes):
    whole = tmp_path / f"whole{suffix}"
    (torch.save if suffix == ".pth" else save_file)(genuine_tensors(), whole)
    (tmp_path / f"cut{suffix}").write_bytes(whole.read_bytes()[:kept_bytes])
    with pytest.raises(ModelError, match=f"cut{suffix}"):
        load_weights(tmp_path / f"cut{suffix}", SHAPES)


def test_a_text_file_is_refused_by_name(tmp_path):
    (tmp_path / "net.pth").write_text("<html>404 not found</html>")
    with pytest.raises(ModelError, match=r"net\.pth is not a readable weight file"):
        load_weights(tmp_path / "net.pth", SHAPES)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2, 3], tmp_path / "net.pth")
    with pytest.raises(ModelError, match="holds a list"):
        load_weights(tmp_path / "net.pth", SHAPES)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(ModelError):
        load_weights(tmp_path / "net.pth", SHAPES)
    assert not (tmp_path / "pwned").exists()


def test_named_folders_are_searched_in_order_before_the_torch_cache(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("one", "two")]
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    for folder in (*folders, cache):
        folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VSR_WEIGHTS", os.pathsep.join(map(str, folders)))
    assert weight_folders() == [*folders, cache]
    assert find_weights(["net*.pth"]) is None
    for folder in (cache, folders[1], folders[0]):
        (folder / "net-1.pth").touch()
        assert find_weights(["net*.pth"]) == folder / "net-1.pth"


def test_a_folder_that_does_not_exist_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path / "missing"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert find_weights(["*.pth"]) is None


def test_the_advice_names_the_file_and_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    advice = placement_hint("net-1.pth")
    assert "net-1.pth" in advice
    assert "VSR_WEIGHTS" in advice
    assert str(tmp_path / "hub" / "checkpoints") in advice


def test_a_published_file_is_told_by_its_hash(shared_data, tmp_path):
    genuine = shared_data / "metric-params" / "niqe_pris_params.npz"
    assert is_published(NIQE_MODEL, genuine)
    other = tmp_path / "niqe_pris_params.npz"
    other.write_bytes(genuine.read_bytes() + b"\0")
    assert not is_published(NIQE_MODEL, other)
    with pytest.raises(ModelError, match="nowhere"):
        is_published(NIQE_MODEL, tmp_path / "nowhere.npz")


def test_a_missing_file_is_named_with_its_source_and_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "vgg16-397923af.pth (from torchvision's model zoo" in VGG16.missing
    assert str(tmp_path / "hub" / "checkpoints") in VGG16.missing


def weights_command(*arguments):
    return CliRunner().invoke(app, ["weights", *map(str, arguments)], env={"COLUMNS": "400"})


def rows_of_list():
    """Lines of the tables by their first cells."""
    lines = weights_command().stdout.splitlines()
    return {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}


def test_the_list_says_what_is_here_and_what_is_lacking(shared_data, tmp_path, monkeypatch):
    folders = [shared_data / name for name in ("weights", "metric-params")]
    monkeypatch.setenv("VSR_WEIGHTS", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    listed, rows = weights_command().stdout, rows_of_list()
    assert "ready (squeeze)" in rows["lpips"]
    assert "lacks vgg16-397923af.pth" in rows["dists"]
    assert "ready (published)" in rows["niqe"]
    assert str(folders[1] / "brisque_range_live.yml") in listed.replace("\n", "")
    assert "https://github.com/mseitzer/pytorch-fid" in rows["pt_inception-2015-12-05-6726825d.pth"]


def test_the_list_and_the_doctor_know_the_weights_of_trainings_losses(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert "lacks vgg19-dcbb9e9d.pth" in rows_of_list()["vgg54 loss"]
    found = {check.subject: check for check in run_checks(tmp_path)}["weights of losses"]
    assert (found.state, found.found) == (
        "fair",
        "none for vgg22, vgg54, vgg54_esrgan, diversity_features",
    )
    # Whether its content fits is for who loads it.
    (tmp_path / "vgg19-dcbb9e9d.pth").touch()
    assert "ready" in rows_of_list()["vgg54 loss"]
    assert "vgg19-dcbb9e9d.pth" in rows_of_list()


def test_a_broken_file_is_said_in_the_list(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "niqe.npz").write_text("no model")
    assert "niqe.npz" in weights_command().stdout
    assert "not a readable" in weights_command().stdout


def test_niqes_model_is_fitted_by_a_command_that_overwrites_nothing(shared_data, tmp_path):
    pictures = sorted((shared_data / "stills" / "bsd" / "HR").glob("*.png"))
    done = weights_command("fit-niqe", *pictures, "-o", tmp_path / "mine.npz")
    assert done.exit_code == 0
    written = (tmp_path / "mine.npz").read_bytes()
    refused = weights_command("fit-niqe", pictures[0], "-o", tmp_path / "mine.npz")
    assert "exists; give -y" in str(refused.exception)
    few = weights_command("fit-niqe", pictures[0], "-o", tmp_path / "mine.npz", "-y")
    assert "expected more than 36" in str(few.exception)
    assert (tmp_path / "mine.npz").read_bytes() == written
    nowhere = weights_command(
        "fit-niqe", tmp_path / "never read", "-o", tmp_path / "no" / "folder.npz"
    )
    assert "its folder is missing" in str(nowhere.exception), (
        "the place is looked at before the pictures"
    )
