"""Film with faults that are known, uneven brightness and dirt; and what must stay as it is."""

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
from vsr.video.frames import Frame
from vsr.video.writer import EncodeOptions

HEIGHT, WIDTH, FRAMES = 96, 128, 20
ALWAYS, AUTO = RepairOptions("on", "on"), RepairOptions()


def pan(kind, count=FRAMES):
    """A camera that moves over surfaces and texture, (3, H, W) in gray levels each."""
    random = np.random.default_rng(kind)
    wide = WIDTH + 2 * count
    coarse = random.uniform(50, 190, (HEIGHT // 12, wide // 12, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (wide, HEIGHT), interpolation=cv2.INTER_CUBIC)
    fine = random.normal(0, 9, (HEIGHT, wide)).astype(np.float32)
    picture += cv2.GaussianBlur(fine, (0, 0), 1.0)[..., None]
    cv2.rectangle(picture, (40, 30), (75, 60), (200, 190, 180), -1)
    steps = ((0, 0), (1, 0), (2, 0))[kind % 3]
    shown = []
    for i in range(count):
        left = steps[0] * i
        shown.append(picture[:, left : left + WIDTH].clip(0, 255).transpose(2, 0, 1).copy())
    return shown


def repaired(pictures, options=AUTO):
    """The pictures after the repair, and its account."""
    frames = [
        Frame(torch.from_numpy(np.rint(p).clip(0, 255).astype(np.float32) / 255), i, i, Fraction(1))
        for i, p in enumerate(pictures)
    ]
    repair = FilmRepair(options)
    made = [item[2][0] for item in repair.through((0, 0, (frame, None)) for frame in frames)]
    assert [frame.index for frame in made] == list(range(len(frames)))
    return [255 * frame.pixels.numpy() for frame in made], repair.shots


def soiled(pictures, per_frame=4, seed=5):
    """With spots of 2 to 6 pixels, light and dark, on each frame alone; and where they are."""
    random = np.random.default_rng(seed)
    dirty, masks = [], []
    for picture in pictures:
        canvas, mask = picture.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        for _ in range(per_frame):
            center = int(random.integers(5, WIDTH - 5)), int(random.integers(5, HEIGHT - 5))
            axes = int(random.integers(1, 4)), int(random.integers(1, 4))
            spot = np.zeros_like(mask)
            cv2.ellipse(spot, center, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
            canvas[:, spot > 0] = 15 if random.random() < 0.6 else 245
            mask |= spot
        dirty.append(canvas)
        masks.append(mask > 0)
    return dirty, masks


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_dirt_goes_and_clean_pixels_stay(kind):
    clean = pan(kind)
    dirty, masks = soiled(clean)
    made, (account,) = repaired(dirty)
    # Frames at the ends have one neighbor alone.
    inner = range(1, FRAMES - 1)
    before = sum(np.abs(dirty[i] - clean[i])[:, masks[i]].sum() for i in inner)
    after = sum(np.abs(made[i] - clean[i])[:, masks[i]].sum() for i in inner)
    assert after < 0.2 * before
    changed = sum((np.abs(made[i] - dirty[i]).max(axis=0) > 2)[~masks[i]].sum() for i in inner)
    assert changed < 0.001 * sum((~masks[i]).sum() for i in inner)
    assert account.spots_removed > 0.8 * 4 * len(inner)
    assert 0 < account.pixels_removed < 0.05 * HEIGHT * WIDTH * len(inner)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_brightness_flicker_falls_to_a_fifth(kind):
    random = np.random.default_rng(kind)
    gains = 1 + 0.06 * random.uniform(-1, 1, FRAMES)
    gains[1::2] += 0.03
    clean = pan(kind)
    made, (account,) = repaired([g * p for g, p in zip(gains, clean, strict=True)])

    def departure(pictures):
        ratio = np.array([p.mean() / c.mean() for p, c in zip(pictures, clean, strict=True)])
        return np.abs(ratio[1:-1] - (ratio[:-2] + ratio[2:]) / 2).mean()

    flickering = [g * p for g, p in zip(gains, clean, strict=True)]
    assert departure(made) < 0.2 * departure(flickering)
    assert account.frames_evened >= FRAMES - 3


def shown_twice(pictures):
    """Every other frame, each shown twice, as where film was made to fit a faster rate."""
    return [picture for picture in pictures[::2] for _ in range(2)]


def barred(pictures):
    """Twice as large, between black bars over the left and the right quarter."""
    made = []
    for picture in pictures:
        large = cv2.resize(picture.transpose(1, 2, 0), None, fx=2, fy=2).transpose(2, 0, 1)
        quarter = large.shape[2] // 4
        large[:, :, :quarter] = large[:, :, -quarter:] = 0
        made.append(large)
    return made


def test_brightness_flickers_less_where_frames_are_shown_twice_between_bars():
    random = np.random.default_rng(0)
    clean = barred(shown_twice(pan(1, 2 * FRAMES)))
    gains = np.repeat(1 + 0.12 * random.uniform(-1, 1, FRAMES), 2)
    flickering = [gain * picture for gain, picture in zip(gains, clean, strict=True)]
    made, (account,) = repaired(flickering)

    def swing(pictures):
        return np.std(
            [p.mean() / c.mean() for p, c in zip(pictures[2:-2], clean[2:-2], strict=True)]
        )

    assert swing(made) < 0.4 * swing(flickering)
    assert account.frames_evened > FRAMES
    for one, again in zip(made[::2], made[1::2], strict=True):
        np.testing.assert_array_equal(one, again)


def test_inspect_tells_what_a_run_repairs(tmp_path, capsys):
    from vsr.cli import app

    gains = 1 + 0.1 * np.random.default_rng(0).uniform(-1, 1, FRAMES)
    flickering = [g * p for g, p in zip(gains, pan(1), strict=True)]
    clip = tmp_path / "a.mkv"
    pictures = [p.clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0) for p in flickering]
    write_clip(clip, pictures, codec="ffv1", pixel_format="bgr0")
    app(["inspect", str(clip)], standalone_mode=False)
    told = capsys.readouterr().out
    assert "What a run does about it:" in told
    assert "is evened (--even-brightness off: left)" in " ".join(told.split())
    app(["inspect", str(clip), "--restore", "0"], standalone_mode=False)
    assert "What a run does about it: nothing." in capsys.readouterr().out


def fade(pictures):
    return [p * max(0, 1 - i / 15) for i, p in enumerate(pictures)]


def flashes(pictures):
    return [p * (1.8 if i in (6, 13) else 1) for i, p in enumerate(pictures)]


def rain(pictures):
    random = np.random.default_rng(1)
    made = []
    for picture in pictures:
        canvas = picture.copy()
        for _ in range(12):
            x, y = random.integers(2, WIDTH - 4), random.integers(2, HEIGHT - 10)
            canvas[:, y : y + 7, x] = np.minimum(255, canvas[:, y : y + 7, x] + 70)
        made.append(canvas)
    return made


def heavy_rain(pictures):
    """Streaks that cover about the share of a frame from which on its spots are not counted."""
    random = np.random.default_rng(1)
    made = []
    for picture in pictures:
        canvas = cv2.resize(picture.transpose(1, 2, 0), (192, 144)).transpose(2, 0, 1)
        for _ in range(40):
            length = random.integers(15, 41)
            x, y = random.integers(2, 188), random.integers(2, 144 - length)
            streak = canvas[:, y : y + length, x]
            streak[:] = np.minimum(255, streak + 70)
        made.append(canvas)
    return made


def sparks(pictures):
    random = np.random.default_rng(2)
    starts = random.uniform(20, 70, (10, 2))
    speeds = random.uniform(-5, 5, (10, 2))
    made = []
    for i, picture in enumerate(pictures):
        canvas = picture.copy()
        for start, speed in zip(starts, speeds, strict=True):
            y, x = (start + speed * (i % 10)).astype(int) % (HEIGHT - 3, WIDTH - 3)
            canvas[:, y : y + 3, x : x + 3] = 250
        made.append(canvas)
    return made


def thrown_ball(pictures):
    made = []
    for i, picture in enumerate(pictures):
        canvas = picture.transpose(1, 2, 0).copy()
        cv2.circle(canvas, (6 * i + 5, 20 + (i - 9) ** 2 // 3), 3, (20, 20, 20), -1)
        made.append(canvas.transpose(2, 0, 1))
    return made


def subtitles(pictures):
    made = []
    for i, picture in enumerate(pictures):
        canvas = np.rint(picture.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8, order="C")
        if 5 <= i < 12:
            cv2.putText(canvas, "Hello", (20, 88), 0, 0.6, (250, 250, 250), 1)
        made.append(canvas.transpose(2, 0, 1).astype(np.float32))
    return made


@pytest.mark.parametrize(
    "scene", [list, fade, flashes, rain, heavy_rain, sparks, thrown_ball, subtitles]
)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_what_is_no_fault_stays_to_the_last_bit(scene, kind):
    pictures = scene(pan(kind))
    made, shots = repaired(pictures)
    assert not shots
    for one, other in zip(made, pictures, strict=True):
        np.testing.assert_array_equal(np.rint(one), np.rint(other).clip(0, 255))


@pytest.mark.parametrize("scene", [fade, flashes, subtitles])
def test_a_repair_that_is_asked_for_spares_them_as_well(scene):
    pictures = scene(pan(1))
    made, _ = repaired(pictures, ALWAYS)
    for one, other in zip(made, pictures, strict=True):
        assert np.abs(one - np.rint(other).clip(0, 255)).max() < 1


def test_nothing_is_repaired_where_it_is_switched_off():
    dirty, _ = soiled(pan(1))
    made, shots = repaired(dirty, RepairOptions("off", "off"))
    assert not shots
    np.testing.assert_array_equal(np.rint(made[5]), np.rint(dirty[5]).clip(0, 255))
    assert RepairOptions().at_strength(0.0).is_off
    assert not ALWAYS.at_strength(0.0).is_off


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_short_shots_come_out_whole(count):
    made, _ = repaired(pan(1, count), ALWAYS)
    assert len(made) == count


def test_a_stopped_run_repairs_as_one_that_was_not(tmp_path):
    dirty, _ = soiled(pan(1))
    arrays = [np.rint(p).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy() for p in dirty]
    clip = write_clip(tmp_path / "a.mkv", arrays, codec="ffv1", pixel_format="bgr0")
    encode = EncodeOptions(codec="ffv1", segment_frames=6)
    recipe = Recipe("bicubic", scale=2.0, steady=0.9, metrics=(), encode=encode)
    manifest = run(clip, recipe, RunFiles(tmp_path / "whole.mkv"))
    assert manifest.repairs[0]["spots_removed"] > 40
    asked = iter(range(100))
    stopping = Listener(should_stop=lambda: next(asked) == 9)
    with pytest.raises(InterruptedRunError):
        run(clip, recipe, RunFiles(tmp_path / "parts.mkv"), listener=stopping)
    again = run(clip, recipe, RunFiles(tmp_path / "parts.mkv"))
    assert again.resumed_at_frame == 6
    assert again.repairs == manifest.repairs
    whole, parts = (
        [frame.to_ndarray(format="rgb24") for frame in read_frames(tmp_path / name)]
        for name in ("whole.mkv", "parts.mkv")
    )
    np.testing.assert_array_equal(whole, parts)
    plain = run(clip, replace(recipe, restore=0.0), RunFiles(tmp_path / "plain.mkv"))
    assert not plain.repairs
