"""Motion, by OpenCV on the CPU and by torch on a GPU, which is only pretended here."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from tests.clips import textured_picture
from tests.pretended_gpu import pretended_gpu
from vsr.image.dense_motion import (
    blur,
    box_mean,
    compose_flows,
    enlarge,
    fine_flow,
    flow_planes,
    forward_backward_mask,
    invert_flow,
    motion_between,
    preset_flow,
    sample,
    sample_positions,
    sample_positions_at,
    unfolded_mask,
    visible_mask,
)
from vsr.image.motion import (
    DIS_FAST,
    MIN_SIDE_PX,
    backward_warp,
    dis_flow,
    farneback_flow,
)


@pytest.fixture(params=["cpu", "gpu"])
def device(request):
    if request.param == "cpu":
        yield torch.device("cpu")
    else:
        with pretended_gpu() as gpu:
            yield gpu


def grey_picture(height=96, width=128, shift=(0.0, 0.0), seed=0):
    return textured_picture(height, width, shift, seed).mean(axis=2).round().astype(np.uint8)


def on(device, array):
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def back(tensor):
    return tensor.cpu().numpy()


def constant_flow(right, down, height=40, width=50):
    return np.broadcast_to(np.float32([right, down])[:, None, None], (2, height, width)).copy()


def sampled(plane, flow):
    """The plane at p + flow(p) by SciPy, borders clamped."""
    rows, columns = np.indices(plane.shape, dtype=np.float64)
    return map_coordinates(
        plane.astype(np.float64), [rows + flow[1], columns + flow[0]], order=1, mode="nearest"
    )


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 5])
def test_sampling_is_bilinear_with_clamped_borders_for_any_number_of_planes(planes, device):
    rng = np.random.default_rng(planes)
    image = rng.random((planes, 150, 41)).astype(np.float32)
    flow = rng.normal(0, 4, (2, 150, 41)).astype(np.float32)
    expected = np.stack([sampled(plane, flow) for plane in image])
    made = sample(on(device, image), sample_positions(on(device, flow)))
    np.testing.assert_allclose(back(made), expected, atol=2e-5)


def keys_cubic(distance, a=-0.75):
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def test_bicubic_sampling_weighs_sixteen_pixels_by_keys_cubic(device):
    rng = np.random.default_rng(5)
    image = rng.random((3, 20, 25)).astype(np.float32)
    flow = rng.normal(0, 2, (2, 20, 25)).astype(np.float32)
    expected = np.zeros((3, 20, 25))
    for y in range(20):
        for x in range(25):
            column, row = x + float(flow[0, y, x]), y + float(flow[1, y, x])
            left, top = int(np.floor(column)), int(np.floor(row))
            for dy in range(-1, 3):
                for dx in range(-1, 3):
                    weight = keys_cubic(abs(column - left - dx)) * keys_cubic(abs(row - top - dy))
                    there = np.clip(top + dy, 0, 19), np.clip(left + dx, 0, 24)
                    expected[:, y, x] += weight * image[:, there[0], there[1]]
    made = sample(on(device, image), sample_positions(on(device, flow)), bicubic=True)
    np.testing.assert_allclose(back(made), expected, atol=1e-4)


@pytest.mark.parametrize("planes", [1, 2, 3, 5])
def test_warping_an_array_samples_bilinearly_and_leaves_it_alone(planes):
    rng = np.random.default_rng(planes)
    image = rng.random((planes, 20, 24)).astype(np.float32)
    flow = rng.normal(0, 4, (20, 24, 2)).astype(np.float32)
    before = image.copy()
    expected = np.stack([sampled(plane, flow.transpose(2, 0, 1)) for plane in image])
    np.testing.assert_allclose(backward_warp(image, flow), expected, atol=2e-5)
    np.testing.assert_allclose(backward_warp(image[0], flow), expected[0], atol=2e-5)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("preset", [DIS_FAST, None])
def test_motion_points_from_the_frame_back_to_where_its_content_was(preset, device):
    before, now = on(device, grey_picture()), on(device, grey_picture(shift=(-1.7, 3.4)))
    motion = motion_between(now, before) if preset is None else motion_between(now, before, preset)
    inner = back(motion.flow)[:, 12:-12, 12:-12]
    np.testing.assert_allclose(inner.mean(axis=(1, 2)), [-3.4, 1.7], atol=0.2)
    assert np.abs(inner - np.float32([-3.4, 1.7])[:, None, None]).mean() < 0.2


def test_fine_flow_finds_parts_of_pixels(device):
    one, other = grey_picture(), grey_picture(shift=(0.4, -0.7))
    flow = back(fine_flow(on(device, one), on(device, other)))
    # What moves down and to the left is found there in the other picture.
    expected = np.float32([-0.7, 0.4])[:, None, None]
    assert np.abs(flow[:, 8:-8, 8:-8] - expected).mean() < 0.06


def test_fine_flow_finds_wide_steps(device):
    # Clouds of all sizes, in which every place is another one.
    rng = np.random.default_rng(1)
    clouds = sum(
        sigma * gaussian_filter(rng.normal(size=(240, 320)), sigma) for sigma in (1, 3, 9, 27)
    )
    levels = np.clip(128 + 60 * clouds / clouds.std(), 0, 255).round().astype(np.uint8)
    one, other = levels[40:200, 40:248], levels[50:210, 26:234]
    flow = back(fine_flow(on(device, one), on(device, other)))
    expected = np.float32([14, -10])[:, None, None]
    assert np.abs(flow[:, 40:-40, 40:-40] - expected).mean() < 0.06


def test_fine_flow_follows_what_moves_before_a_ground_that_does_not(device):
    ground, thing = grey_picture(96, 128), grey_picture(96, 128, seed=7)
    one, other = ground.copy(), ground.copy()
    one[30:66, 40:80], other[30:66, 43:83] = thing[30:66, 40:80], thing[30:66, 40:80]
    flow = back(fine_flow(on(device, one), on(device, other)))
    assert np.abs(flow[0, 36:60, 46:74] - 3).mean() < 0.1
    assert np.abs(flow[:, 5:20]).mean() < 0.05


def test_flow_does_not_mind_a_change_of_light(device):
    one, other = grey_picture(), grey_picture(shift=(0, 1.5))
    darker = (0.9 * other.astype(np.float32) + 6).round().astype(np.uint8)
    flow = back(fine_flow(on(device, one), on(device, darker)))
    assert np.abs(flow[0, 16:-16, 16:-16] - 1.5).mean() < 0.15


def test_equal_pictures_give_equal_flow_each_time(device):
    one, other = on(device, grey_picture()), on(device, grey_picture(shift=(1.2, -2.6)))
    np.testing.assert_array_equal(back(fine_flow(one, other)), back(fine_flow(one, other)))


def test_change_along_the_motion_is_small_where_still_comparison_is_not(device):
    before, now = on(device, grey_picture()), on(device, grey_picture(shift=(-1.7, 3.4)))
    motion = motion_between(now, before)
    change, still = motion.change(now.float(), before.float()), now.float() - before.float()
    assert np.abs(back(change[motion.visible])).mean() < 0.1 * back(still.abs()).mean()
    colored = motion.change(now.float().expand(3, -1, -1), before.float().expand(3, -1, -1))
    torch.testing.assert_close(colored[1].cpu(), change.cpu())


def test_farneback_flow_points_from_source_to_target():
    flow = farneback_flow(grey_picture(), grey_picture(shift=(1.0, -2.0)))
    np.testing.assert_allclose(flow[20:-20, 20:-20].mean(axis=(0, 1)), [-2.0, 1.0], atol=0.15)


def test_pixels_whose_target_leaves_the_picture_are_not_visible(device):
    visible = visible_mask(on(device, constant_flow(3, -2)), on(device, constant_flow(-3, 2)))
    expected = np.zeros((40, 50), bool)
    expected[2:, :-3] = True
    np.testing.assert_array_equal(back(visible), expected)


def test_visible_mask_follows_both_rules_pixel_by_pixel(device):
    rng = np.random.default_rng(3)
    smooth = [grey_picture(30, 37, seed=seed).astype(np.float32) / 25 - 5 for seed in range(4)]
    flow = np.stack(smooth[:2]) * rng.choice([0.02, 1.0], size=(30, 37)).astype(np.float32)
    flow_back = (-flow + np.stack(smooth[2:]) * 0.3).astype(np.float32)
    returned = np.stack([sampled(plane, flow) for plane in flow_back])
    expected = np.ones((30, 37), dtype=bool)
    for y in range(30):
        for x in range(37):
            f, b = flow[:, y, x].astype(float), returned[:, y, x]
            right = flow[:, y, x + 1] - flow[:, y, x] if x < 36 else np.zeros(2)
            below = flow[:, y + 1, x] - flow[:, y, x] if y < 29 else np.zeros(2)
            occluded = ((f + b) ** 2).sum() > 0.01 * ((f**2).sum() + (b**2).sum()) + 0.5
            boundary = (right**2).sum() + (below**2).sum() > 0.01 * (f**2).sum() + 0.002
            inside = 0 <= x + f[0] <= 36 and 0 <= y + f[1] <= 29
            expected[y, x] = inside and not occluded and not boundary
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(
        back(visible_mask(on(device, flow), on(device, flow_back))), expected
    )


def test_a_way_back_may_be_off_by_as_much_as_is_allowed(device):
    flow, flow_back = on(device, constant_flow(0, 0)), on(device, constant_flow(0.5, 0))
    assert forward_backward_mask(flow, flow_back, 0.51).all()
    assert not forward_backward_mask(flow, flow_back, 0.49).any()


def test_still_pictures_have_no_motion_and_hide_nothing(device):
    picture = on(device, grey_picture())
    motion = motion_between(picture, picture)
    assert back(motion.flow.abs().max()) < 1e-3
    assert back(motion.visible).all()


def test_pictures_too_small_for_the_flow_have_no_motion(device):
    small = on(device, grey_picture(MIN_SIDE_PX - 1, 64))
    assert motion_between(small, small) is None
    smallest = on(device, grey_picture(MIN_SIDE_PX, 112))
    for flow in (fine_flow(smallest, smallest), preset_flow(smallest, smallest, DIS_FAST)):
        assert flow.shape == (2, MIN_SIDE_PX, 112)


def swirl(strength, height=60, width=80):
    """A smooth flow that turns around the middle and vanishes at the borders."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    x, y = columns - width / 2, rows - height / 2
    fall = strength * np.exp(-(x**2 + y**2) / 200)
    return np.stack([-y * fall, x * fall]).astype(np.float32)


def test_an_inverted_flow_leads_back_to_where_the_flow_began(device):
    flow = swirl(0.1)
    inverse = back(invert_flow(on(device, flow)))
    returned = np.stack([sampled(plane, flow) for plane in inverse])
    assert np.abs(flow).max() > 0.5
    assert np.abs(flow + returned).max() < 0.02


def test_composed_flows_lead_where_one_after_the_other_leads(device):
    first, second = swirl(0.1), constant_flow(2.5, -1.0, 60, 80)
    there, onward = on(device, first), on(device, second)
    np.testing.assert_allclose(back(compose_flows(there, onward)), first + second, atol=1e-5)
    expected = second + np.stack([sampled(plane, second) for plane in first])
    np.testing.assert_allclose(back(compose_flows(onward, there)), expected, atol=1e-4)


def test_what_a_flow_lays_on_too_few_pixels_or_too_many_is_folded(device):
    flow = np.zeros((2, 20, 40), np.float32)
    # To the right of column 20 things move on by 3 pixels: the gap between comes into view.
    flow[0, :, 20:] = 3.0
    expected = np.ones((20, 40), dtype=bool)
    expected[:, 18:22] = False
    np.testing.assert_array_equal(back(unfolded_mask(on(device, flow))), expected)
    np.testing.assert_array_equal(back(unfolded_mask(on(device, -flow))), expected)
    assert unfolded_mask(on(device, swirl(0.02))).all()


def test_positions_of_larger_pictures_follow_the_enlarged_motion(device):
    flow = on(device, constant_flow(1.5, -0.5, 20, 30))
    columns, rows = back(sample_positions_at(flow, 40, 90))
    np.testing.assert_allclose(columns, np.arange(90)[None] + np.full((40, 1), 4.5), atol=1e-4)
    np.testing.assert_allclose(rows, np.arange(40)[:, None] + np.full((1, 90), -1.0), atol=1e-4)
    turning = on(device, swirl(0.1))
    np.testing.assert_allclose(
        back(sample_positions_at(turning, 60, 80)), back(sample_positions(turning)), atol=1e-5
    )


def test_filters_are_those_of_scipy_and_enlarging_is_that_of_torch(device):
    planes = np.random.default_rng(2).random((2, 24, 31)).astype(np.float32)
    inner = np.s_[:, 6:-6, 6:-6]
    smooth = np.stack([gaussian_filter(plane, 1.0, mode="nearest", truncate=4) for plane in planes])
    np.testing.assert_allclose(back(blur(on(device, planes), 1.0))[inner], smooth[inner], atol=1e-5)
    mean = np.stack([uniform_filter(plane, 3, mode="nearest") for plane in planes])
    np.testing.assert_allclose(back(box_mean(on(device, planes), 3)), mean, atol=1e-6)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], (60, 70), mode="bilinear"
    )
    np.testing.assert_allclose(
        back(enlarge(on(device, planes), 60, 70)), expected[0].numpy(), atol=1e-5
    )


def test_planes_of_a_flow_are_its_parts_across_and_down():
    flow = dis_flow(grey_picture(), grey_picture(shift=(1.0, -2.0)))
    np.testing.assert_array_equal(flow_planes(flow).numpy(), flow.transpose(2, 0, 1))
