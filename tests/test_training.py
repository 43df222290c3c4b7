import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.clips import textured_picture
from tests.models import BRIEF, picture
from vsr.engine.tiling import single_thread
from vsr.errors import InputError
from vsr.image.resample import resize
from vsr.models.networks.singan import Critic, Generator, NetworkSpec
from vsr.train.adversarial import critic_loss, pixel_gradient_penalty
from vsr.train.crops import (
    CropPlacement,
    TrainingPair,
    crop_batch,
    draw_placement,
    integer_sampler,
    multiscale_pairs,
)
from vsr.train.distill import StudentOptions, StudentTraining
from vsr.train.fit import fit, loss_curve_summary
from vsr.train.methods import METHODS, check_keyframe
from vsr.train.methods.quick import QuickTraining, train_quick
from vsr.train.methods.singan import PyramidOptions, pyramid_levels
from vsr.train.methods.temporal_loss import align_neighbor, temporal_loss
from vsr.train.optimizer import Adam, cosine_decay


def ignore(*_):
    pass


def train_steady(keyframe, neighbors, options, seed):
    training = QuickTraining([keyframe, *neighbors], options, seed)
    fit(training)
    return training.trained()


def brief(method, iterations):
    """The method's options, for a moment's training of a narrow network."""
    options = replace(
        method.options, network=replace(method.options.network, width=8), iterations=iterations
    )
    return (
        replace(options, game=replace(options.game, iterations=2))
        if hasattr(options, "game")
        else options
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_model_depends_on_its_keyframe_and_seed_alone(name):
    method = METHODS[name]
    options = brief(method, 3)

    def weights(seed):
        torch.rand(seed + 5)
        trained = method.train(picture(32, 36), options, seed, ignore)
        return torch.cat(
            [value.flatten().float() for value in trained.generator.state_dict().values()]
        )

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", METHODS)
def test_every_iteration_is_reported_and_the_networks_come_back_ready(name):
    heard = []
    method = METHODS[name]
    options = brief(method, 2)
    trained = method.train(picture(32, 36), options, 0, lambda *news: heard.append(news))
    totals = {total for _, total, _ in heard}
    assert totals == {len(heard)}
    assert [done for done, _, _ in heard] == list(range(1, len(heard) + 1))
    assert not trained.generator.training
    assert trained.critic is None or not trained.critic.training
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
    """A recipe that had lost its adversarial gradient would train the same generator with any
    critic."""
    keyframe = picture(40, 44)
    with_game = train_quick(keyframe, BRIEF, 0, ignore)
    without = train_quick(keyframe, replace(BRIEF, adversarial_weight=0.0), 0, ignore)
    ours, theirs = (
        next(iter(pair.generator.state_dict().values())) for pair in (with_game, without)
    )
    assert not torch.equal(ours, theirs)
    faithful = METHODS["faithful"]
    small = NetworkSpec(width=4, batch_norm=True, tanh=True, padding="zeros")
    options = replace(faithful.options, network=small, iterations=4, reconstruction_weight=0.0)
    moved = faithful.train(keyframe, options, 0, ignore).generator.state_dict()
    start = faithful.train(
        keyframe, replace(options, learning_rate=0.0), 0, ignore
    ).generator.state_dict()
    assert not torch.equal(moved["body.0.0.weight"], start["body.0.0.weight"])


def test_the_gradient_penalty_of_a_linear_critic_has_its_closed_form():
    class Linear(torch.nn.Module):
        def forward(self, image):
            return (image * torch.tensor([3.0, 0.0, 4.0])[None, :, None, None]).sum(1)

    image = picture(6, 7)[None].requires_grad_()
    assert pixel_gradient_penalty(Linear(), image).item() == pytest.approx((5 - 1) ** 2)


def test_the_critic_loss_falls_as_the_critic_prefers_the_real_picture():
    spec = NetworkSpec(width=4)
    torch.manual_seed(0)
    critic = Critic(spec)
    real, fake = picture(24, 24)[None], picture(24, 24, seed=3)[None]
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    first = critic_loss(critic, real, fake, torch.tensor(0.5)).item()
    for _ in range(20):
        optimizer.zero_grad()
        critic_loss(critic, real, fake, torch.tensor(0.5)).backward()
        optimizer.step()
    assert critic_loss(critic, real, fake, torch.tensor(0.5)).item() < first
    assert critic(real).mean() > critic(fake).mean()


def test_crops_of_input_and_target_show_the_same_place():
    (pair,) = multiscale_pairs(picture(40, 44), BRIEF.network, 1.0001, [1.0])
    draw = integer_sampler(torch.Generator().manual_seed(3))
    places = [draw_placement(pair.target.shape[-2:], 24, draw) for _ in range(6)]
    padded, target = crop_batch(pair, places)
    halo = BRIEF.network.halo
    assert target.shape == (6, 3, 24, 24)
    assert F.l1_loss(padded[..., halo:-halo, halo:-halo], target) < 0.01


def test_a_turned_crop_can_be_turned_back():
    crop = picture(20, 20)
    for turns in range(4):
        for flip in (0, 1):
            place = CropPlacement(0, 0, 20, turns, flip)
            assert torch.equal(place.undo_augmentation(place.augmented(crop)), crop)
            assert torch.equal(place.augmented(crop), crop) == (turns == flip == 0)


def moved(down, right, height=48, width=56):
    """The texture of `picture` moved by whole or parts of pixels, exact as it is a sum of waves."""
    return (
        torch.from_numpy(textured_picture(height, width, (down, right))).permute(2, 0, 1).float()
        / 255
    )


def silent(spec=BRIEF.network):
    """A generator that adds nothing."""
    generator = Generator(spec)
    for parameter in generator.parameters():
        torch.nn.init.zeros_(parameter)
    return generator


def test_a_neighbours_flow_is_the_motion_at_every_size_that_is_trained_on():
    keyframe, frame = moved(0, 0), moved(2, 3)
    pairs = multiscale_pairs(frame, BRIEF.network, BRIEF.step_ratio, [1.0, 0.5])
    for neighbor, scale in zip(align_neighbor(keyframe, frame, pairs), (1.0, 0.5), strict=True):
        assert neighbor.flow.shape[-2:] == neighbor.visible.shape == neighbor.pair.target.shape[-2:]
        across, down = (float(component.median()) for component in neighbor.flow)
        assert (across, down) == pytest.approx((3 * scale, 2 * scale), abs=0.2)
        assert neighbor.visible.mean() > 0.4


@pytest.mark.parametrize(("turns", "flip"), [(0, 0), (1, 0), (3, 1)])
def test_an_error_that_moves_with_the_picture_costs_nothing_and_one_that_stays_behind_does(
    turns, flip
):
    """The generator adds nothing, so its error is base minus target: given as such, and as seen
    somewhere else."""
    keyframe, frame = moved(0, 0), moved(2, 3)
    (pair,) = multiscale_pairs(keyframe, BRIEF.network, BRIEF.step_ratio, [1.0])
    (neighbor,) = align_neighbor(
        keyframe, frame, multiscale_pairs(frame, BRIEF.network, BRIEF.step_ratio, [1.0])
    )

    def loss(seen):
        place, other = (
            CropPlacement(12, 14, 24, turns, flip),
            CropPlacement(12 + seen, 14 + seen, 24, turns, flip),
        )
        padded, target = crop_batch(pair, [other])
        halo = BRIEF.network.halo
        error = padded[..., halo:-halo, halo:-halo] - target
        return temporal_loss(silent(), neighbor, place, error[0]).item()

    assert loss(0) < 0.5 * loss(4)


def test_what_the_other_frame_does_not_show_is_not_counted():
    keyframe = moved(0, 0)
    (neighbor,) = align_neighbor(
        keyframe, keyframe, multiscale_pairs(keyframe, BRIEF.network, BRIEF.step_ratio, [1.0])
    )
    hidden = replace(neighbor, visible=torch.zeros_like(neighbor.visible))
    place = CropPlacement(0, 0, 24, 0, 0)
    error = torch.ones(3, 24, 24)
    assert temporal_loss(silent(), neighbor, place, error) > 0
    assert temporal_loss(silent(), hidden, place, error) == 0


def test_a_model_trained_with_neighbours_changes_less_along_the_motion():
    frames = [moved(0.5 * i, 0.9 * i) for i in range(3)]
    options = replace(BRIEF, iterations=150, adversarial_weight=0.0)

    def unsteadiness(generator):
        pairs = [
            multiscale_pairs(frame, BRIEF.network, BRIEF.step_ratio, [1.0])[0] for frame in frames
        ]
        (neighbor,) = align_neighbor(frames[1], frames[2], pairs[2:])
        padded, target = crop_batch(pairs[1], [CropPlacement(4, 6, 40, 0, 0)])
        with torch.inference_mode():
            error = padded[..., 5:-5, 5:-5] + generator.residual(padded) - target
            return temporal_loss(
                generator, neighbor, CropPlacement(4, 6, 40, 0, 0), error[0]
            ).item()

    plain = train_quick(frames[1], options, 0, ignore)
    steady = train_steady(frames[1], [frames[0], frames[2]], options, 0)
    assert unsteadiness(steady.generator) < unsteadiness(plain.generator)


def test_without_neighbours_the_steady_recipe_is_the_plain_one():
    keyframe = picture(40, 44)
    plain = train_quick(keyframe, BRIEF, 4, ignore).generator.state_dict()
    steady = train_steady(keyframe, [], BRIEF, 4).generator.state_dict()
    assert all(torch.equal(steady[name], value) for name, value in plain.items())


def test_a_student_comes_nearer_to_what_it_is_taught_and_leaves_its_start_as_it_was():
    torch.manual_seed(0)
    start, other = Generator(BRIEF.network), Generator(BRIEF.network)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    (pair,) = multiscale_pairs(picture(48, 56), BRIEF.network, BRIEF.step_ratio, [1.0])
    with torch.no_grad():
        lesson = TrainingPair(
            pair.padded, pair.padded[:, 5:-5, 5:-5] + other.residual(pair.padded[None])[0]
        )
    options = StudentOptions(iterations=60, crop_px=24)

    def taught():
        training = StudentTraining(start, [lesson], options, 0)
        fit(training)
        return training.trained(), loss_curve_summary(training.losses)

    student, curve = taught()
    assert curve[-1] < 0.5 * curve[0]
    assert not student.training
    assert all(torch.equal(start.state_dict()[name], value) for name, value in before.items())
    again, _ = taught()
    assert all(
        torch.equal(again.state_dict()[name], value) for name, value in student.state_dict().items()
    )


def test_the_number_of_threads_is_given_back_after_an_error():
    def fail():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), single_thread():
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_published_widths_have_the_published_number_of_parameters():
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    for width, generator, critic in [
        (32, 29_763, 29_185),
        (64, 114_819, 113_665),
        (128, 450_819, 448_513),
    ]:
        spec = NetworkSpec(width=width, batch_norm=True, tanh=True, padding="zeros")
        assert count(Generator(spec)) == generator
        assert count(Critic(spec)) == critic


def test_the_pyramid_of_a_120x180_picture_has_ten_levels_from_18_pixels():
    levels = pyramid_levels(torch.zeros(1, 3, 120, 180), PyramidOptions())
    assert len(levels) == 10
    assert min(levels[0].shape[-2:]) == 18
    assert levels[-1].shape[-2:] == (120, 180)


def test_a_keyframe_that_cannot_be_learned_from_is_refused():
    with pytest.raises(InputError, match="30x40"):
        check_keyframe(torch.rand(3, 40, 30))
    with pytest.raises(InputError, match="flat color"):
        check_keyframe(torch.full((3, 40, 40), 0.5))
    check_keyframe(picture(32, 32))


def test_a_loss_curve_is_summed_up_by_means_of_equal_parts():
    assert loss_curve_summary([1.0, 3.0, 5.0, 7.0], parts=2) == (2.0, 6.0)
    assert loss_curve_summary([1.0, 2.0], parts=10) == (1.0, 2.0)


def test_our_adam_goes_where_torchs_goes():
    torch.manual_seed(0)
    ours = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Conv2d(4, 2, 3))
    theirs = copy.deepcopy(ours)
    picture = torch.rand(2, 3, 12, 12)
    our_adam, their_adam = (
        Adam(ours, 1e-2, (0.5, 0.99)),
        torch.optim.Adam(theirs.parameters(), 1e-2, (0.5, 0.99)),
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(their_adam, 20)
    for step in range(20):
        our_adam.learning_rate = cosine_decay(1e-2, step / 20)
        our_adam.minimize((ours(picture) - 1).abs().mean())
        their_adam.zero_grad()
        (theirs(picture) - 1).abs().mean().backward()
        their_adam.step()
        schedule.step()
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(our, their, atol=1e-5)
