import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tests.models import card_of, make_model, picture
from vsr.errors import ModelError
from vsr.models.bank import bank_files, load_bank, load_card, load_model, save_model
from vsr.models.networks.singan import Critic, Generator, NetworkSpec


@pytest.fixture
def saved(tmp_path):
    """An untrained model's file, and its parts."""
    torch.manual_seed(0)
    card = card_of(picture())
    generator, critic = Generator(card.network), Critic(card.network)
    path = tmp_path / "model.safetensors"
    save_model(path, card, generator, critic)
    return path, card, generator, critic


def raw_file(path):
    """Tensors and metadata of a safetensors file, read without our code."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header.pop("__metadata__"), header


def resave(path, metadata, tensors):
    save_file(tensors, path, metadata)


def test_a_saved_model_comes_back_whole(saved):
    path, card, generator, critic = saved
    model = load_model(path)
    assert model.name == "model"
    assert model.card == card == load_card(path)
    for ours, theirs in ((model.generator, generator), (model.critic, critic)):
        assert not ours.training
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(
            torch.equal(ours.state_dict()[name], value)
            for name, value in theirs.state_dict().items()
        )


def test_the_metadata_tells_where_a_model_comes_from(saved):
    metadata, tensors = raw_file(saved[0])
    for name in (
        "arch",
        "scale_factors",
        "keyframe_hash",
        "frame_time",
        "seed",
        "recipe",
        "version",
        "clip",
    ):
        assert name in metadata
    assert json.loads(metadata["scale_factors"]) == pytest.approx([2**0.5, 2**0.5])
    assert all(name.startswith(("generator.", "critic.")) for name in tensors)


def test_normalisation_statistics_are_kept(tmp_path):
    spec = NetworkSpec(width=4, batch_norm=True, tanh=True, padding="zeros")
    generator, critic = Generator(spec), Critic(spec)
    generator(torch.randn(1, 3, 12, 12), torch.zeros(1, 3, 12, 12))
    path = tmp_path / "model.safetensors"
    save_model(path, card_of(picture(), network=spec), generator, critic)
    statistics = load_model(path).generator.state_dict()["body.0.1.running_mean"]
    assert torch.equal(statistics, generator.state_dict()["body.0.1.running_mean"])
    assert statistics.abs().sum() > 0


def test_a_bank_is_read_by_name_and_unfinished_files_are_left_out(tmp_path):
    bank = tmp_path / "bank"
    for name in ("b", "a"):
        make_model(bank, name, picture())
    (bank / ".c.safetensors.part").write_bytes(b"half")
    assert [model.name for model in load_bank(bank)] == ["a", "b"]
    assert len(bank_files(bank)) == 2


def test_a_missing_bank_is_told_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(ModelError, match="vsr train-keyframe"):
        load_bank(tmp_path / "none")


def test_an_old_pickle_in_a_bank_is_refused_and_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "model.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match=r"model\.pth, a pickle"):
        load_bank(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -1])
def test_a_cut_file_is_named(saved, cut):
    path = saved[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"model\.safetensors is not a whole"):
        load_model(path)


def test_a_file_of_something_else_is_named(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="arch is missing"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", '"zero"'),
        ("scale_factors", "[1.4]"),
        ("scale_factors", "[0.5, 0.5]"),
        ("frame_time", "Infinity"),
        ("critic_mean", "not json"),
        ("network", '{"width": "32"}'),
        (
            "network",
            '{"width": 100000, "layers": 5, "batch_norm": false, "tanh": false, '
            '"padding": "zeros"}',
        ),
        (
            "network",
            '{"width": 8, "layers": 5, "batch_norm": 1, "tanh": false, "padding": "zeros"}',
        ),
    ],
)
def test_wrong_metadata_is_named(saved, name, value):
    path, _, generator, critic = saved
    metadata, _ = raw_file(path)
    tensors = {f"generator.{key}": tensor for key, tensor in generator.state_dict().items()}
    tensors |= {f"critic.{key}": tensor for key, tensor in critic.state_dict().items()}
    resave(path, metadata | {name: value}, tensors)
    with pytest.raises(ModelError, match=rf"model\.safetensors is not a model that .*{name}"):
        load_model(path)


def test_tensors_that_do_not_fit_their_description_are_named(saved):
    path, _, generator, critic = saved
    metadata, _ = raw_file(path)
    whole = {f"generator.{key}": tensor for key, tensor in generator.state_dict().items()}
    whole |= {f"critic.{key}": tensor for key, tensor in critic.state_dict().items()}
    bias = "generator.body.0.0.bias"
    broken = {
        "lacks the tensor": {key: value for key, value in whole.items() if key != bias},
        "unknown tensor": whole | {"generator.extra": torch.zeros(2)},
        r"is torch\.float32 \(3,\)": whole | {bias: torch.zeros(3)},
        "is torch.float64": whole | {bias: whole[bias].double()},
        "not finite": whole | {bias: torch.full_like(whole[bias], float("nan"))},
    }
    for message, tensors in broken.items():
        resave(path, metadata, tensors)
        with pytest.raises(ModelError, match=message):
            load_model(path)
    resave(path, metadata, whole | {"optimiser": torch.zeros(2)})
    with pytest.raises(ModelError, match="unknown tensor optimiser"):
        load_model(path)
