from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.models import BRIEF, card_of, picture
from vsr.errors import ModelError
from vsr.models.bank import load_bank
from vsr.models.networks.singan import (
    Critic,
    Ensemble,
    Generator,
    NetworkSpec,
    from_grouped_channels,
    to_grouped_channels,
)
from vsr.train.budget import ROUND_TO, iterations_for_budget
from vsr.train.crops import CropPlacement, DeviceCropper
from vsr.train.fit import TrainingListener
from vsr.train.methods import METHODS
from vsr.train.methods.batched import can_train_batched, train_quick_batched
from vsr.train.methods.quick import train_quick
from vsr.train.optimizer import Adam, BatchedAdam
from vsr.train.workers import TrainingJob, is_batchable, train_all

CPU = torch.device("cpu")
NOT_THE_CPU = torch.device("cpu", 0)
"""Is the CPU, and does not compare equal to it: what a bank does for a GPU can be run without
one."""
ROUNDING = 2e-5
GAME = replace(BRIEF, iterations=20, adversarial_weight=5.0, adversarial_start=0.3)
"""The game weighs enough to show in a few iterations."""
RESTLESS = replace(
    BRIEF,
    iterations=48,
    check_every=3,
    patience=2,
    least_gain=0.03,
    average_decay=0.5,
    learning_rate=5e-3,
)
"""Each seed ends the first part at another iteration."""
BOX = tuple((1 / 16,) * 4 for _ in range(4))
VARIANTS = {
    "default": GAME,
    "early stops": RESTLESS,
    "larger batch": replace(GAME, iterations=12, batch=2),
    "other network": replace(
        GAME, iterations=12, network=NetworkSpec(width=6, layers=4, tanh=True, bias=False)
    ),
    "blur kernel": replace(GAME, iterations=12, kernel=BOX, step_ratio=2.0, crop_px=20),
}
SEEDS = (0, 1, 5)


def weights(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


@pytest.mark.parametrize("name", VARIANTS)
def test_each_model_of_a_common_training_is_the_one_trained_alone(name):
    """Unequal draws, rates or averages would be ten times the tolerance and more: see the test
    after this."""
    options, keyframe = VARIANTS[name], picture()
    for place, together in train_quick_batched(keyframe, options, SEEDS, CPU, lambda *_: None):
        alone = train_quick(keyframe, options, SEEDS[place], lambda *_: None)
        torch.testing.assert_close(
            weights(together.generator), weights(alone.generator), atol=ROUNDING, rtol=0
        )
        torch.testing.assert_close(
            weights(together.critic), weights(alone.critic), atol=ROUNDING, rtol=0
        )
        assert together.loss_curve == pytest.approx(alone.loss_curve, abs=ROUNDING)
        assert (together.noise_amplitude, together.kernel) == (alone.noise_amplitude, alone.kernel)
        assert not together.generator.training


@pytest.mark.parametrize("name", ["faithful", "pyramid"])
def test_published_models_of_a_common_training_are_those_trained_alone(name):
    """Weights are not compared: the biases before a normalization change nothing, and what Adam
    makes of their rounding is as large as its rate, which is low here."""
    method, keyframe = METHODS[name], picture(32, 36)
    narrow = replace(method.options.network, width=6)
    options = replace(method.options, network=narrow, iterations=2, learning_rate=5e-5)
    unseen = 2 * picture(30, 34, seed=5)[None] - 1
    told = []
    made = dict(
        method.batched.train(keyframe, options, SEEDS, CPU, lambda *news: told.append(news[:3]))
    )
    assert sorted(made) == [0, 1, 2]
    assert told[-1][1] == told[-1][2]
    others = [method.train(keyframe, options, seed, lambda *_: None) for seed in SEEDS]
    with torch.no_grad():
        for place, alone in enumerate(others):
            together = made[place]
            assert together.loss_curve == pytest.approx(alone.loss_curve, abs=1e-4)
            assert together.noise_amplitude == pytest.approx(alone.noise_amplitude, rel=1e-3)
            for one, other in (
                (together.generator(unseen, unseen), alone.generator(unseen, unseen)),
                (together.critic(unseen), alone.critic(unseen)),
            ):
                torch.testing.assert_close(one, other, atol=1e-2, rtol=0)
        unlike = made[0].generator(unseen, unseen) - others[1].generator(unseen, unseen)
        assert unlike.abs().max() > 5e-2


def test_a_normalized_ensemble_gives_what_each_network_gives_alone_in_training_and_after():
    torch.manual_seed(0)
    networks = [Critic(NetworkSpec(width=4, batch_norm=True)) for _ in range(3)]
    together = Ensemble(networks, CPU)
    pictures = torch.rand(3 * 2, 3, 15, 16)
    for is_training in (True, True, False):
        together.normalizes_by_batch = is_training
        made = together(pictures)
        for number, network in enumerate(networks):
            alone = network.train(is_training)(pictures[2 * number : 2 * number + 2])
            torch.testing.assert_close(
                made[2 * number : 2 * number + 2], alone, atol=1e-5, rtol=1e-5
            )
    for number, network in enumerate(networks):
        kept = together.one(number)
        torch.testing.assert_close(kept(pictures), network.eval()(pictures))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1.02e-3},
        {"average_decay": 0.98},
        {"adversarial_weight": 5.2},
        {"adversarial_every": 3},
    ],
)
def test_what_is_trained_a_little_otherwise_differs_by_far_more_than_rounding(change):
    options, keyframe = VARIANTS["default"], picture()
    ours, other = (
        train_quick(keyframe, each, 0, lambda *_: None)
        for each in (options, replace(options, **change))
    )
    difference = (
        weights(ours.generator) - weights(other.generator),
        weights(ours.critic) - weights(other.critic),
    )
    assert max(float(each.abs().max()) for each in difference) > 10 * ROUNDING


def test_models_that_settle_earlier_are_done_earlier():
    heard = []
    finished = [
        place
        for place, _ in train_quick_batched(
            picture(), RESTLESS, SEEDS, CPU, lambda *news: heard.append(news)
        )
    ]
    alone = []
    for seed in SEEDS:
        steps = []
        train_quick(picture(), RESTLESS, seed, lambda *news, told=steps: told.append(news))
        alone.append(len(steps))
    assert len(set(alone)) == 3
    assert finished == sorted(range(3), key=alone.__getitem__)
    for place in range(3):
        told = [(done, total) for number, done, total, _ in heard if number == place]
        assert told[-1] == (48, 48)
        assert all(earlier < later for earlier, later in pairwise(told))


@pytest.mark.parametrize("fitting", [3, 1])
def test_where_memory_runs_out_half_as_many_begin_again(fitting):
    """The memory runs out in the report of a model that came with too many others."""
    options, keyframe, seeds = VARIANTS["default"], picture(), range(7)
    sizes, begun = [], set()

    def report(place, done, total, loss):
        if done == 10:
            begun.add(place)
            if len(begun) > fitting:
                sizes.append(place)
                begun.clear()
                raise torch.OutOfMemoryError
        if done == total:
            begun.discard(place)

    made = dict(train_quick_batched(keyframe, options, seeds, CPU, report))
    assert sorted(made) == list(seeds)
    assert len(sizes) == {3: 1, 1: 2}[fitting]
    for seed in (0, 6):
        alone = train_quick(keyframe, options, seed, lambda *_: None)
        torch.testing.assert_close(
            weights(made[seed].generator), weights(alone.generator), atol=ROUNDING, rtol=0
        )


def test_a_device_that_does_not_hold_a_single_model_is_told():
    def fail(*_):
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match=r"does not hold one model's training\. Use --device cpu"):
        dict(train_quick_batched(picture(), BRIEF, range(3), CPU, fail))


def jobs_of(folder, keyframe, options, seeds, **changes):
    method = replace(METHODS["quick"], options=options)
    return [
        TrainingJob(
            folder / f"m-{seed}.safetensors",
            method,
            card_of(keyframe, seed=seed),
            keyframe,
            **changes,
        )
        for seed in seeds
    ]


def test_a_bank_trained_together_is_the_bank_trained_one_by_one(tmp_path):
    options, keyframe, states = VARIANTS["default"], picture(), []
    banks = {}
    for name, device in (("alone", CPU), ("together", NOT_THE_CPU)):
        (tmp_path / name).mkdir()
        jobs = jobs_of(tmp_path / name, keyframe, options, SEEDS)
        train_all(jobs, 1, TrainingListener(on_progress=states.append), device)
        assert (states[-1].models_done, states[-1].share_done) == (3, 1.0)
        banks[name] = load_bank(tmp_path / name)
    for one, other in zip(*banks.values(), strict=True):
        assert one.name == other.name
        rounded = replace(
            other.card,
            loss_curve=one.card.loss_curve,
            critic_mean=one.card.critic_mean,
            critic_std=one.card.critic_std,
        )
        assert rounded == one.card
        assert other.card.critic_mean == pytest.approx(one.card.critic_mean, abs=1e-4)
        torch.testing.assert_close(
            weights(one.generator), weights(other.generator), atol=ROUNDING, rtol=0
        )


def test_keyframes_are_trained_one_after_another_and_what_is_done_is_saved_at_once(tmp_path):
    options = replace(BRIEF, iterations=12)
    jobs = [
        *jobs_of(tmp_path, picture(), options, (0, 1)),
        *jobs_of(tmp_path, picture(seed=3), options, (2, 3)),
    ]
    saved = []
    train_all(
        jobs,
        1,
        TrainingListener(
            on_progress=lambda state: saved.append(
                (state.models_done, len(list(tmp_path.iterdir())))
            )
        ),
        NOT_THE_CPU,
    )
    # In the first news of the second keyframe both models of the first are there.
    assert (2, 2) in saved
    assert len(load_bank(tmp_path)) == 4


def test_what_a_gpu_does_not_train_is_trained_on_the_cpu(tmp_path):
    keyframe = picture()
    (quick,) = jobs_of(tmp_path, keyframe, BRIEF, [0])
    (steady,) = jobs_of(tmp_path, keyframe, BRIEF, [0], neighbours=(picture(seed=1),))
    assert is_batchable(quick)
    assert not is_batchable(steady)
    assert not is_batchable(replace(quick, method=METHODS["zssr"]))
    assert not can_train_batched(keyframe, replace(BRIEF, crop_px=25))
    assert not can_train_batched(keyframe, replace(BRIEF, network=NetworkSpec(batch_norm=True)))
    train_all([steady], 1, TrainingListener(), NOT_THE_CPU)
    assert len(load_bank(tmp_path)) == 1


def test_a_budget_for_a_common_training_follows_from_all_models_at_once(tmp_path):
    method = replace(METHODS["quick"], options=BRIEF)
    few, many = (
        iterations_for_budget(300, n, 1, method, picture(), tmp_path, "", NOT_THE_CPU)
        for n in (2, 12)
    )
    assert 0 < many < few
    assert many % ROUND_TO == 0


def test_squares_of_a_gallery_are_the_turned_squares_of_its_pictures():
    pictures = [torch.rand(3, 12, 17), torch.rand(3, 20, 9)]
    gallery = DeviceCropper(pictures, 7, CPU)
    places = [
        (number, CropPlacement(top, number + 1, 7, turns, flip))
        for number in (0, 1)
        for top in (0, 5)
        for turns in range(4)
        for flip in (0, 1)
    ]
    expected = [
        place.augmented(pictures[n][:, place.top : place.top + 7, place.left : place.left + 7])
        for n, place in places
    ]
    assert torch.equal(gallery.crop_batch(places), torch.stack(expected))


def test_members_give_what_each_network_gives_alone_and_give_the_networks_back():
    torch.manual_seed(0)
    generators = [Generator(NetworkSpec(width=6, tanh=True)) for _ in range(4)]
    members, chosen = Ensemble(generators, CPU), (0, 1, 3)
    pictures = torch.rand(3 * 2, 3, 19, 16)
    assert torch.equal(from_grouped_channels(to_grouped_channels(pictures, 3), 3), pictures)
    made = members(pictures, chosen)
    for place, number in enumerate(chosen):
        alone = generators[number].residual(pictures[2 * place : 2 * place + 2])
        torch.testing.assert_close(made[2 * place : 2 * place + 2], alone, atol=1e-6, rtol=0)
        assert torch.equal(weights(members.one(number)), weights(generators[number]))


def test_each_members_adam_has_its_own_rate_and_steps():
    torch.manual_seed(0)
    networks = [Generator(NetworkSpec(width=4, layers=2)) for _ in range(3)]
    members = Ensemble(networks, CPU)
    together = BatchedAdam(members.weights, (0.5, 0.99))
    alone = [Adam(network, 0.0, (0.5, 0.99)) for network in networks]
    pictures = torch.rand(3, 3, 12, 12)
    # The second begins later, and the third rests in between.
    for rates in ([1e-2, 0.0, 2e-2], [1e-2, 3e-2, 0.0], [5e-3, 3e-2, 0.0], [5e-3, 1e-2, 1e-2]):
        together.minimize(
            (members(pictures, range(3)) - 1).square().flatten(1).mean(dim=1).sum(), rates
        )
        for adam, network, picture_of_one, rate in zip(
            alone, networks, pictures, rates, strict=True
        ):
            if rate:
                adam.learning_rate = rate
                adam.minimize((network.residual(picture_of_one[None]) - 1).square().mean())
    for number, network in enumerate(networks):
        torch.testing.assert_close(
            weights(members.one(number)), weights(network), atol=1e-6, rtol=0
        )
