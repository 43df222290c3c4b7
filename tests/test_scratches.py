"""Scratches of film that are known, and upright lines that must stay as they are."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from tests.clips import read_frames, write_clip
from vsr.errors import InterruptedRunError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run
from vsr.progress import Listener
from vsr.restore.repair import FilmRepair, RepairOptions
from vsr.restore.scratches import find_scratches
from vsr.video.frames import Frame
from vsr.video.writer import EncodeOptions

HEIGHT, WIDTH, FRAMES = 120, 176, 44
SPEEDS = (1.0, 2.0, -1.5)
"""Columns a frame by which the camera pans; the last one tilts as well."""
ALWAYS = RepairOptions("off", "off", "on")
AUTO = RepairOptions("off", "off", "auto")


def texture(seed, height, width):
    """Surfaces with texture, (height, width, 3) in gray levels."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(40, 180, (height // 15, width // 15, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    fine = random.normal(0, 16, (height, width)).astype(np.float32)
    return (picture + cv2.GaussianBlur(fine, (0, 0), 1.2)[..., None]).clip(5, 250)


def drawn(world, left, top=0.0):
    """The part of a world that a camera shows."""
    center = left + (WIDTH - 1) / 2, top + (HEIGHT - 1) / 2
    return cv2.getRectSubPix(world, (WIDTH, HEIGHT), center)


def panned(kind, world=None, count=FRAMES):
    """Pictures (H, W, 3) of a camera that pans over a world."""
    speed = SPEEDS[kind]
    margin = 2 * count + 10
    if world is None:
        world = texture(kind, HEIGHT + 40, WIDTH + 2 * margin)
    return [drawn(world, margin + speed * i, 0.3 * i * (kind == 2)) for i in range(count)]


def world_with(paint):
    """The world of a pan, painted on by `paint(world)`."""
    world = texture(7, HEIGHT + 40, WIDTH + 2 * (2 * FRAMES + 10))
    paint(world)
    return world


def scratched(pictures, seed=3):
    """With a light and a dark scratch of 1 and 3 columns, which drift, weave and fade; and what
    they cover."""
    random = np.random.default_rng(seed)
    height, width = pictures[0].shape[:2]
    down, across = np.mgrid[:height, :width]
    scratches = [(0.3, 1, 235.0, 0.03), (0.68, 3, 12.0, -0.05)]
    made, masks = [], []
    for i, picture in enumerate(pictures):
        canvas, mask = picture.copy(), np.zeros((height, width), bool)
        for start, thick, level, drift in scratches:
            column = start * width + drift * i + random.uniform(-0.3, 0.3)
            line = column + 1.5 * (down / height - 0.5)
            cover = np.clip(thick / 2 + 0.5 - np.abs(across - line), 0, 1)
            cover = cover * (0.75 + 0.15 * np.sin(down / 9 + start * 9) + random.uniform(-0.1, 0.1))
            canvas += cover[..., None].astype(np.float32) * (level - canvas)
            mask |= cover > 0
        made.append(canvas)
        masks.append(mask)
    return made, masks


def repaired(pictures, options=AUTO):
    """The pictures (3, H, W) before and after the repair, and its account."""
    shown = [np.rint(p.transpose(2, 0, 1)).clip(0, 255).astype(np.float32) for p in pictures]
    frames = [Frame(torch.from_numpy(p / 255), i, i, Fraction(1)) for i, p in enumerate(shown)]
    repair = FilmRepair(options)
    made = [item[2][0] for item in repair.through((0, 0, (frame, None)) for frame in frames)]
    assert [frame.index for frame in made] == list(range(len(frames)))
    return shown, [255 * frame.pixels.numpy() for frame in made], repair.shots


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_scratches_go_and_clean_pixels_stay(kind):
    clean = [np.rint(p).clip(0, 255).transpose(2, 0, 1) for p in panned(kind)]
    shown, made, (account,) = repaired(scratched(panned(kind))[0])
    masks = scratched(panned(kind))[1]
    assert account.scratches == 2
    before, after = (
        sum(np.abs(p - c)[:, m].sum() for p, c, m in zip(each, clean, masks, strict=True))
        for each in (shown, made)
    )
    assert after < 0.2 * before
    changed = sum(
        (np.abs(one - other).max(axis=0) > 2)[~mask].sum()
        for one, other, mask in zip(made, shown, masks, strict=True)
    )
    assert changed < 0.001 * sum((~mask).sum() for mask in masks)
    assert account.scratches_removed == 2
    assert 0 < account.scratch_pixels_removed < 0.1 * HEIGHT * WIDTH * FRAMES


def wires(world):
    for i, column in enumerate(range(20, world.shape[1], 37)):
        cv2.line(world, (column, 0), (column + 1, world.shape[0]), (15, 15, 15), 1 + i % 3)


def poles(world):
    for column in range(30, world.shape[1], 60):
        world[:, column : column + 3] = (220, 215, 205)


def fence(world):
    for column in range(0, world.shape[1], 12):
        world[:, column : column + 3] = (235, 235, 230)


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("paint", [wires, poles, fence])
def test_what_moves_with_the_scene_stays(paint, kind):
    assert_untouched(panned(kind, world_with(paint)))


def parallax():
    """A pole that is nearer than the scene, and passes faster."""
    pictures = panned(0)
    for i, picture in enumerate(pictures):
        left = WIDTH - 20 - round(2.5 * i)
        if left > 0:
            picture[:, left : left + 2] = (20, 22, 25)
    return pictures


def slow_parallax():
    """A pole that passes half as fast again as the scene."""
    pictures = panned(0)
    for i, picture in enumerate(pictures):
        left = WIDTH - 20 - round(1.5 * i)
        picture[:, left : left + 2] = 0.3 * picture[:, left : left + 2]
    return pictures


def still_line():
    """A still scene with a line whose shade varies."""
    picture = drawn(texture(1, HEIGHT + 40, WIDTH + 40), 10)
    shade = 200 + 40 * np.sin(np.arange(HEIGHT) / 9)
    picture[:, 60:62] = shade[:, None, None]
    random = np.random.default_rng(0)
    return [picture + random.normal(0, 1, picture.shape).astype(np.float32) for _ in range(FRAMES)]


def crowd():
    """People who walk behind a wire, before a camera and a wall that stand still."""
    wall, people = drawn(texture(1, HEIGHT + 40, WIDTH + 40), 10), panned(1)
    made = []
    for picture in people:
        canvas = wall.copy()
        canvas[HEIGHT // 2 :] = picture[HEIGHT // 2 :]
        canvas[:, 80:82] = (
            canvas[:, 80:82] * 0.2 + 10 * np.sin(np.arange(HEIGHT) / 7)[:, None, None]
        )
        made.append(canvas)
    return made


def still_fence():
    """A fence before which a camera stands still; behind it everything moves."""
    made = panned(1)
    for picture in made:
        for column in range(8, WIDTH, 14):
            picture[:, column : column + 3] = (210, 205, 200)
    return made


def window():
    """The frames of a window, with a landscape that drives by outside."""
    made = panned(1)
    for picture in made:
        picture[:14] = picture[-14:] = (150, 140, 130)
        picture[:, :10] = picture[:, -10:] = (150, 140, 130)
        shade = 30 + 12 * np.sin(np.arange(HEIGHT) / 9)
        picture[14:-14, 86:89] = shade[14:-14, None, None]
    return made


def train_window():
    """A bar over the whole height before a landscape that drives by."""
    made = panned(1)
    for picture in made:
        picture[:, 86:89] = (35, 33, 30)
    return made


def split_screen():
    """Two pictures side by side, with a line in between."""
    made = []
    for one, other in zip(panned(0), panned(1), strict=True):
        canvas = np.concatenate([one[:, : WIDTH // 2] * 0.6, other[:, WIDTH // 2 :]], axis=1)
        canvas[:, WIDTH // 2 - 1 : WIDTH // 2 + 1] = 250
        made.append(canvas)
    return made


def letterbox():
    made = panned(1)
    for picture in made:
        picture[:18] = picture[-18:] = 0
        picture[:, :12] = picture[:, -12:] = 0
    return made


def subtitles():
    made = []
    for i, picture in enumerate(panned(1)):
        canvas = np.rint(picture).astype(np.uint8).copy()
        if 5 <= i < 40:
            cv2.putText(canvas, "Illll lillill", (20, 100), 0, 0.9, (250, 250, 250), 2)
        made.append(canvas.astype(np.float32))
    return made


def rain():
    random = np.random.default_rng(1)
    made = panned(0)
    for picture in made:
        for _ in range(40):
            x, y = random.integers(2, WIDTH - 2), random.integers(0, HEIGHT - 40)
            picture[y : y + random.integers(15, 40), x] += 60
    return made


SCENES = [
    parallax,
    slow_parallax,
    still_line,
    crowd,
    still_fence,
    window,
    train_window,
    split_screen,
    letterbox,
    subtitles,
    rain,
]


@pytest.mark.parametrize("scene", SCENES)
def test_lines_that_are_no_scratches_stay_to_the_last_bit(scene):
    assert_untouched(scene())


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_scene_without_lines_stays_to_the_last_bit(kind):
    assert_untouched(panned(kind))


def assert_untouched(pictures):
    """Neither found nor, where that is asked for, changed."""
    for options in (AUTO, ALWAYS):
        shown, made, shots = repaired(pictures, options)
        assert options is ALWAYS or not shots
        for one, other in zip(made, shown, strict=True):
            np.testing.assert_array_equal(np.rint(one), other)


def test_a_scratch_beside_a_pole_goes_and_the_pole_stays():
    clean = panned(1, world_with(poles))
    made, _ = scratched(clean)
    levels = [np.rint(p.transpose(2, 0, 1)).clip(0, 255).astype(np.float32) for p in made]
    found = find_scratches(levels[:24])
    assert sorted(each.is_light for each in found) == [False, True]


def test_nothing_is_removed_where_it_is_switched_off():
    shown, made, shots = repaired(scratched(panned(0))[0], RepairOptions("off", "off", "off"))
    assert not shots
    np.testing.assert_array_equal(np.rint(made[9]), shown[9])


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17, 25])
def test_short_shots_come_out_whole(count):
    _, made, _ = repaired(scratched(panned(1)[:count])[0], ALWAYS)
    assert len(made) == count


def test_a_stopped_run_removes_as_one_that_was_not(tmp_path):
    pictures, _ = scratched(panned(1))
    arrays = [np.rint(p).clip(0, 255).astype(np.uint8) for p in pictures]
    clip = write_clip(tmp_path / "a.mkv", arrays, codec="ffv1", pixel_format="bgr0")
    encode = EncodeOptions(codec="ffv1", segment_frames=6)
    recipe = Recipe("bicubic", scale=2.0, metrics=(), encode=encode)
    manifest = run(clip, recipe, RunFiles(tmp_path / "whole.mkv"))
    assert manifest.repairs[0]["scratches_removed"] == 2
    asked = iter(range(100))
    stopping = Listener(should_stop=lambda: next(asked) == 20)
    with pytest.raises(InterruptedRunError):
        run(clip, recipe, RunFiles(tmp_path / "parts.mkv"), listener=stopping)
    again = run(clip, recipe, RunFiles(tmp_path / "parts.mkv"))
    assert again.resumed_at_frame == 18
    assert again.repairs == manifest.repairs
    whole, parts = (
        [frame.to_ndarray(format="rgb24") for frame in read_frames(tmp_path / name)]
        for name in ("whole.mkv", "parts.mkv")
    )
    np.testing.assert_array_equal(whole, parts)
    off = replace(recipe, repair=RepairOptions(scratches="off"))
    assert not run(clip, off, RunFiles(tmp_path / "off.mkv")).repairs
