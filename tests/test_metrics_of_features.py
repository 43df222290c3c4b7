"""MS-SSIM, DISTS, FID, the power spectrum and diversity."""

import numpy as np
import piq
import pytest
import torch
from piq.feature_extractors.fid_inception import InceptionV3
from piq.fid import _compute_fid
from scipy.linalg import sqrtm
from torchvision import models

from tests.measuring import measure, moving, noisy, value
from vsr.image.resample import resize
from vsr.metrics import METRICS
from vsr.metrics.dists import CHANNELS, StructureTextureDistance
from vsr.metrics.diversity import Diversity
from vsr.metrics.fid import FrechetInceptionDistance, Gaussian, frechet_distance
from vsr.metrics.inception import INCEPTIONS, InceptionFeatures
from vsr.metrics.observation import FramePair, MetricImage, Observation
from vsr.metrics.spectrum import SpectrumDiscrepancy, profile
from vsr.models.weights import FID_INCEPTION, VGG16


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    return tmp_path


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("border", [0, 8])
@pytest.mark.parametrize("sigma", [0.01, 0.2])
def test_ms_ssim_matches_piq(border, sigma):
    truth = moving(1, 192, 208)[0]
    result = noisy(truth, sigma)
    inner = (..., slice(border, 192 - border), slice(border, 208 - border))
    expected = piq.multi_scale_ssim(result[None][inner], truth[None][inner], data_range=1.0)
    assert value("ms_ssim", result, truth, border=border) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_ms_ssim_is_one_for_equal_pictures_and_absent_below_five_scales():
    truth = moving(1, 161, 163)[0]
    assert value("ms_ssim", truth, truth) == 1
    assert value("ms_ssim", noisy(truth), truth) < 1
    assert value("ms_ssim", truth[:, :160], truth[:, :160]) is None


@pytest.fixture
def vgg_weights(no_weights):
    """A VGG16 as torchvision lays it out, with random weights: right for comparing programs,
    useless for scoring."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = models.vgg16(weights=None).features
    stored = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(stored, no_weights / VGG16.name)
    # As the weights of DISTS are: none below zero.
    alpha_beta = {
        name: torch.rand(1, sum(CHANNELS), 1, 1, generator=seeded()) for name in ("alpha", "beta")
    }
    torch.save(alpha_beta, no_weights / "dists_alpha_beta.pt")
    return no_weights


def piq_dists(folder, monkeypatch):
    """piq's DISTS over the same files: what it would download is read from them."""
    vgg = models.vgg16(weights=None)
    vgg.load_state_dict(torch.load(folder / VGG16.name, weights_only=True), strict=False)
    weights = torch.load(folder / "dists_alpha_beta.pt", weights_only=True)
    total = weights["alpha"].sum() + weights["beta"].sum()
    normalised = {name: tensor / total for name, tensor in weights.items()}
    with monkeypatch.context() as context:
        context.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: normalised)
        context.setattr("piq.perceptual.vgg16", lambda **_: vgg)
        return piq.DISTS()


def test_dists_matches_piq_over_the_same_weights(vgg_weights, monkeypatch):
    truth = moving(1, 32, 48)[0]
    distance = StructureTextureDistance(
        vgg_weights / VGG16.name, vgg_weights / "dists_alpha_beta.pt"
    )
    oracle = piq_dists(vgg_weights, monkeypatch)
    for sigma in (0.02, 0.2):
        result = noisy(truth, sigma)
        assert distance.between(result, truth) == pytest.approx(
            float(oracle(result[None], truth[None])), abs=1e-5
        )
    assert distance.between(truth, truth.clone()) == pytest.approx(0, abs=1e-6)
    assert distance.between(truth[:, :31], truth[:, :31]) is None
    assert value("dists", result, truth) == distance.between(result, truth)


def test_dists_says_which_file_is_missing(no_weights, shared_data, monkeypatch):
    truth = moving(1)[0]
    assert "dists_alpha_beta.pt" in measure(["dists"], [truth], [truth])["dists"].reason
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "weights"))
    reason = measure(["dists"], [truth], [truth])["dists"].reason
    assert "no vgg16-397923af.pth (from torchvision's model zoo" in reason
    assert "alpha_beta" not in reason


def gaussian_of(rows):
    gaussian = Gaussian(rows.shape[1])
    for row in rows:
        gaussian.add(row)
    return gaussian


def feature_sets(count=200, size=12):
    random = np.random.default_rng(0)
    mixing = np.eye(size) + 0.1 * random.normal(size=(size, size))
    return random.normal(size=(count, size)) @ mixing, 0.8 * random.normal(
        size=(count, size)
    ) @ mixing + 0.3


def test_mean_and_covariance_of_a_stream_are_numpys():
    rows, _ = feature_sets()
    gaussian = gaussian_of(rows)
    assert gaussian.mean == pytest.approx(rows.mean(axis=0))
    assert gaussian.covariance == pytest.approx(np.cov(rows, rowvar=False))


def test_the_frechet_distance_matches_scipy_and_piq():
    ones, others = feature_sets()
    distance = frechet_distance(gaussian_of(ones), gaussian_of(others))
    covariances = np.cov(ones, rowvar=False), np.cov(others, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    difference = ones.mean(axis=0) - others.mean(axis=0)
    assert distance == pytest.approx(
        difference @ difference + np.trace(sum(covariances) - 2 * root), rel=1e-6
    )
    means = [torch.from_numpy(rows.mean(axis=0)) for rows in (ones, others)]
    sigmas = [torch.from_numpy(covariance) for covariance in covariances]
    assert distance == pytest.approx(
        float(_compute_fid(means[0], sigmas[0], means[1], sigmas[1])), rel=1e-3
    )


def test_the_frechet_distance_of_few_rows_is_finite_and_0_for_equal_ones():
    ones, others = feature_sets(count=4)
    assert frechet_distance(gaussian_of(ones), gaussian_of(ones)) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(gaussian_of(ones), gaussian_of(others)) > 1
    shifted = frechet_distance(gaussian_of(ones), gaussian_of(ones + 2))
    assert shifted == pytest.approx(12 * 2**2, abs=1e-4)


@pytest.fixture
def inception_weights(no_weights):
    """The published layout with random weights: right for comparing programs, useless for
    scoring."""
    network = INCEPTIONS[0].architecture()
    generator = seeded()
    state = {
        name: torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
        if tensor.ndim > 1
        else tensor
        for name, tensor in network.state_dict().items()
    }
    classifier = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state | classifier, no_weights / FID_INCEPTION.name)
    return no_weights


def test_inception_sees_what_piqs_inception_sees_over_the_same_weights(
    inception_weights, monkeypatch
):
    path = inception_weights / FID_INCEPTION.name
    features = InceptionFeatures(INCEPTIONS[0], path)
    stored = torch.load(path, weights_only=True)
    monkeypatch.setattr(
        "piq.feature_extractors.fid_inception.load_state_dict_from_url", lambda *_, **__: stored
    )
    original = models.inception_v3
    monkeypatch.setattr(
        models, "inception_v3", lambda **named: original(**named, init_weights=False)
    )
    oracle = InceptionV3().eval()
    picture = moving(1, 64, 96)[0]
    expected = oracle(picture[None])[0].flatten().double()
    found = features.of(picture)
    assert expected.std() > 1e-2
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_fid_is_one_figure_per_clip_marked_by_its_weights(inception_weights):
    truths = moving(2, 64, 96, step=(3, 5))
    figures = measure(["fid"], [noisy(truth, 0.2) for truth in truths], truths)["fid"]
    assert figures.per_frame is None
    assert figures.network == "inception-fid"
    assert figures.mean > 0
    assert "2 frames or more, found 1" in measure(["fid"], truths[:1], truths[:1])["fid"].reason


def test_fid_without_weights_names_the_file(no_weights):
    truth = moving(1)[0]
    reason = measure(["fid"], [truth], [truth])["fid"].reason
    assert FID_INCEPTION.name in reason
    assert "pytorch-fid" in reason


def gray(plane):
    """An RGB picture whose luma 16..235 is `plane`."""
    return torch.from_numpy(((plane - 16) / 219).astype(np.float32)).expand(3, -1, -1).clone()


def waves(amplitudes, height=32, width=48):
    """Luma of cosines along x, by the number of their cycles in `height` pixels."""
    columns = np.arange(width)
    plane = 128 + sum(
        level * np.cos(2 * np.pi * cycles * columns / height)
        for cycles, level in amplitudes.items()
    )
    return np.tile(plane, (height, 1)).astype(np.float32)


def test_the_profile_of_two_waves_is_the_share_of_their_rings():
    height, width = 32, 48
    plane = waves({4: 20.0, 8: 5.0})
    found = profile(plane)
    rings = np.rint(
        np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * height
    ).astype(int)
    expected = np.zeros(17)
    for ring, level in ((0, 2 * 128.0), (4, 20.0), (8, 5.0)):
        # A cosine has its power in two bins of |F| = level * H * W / 2 each; the mean lies in one
        # bin.
        bins = 1 if ring == 0 else 2
        expected[ring] = (
            bins * np.log10(1 + (level * height * width / 2) ** 2) / (rings == ring).sum()
        )
    assert found == pytest.approx(expected / expected.max(), abs=1e-4)


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (48, 32)])
def test_the_profile_is_the_azimuthal_mean_over_the_whole_plane(shape):
    plane = np.random.default_rng(0).uniform(16, 235, shape).astype(np.float32)
    logs = np.log10(1 + np.abs(np.fft.fft2(plane)) ** 2)
    rings = np.rint(np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")) * min(shape))
    means = np.array([logs[rings == ring].mean() for ring in range(min(shape) // 2 + 1)])
    assert profile(plane) == pytest.approx(
        (means - means.min()) / (means.max() - means.min()), abs=1e-5
    )


def test_the_profile_of_a_power_law_falls_by_its_exponent():
    side, exponent = 128, 3.0
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    amplitude = np.zeros((side, side))
    amplitude[frequencies > 0] = 1e9 * frequencies[frequencies > 0] ** (-exponent / 2)
    phases = np.angle(np.fft.fft2(np.random.default_rng(0).normal(size=(side, side))))
    found = profile(np.fft.ifft2(amplitude * np.exp(1j * phases)).real)
    # The greatest value is that of ring 1, which holds 4 frequencies of 1 and 4 of sqrt(2); ring 0
    # is empty.
    greatest = 18 - exponent * np.log10(2) / 4
    rings = np.arange(8, 60)
    slope = np.polyfit(np.log10(rings), found[rings], 1)[0] * greatest
    assert slope == pytest.approx(-exponent, rel=0.01)


def test_the_discrepancy_compares_mean_profiles_of_the_clips():
    truths = [waves({4: 20.0}), waves({4: 20.0, 8: 5.0})]
    results = [waves({4: 20.0}), waves({4: 20.0})]
    profiles = [np.mean([profile(plane) for plane in clip], axis=0) for clip in (results, truths)]
    figures = measure(["spectrum"], list(map(gray, results)), list(map(gray, truths)))["spectrum"]
    assert figures.mean == pytest.approx(((profiles[0] - profiles[1]) ** 2).mean(), rel=1e-3)
    assert figures.per_frame is None
    swapped = measure(["spectrum"], list(map(gray, reversed(truths))), list(map(gray, truths)))[
        "spectrum"
    ]
    assert swapped.mean == pytest.approx(0, abs=1e-12)


def test_blur_and_noise_both_change_the_spectrum():
    truth = moving(1)[0]
    blurred = resize(resize(truth, 16, 24), 64, 96).clamp(0, 1)
    for result in (blurred, noisy(truth, 0.1)):
        assert measure(["spectrum"], [result], [truth])["spectrum"].mean > 1e-3
    assert "px or more" in measure(["spectrum"], [truth[:, :7]], [truth[:, :7]])["spectrum"].reason


def diversity_of(*maps):
    diversity = Diversity()
    for values in maps:
        diversity.add(torch.tensor(values))
    return diversity.score


def test_diversity_of_hand_worked_maps():
    # Means 0.3 and 0.4, least at each pixel 0.2 and 0.1: 100 (0.3 - 0.15) / 0.3.
    assert diversity_of([[0.2, 0.4]], [[0.7, 0.1]]) == pytest.approx(50)
    # The second sample is nowhere closer.
    assert diversity_of([[0.2, 0.4]], [[0.7, 0.9]]) == 0
    assert diversity_of([[0.2, 0.4]], [[0.2, 0.4]], [[0.2, 0.4]]) == 0
    # G 0.3, least 0.1 and 0.0.
    assert diversity_of([[0.2, 0.4]], [[0.7, 0.0]], [[0.1, 0.8]]) == pytest.approx(100 * 0.25 / 0.3)
    assert diversity_of([[0.0, 0.0]], [[1.0, 1.0]]) == 0


@pytest.fixture
def lpips_weights(shared_data, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "weights"))


def test_samples_that_are_right_in_different_places_are_diverse_and_equal_ones_are_not(
    lpips_weights,
):
    truth = moving(1, 64, 96)[0]
    bad = noisy(truth, 0.2)
    left, right = truth.clone(), truth.clone()
    left[..., 48:], right[..., :48] = bad[..., 48:], bad[..., :48]
    figures = measure(["diversity"], [left, right], [truth] * 2)["diversity"]
    assert figures.mean > 40
    assert figures.per_frame is None
    assert figures.network == "squeeze"
    assert measure(["diversity"], [bad, bad.clone()], [truth] * 2)["diversity"].mean == 0


def test_diversity_refuses_a_moving_truth_and_a_single_sample(lpips_weights):
    truths = moving(2, 64, 96)
    assert "truth changes" in measure(["diversity"], truths, truths)["diversity"].reason
    assert (
        "2 samples or more, found 1"
        in measure(["diversity"], truths[:1], truths[:1])["diversity"].reason
    )


class RandomFeatures:
    """In the place of Inception: features of any kind will do for what is gathered of them."""

    size = 5

    def of(self, picture):
        weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
        return weights @ picture.double().mean(dim=(1, 2))


@pytest.mark.parametrize("name", ["fid", "spectrum", "diversity"])
def test_what_a_figure_of_the_clip_has_gathered_goes_on_in_another_process(name, lpips_weights):
    start = {
        "fid": lambda: FrechetInceptionDistance(RandomFeatures()),
        "spectrum": SpectrumDiscrepancy,
        "diversity": lambda: METRICS["diversity"].load().start(),
    }[name]
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 40, 40, generator=generator)
    truths = [truth if name == "diversity" else truth.roll(n, 0) for n in range(6)]
    noise = [0.1 * torch.randn(3, 40, 40, generator=generator) for _ in range(6)]
    results = [(t + n).clamp(0, 1) for t, n in zip(truths, noise, strict=True)]
    seen = [
        Observation(
            result=FramePair(MetricImage(result, result), None),
            truth=FramePair(MetricImage(true, true), None),
            enlarged=None,
            low_resolution=None,
            border=0,
        )
        for result, true in zip(results, truths, strict=True)
    ]
    whole, first, second = start(), start(), start()
    for observation in seen:
        whole.update(observation)
    for observation in seen[:3]:
        first.update(observation)
    state = first.state()
    # What comes after the state was taken must not change it.
    first.update(seen[0])
    second.restore(state)
    for observation in seen[3:]:
        second.update(observation)
    assert second.compute() == whole.compute() > 0
