from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.models import BRIEF, picture
from vsr.errors import InputError
from vsr.networks.singan import Critic, Generator, NetworkSpec
from vsr.resample import resize
from vsr.training import METHODS, check_keyframe
from vsr.training.faithful import Pyramid, pyramid_levels
from vsr.training.losses import critic_loss, gradient_penalty
from vsr.training.method import loss_curve_summary
from vsr.training.quick import draw_crops, scale_pairs, train_quick


def ignore(*_):
    pass


@pytest.mark.parametrize("name", METHODS)
def test_a_model_depends_on_its_keyframe_and_seed_alone(name):
    method = METHODS[name]
    options = replace(method.options, network=replace(method.options.network, width=8), iterations=3)

    def weights(seed):
        torch.rand(seed + 5)
        trained = method.train(picture(32, 36), options, seed, ignore)
        return torch.cat([value.flatten().float() for value in trained.generator.state_dict().values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", METHODS)
def test_every_iteration_is_reported_and_the_networks_come_back_ready(name):
    heard = []
    method = METHODS[name]
    options = replace(method.options, network=replace(method.options.network, width=8), iterations=2)
    trained = method.train(picture(32, 36), options, 0, lambda *news: heard.append(news))
    totals = {total for _, total, _ in heard}
    assert totals == {len(heard)}
    assert [done for done, _, _ in heard] == list(range(1, len(heard) + 1))
    assert not trained.generator.training
    assert not trained.critic.training
    assert all(torch.isfinite(value).all() for value in trained.generator.state_dict().values())


def test_the_quick_recipe_restores_its_keyframe_better_than_bicubic():
    keyframe = picture(48, 56)
    trained = train_quick(keyframe, replace(BRIEF, iterations=150), 0, ignore)
    low = resize(keyframe, 34, 40)
    base = 2 * resize(low, 48, 56)[None] - 1
    with torch.inference_mode():
        restored = (trained.generator(base, base)[0] + 1) / 2
    assert F.l1_loss(restored, keyframe) < 0.9 * F.l1_loss(resize(low, 48, 56), keyframe)


@pytest.mark.parametrize("name", ["faithful", "pyramid"])
def test_the_published_recipes_learn_to_reconstruct(name):
    small = NetworkSpec(width=8, batch_norm=True, tanh=True, padding="zeros")
    options = replace(METHODS[name].options, network=small, iterations=20)
    trained = METHODS[name].train(picture(32, 36), options, 0, ignore)
    last_level = trained.loss_curve[-1]
    assert last_level < trained.loss_curve[0]
    assert trained.noise_amplitude > 0


def test_the_adversarial_term_reaches_the_generator_in_every_recipe():
    """A recipe that had lost its adversarial gradient would train the same generator with any critic."""
    keyframe = picture(40, 44)
    with_game = train_quick(keyframe, BRIEF, 0, ignore)
    without = train_quick(keyframe, replace(BRIEF, adversarial_weight=0.0), 0, ignore)
    ours, theirs = (next(iter(pair.generator.state_dict().values())) for pair in (with_game, without))
    assert not torch.equal(ours, theirs)
    faithful = METHODS["faithful"]
    small = NetworkSpec(width=4, batch_norm=True, tanh=True, padding="zeros")
    options = replace(faithful.options, network=small, iterations=4, reconstruction_weight=0.0)
    moved = faithful.train(keyframe, options, 0, ignore).generator.state_dict()
    start = faithful.train(keyframe, replace(options, learning_rate=0.0), 0, ignore).generator.state_dict()
    assert not torch.equal(moved["body.0.0.weight"], start["body.0.0.weight"])


def test_the_gradient_penalty_of_a_linear_critic_has_its_closed_form():
    class Linear(torch.nn.Module):
        def forward(self, image):
            return (image * torch.tensor([3.0, 0.0, 4.0])[None, :, None, None]).sum(1)

    image = picture(6, 7)[None].requires_grad_()
    assert gradient_penalty(Linear(), image).item() == pytest.approx((5 - 1) ** 2)


def test_the_critic_loss_falls_as_the_critic_prefers_the_real_picture():
    spec = NetworkSpec(width=4)
    torch.manual_seed(0)
    critic = Critic(spec)
    real, fake = picture(24, 24)[None], picture(24, 24, seed=3)[None]
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
    first = critic_loss(critic, real, fake, torch.tensor(0.5)).item()
    for _ in range(20):
        optimiser.zero_grad()
        critic_loss(critic, real, fake, torch.tensor(0.5)).backward()
        optimiser.step()
    assert critic_loss(critic, real, fake, torch.tensor(0.5)).item() < first
    assert critic(real).mean() > critic(fake).mean()


def test_crops_of_input_and_target_show_the_same_place():
    keyframe = picture(40, 44)
    options = replace(BRIEF, pair_scales=(1.0,), step_ratio=1.0001)
    pairs = scale_pairs(keyframe, options)
    padded, target = draw_crops(pairs, options, torch.Generator().manual_seed(3))
    halo = options.network.halo
    assert F.l1_loss(padded[..., halo:-halo, halo:-halo], target) < 0.01


def test_the_published_widths_have_the_published_number_of_parameters():
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    for width, generator, critic in [(32, 29_763, 29_185), (64, 114_819, 113_665), (128, 450_819, 448_513)]:
        spec = NetworkSpec(width=width, batch_norm=True, tanh=True, padding="zeros")
        assert count(Generator(spec)) == generator
        assert count(Critic(spec)) == critic


def test_the_pyramid_of_a_120x180_picture_has_ten_levels_from_18_pixels():
    levels = pyramid_levels(torch.zeros(1, 3, 120, 180), Pyramid())
    assert len(levels) == 10
    assert min(levels[0].shape[-2:]) == 18
    assert levels[-1].shape[-2:] == (120, 180)


def test_a_keyframe_that_cannot_be_learned_from_is_refused():
    with pytest.raises(InputError, match="30x40"):
        check_keyframe(torch.rand(3, 40, 30))
    with pytest.raises(InputError, match="flat colour"):
        check_keyframe(torch.full((3, 40, 40), 0.5))
    check_keyframe(picture(32, 32))


def test_a_loss_curve_is_summed_up_by_means_of_equal_parts():
    assert loss_curve_summary([1.0, 3.0, 5.0, 7.0], parts=2) == (2.0, 6.0)
    assert loss_curve_summary([1.0, 2.0], parts=10) == (1.0, 2.0)
