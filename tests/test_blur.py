"""Blur kernels: their alignment, their composition, and agreement with an input through them."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from tests.models import picture
from vsr.errors import ModelError
from vsr.image.blur import (
    aligned_center,
    back_project_blurred,
    bicubic_kernel,
    center_of_mass,
    gaussian_kernel,
    kernel_of_factor,
    recentered,
    reduce_blurred,
    taps_from_tensor,
)
from vsr.image.resample import resize

SKEWED = gaussian_kernel(13, (2.2, 0.9), 30)


def test_the_bicubic_kernel_is_what_resize_does_inside_a_picture():
    ours = reduce_blurred(picture(40, 48), bicubic_kernel())
    torch.testing.assert_close(
        ours[:, 4:-4, 4:-4], resize(picture(40, 48), 20, 24)[:, 4:-4, 4:-4], atol=1e-6, rtol=0
    )


def test_a_reduction_is_a_correlation_at_every_second_pixel():
    image = picture(24, 28)
    ours = reduce_blurred(image, SKEWED)
    theirs = convolve2d(image[0].numpy(), np.rot90(SKEWED.numpy(), 2), mode="valid")[::2, ::2]
    # Output pixel 3 is the first whose 13 taps, from 2 * 3 - 6 on, lie inside.
    np.testing.assert_allclose(
        ours[0, 3 : 3 + theirs.shape[0], 3 : 3 + theirs.shape[1]], theirs, atol=1e-6
    )


@pytest.mark.parametrize("kernel", [SKEWED, bicubic_kernel(), gaussian_kernel(10, (1.5, 1.0), 70)])
def test_an_aligned_kernel_leaves_a_slope_where_resize_leaves_it(kernel):
    down, right = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    slope = (2 * down + 3 * right)[None] / 320
    assert (reduce_blurred(slope, kernel) - resize(slope, 32, 32))[:, 8:-8, 8:-8].abs().max() < 2e-4


def test_a_kernel_that_is_off_its_place_is_moved_there_and_sums_to_one():
    moved = recentered(3 * torch.roll(SKEWED, (1, -2), (0, 1)))
    assert float(moved.sum()) == pytest.approx(1)
    assert center_of_mass(moved).tolist() == pytest.approx([aligned_center(13)] * 2, abs=0.01)
    assert (moved - SKEWED).abs().sum() < 0.1


@pytest.mark.parametrize("kernel", [SKEWED, bicubic_kernel(), gaussian_kernel(10, (1.5, 1.0), 70)])
@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_the_kernel_of_several_halvings_is_all_of_them_in_one(kernel, halvings):
    image = picture(128, 160)
    whole = kernel_of_factor(kernel, 2**halvings)
    step_by_step = image
    for _ in range(halvings):
        step_by_step = reduce_blurred(step_by_step, kernel)
    inside = (..., slice(5, -5), slice(5, -5))
    torch.testing.assert_close(
        reduce_blurred(image, whole, 2**halvings)[inside], step_by_step[inside], atol=1e-5, rtol=0
    )
    assert center_of_mass(whole).tolist() == pytest.approx(
        [aligned_center(len(whole), 2**halvings)] * 2, abs=0.05
    )


@pytest.mark.parametrize("factor", [2, 4])
def test_back_projection_through_a_kernel_comes_to_agree_with_the_input(factor):
    truth = picture(48, 64)
    kernel = kernel_of_factor(SKEWED, factor)
    low = reduce_blurred(truth, kernel, factor)
    image = resize(low, 48, 64)
    errors = []
    for _ in range(8):
        errors.append(float((reduce_blurred(image, kernel, factor) - low).abs().mean()))
        image = back_project_blurred(image, low, taps_from_tensor(SKEWED), 1.0)
    assert errors[-1] < errors[0] / 4
    assert (image - truth).abs().mean() < (resize(low, 48, 64) - truth).abs().mean()


@pytest.mark.parametrize("size", [(60, 72), (50, 60), (40, 60), (20, 24)])
def test_a_kernel_says_nothing_of_sizes_that_are_no_power_of_two_apart(size):
    with pytest.raises(ModelError, match="scales 2, 4, 8 and 16"):
        back_project_blurred(
            torch.zeros(3, *size), torch.zeros(3, 20, 24), taps_from_tensor(SKEWED), 1.0
        )
