"""The losses of external learning against their formulas, closed forms and other
implementations."""

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from tests.clips import textured_picture
from vsr.errors import ModelError
from vsr.metrics.spectrum import profile
from vsr.train.adversarial import GAN_LOSSES, gradient_penalty
from vsr.train.dataset.losses import (
    TRANSFORMS,
    azimuthal_profile,
    confuse_high_frequencies,
    fft_loss,
    focal_frequency_loss,
    spectral_loss,
)
from vsr.train.dataset.perceptual import load_perceptual

CPU = torch.device("cpu")


def test_a_loss_without_its_weights_says_where_they_go(monkeypatch, tmp_path):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    for name in ("lpips", "dists", "vgg22", "vgg54", "vgg54_esrgan"):
        with pytest.raises(ModelError, match="VSR_WEIGHTS"):
            load_perceptual(name, CPU)


def features_by_hand(weights, pictures, last):
    """VGG19's features, layer by layer from its published list, up to `last`: (block, number within
    it, whether behind the activation)."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = (pictures - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    index = 0
    for block, convolutions in enumerate([2, 2, 4, 4, 4], 1):
        for number in range(1, convolutions + 1):
            weight, bias = (weights[f"features.{index}.{kind}"] for kind in ("weight", "bias"))
            features = F.conv2d(features, weight, bias, padding=1)
            if last == (block, number, False):
                return features
            features = features.relu()
            if last == (block, number, True):
                return features
            index += 2
        features = F.max_pool2d(features, 2)
        index += 1
    raise AssertionError(last)


def test_losses_of_vgg_are_those_of_srgan_and_esrgan(tmp_path, monkeypatch):
    """SRGAN: squared, behind the activation, features over 12.75. ESRGAN: L1, before it."""
    widths = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    indices = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    weights, inputs = {}, 3
    for index, width in zip(indices, widths, strict=True):
        spread = (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.weight"] = spread * torch.randn(width, inputs, 3, 3)
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(width)
        inputs = width
    torch.save(weights, tmp_path / "vgg19-of-nobody.pth")
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    one, other = torch.rand(2, 2, 3, 32, 32)
    for name, last in [("vgg22", (2, 2, True)), ("vgg54", (5, 4, True))]:
        of_one, of_other = (features_by_hand(weights, each, last) for each in (one, other))
        expected = ((of_one - of_other) / 12.75).square().mean()
        assert float(load_perceptual(name, CPU)(one, other)) == pytest.approx(
            float(expected), rel=1e-4
        )
    before = [features_by_hand(weights, each, (5, 4, False)) for each in (one, other)]
    assert float(load_perceptual("vgg54_esrgan", CPU)(one, other)) == pytest.approx(
        float((before[0] - before[1]).abs().mean()), rel=1e-4
    )


def test_random_features_are_the_same_everywhere_and_move_pictures_towards_the_truth():
    one, other = torch.rand(2, 1, 3, 32, 32)
    distance = load_perceptual("random", CPU)
    assert float(distance(one, other)) == float(load_perceptual("random", CPU)(one, other)) > 0
    assert float(distance(one, one)) == 0
    one.requires_grad_(True)
    before = distance(one, other)
    before.backward()
    step = 1e-3 * one.grad / one.grad.abs().max()
    assert float(distance(one.detach() - step, other)) < float(before.detach())


def test_lpips_as_a_loss_is_lpips_as_a_metric_and_has_a_gradient(shared_data, monkeypatch):
    from vsr.metrics.lpips import load_distance

    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "weights"))
    one, other = torch.rand(2, 1, 3, 48, 48)
    one.requires_grad_(True)
    loss = load_perceptual("lpips", CPU)(one, other)
    assert float(loss.detach()) == pytest.approx(
        load_distance().between(one.detach()[0], other[0]), rel=1e-4
    )
    loss.backward()
    assert one.grad.abs().sum() > 0


def test_the_fft_loss_is_no_pixel_distance_in_disguise():
    """Two errors of one pixel L2: a single wave is a smaller error of the spectrum than noise
    is."""
    truth = torch.rand(1, 1, 32, 32)
    noise = torch.randn(1, 1, 32, 32)
    wave = torch.cos(2 * torch.pi * 5 * torch.arange(32) / 32).expand(1, 1, 32, 32)
    errors = [0.05 * error / error.square().mean().sqrt() for error in (noise, wave)]
    pixel = [F.mse_loss(truth + error, truth) for error in errors]
    assert torch.allclose(pixel[0], pixel[1])
    assert fft_loss(truth + errors[0], truth) > 3 * fft_loss(truth + errors[1], truth)
    spectra = [
        torch.fft.fft2(truth + error).sub(torch.fft.fft2(truth)).abs().square().sum()
        for error in errors
    ]
    assert torch.allclose(spectra[0], spectra[1]), (
        "which the L2 norm of spectra could not tell apart (Parseval)"
    )


@pytest.mark.parametrize("size", [(8, 6), (8, 7)])
@pytest.mark.parametrize(
    ("name", "transform"),
    [("fft", np.fft.fft2), ("dct", lambda x: scipy.fft.dctn(x, norm="ortho"))],
)
def test_the_fft_loss_follows_its_formula(name, transform, size):
    """Over the whole spectrum, by numpy and scipy."""
    result, truth = torch.rand(2, 1, 1, *size)
    of_result, of_truth = transform(result[0, 0].numpy()), transform(truth[0, 0].numpy())
    largest = max(np.abs(of_result).sum(), np.abs(of_truth).sum())
    assert float(fft_loss(result, truth, TRANSFORMS[name])) == pytest.approx(
        np.abs(of_result - of_truth).sum() / largest, rel=1e-4
    )


def test_confusion_takes_what_is_above_the_cutoff_from_the_truth():
    """Waves of two frequencies each: the low one comes from the result, the high one from the
    truth."""
    places = torch.arange(32) / 32

    def wave(cycles):
        return torch.cos(2 * torch.pi * cycles * places).expand(1, 1, 32, 32)

    result, truth = 0.2 * wave(3) + 0.1 * wave(12), 0.3 * wave(3) + 0.4 * wave(12)
    mixed = confuse_high_frequencies(result, truth, 7 / 32)
    assert torch.allclose(mixed, 0.2 * wave(3) + 0.4 * wave(12), atol=1e-5)
    assert torch.allclose(confuse_high_frequencies(result, truth, 1.0), result, atol=1e-6)


@pytest.mark.parametrize("loss", [fft_loss, spectral_loss, focal_frequency_loss])
def test_a_loss_of_spectra_is_least_for_equal_pictures_and_moves_towards_them(loss):
    truth = torch.from_numpy(textured_picture(32, 32)).permute(2, 0, 1)[None].float() / 255
    blurred = F.avg_pool2d(truth, 3, 1, 1).requires_grad_(True)
    assert float(loss(truth, truth)) == pytest.approx(0, abs=1e-5)
    before = loss(blurred, truth)
    before.backward()
    step = 1e-3 * blurred.grad / blurred.grad.abs().max()
    assert float(loss(blurred.detach() - step, truth)) < float(before.detach())


def test_the_azimuthal_profile_agrees_with_the_metrics_own():
    """That one has log(1 + power) of luma in studio range; at these powers the 1 is nothing."""
    gray = torch.from_numpy(textured_picture(40, 56)).permute(2, 0, 1)[:1].expand(3, -1, -1).float()
    noisy = gray + 20 * torch.randn(1, 40, 56)
    assert np.allclose(
        azimuthal_profile(noisy[None])[0].numpy(), profile(noisy[0].numpy()), atol=1e-3
    )


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_game_pulls_discriminator_and_generator_apart(name):
    game = GAN_LOSSES[name]
    real, fake = (
        torch.tensor([0.3, 0.1], requires_grad=True),
        torch.tensor([-0.1, 0.2], requires_grad=True),
    )
    of_real, of_fake = torch.autograd.grad(game.discriminator(real, fake), (real, fake))
    assert of_real.sum() < 0 < of_fake.sum(), "real logits are to rise, fake ones to fall"
    (of_fake,) = torch.autograd.grad(game.generator(real.detach(), fake), fake)
    assert of_fake.sum() < 0, "the generator wants its logits to rise"


def test_relativistic_games_follow_their_formulas():
    real, fake = torch.tensor([1.0, -0.5]), torch.tensor([0.2, 0.4])
    against = real - fake.mean(), fake - real.mean()
    expected = (
        F.binary_cross_entropy_with_logits(against[0], torch.ones(2))
        + F.binary_cross_entropy_with_logits(against[1], torch.zeros(2))
    ) / 2
    assert torch.allclose(GAN_LOSSES["ragan"].discriminator(real, fake), expected)
    assert torch.allclose(GAN_LOSSES["ragan"].generator(fake, real), expected), (
        "the sides are swapped"
    )
    center = (real.mean() + fake.mean()) / 2
    hinge = (F.relu(1 - (real - center)).mean() + F.relu(1 + (fake - center)).mean()) / 2
    assert torch.allclose(GAN_LOSSES["rchinge"].discriminator(real, fake), hinge)


def test_the_gradient_penalty_is_that_of_a_linear_critic():
    """Whose gradient is its weights everywhere."""
    weights = torch.randn(3 * 4 * 4)

    class Linear(torch.nn.Module):
        def forward(self, crops):
            return crops.flatten(1) @ weights

    real, fake, mix = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 1, 1, 1)
    penalty = gradient_penalty(Linear(), real, fake, mix)
    assert float(penalty) == pytest.approx(float((weights.norm() - 1) ** 2), rel=1e-4)
