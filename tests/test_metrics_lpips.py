from fractions import Fraction

import lpips
import pytest
import torch

from vsr.metrics.dists import CHANNELS, StructureTextureDistance
from vsr.metrics.inception import INCEPTIONS, InceptionFeatures
from vsr.metrics.lpips import BACKBONES, PerceptualDistance, load_distance
from vsr.metrics.metric import MetricUnavailableError
from vsr.metrics.scoreboard import Scoreboard
from vsr.video.frames import Frame


@pytest.fixture
def lpips_weights(shared_data, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "weights"))


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    return tmp_path


def example_pictures(batch):
    """The random pictures of torchmetrics' documentation, brought from [-1, 1] to [0, 1]."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(42)
    first, second = torch.rand(batch, 3, 100, 100), torch.rand(batch, 3, 100, 100)
    torch.random.set_rng_state(generator_state)
    return first, second


def direct_distance(shared_data, first, second):
    """By the lpips package, loaded as the README of the shared data says."""
    model = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    stored = torch.load(shared_data / "weights" / "squeezenet1_1_fp16.pth", weights_only=True)
    model.net.load_state_dict(
        {key: stored["features." + key.split(".", 1)[1]].float() for key in model.net.state_dict()}
    )
    with torch.no_grad():
        return model(first[None] * 2 - 1, second[None] * 2 - 1).item()


def test_distances_are_the_published_ones(lpips_weights):
    distance = load_distance()
    first, second = example_pictures(2)
    found = [distance.between(one, other) for one, other in zip(first, second, strict=True)]
    assert found == pytest.approx([0.1024, 0.0938], abs=1e-4)
    first, second = example_pictures(10)
    found = [distance.between(one, other) for one, other in zip(first, second, strict=True)]
    assert sum(found) / 10 == pytest.approx(0.1005, abs=1e-4)


def test_lpips_and_tlpips_match_the_package_loaded_directly(lpips_weights, shared_data):
    truths, results = example_pictures(2)
    board = Scoreboard(["lpips", "tlpips"], has_truth=True, has_low_resolution=False, border=4)
    for index in range(2):
        board.update(Frame(results[index], index, index, Fraction(1, 25)), truths[index])
    figures = board.compute()
    truths, results = truths[..., 4:-4, 4:-4], results[..., 4:-4, 4:-4]
    expected = [direct_distance(shared_data, results[index], truths[index]) for index in range(2)]
    true_change, change = (direct_distance(shared_data, *clip) for clip in (truths, results))
    assert figures["lpips"].per_frame == pytest.approx(expected, abs=1e-5)
    assert figures["tlpips"].per_frame[0] is None
    assert figures["tlpips"].per_frame[1] == pytest.approx(abs(true_change - change), abs=1e-5)
    assert figures["lpips"].to_json()["network"] == "squeeze"
    assert figures["tlpips"].network == "squeeze"


def test_equal_pictures_have_distance_zero_and_small_ones_none(lpips_weights):
    picture = example_pictures(1)[0][0]
    assert load_distance().between(picture, picture.clone()) == 0
    assert load_distance().between(picture[:, :31], picture[:, :31]) is None


def test_loading_leaves_the_random_state_alone(shared_data):
    path = shared_data / "weights" / "squeezenet1_1_fp16.pth"
    before = torch.random.get_rng_state()
    PerceptualDistance("squeeze", path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_weights_the_metric_is_unavailable_with_what_to_do(no_weights):
    board = Scoreboard(["psnr", "lpips", "tlpips"], has_truth=True, has_low_resolution=False)
    picture = example_pictures(1)[0][0]
    board.update(Frame(picture, 0, 0, Fraction(1, 25)), picture)
    figures = board.compute()
    assert figures["psnr"].mean == 100
    for name in ("lpips", "tlpips"):
        said = figures[name].to_json()
        assert said["mean"] is None
        assert said["per_frame"] is None
        assert "network" not in said
        assert "VSR_WEIGHTS" in said["reason"]
        assert all(file.name in said["reason"] for file in BACKBONES.values())


def test_a_file_of_another_network_is_named_and_never_scored_with(no_weights):
    torch.save({"features.0.weight": torch.zeros(1)}, no_weights / "alexnet-owt-7be5be79.pth")
    with pytest.raises(
        MetricUnavailableError, match=r"alexnet-owt-7be5be79\.pth.*features\.0\.weight"
    ):
        load_distance()


def test_a_bad_file_does_not_hide_a_good_one(no_weights, shared_data):
    (no_weights / "alexnet-owt-7be5be79.pth").write_bytes(b"cut short")
    genuine = shared_data / "weights" / "squeezenet1_1_fp16.pth"
    (no_weights / "squeezenet1_1-b8a52dc0.pth").symlink_to(genuine)
    assert load_distance().network == "squeeze"


@pytest.mark.parametrize(
    "network", ["alex", pytest.param("vgg", marks=pytest.mark.slow), "squeeze"]
)
def test_each_backbone_loads_from_a_file_laid_out_as_torchvision_lays_it(no_weights, network):
    import torchvision

    builders = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
    features = getattr(torchvision.models, builders[network])(weights=None).features
    stored = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(stored, no_weights / BACKBONES[network].name)
    distance = load_distance()
    assert distance.network == network
    picture = example_pictures(1)[0][0]
    assert distance.between(picture, picture) == 0
    kept = {
        "features." + key.partition(".")[2]: tensor
        for key, tensor in distance._model.on(picture.device).net.state_dict().items()
    }
    assert all(torch.equal(stored[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("name", ["lpips", "dists", "inception"])
def test_a_picture_elsewhere_leaves_a_kept_network_where_it_is(no_weights, name):
    torch.manual_seed(0)
    network = {"lpips": lpips_network, "dists": dists_network, "inception": inception_network}[name]
    measured = network(no_weights)
    picture = example_pictures(1)[0][0]
    before = measured(picture)
    # Tensors of the meta device hold nothing: a network that was moved there has lost its weights.
    with pytest.raises(RuntimeError):
        measured(picture.to("meta"))
    assert measured(picture) == before


def lpips_network(folder):
    from torchvision.models import squeezenet1_1

    stored = {f"features.{n}": t for n, t in squeezenet1_1().features.state_dict().items()}
    torch.save(stored, folder / "squeezenet1_1-b8a52dc0.pth")
    distance = load_distance()
    return lambda picture: float(distance.between(picture, 1 - picture))


def dists_network(folder):
    from torchvision.models import vgg16

    stored = {f"features.{n}": t for n, t in vgg16().features.state_dict().items()}
    torch.save(stored, folder / "vgg16.pth")
    torch.save(
        {name: torch.ones(1, sum(CHANNELS), 1, 1) for name in ("alpha", "beta")}, folder / "d.pt"
    )
    distance = StructureTextureDistance(folder / "vgg16.pth", folder / "d.pt")
    return lambda picture: distance.between(picture, 1 - picture)


def inception_network(folder):
    torch.save(INCEPTIONS[0].architecture().state_dict(), folder / "inception.pth")
    features = InceptionFeatures(INCEPTIONS[0], folder / "inception.pth")
    return lambda picture: features.of(picture).tolist()
