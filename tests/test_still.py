"""Shots that stand still in part, or for a while: only what moves is made anew."""

import pytest
import torch

from tests.clips import textured_picture
from vsr.engine.shot_network import FastShotNetwork
from vsr.engine.tiling import limited_threads
from vsr.image.resample import resize
from vsr.models.prior import load_shipped_prior
from vsr.restore.data_term import CLEAN
from vsr.temporal import registration
from vsr.temporal.boxes import Box, box_of_changes, united, whole_box
from vsr.temporal.fusion import FusionOptions
from vsr.temporal.registration import ShotRegistrar
from vsr.upscale.shot_stages import ShotStages, upscale_shot

HEIGHT, WIDTH, FRAMES = 88, 120, 20
INSET = Box(30, 40, 46, 60)
MOVES = set(range(3, 9)) | {16, 17}
"""Frames that differ from the one before."""
FUSION = FusionOptions(memory=0.9, look_ahead=2)


def as_tensor(levels):
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def truths():
    """A desk on which a picture in a frame pans now and then."""
    desk = as_tensor(textured_picture(4 * HEIGHT, 4 * WIDTH, seed=3))
    moved, made = 0, []
    for index in range(FRAMES):
        moved += index in MOVES
        panned = textured_picture(4 * INSET.height, 4 * INSET.width, (0.0, 3.0 * moved), seed=5)
        desk = desk.clone()
        INSET.cut(desk, 4).copy_(as_tensor(panned))
        made.append(desk)
    return made


@pytest.fixture(scope="module")
def lows(truths):
    return [(255 * resize(one, HEIGHT, WIDTH).clamp(0, 1)).round() / 255 for one in truths]


@pytest.fixture(scope="module")
def part(lows):
    """What changes between any two frames, the surroundings that its reduction reaches included."""
    changes = None
    for move in MOVES:
        changes = united(changes, box_of_changes(lows[move], lows[move - 1]))
    return changes


@pytest.fixture(scope="module")
def networks():
    return load_shipped_prior().networks


@pytest.fixture
def upscaled(networks):
    def upscaled(lows, scale=4):
        return list(upscale_shot(lows, networks, scale, CLEAN, FUSION))

    return upscaled


def psnr(made, truths, box):
    parts = [box.cut(one, 4) - box.cut(truth, 4) for one, truth in zip(made, truths, strict=True)]
    return -10 * torch.log10(torch.stack(parts).square().mean())


def test_what_stands_still_is_the_frame_before_to_the_last_digit(lows, part, upscaled):
    made = upscaled(lows)
    around = part.grown(registration.BOX_MARGIN_PX, whole_box(lows[0]))
    for index in range(4, FRAMES):
        outside = [one.clone() for one in made[index - 1 : index + 1]]
        for one in outside:
            around.cut(one, 4).zero_()
        assert torch.equal(*outside)
    # From two frames after the last change to three before the next.
    assert all(torch.equal(made[index], made[10]) for index in (11, 12, 13))
    assert not torch.equal(made[17], made[16])


def test_what_moves_is_as_good_as_where_all_is_made_anew(lows, truths, upscaled, monkeypatch):
    made = upscaled(lows)
    monkeypatch.setattr(registration, "MAX_BOX_SHARE", 0.0)
    anew = upscaled(lows)
    inside, whole = INSET.grown(4, whole_box(lows[0])), whole_box(lows[0])
    for box in (inside, whole):
        assert psnr(made, truths, box) == pytest.approx(float(psnr(anew, truths, box)), abs=0.05)


def test_networks_are_asked_for_what_moves_alone(lows, part, upscaled, monkeypatch):
    asked = []
    find = FastShotNetwork.missing_detail

    def noted(network, planes):
        asked.append(tuple(planes.shape[-2:]))
        return find(network, planes)

    monkeypatch.setattr(FastShotNetwork, "missing_detail", noted)
    upscaled(lows)
    whole = {(2 * HEIGHT, 2 * WIDTH): 3, (4 * HEIGHT, 4 * WIDTH): 3}
    # The first three: of the frames before the first nothing is known.
    assert {size: asked.count(size) for size in whole} == whole
    # From two frames before each change to two after it; still in between.
    changing = {near for move in MOVES for near in range(move - 2, move + 3)}
    assert len(asked) == 6 + 2 * len(changing & set(range(3, FRAMES)))
    side = registration.BOX_MARGIN_PX + registration.EDGE_PX
    most = part.grown(side, whole_box(lows[0]))
    parts = set(asked) - whole.keys()
    assert max(height for height, _ in parts) <= 4 * most.height
    assert max(width for _, width in parts) <= 4 * most.width


@pytest.mark.parametrize("last", [4, 6, 9, 11, 13, 15])
def test_another_process_goes_on_with_the_same_frames(lows, networks, last):
    def stages():
        return ShotStages(networks, 4, CLEAN, FUSION)

    first, whole = stages(), []
    for index, one in enumerate(first.through((low, None) for low in lows)):
        whole.append(one.picture)
        if index == last:
            known, lead = [picture.clone() for picture in first.pictures()], first.lead
    again = stages().through(((low, None) for low in lows[last - lead :]), known, 1 + lead)
    rest = [one.picture for one in again][1 + lead :]
    assert len(rest) == FRAMES - last - 1
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[last + 1 :], strict=True))


def test_stages_beside_each_other_make_the_same_frames(lows, upscaled):
    made = []
    for threads in (1, 3):
        with limited_threads(threads):
            made.append(torch.stack(upscaled(lows)))
    assert torch.equal(*made)


@pytest.mark.parametrize("scale", [1.5, 2, 3, 8])
def test_every_scale_has_still_frames(lows, upscaled, scale):
    made = upscaled(lows[:12], scale)
    assert {one.shape for one in made} == {(3, int(HEIGHT * scale), int(WIDTH * scale))}


def test_a_pan_is_worked_on_as_a_whole():
    registrar = ShotRegistrar()
    for index in range(5):
        registrar.add(index, as_tensor(textured_picture(HEIGHT, WIDTH, (0, 1.0 * index))))
    assert registrar.work_box(2, 2) is None


def test_motion_is_looked_for_where_something_changes(lows, part):
    registrar = ShotRegistrar()
    registrar.add(2, lows[2])
    registrar.add(3, lows[3])
    registered = registrar.onto(3, 2)
    part = part.grown(registration.FLOW_MARGIN_PX, whole_box(lows[0]))
    assert part.cut(registered.flow, 2).abs().max() > 0.5
    part.cut(registered.flow, 2).zero_()
    part.cut(registered.confidence, 2).fill_(1.0)
    assert registered.flow.abs().max() == 0
    assert registered.confidence.min() == 1
    registrar.add(4, lows[3])
    still = registrar.onto(4, 3)
    assert still.flow.abs().max() == still.illumination.abs().max() == 0
    assert torch.equal(still.warp(lows[3]), lows[3])


def test_a_part_of_a_warp_is_the_warp_of_the_part(lows, truths):
    registrar = ShotRegistrar()
    for index in (2, 3, 4):
        registrar.add(index, lows[index])
    registered, box, shown = registrar.onto(4, 2), Box(20, 30, 60, 80), Box(8, 12, 80, 100)
    whole = box.cut(registered.warp(truths[2]), 4)
    torch.testing.assert_close(registered.warp(truths[2], box), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        registered.warp(shown.cut(truths[2], 4), box, shown), whole, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        registered.weight(whole, box), box.cut(registered.weight(truths[2]), 4), atol=1e-4, rtol=0
    )


def test_boxes():
    one, other, frame = Box(2, 3, 5, 9), Box(4, 1, 8, 4), Box(0, 0, 10, 10)
    assert united(one, other) == Box(2, 1, 8, 9)
    assert united(None, other) == united(other, None) == other
    assert one.common(other) == Box(4, 3, 5, 4)
    assert Box(0, 0, 2, 2).common(Box(5, 5, 7, 7)).area == 0
    assert one.grown(3, frame) == Box(0, 0, 8, 10)
    assert Box(0, 4, 8, 10).shrunk(2, frame) == Box(0, 6, 6, 10)
    assert one.seen_from(Box(1, 1, 9, 9)) == Box(1, 2, 4, 8)
    planes = torch.zeros(3, 10, 10)
    changed = planes.clone()
    changed[0, 2, 3] = changed[2, 4, 8] = 1
    assert box_of_changes(changed, planes) == one
    assert box_of_changes(planes, planes.clone()) is None
    assert torch.equal(one.cut(changed, 1), changed[:, 2:5, 3:9])
