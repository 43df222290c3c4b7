import numpy as np
import pytest
import torch

from tests.clips import textured_picture
from tests.steps import fused_pictures
from vsr.image.resample import back_project, resize
from vsr.restore.data_term import CLEAN, DataTerm
from vsr.temporal.fusion import FusionOptions, back_project_twice, fuse, memory_weight
from vsr.temporal.registration import ShotRegistrar

HEIGHT, WIDTH = 96, 128


def picture(shift=(0.0, 0.0), seed=0, height=HEIGHT, width=WIDTH):
    levels = textured_picture(height // 2, width // 2, (shift[0] / 2, shift[1] / 2), seed=seed)
    coarse = torch.from_numpy(levels).permute(2, 0, 1).float() / 255
    return resize(coarse, height, width).clamp(0, 1)


def reduced(large):
    return resize(large, large.shape[-2] // 4, large.shape[-1] // 4)


def moving(count, step=(0.5, 1.5)):
    return [picture((step[0] * i, step[1] * i)) for i in range(count)]


def inner(planes, border=12):
    return planes[..., border:-border, border:-border]


def test_the_fused_picture_is_the_weighted_mean():
    random = torch.Generator().manual_seed(0)
    own, past, future = (torch.rand(3, 4, 5, generator=random) for _ in range(3))
    past_weight, future_weight = (
        torch.rand(4, 5, generator=random),
        torch.rand(4, 5, generator=random),
    )
    before = own.clone()
    fused = fuse(own, [(past, past_weight), (future, future_weight)])
    expected = (own + past_weight * past + future_weight * future) / (
        1 + past_weight + future_weight
    )
    torch.testing.assert_close(fused, expected)
    assert torch.equal(own, before)


def test_a_share_of_memory_is_the_share_of_the_past_in_the_mean():
    weight = memory_weight(torch.tensor([[0.0, 0.5, 1.0]]), 0.9)
    fused = fuse(torch.zeros(1, 1, 3), [(torch.ones(1, 1, 3), weight)])
    torch.testing.assert_close(fused, torch.tensor([[[0.0, 0.45, 0.9]]]))


def registered(now, before):
    """`before` registered onto `now`, from their low resolution."""
    registrar = ShotRegistrar()
    registrar.add(0, reduced(before))
    registrar.add(1, reduced(now))
    return registrar.onto(1, 0)


def test_a_registered_neighbour_lies_on_the_frame_at_any_size():
    now, before = picture((1.0, 5.0)), picture()
    past = registered(now, before)
    for size in ((HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2)):
        large_now, large_before = resize(now, *size), resize(before, *size)
        error = inner(past.warp(large_before) - large_now).abs().mean()
        assert error < 0.15 * inner(large_before - large_now).abs().mean()
    assert inner(past.weight(now)).mean() > 0.9


def test_what_the_neighbour_does_not_show_is_not_trusted():
    before = picture()
    now = before.clone()
    now[:, 32:64, 48:80] = picture(seed=3)[:, 32:64, 48:80]
    past = registered(now, before)
    weight = past.weight(now)
    assert weight[36:60, 52:76].mean() < 0.1
    assert weight[:, 96:].mean() > 0.9


def test_the_light_of_a_neighbour_follows_the_frame():
    before = 0.8 * picture()
    now = before + 0.1
    past = registered(now, before)
    error = inner(past.warp(before) - now).abs().mean()
    assert error < 0.01


def test_frames_too_small_for_flow_are_handed_on_as_they_are():
    lows = [torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    pairs = [(low, back_project(resize(low, 16, 20), low).clamp(0, 1)) for low in lows]
    for (low, large), fused in zip(pairs, fused_pictures(pairs, FusionOptions(), 0.5), strict=True):
        torch.testing.assert_close(fused, back_project_twice(large, low, DataTerm(0.5)))


def test_every_frame_comes_out_once_look_ahead_frames_late():
    taken = 0

    def pairs():
        nonlocal taken
        for large in moving(5):
            taken += 1
            yield reduced(large), large

    behind = [
        taken - done
        for done, _ in enumerate(fused_pictures(pairs(), FusionOptions(look_ahead=1), 1.0), start=1)
    ]
    assert behind == [1, 1, 1, 1, 0]


def test_a_shot_of_one_frame_is_only_made_to_agree_with_its_source():
    large = picture()
    low = reduced(picture(seed=4))
    (fused,) = fused_pictures([(low, large)], FusionOptions(), 1.0)
    torch.testing.assert_close(fused, back_project_twice(large.clone(), low, CLEAN))
    assert (reduced(fused) - low).square().mean() < 0.02 * (reduced(large) - low).square().mean()


def test_an_input_that_is_not_trusted_changes_nothing():
    large = picture()
    torch.testing.assert_close(
        back_project_twice(large, reduced(picture(seed=4)), DataTerm(0.0)), large
    )


def test_a_registrar_forgets_and_registers_each_pair_once():
    registrar = ShotRegistrar()
    for index, large in enumerate(moving(3)):
        registrar.add(index, reduced(large))
    back = registrar.onto(2, 1)
    assert registrar.onto(2, 1) is back
    np.testing.assert_allclose(
        registrar.onto(1, 2).flow.mean(dim=(1, 2)), -back.flow.mean(dim=(1, 2)), atol=0.2
    )
    registrar.discard_before(2)
    with pytest.raises(KeyError):
        registrar.onto(2, 1)


def test_noise_on_a_still_clip_averages_out():
    truth = picture()
    low_truth, random = reduced(truth), torch.Generator().manual_seed(0)
    noisy = [low_truth + 0.02 * torch.randn(low_truth.shape, generator=random) for _ in range(12)]
    pairs = [(low, resize(low, HEIGHT, WIDTH)) for low in noisy]
    fused = list(fused_pictures(pairs, FusionOptions(), back_projection_weight=0.0))
    clean = resize(low_truth, HEIGHT, WIDTH)
    left = (fused[-2] - clean).square().mean().sqrt() / (
        pairs[-2][1] - clean
    ).square().mean().sqrt()
    assert left < 0.65


def test_detail_that_flickers_becomes_steady_along_the_motion():
    truth, random = moving(10), torch.Generator().manual_seed(1)
    flickering = [large + 0.05 * torch.randn(large.shape, generator=random) for large in truth]
    fused = list(
        fused_pictures(
            [(reduced(t), f) for t, f in zip(truth, flickering, strict=True)], FusionOptions(), 1.0
        )
    )
    before = (flickering[8] - truth[8]).square().mean().sqrt()
    after = (fused[8] - truth[8]).square().mean().sqrt()
    assert after < 0.5 * before
