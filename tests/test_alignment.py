from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from tests.clips import moving_pictures, textured_picture, write_clip
from vsr.errors import InputError
from vsr.evaluate import score
from vsr.video.align import Crop, Timeline, TimeMap
from vsr.video.align.crops import find_crop
from vsr.video.align.drift import DriftDetector
from vsr.video.frames import Frame

LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}
TRUTH = moving_pictures(40, 48, 64)
FILM = Fraction(1001, 24000)


def noisy(pictures, seed=0):
    """A copy with an error that differs from frame to frame, so that a wrong pairing shows."""
    random = np.random.default_rng(seed)
    return [
        np.clip(picture + random.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        for picture in pictures
    ]


def clip(folder, name, pictures, **options):
    return write_clip(folder / f"{name}.mkv", pictures, **LOSSLESS, **options)


def psnr_scores(result, truth, low=None):
    return score([result], truth, low, metrics=["psnr"]).results[0]


def assert_paired(scores, results, truths):
    expected = [
        peak_signal_noise_ratio(true, result, data_range=255)
        for result, true in zip(results, truths, strict=True)
    ]
    assert scores.metrics["psnr"].per_frame == pytest.approx(expected, abs=1e-3)


def said(scores, words):
    return any(words in note for note in scores.notes)


def as_pixels(picture):
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("start", [1, 3, 17])
def test_a_part_whose_clock_starts_anew_is_found_by_its_pictures(tmp_path, start):
    part = noisy(TRUTH)[start : start + 20]
    scores = psnr_scores(clip(tmp_path, "part", part), clip(tmp_path, "truth", TRUTH))
    assert_paired(scores, part, TRUTH[start : start + 20])
    assert scores.clocks["reference"].offset_seconds == pytest.approx(start / 25)
    assert said(scores, f"{start / 25:+.3f} s")
    assert scores.unmatched["reference"] == (*range(start), *range(start + 20, 40))
    assert scores.partners["reference"] == tuple(range(start, start + 20))


def test_a_truth_that_is_a_part_of_the_result_is_found_by_its_pictures(tmp_path):
    whole = noisy(TRUTH)
    scores = psnr_scores(clip(tmp_path, "whole", whole), clip(tmp_path, "truth", TRUTH[12:30]))
    assert_paired(scores, whole[12:30], TRUTH[12:30])
    assert scores.frame_indices == tuple(range(12, 30))


def test_a_still_clip_keeps_its_own_clock(tmp_path):
    still = [TRUTH[0]] * 20
    scores = psnr_scores(
        clip(tmp_path, "result", noisy(still)[2:], pts=range(2, 20)), clip(tmp_path, "truth", still)
    )
    assert scores.clocks["reference"] == TimeMap()
    assert scores.unmatched["reference"] == (0, 1)


def test_a_part_that_keeps_its_clock_is_left_where_it_is(tmp_path):
    part = noisy(TRUTH)[9:]
    scores = psnr_scores(
        clip(tmp_path, "part", part, pts=range(9, 40)), clip(tmp_path, "truth", TRUTH)
    )
    assert_paired(scores, part, TRUTH[9:])
    assert scores.clocks["reference"] == TimeMap()


def test_an_input_sampled_a_pixel_aside_does_not_shift_the_time_of_a_pan(tmp_path):
    # Every fourth pixel of the upper left: 1.5 px aside, which is a frame and a half of this pan.
    pan = moving_pictures(24, 160, 224, (1.0, 1.0))
    low = [picture[::4, ::4] for picture in pan]
    result = clip(tmp_path, "result", noisy(pan))
    assert psnr_scores(result, clip(tmp_path, "truth", pan), clip(tmp_path, "low", low)).notes == ()
    assert (
        score([result], low_resolution=tmp_path / "low.mkv", metrics=["lr_psnr"]).results[0].notes
        == ()
    )


@pytest.mark.parametrize("faster", ["result", "truth"])
def test_twice_the_rate_is_matched_where_the_times_meet_and_said(tmp_path, faster):
    every, half = noisy(TRUTH), noisy(TRUTH)[::2]
    if faster == "result":
        scores = psnr_scores(
            clip(tmp_path, "result", every, time_base=Fraction(1, 50)),
            clip(tmp_path, "truth", TRUTH[::2]),
        )
        assert_paired(scores, every[::2], TRUTH[::2])
    else:
        scores = psnr_scores(
            clip(tmp_path, "result", half),
            clip(tmp_path, "truth", TRUTH, time_base=Fraction(1, 50)),
        )
        assert_paired(scores, half, TRUTH[::2])
    assert said(scores, "matched where their times meet")
    assert said(scores, "20 frames were matched; without a partner: 20 of the")
    assert said(scores, "(1, 3, 5, 7, 9, ...)")


def long_pan(count, frames_per_second):
    """A pan through the same places at the same times, whatever the rate."""
    view = textured_picture(32, 48 + count + 1).astype(float)
    places = [24 * i / frames_per_second for i in range(count)]
    parts = [(view[:, int(x) :][:, :48], view[:, int(x) + 1 :][:, :48], x % 1) for x in places]
    return [
        np.rint(left * (1 - part) + right * part).astype(np.uint8) for left, right, part in parts
    ]


def test_film_at_the_rate_of_television_is_matched_frame_by_frame_and_said(tmp_path):
    pictures = long_pan(700, 24)
    scores = psnr_scores(
        clip(tmp_path, "result", pictures, time_base=Fraction(1, 24)),
        clip(tmp_path, "truth", pictures, time_base=FILM, pts=range(700)),
    )
    assert scores.metrics["psnr"].mean == 100
    assert scores.clocks["reference"].stretch == pytest.approx(1.001)
    assert said(scores, "stretched by 1.001")


def test_close_rates_whose_times_are_right_are_matched_by_time(tmp_path):
    scores = psnr_scores(
        clip(tmp_path, "result", long_pan(700, 24), time_base=Fraction(1, 24)),
        clip(tmp_path, "truth", long_pan(700, 24 / 1.001), time_base=FILM, pts=range(700)),
    )
    assert scores.clocks["reference"] == TimeMap()
    assert said(scores, "matched where their times meet")
    assert min(scores.metrics["psnr"].per_frame) > 20


def test_a_folder_of_pictures_is_matched_frame_by_frame_with_a_clip_of_another_rate(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures = noisy(TRUTH)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    scores = psnr_scores(folder, clip(tmp_path, "truth", TRUTH, time_base=Fraction(1, 30)))
    assert_paired(scores, pictures, TRUTH)
    assert said(scores, "25 frames a second")


def test_a_frame_shown_twice_in_place_of_the_next_is_told(tmp_path):
    pictures = noisy(TRUTH)
    pictures[7] = pictures[6]
    pictures[20] = pictures[19]
    scores = psnr_scores(clip(tmp_path, "result", pictures), clip(tmp_path, "truth", TRUTH))
    assert scores.repeats == (7, 20)
    assert said(scores, "2 of its frames repeat the one before: 7, 20")
    assert_paired(scores, pictures, TRUTH)


def test_a_still_result_beside_a_truth_that_only_has_noise_repeats_nothing():
    watch = DriftDetector()
    still = as_pixels(TRUTH[0])
    for index, true in enumerate(noisy([TRUTH[0]] * 12)):
        watch.update(index, still, as_pixels(true))
    assert watch.repeats == []
    assert watch.notes() == []


@pytest.mark.parametrize(("order", "words"), [(1, "1 frame behind"), (-1, "1 frame ahead of")])
def test_pictures_that_slip_against_their_times_are_told(tmp_path, order, words):
    pictures = noisy(TRUTH)
    slipped = (
        [*pictures[:30], pictures[29], *pictures[30:39]]
        if order > 0
        else pictures[:25] + pictures[26:]
    )
    scores = psnr_scores(clip(tmp_path, "result", slipped), clip(tmp_path, "truth", TRUTH))
    assert said(scores, words)
    assert scores.clocks["reference"] == TimeMap()
    assert said(scores, "frames 30 to" if order > 0 else "frames 25 to")


def test_clips_that_share_no_time_are_refused(tmp_path):
    truth = clip(tmp_path, "truth", [TRUTH[0]] * 4)
    result, low = (
        clip(tmp_path, "result", TRUTH[:1], pts=[3]),
        clip(tmp_path, "low", TRUTH[:1], pts=[0]),
    )
    with pytest.raises(InputError, match="no frame of"):
        psnr_scores(result, truth, low)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, 5), (7, 0), (7, 7)])
def test_a_result_cropped_anywhere_is_compared_with_the_part_that_it_shows(tmp_path, down, right):
    pictures = [picture[down : down + 41, right : right + 57] for picture in noisy(TRUTH[:10])]
    scores = psnr_scores(clip(tmp_path, "result", pictures), clip(tmp_path, "truth", TRUTH[:10]))
    assert_paired(
        scores, pictures, [picture[down : down + 41, right : right + 57] for picture in TRUTH[:10]]
    )
    assert scores.crop == Crop(41, 57, 0, 0, down, right)
    assert said(scores, "compared over the 57x41 that fit best")
    assert said(scores, f"({right}, {down}) of the reference")


@pytest.mark.parametrize("with_input", [False, True])
def test_a_result_larger_than_the_truth_is_cropped_where_it_fits(tmp_path, with_input):
    result = noisy(TRUTH[:10])
    truth = [picture[2:46, 4:] for picture in TRUTH[:10]]
    low = (
        clip(tmp_path, "low", [picture[::2, ::2] for picture in TRUTH[:10]]) if with_input else None
    )
    scores = psnr_scores(clip(tmp_path, "result", result), clip(tmp_path, "truth", truth), low)
    assert_paired(scores, [picture[2:46, 4:] for picture in result], truth)
    assert scores.crop == Crop(44, 60, 2, 4, 0, 0)


def test_a_dark_beginning_does_not_mislead_the_search_for_the_crop(tmp_path):
    truth = [np.zeros_like(TRUTH[0])] * 9 + TRUTH[9:]
    result = [picture[2:46, 4:62] for picture in truth]
    scores = psnr_scores(clip(tmp_path, "result", result), clip(tmp_path, "truth", truth))
    assert scores.metrics["psnr"].mean == 100


def test_the_crop_of_flat_pictures_is_the_top_left():
    assert find_crop([(torch.zeros(3, 20, 30), torch.zeros(3, 22, 27))]) == Crop(20, 27)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((40, 64), "64x40.*64x48"), ((48, 56), "56x48.*64x48"), ((12, 16), "16x12.*64x48")],
)
def test_sizes_that_no_small_crop_explains_are_refused(tmp_path, shape, words):
    result = clip(tmp_path, "result", [picture[: shape[0], : shape[1]] for picture in TRUTH[:3]])
    with pytest.raises(InputError, match=words):
        psnr_scores(result, clip(tmp_path, "truth", TRUTH[:3]))


def test_an_input_of_another_shape_is_refused(tmp_path):
    result = clip(tmp_path, "result", moving_pictures(3, 96, 128))
    with pytest.raises(InputError, match=r"128x96.*32x48"):
        score([result], low_resolution=clip(tmp_path, "low", moving_pictures(3, 48, 32)))
    with pytest.raises(InputError, match=r"128x96.*256x192"):
        score([result], low_resolution=clip(tmp_path, "low", moving_pictures(3, 192, 256)))


def frames_at(ticks):
    pixels = torch.zeros(3, 2, 2)
    return iter([Frame(pixels, index, pts, Fraction(1, 100)) for index, pts in enumerate(ticks)])


def taken(timeline, ticks):
    found = [timeline.pop_nearest(tick / 100) for tick in ticks]
    return [None if frame is None else frame.index for frame in found]


def test_a_frame_is_taken_by_the_nearest_time_once():
    timeline = Timeline(frames_at([0, 4, 8, 12, 16]))
    assert taken(timeline, [0, 1, 5, 8, 15]) == [0, None, 1, 2, 4]
    assert timeline.unmatched_frames() == [3]


def test_a_frame_waits_for_the_time_that_is_nearer():
    timeline = Timeline(frames_at([4, 16, 20]))
    assert timeline.pop_nearest(0.0, next_seconds=0.04) is None
    assert timeline.pop_nearest(0.04, next_seconds=0.16).index == 0


def test_clocks_onto_one_clip_give_the_clock_between_two():
    one, other = TimeMap(3.0, 1.25), TimeMap(-0.5, 0.5)
    between = one.compose(other)
    assert other.to_other(between.to_other(7.0)) == pytest.approx(one.to_other(7.0))
    assert one.to_result(one.to_other(2.5)) == pytest.approx(2.5)
