import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tests.clips import textured_picture
from vsr.image.motion import (
    DIS_FAST,
    MIN_SIDE_PX,
    backward_warp,
    compose_flows,
    dis_flow,
    farneback_flow,
    invert_flow,
    motion_between,
    sample_positions,
    sample_positions_at,
    unfolded_mask,
    visible_mask,
)


def grey_picture(height=96, width=128, shift=(0.0, 0.0), seed=0):
    return textured_picture(height, width, shift, seed).mean(axis=2).round().astype(np.uint8)


def constant_flow(right, down, height=40, width=50):
    return np.broadcast_to(np.float32([right, down]), (height, width, 2)).copy()


def sampled(plane, flow):
    """The plane at p + flow(p) by SciPy, borders clamped."""
    rows, columns = np.indices(plane.shape, dtype=np.float64)
    return map_coordinates(
        plane.astype(np.float64),
        [rows + flow[..., 1], columns + flow[..., 0]],
        order=1,
        mode="nearest",
    )


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 5])
def test_warping_samples_bilinearly_with_clamped_borders_for_any_number_of_planes(planes):
    rng = np.random.default_rng(planes)
    image = rng.random((planes, 30, 41)).astype(np.float32)
    flow = rng.normal(0, 4, (30, 41, 2)).astype(np.float32)
    expected = np.stack([sampled(plane, flow) for plane in image])
    np.testing.assert_allclose(backward_warp(image, flow), expected, atol=2e-5)
    np.testing.assert_allclose(backward_warp(image[0], flow), expected[0], atol=2e-5)


def test_warping_leaves_its_input_alone():
    image = np.random.default_rng(0).random((3, 20, 20)).astype(np.float32)
    before = image.copy()
    backward_warp(image, constant_flow(1.5, -2, 20, 20))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("preset", [DIS_FAST, None])
def test_motion_points_from_the_frame_back_to_where_its_content_was(preset):
    before, now = grey_picture(), grey_picture(shift=(-1.7, 3.4))
    motion = motion_between(now, before) if preset is None else motion_between(now, before, preset)
    inner = motion.flow[12:-12, 12:-12]
    np.testing.assert_allclose(inner.mean(axis=(0, 1)), [-3.4, 1.7], atol=0.2)
    assert np.abs(inner - np.float32([-3.4, 1.7])).mean() < 0.2


def test_change_along_the_motion_is_small_where_still_comparison_is_not():
    before, now = grey_picture(), grey_picture(shift=(-1.7, 3.4))
    motion = motion_between(now, before)
    change = motion.change(now.astype(np.float32), before.astype(np.float32))
    still = now.astype(np.float32) - before.astype(np.float32)
    assert np.abs(change[motion.visible]).mean() < 0.1 * np.abs(still).mean()


def test_farneback_flow_points_from_source_to_target():
    flow = farneback_flow(grey_picture(), grey_picture(shift=(1.0, -2.0)))
    np.testing.assert_allclose(flow[20:-20, 20:-20].mean(axis=(0, 1)), [-2.0, 1.0], atol=0.15)


def test_pixels_whose_target_leaves_the_picture_are_not_visible():
    visible = visible_mask(constant_flow(3, -2), constant_flow(-3, 2))
    expected = np.zeros_like(visible)
    expected[2:, :-3] = True
    np.testing.assert_array_equal(visible, expected)


def test_visible_mask_follows_both_rules_pixel_by_pixel():
    rng = np.random.default_rng(3)
    smooth = [grey_picture(30, 37, seed=seed).astype(np.float32) / 25 - 5 for seed in range(4)]
    flow = np.stack(smooth[:2], axis=-1) * rng.choice([0.02, 1.0], size=(30, 37, 1)).astype(
        np.float32
    )
    flow_back = (-flow + np.stack(smooth[2:], axis=-1) * 0.3).astype(np.float32)
    back = np.stack([sampled(flow_back[..., i], flow) for i in range(2)], axis=-1)
    expected = np.ones((30, 37), dtype=bool)
    for y in range(30):
        for x in range(37):
            f, b = flow[y, x].astype(float), back[y, x]
            right = flow[y, x + 1] - flow[y, x] if x < 36 else np.zeros(2)
            below = flow[y + 1, x] - flow[y, x] if y < 29 else np.zeros(2)
            occluded = ((f + b) ** 2).sum() > 0.01 * ((f**2).sum() + (b**2).sum()) + 0.5
            boundary = (right**2).sum() + (below**2).sum() > 0.01 * (f**2).sum() + 0.002
            inside = 0 <= x + f[0] <= 36 and 0 <= y + f[1] <= 29
            expected[y, x] = inside and not occluded and not boundary
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(visible_mask(flow, flow_back), expected)


def test_still_pictures_have_no_motion_and_hide_nothing():
    picture = grey_picture()
    motion = motion_between(picture, picture)
    assert np.abs(motion.flow).max() == 0
    assert motion.visible.all()


def test_pictures_too_small_for_the_flow_have_no_motion():
    small = grey_picture(MIN_SIDE_PX - 1, 64)
    assert motion_between(small, small) is None
    smallest = grey_picture(MIN_SIDE_PX, MIN_SIDE_PX)
    assert dis_flow(smallest, smallest).shape == (MIN_SIDE_PX, MIN_SIDE_PX, 2)


def swirl(strength, height=60, width=80):
    """A smooth flow that turns around the middle and vanishes at the borders."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    x, y = columns - width / 2, rows - height / 2
    fall = strength * np.exp(-(x**2 + y**2) / 200)
    return np.stack([-y * fall, x * fall], axis=-1).astype(np.float32)


def test_an_inverted_flow_leads_back_to_where_the_flow_began():
    flow = swirl(0.1)
    back = invert_flow(flow)
    returned = np.stack([sampled(back[..., i], flow) for i in range(2)], axis=-1)
    assert np.abs(flow).max() > 0.5
    assert np.abs(flow + returned).max() < 0.02


def test_composed_flows_lead_where_one_after_the_other_leads():
    first, second = swirl(0.1), constant_flow(2.5, -1.0, 60, 80)
    np.testing.assert_allclose(compose_flows(first, second), first + second, atol=1e-5)
    onward = np.stack([sampled(first[..., i], second) for i in range(2)], axis=-1)
    np.testing.assert_allclose(compose_flows(second, first), second + onward, atol=1e-4)


def test_what_a_flow_lays_on_too_few_pixels_or_too_many_is_folded():
    flow = np.zeros((20, 40, 2), np.float32)
    # To the right of column 20 things move on by 3 pixels: the gap between comes into view.
    flow[:, 20:, 0] = 3.0
    expected = np.ones((20, 40), dtype=bool)
    expected[:, 18:22] = False
    np.testing.assert_array_equal(unfolded_mask(flow), expected)
    np.testing.assert_array_equal(unfolded_mask(-flow), expected)
    assert unfolded_mask(swirl(0.02)).all()


def test_positions_of_larger_pictures_follow_the_enlarged_motion():
    flow = constant_flow(1.5, -0.5, 20, 30)
    columns, rows = sample_positions_at(flow, 40, 90)
    np.testing.assert_allclose(columns, np.arange(90)[None] + np.full((40, 1), 4.5), atol=1e-4)
    np.testing.assert_allclose(rows, np.arange(40)[:, None] + np.full((1, 90), -1.0), atol=1e-4)
    for found, known in zip(
        sample_positions_at(swirl(0.1), 60, 80), sample_positions(swirl(0.1)), strict=True
    ):
        np.testing.assert_allclose(found, known, atol=1e-5)
