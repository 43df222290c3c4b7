"""Fusion along the motion must never be worse than no fusion, wherever it is tempted to leave
ghosts."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from tests.scenes import HEIGHT, SCENES, WIDTH, as_tensor
from tests.steps import fused_pictures
from vsr.image.resample import back_project, resize
from vsr.temporal.deflicker import AUTO_STRENGTH, fusion_options

ALLOWED = 1.05
BLOCK_PX = 16
BLOCK_TOLERANCE = 2.0 / 255
"""Of a block's error; a block may be without any error before."""


@pytest.fixture(scope="module", params=SCENES)
def errors(request):
    """Squared errors of each frame (N, H, W): without flicker control and with it, at the automatic
    strength."""
    truth = torch.stack([as_tensor(picture) for picture in SCENES[request.param]()])
    lows = (resize(truth, HEIGHT // 4, WIDTH // 4).clamp(0, 1) * 255).round() / 255
    plain = torch.stack([back_project(resize(low, HEIGHT, WIDTH), low).clamp(0, 1) for low in lows])
    pairs = zip(lows, plain, strict=True)
    steadied = torch.stack(list(fused_pictures(pairs, fusion_options(AUTO_STRENGTH), 1.0)))
    return [(pictures - truth).square().mean(dim=1) for pictures in (plain, steadied)]


def test_no_frame_is_further_from_the_truth_than_without_flicker_control(errors):
    plain, steadied = (squared.mean(dim=(1, 2)).sqrt() for squared in errors)
    assert (steadied <= ALLOWED * plain).all(), steadied / plain


def test_no_part_of_any_frame_holds_a_ghost(errors):
    plain, steadied = (avg_pool2d(squared, BLOCK_PX).sqrt() for squared in errors)
    assert (steadied <= ALLOWED * plain + BLOCK_TOLERANCE).all(), 255 * (steadied - plain).max()


def test_the_scenes_are_such_that_averaging_in_place_leaves_ghosts():
    for name in ("occlusion", "cut", "flash", "fade", "title", "subtitle", "fast_pan"):
        truth = torch.stack([as_tensor(picture) for picture in SCENES[name]()])
        averaged = 0.5 * (truth[1:] + truth[:-1])
        blocks = avg_pool2d((averaged - truth[1:]).square().mean(dim=1), BLOCK_PX).sqrt()
        assert blocks.max() > 5 * BLOCK_TOLERANCE, name
