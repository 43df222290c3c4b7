import av
import numpy as np
import pytest
import torch

from tests.models import picture
from vsr.image.resample import LANCZOS, back_project, resize, scaled_size


def straightforward_resize(row, length):
    """The definition, one output sample at a time, in double precision."""
    factor = length / len(row)
    stretch = max(1 / factor, 1)
    result = []
    for i in range(length):
        center = (i + 0.5) / factor - 0.5
        total = weights = 0.0
        for position in range(int(center - 4 * stretch) - 2, int(center + 4 * stretch) + 3):
            d = abs(center - position) / stretch
            weight = (
                1.5 * d**3 - 2.5 * d**2 + 1
                if d <= 1
                else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
                if d < 2
                else 0
            )
            mirrored = position % (2 * len(row))
            mirrored = mirrored if mirrored < len(row) else 2 * len(row) - 1 - mirrored
            total += weight * row[mirrored]
            weights += weight
        result.append(total / weights)
    return np.array(result)


@pytest.mark.parametrize("length", [5, 7, 13, 20, 31, 80])
def test_each_axis_follows_the_definition(length):
    row = np.random.default_rng(0).random(20)
    across = resize(torch.from_numpy(row).float()[None, None], 1, length)[0, 0]
    down = resize(torch.from_numpy(row).float()[None, :, None], length, 1)[0, :, 0]
    np.testing.assert_allclose(across, straightforward_resize(row, length), atol=2e-6)
    np.testing.assert_allclose(down, straightforward_resize(row, length), atol=2e-6)


def test_the_published_low_resolution_of_vid4_is_reproduced_up_to_rounding_ties(shared_data):
    def first_frame(name):
        with av.open(str(shared_data / "clips/vid4" / name)) as clip:
            pixels = next(clip.decode(video=0)).to_ndarray(format="rgb24")
        return torch.from_numpy(pixels).permute(2, 0, 1).float()

    reduced = resize(first_frame("walk_hr.mkv"), 120, 180)
    difference = (reduced.clamp(0, 255) + 0.5).floor() - first_frame("walk_lrx4.mkv")
    assert difference.abs().max() <= 1
    assert (difference != 0).float().mean() < 1e-4


@pytest.mark.parametrize("kernel", [LANCZOS, None], ids=["lanczos", "bicubic"])
def test_a_flat_picture_stays_flat_at_any_size(kernel):
    flat = torch.full((3, 9, 11), 0.3)
    for size in [(9, 11), (4, 5), (23, 40)]:
        large = resize(flat, *size) if kernel is None else resize(flat, *size, kernel)
        torch.testing.assert_close(large, torch.full((3, *size), 0.3))


def test_enlarging_does_not_shift_the_picture():
    ramp = torch.linspace(0, 1, 32).expand(1, 8, 32)
    large = resize(ramp, 32, 128)[0, 0]
    centers = (torch.arange(128) + 0.5) / 4 - 0.5
    torch.testing.assert_close(large[16:-16], centers[16:-16] / 31, atol=1e-5, rtol=0)


def test_leading_dimensions_are_resized_each_by_itself():
    batch = torch.stack([picture(20, 24, seed=1), picture(20, 24, seed=2)])
    torch.testing.assert_close(resize(batch, 33, 31)[1], resize(batch[1], 33, 31))


def test_back_projection_brings_a_picture_into_agreement_with_its_low_resolution():
    low = picture(20, 24)
    blurred = resize(resize(low, 10, 12), 80, 96)

    def disagreement(image):
        return (resize(image, 20, 24) - low).abs().mean()

    once = back_project(blurred, low)
    assert disagreement(once) < 0.2 * disagreement(blurred)
    half = back_project(blurred, low, 0.5)
    torch.testing.assert_close(half, (blurred + once) / 2)


def test_gradients_pass_through():
    image = picture(12, 12).requires_grad_()
    resize(image, 17, 19).sum().backward()
    torch.testing.assert_close(image.grad.sum(), torch.tensor(3 * 17 * 19.0))


def test_sides_are_rounded_half_up():
    assert scaled_size(5, 7, 1.5) == (8, 11)
    assert scaled_size(121, 33, 4) == (484, 132)
