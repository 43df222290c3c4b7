"""ZSSR, KernelGAN and ZSSRGAN: networks, games, rules, and what becomes of them in a bank."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models import make_model, picture
from tests.test_policies import context_of
from vsr.engine.generator import FastGenerator, StepOptions
from vsr.errors import ModelError, UsageError
from vsr.image.blur import (
    aligned_center,
    bicubic_kernel,
    center_of_mass,
    gaussian_kernel,
    reduce_blurred,
    taps_from_tensor,
)
from vsr.image.resample import resize
from vsr.models.bank import load_model, save_model
from vsr.models.networks.kernelgan import KERNEL_SIDE, DeepLinearGenerator, PatchDiscriminator
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.restore.cross_scale import CrossScaleSpectrum, accumulate_octaves
from vsr.train.crops import multiscale_pairs, texture_map, texture_weighted_sampler
from vsr.train.methods import METHODS
from vsr.train.methods.kernelgan import (
    KernelEstimate,
    KernelFit,
    KernelGanOptions,
    KernelGanTrainer,
    border_mask,
    estimate_kernel,
    threshold_kernel,
)
from vsr.train.methods.published_kernelgan import (
    PublishedKernelGan,
    PublishedKernelGanOptions,
    estimate_kernel_as_published,
    kernel_terms,
    reduce_by,
)
from vsr.train.methods.zssr import (
    ZSSR_NETWORK,
    HrCropSampler,
    PairSampler,
    PlateauSchedule,
    RestorerTrainer,
    ZssrOptions,
    blur_kernel,
)
from vsr.train.methods.zssrgan import ZssrGanOptions
from vsr.train.plan import plan_training
from vsr.upscale import POLICIES
from vsr.video.reader import open_clip

SKEWED = gaussian_kernel(13, (2.2, 0.9), 30)
NARROW = replace(ZSSR_NETWORK, width=8, layers=4)
SHORT = ZssrOptions(network=NARROW, iterations=60, crop_px=24, rate=PlateauSchedule(start=1e-2))


def ignore(*_):
    pass


def self_similar_scene(side=256):
    """(3, side, side) in [0, 1]: grey noise whose power falls with the square of the frequency, as
    in nature."""
    random = torch.Generator().manual_seed(0)
    cycles = torch.fft.fftfreq(side)
    distance = torch.hypot(cycles[:, None], cycles[None, :]).clamp_min(1 / side)
    spectrum = torch.fft.fft2(torch.randn(side, side, generator=random)) / distance
    scene = torch.fft.ifft2(spectrum).real
    scene = 0.5 + 0.15 * (scene - scene.mean()) / scene.std()
    return scene.clamp(0, 1).expand(3, -1, -1).contiguous()


def blurred(kernel):
    """The scene at half its size through a kernel, without its border, in 8 bits."""
    low = reduce_blurred(self_similar_scene(), kernel)[:, 4:-4, 4:-4]
    return (low * 255).round() / 255


def parameters_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_the_published_numbers_of_parameters():
    # 3x3x(3x64 + 6x64x64 + 64x3); 7x7x64 + 5x5x64x64 + 3x3x64x64 + 2x64x64 + 64.
    assert parameters_of(Generator(ZSSR_NETWORK)) == 224_640
    assert parameters_of(DeepLinearGenerator()) == 150_656
    # 7x7x3x64 + 64, five times 64x64 + 64 and 2x64 of its normalisation, 64 + 1.
    assert parameters_of(PatchDiscriminator()) == 30_977


def test_the_reducers_kernel_is_what_its_layers_do_to_a_picture():
    torch.manual_seed(0)
    reducer = DeepLinearGenerator()
    for layer in reducer.layers:
        torch.nn.init.normal_(layer.weight, 0, 0.1)
    image = torch.rand(1, 1, 32, 36)
    by_layers = image
    for layer in reducer.layers:
        by_layers = layer(by_layers)
    torch.testing.assert_close(
        F.conv2d(image, reducer.kernel()[None, None]), by_layers, atol=1e-4, rtol=1e-4
    )


def test_the_game_begins_at_the_gaussian_of_the_spectrum():
    game = KernelGanTrainer(blurred(SKEWED), KernelGanOptions(), 0)
    gaussian = CrossScaleSpectrum(blurred(SKEWED)).fit(KERNEL_SIDE).kernel
    with torch.no_grad():
        assert (game.reducer.kernel() - gaussian).abs().sum() < 0.05
    assert game.kernel_fit().basis == "spectrum"


def test_the_spectra_of_a_picture_tell_the_blur_of_its_scene():
    """A scene that looks alike at every scale by construction: noise whose power falls with the
    square."""
    for sigma_px, degrees in (((2.2, 0.9), 30), ((1.5, 1.5), 0), ((2.6, 1.2), 120)):
        truth = gaussian_kernel(KERNEL_SIDE, sigma_px, degrees)
        scales = CrossScaleSpectrum(blurred(truth))
        gaussian = scales.fit(KERNEL_SIDE).kernel
        found = accumulate_octaves(gaussian)
        assert (found - truth).abs().sum() < 0.2
        assert scales.mismatch(gaussian) < 0.5 * scales.mismatch(bicubic_kernel())


def test_a_training_that_takes_no_notice_of_a_blur_says_what_would():
    sharp, soft = blurred(bicubic_kernel()), blurred(SKEWED)
    assert "--kernel auto" in plan_training("quick").advice(soft)
    assert plan_training("quick").advice(sharp) is None
    for plan in (
        plan_training("quick", kernel="auto"),
        plan_training("zssrgan"),
        plan_training("faithful"),
    ):
        assert plan.advice(soft) is None


def test_the_mismatch_has_a_slope_along_which_a_kernel_gets_better():
    scales = CrossScaleSpectrum(blurred(SKEWED))
    kernel = gaussian_kernel(KERNEL_SIDE, (1.0, 1.0), 0).requires_grad_()
    before = scales.mismatch(kernel)
    (slope,) = torch.autograd.grad(before, kernel)
    after = scales.mismatch(kernel - 1e-3 * slope / slope.abs().max())
    assert after < before


def test_a_kernel_across_octaves_is_wider_by_a_third_of_its_variance_and_bicubic_stays():
    third = (4 / 3) ** 0.5
    found = accumulate_octaves(gaussian_kernel(KERNEL_SIDE, (1.5, 1.0), 30))
    torch.testing.assert_close(
        found, gaussian_kernel(KERNEL_SIDE, (1.5 * third, 1.0 * third), 30), atol=1e-3, rtol=0
    )
    bicubic = F.pad(bicubic_kernel(), (3, 2, 3, 2))
    assert (accumulate_octaves(bicubic) - bicubic).abs().sum() < 0.1


def test_a_picture_that_was_reduced_bicubically_is_said_to_be_so():
    scene = self_similar_scene()
    low = (resize(scene, 128, 128) * 255).round() / 255
    estimate = estimate_kernel(low, KernelGanOptions(), 0, ignore)
    assert estimate.kernel_fit.basis == "bicubic"
    assert estimate.kernel == taps_from_tensor(bicubic_kernel())
    assert "bicubic it is" in estimate.kernel_fit.summary()
    assert blur_kernel(estimate.kernel) is None


def test_a_kernel_of_the_game_that_explains_little_more_is_not_taken():
    game = KernelGanTrainer(blurred(SKEWED), KernelGanOptions(crop_px=32), 0)
    for _ in range(4):
        game.generator_step()
        game.discriminator_step(game.pair_loss())
    found = game.kernel_fit()
    assert found.basis == "spectrum"
    assert torch.equal(found.kernel, accumulate_octaves(game._fit.kernel))


def test_the_border_mask_is_nought_in_the_middle_and_grows_outwards():
    mask = border_mask(13)
    assert not mask[2:-2, 2:-2].any()
    assert (
        mask[0, 0]
        == mask.max()
        == pytest.approx(30 * (1 - torch.exp(torch.tensor(-36 / 169)).item()))
    )
    assert torch.equal(mask, mask.T)


def test_cleaning_keeps_the_largest_values_and_puts_the_kernel_in_its_place():
    noisy = torch.roll(SKEWED, 1, 0) + 1e-4 * torch.rand(
        13, 13, generator=torch.Generator().manual_seed(0)
    )
    kernel = threshold_kernel(noisy, 40)
    assert float(kernel.sum()) == pytest.approx(1)
    assert kernel.min() >= 0
    assert center_of_mass(kernel).tolist() == pytest.approx([aligned_center(13)] * 2, abs=0.02)
    assert (kernel > 0).sum() < 90


def test_crops_are_drawn_the_likelier_the_more_texture_they_hold():
    flat_left = picture(48, 96)
    flat_left[:, :, :48] = 0.5
    draw = texture_weighted_sampler(texture_map(flat_left), 16, torch.Generator().manual_seed(0))
    lefts = [columns.start for _, columns in (draw() for _ in range(200))]
    assert sum(left >= 40 for left in lefts) > 190


def test_fathers_are_crops_of_the_picture_or_look_like_it():
    image = picture(48, 56)
    fathers = HrCropSampler(image, 24, torch.Generator().manual_seed(0), augment=True)
    patches = image.unfold(1, 24, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 24, 24)
    found = 0
    for _ in range(30):
        crop, weights = fathers.draw()
        assert crop.shape == (3, 24, 24)
        assert 0 <= crop.min() <= crop.max() <= 1
        assert torch.equal(weights, torch.ones(24, 24))
        ways = [
            torch.rot90(flipped, turns, (1, 2))
            for flipped in (crop, crop.flip(2))
            for turns in range(4)
        ]
        found += any(bool(((patches - way).abs().amax(dim=(1, 2, 3)) == 0).any()) for way in ways)
    assert 8 <= found <= 22


def test_with_a_kernel_fathers_are_taken_as_they_are_and_sons_are_made_by_it():
    image = picture(48, 56)
    sampler = PairSampler(image, replace(SHORT, kernel=taps_from_tensor(SKEWED)), SKEWED, 0)
    base, hr, weights = sampler.draw()
    patches = image.unfold(1, 24, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 24, 24)
    assert (2 * patches - 1 - hr).abs().amax(dim=(1, 2, 3)).min() < 1e-6
    lr = reduce_blurred((hr[0] + 1) / 2, SKEWED)
    torch.testing.assert_close((base[0] + 1) / 2, resize(lr, 24, 24), atol=1e-6, rtol=0)
    assert weights.std() > 0


def test_quick_pairs_can_be_made_by_a_kernel():
    (pair,) = multiscale_pairs(picture(41, 47), NARROW, 2.0, [1.0], taps_from_tensor(SKEWED))
    target = (pair.target + 1) / 2
    assert target.shape == (3, 40, 46)
    low = (reduce_blurred(target, SKEWED) * 255).round() / 255
    inner = pair.padded[:, NARROW.halo : -NARROW.halo, NARROW.halo : -NARROW.halo]
    torch.testing.assert_close((inner + 1) / 2, resize(low, 40, 46), atol=1e-5, rtol=0)


def test_zssr_restores_its_picture_better_than_bicubic():
    image = picture(48, 56)
    trained = METHODS["zssr"].train(image, replace(SHORT, iterations=300), 0, ignore)
    base = resize(resize(image, 24, 28), 48, 56)
    restored = FastGenerator("m", trained.generator, 2.0, torch.device("cpu")).add_detail(base)
    assert F.l1_loss(restored, image) < 0.8 * F.l1_loss(base, image)
    assert trained.critic is None
    assert trained.remark == ""


def test_the_learning_rate_falls_once_the_error_no_longer_does_and_training_ends_below_its_least():
    image = picture(32, 36)
    rule = PlateauSchedule(start=1e-3, end=9e-6, test_every=5, check_every=5, window=20)
    student = RestorerTrainer(image, replace(SHORT, rate=rule), None, 0)
    start = {name: weights.clone() for name, weights in student.generator.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    rates, finished = [], False
    while not finished and len(rates) < 500:
        # A loss that moves nothing, and weights that shake: the error wanders around where it is.
        student.step(0 * student.restore(torch.zeros(1, 3, 8, 8)).sum())
        with torch.no_grad():
            student.generator.load_state_dict(
                {
                    name: weights * (1 + 0.01 * torch.randn(weights.shape, generator=random))
                    for name, weights in start.items()
                }
            )
        student.judge()
        finished = student.is_finished
        rates.append(student._optimizer.learning_rate)
    falls = [number for number, (before, after) in enumerate(pairwise(rates)) if after < before]
    assert finished
    assert len(falls) == 3
    assert all(later - earlier > rule.window for earlier, later in pairwise(falls))
    assert rates[-1] == pytest.approx(1e-6)


def test_a_training_that_goes_astray_late_keeps_its_best_state_and_says_so():
    image = picture(48, 56)
    student = RestorerTrainer(
        image, replace(SHORT, rate=PlateauSchedule(start=1e-2, test_every=10)), None, 0
    )
    sampler = PairSampler(image, SHORT, None, 0)
    for _ in range(100):
        base, hr, _ = sampler.draw()
        student.step(F.l1_loss(student.restore(base), hr))
        student.judge()
        assert not student.is_astray
    best = student._best_error
    student.step(student.restore(torch.full((1, 3, 8, 8), 1e30)).sum() * 1e30)
    student.judge()
    assert student.is_astray
    student.restore_best()
    trained = student.trained(None)
    assert "went astray at iteration 101" in trained.remark
    assert student._test.error(trained.generator) == best
    assert all(torch.isfinite(value).all() for value in trained.generator.state_dict().values())


def test_a_training_that_goes_astray_at_once_is_an_error():
    with pytest.raises(
        ModelError, match=r"went astray at iteration \d+, before it was better than bicubic"
    ):
        METHODS["zssr"].train(
            picture(32, 36),
            replace(SHORT, rate=PlateauSchedule(start=1e12, test_every=5)),
            0,
            ignore,
        )


@pytest.mark.parametrize("regime", ["fixed", "serial", "semi-e2e"])
def test_every_regime_trains_the_restorer_and_says_what_kernel_it_took(regime):
    options = ZssrGanOptions(
        network=NARROW,
        iterations=12,
        crop_px=24,
        regime=regime,
        game=KernelGanOptions(iterations=8, crop_px=32),
    )
    heard = []
    trained = METHODS["zssrgan"].train(
        picture(48, 56), options, 0, lambda *news: heard.append(news)
    )
    assert trained.kernel is None, "the picture is not blurred"
    assert "bicubic it is" in trained.remark
    assert heard[-1][0] == heard[-1][1] == (12 if regime == "semi-e2e" else 20)
    assert {"reducer", "discriminator", "accuracy", "adversarial"} <= trained.curves.keys()
    assert all(0 <= share <= 1 for share in trained.curves["accuracy"])


def test_the_discriminator_goes_on_learning_in_serial_and_stays_as_it_is_in_fixed(monkeypatch):
    ends = {}
    for regime in ("fixed", "serial"):
        states = []
        monkeypatch.setattr(
            KernelGanTrainer,
            "discriminator_loss",
            _watched(KernelGanTrainer.discriminator_loss, states),
        )
        options = ZssrGanOptions(
            network=NARROW,
            iterations=6,
            crop_px=24,
            regime=regime,
            game=KernelGanOptions(iterations=3, crop_px=32),
        )
        METHODS["zssrgan"].train(picture(48, 56), options, 0, ignore)
        monkeypatch.undo()
        ends[regime] = [not torch.equal(states[3], later) for later in states[4:]]
    assert not any(ends["fixed"])
    assert all(ends["serial"])


def _watched(loss, states):
    def watched(game, real, fake):
        states.append(
            torch.cat(
                [value.flatten() for value in game.discriminator.state_dict().values()]
            ).clone()
        )
        # One range on both sides: nothing to tell them apart by.
        for side in (real, fake) if len(states) > 3 else ():
            assert side.min() < -0.2
            assert side.max() <= 1.5
        return loss(game, real, fake)

    return watched


def test_a_self_ensemble_turns_with_the_picture():
    torch.manual_seed(0)
    generator = Generator(NetworkSpec(width=8, layers=3, leak=0.0, bias=False)).eval()
    fast = FastGenerator("m", generator, 2.0, torch.device("cpu"), StepOptions(self_ensemble=True))
    plain = FastGenerator("m", generator, 2.0, torch.device("cpu"))
    image = picture(24, 32)
    turned = torch.rot90(image, 1, (1, 2)).flip(2)
    torch.testing.assert_close(
        fast.add_detail(turned),
        torch.rot90(fast.add_detail(image), 1, (1, 2)).flip(2),
        atol=1e-6,
        rtol=0,
    )
    assert not torch.allclose(fast.add_detail(image), plain.add_detail(image))


def test_a_model_without_a_critic_keeps_its_kernel_and_is_refused_where_a_critic_is_asked(tmp_path):
    model = make_model(
        tmp_path,
        "zssr",
        picture(),
        kernel=taps_from_tensor(SKEWED),
        arch="zssr",
        scale_factors=(2.0, 2.0),
    )
    bare = replace(
        model,
        critic=None,
        card=replace(model.card, critic_mean=None, critic_std=None, remark="late"),
    )
    save_model(tmp_path / "bare.safetensors", bare.card, bare.generator, None)
    read = load_model(tmp_path / "bare.safetensors")
    assert read.critic is None
    assert read.card == bare.card
    assert read.card.kernel == taps_from_tensor(SKEWED)
    assert read.card.system == "kernelgan"
    with pytest.raises(ModelError, match=r"bare has none.*selfrec"):
        POLICIES["dsrfi"].make(context_of([read]))
    with pytest.raises(UsageError, match="blur kernel of one orientation"):
        context_of([read], self_ensemble=True).generator_for(read)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel", [SKEWED, gaussian_kernel(13, (1.5, 1.5), 0), gaussian_kernel(13, (3.0, 1.2), 120)]
)
def test_kernelgan_finds_an_unknown_kernel_on_a_photograph(shared_data, kernel):
    with open_clip(shared_data / "stills/set14/HR/comic.png") as reader:
        truth = next(reader.frames()).pixels[:, :360, :248]
    low = (reduce_blurred(truth, kernel).clamp(0, 1) * 255).round() / 255
    found = torch.tensor(estimate_kernel(low[:, 5:-5, 5:-5], KernelGanOptions(), 0, ignore).kernel)
    bicubic = F.pad(bicubic_kernel(), (3, 2, 3, 2))
    assert (found - kernel).abs().sum() < 0.15 * (bicubic - kernel).abs().sum()


def test_the_terms_of_the_published_game_follow_their_formulas():
    """By numpy, tap by tap; the bicubic term by a resize of the same pixels."""
    crop = 2 * torch.rand(1, 3, 64, 64) - 1
    kernel = torch.rand(KERNEL_SIDE, KERNEL_SIDE, generator=torch.Generator().manual_seed(1)) / 100
    reduced = reduce_by(crop, kernel)
    assert reduced.shape == (1, 3, 26, 26)
    terms = kernel_terms(crop, reduced, kernel, border_mask(KERNEL_SIDE))
    taps = kernel.double().numpy()
    rows, columns = np.indices(taps.shape)
    centre = [(taps * at).sum() / taps.sum() for at in (rows, columns)]
    expected = {
        "sum": abs(1 - taps.sum()),
        "border": np.abs(taps * border_mask(KERNEL_SIDE).numpy()).mean(),
        "centre": np.mean([(at - 6.5) ** 2 for at in centre]),
        "sparsity": (np.abs(taps) ** 0.2).mean(),
    }
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-3), name
    # A pixel of the reduced crop is at 2 i + 6.5, where the fourth bicubic one is.
    aligned = F.pad(bicubic_kernel(), (3, 2, 3, 2))
    assert aligned.shape == kernel.shape
    by_bicubic = kernel_terms(crop, reduce_by(crop, aligned), aligned, border_mask(KERNEL_SIDE))
    assert float(by_bicubic["bicubic"]) < 1e-6
    assert float(by_bicubic["centre"]) < 1e-6


def test_the_published_game_anneals_its_bicubic_term_and_then_constrains_the_kernel():
    options = PublishedKernelGanOptions(iterations=9, crop_px=32, anneal_every=2, decay_every=5)
    game = PublishedKernelGan(blurred(SKEWED), options, 0)
    weights = []
    for _ in range(9):
        game.step()
        weights.append((game.weights["bicubic"], game.weights["centre"], game.weights["sparsity"]))
    # Similar after three; then a hundredth every second iteration, down to the least.
    assert [weight for weight, _, _ in weights] == pytest.approx(
        [5, 5, 5, 5e-2, 5e-2, 5e-4, 5e-4, 5e-6, 5e-6]
    )
    assert [pair for _, *pair in weights] == [[0, 0]] * 5 + [[1, 5]] * 4
    estimate = estimate_kernel_as_published(blurred(SKEWED), options, 0, ignore)
    assert estimate.kernel_fit.basis == "kernelgan"
    kernel = torch.tensor(estimate.kernel)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert "published game" in estimate.kernel_fit.summary()


def test_the_kernel_of_a_training_is_that_of_the_estimator_that_was_named(monkeypatch):
    asked = []
    for name in ("estimate_kernel", "estimate_kernel_as_published"):
        monkeypatch.setattr(
            f"vsr.train.plan.{name}",
            lambda *_, name=name: asked.append(name) or KernelEstimate(_bicubic_fit()),
        )
    for kernel in ("auto", "cross-scale", "kernelgan"):
        plan = plan_training("quick", kernel=kernel)
        plan._estimate(blurred(SKEWED))
    assert asked == ["estimate_kernel"] * 2 + ["estimate_kernel_as_published"]
    assert plan.label == "quick-kernelgan"
    with pytest.raises(UsageError, match="not for zssrgan"):
        plan_training("zssrgan", kernel="kernelgan")


def _bicubic_fit():
    return KernelFit(bicubic_kernel(), "bicubic", 1.0, 1.0)
