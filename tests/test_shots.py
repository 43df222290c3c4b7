"""Cuts and keyframes: on clips whose cuts are known, and on pictures whose sharpest one is."""

import weakref
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from tests.clips import moving_pictures, textured_picture
from vsr.video.frames import Frame
from vsr.video.reader import open_clip
from vsr.video.shots import ShotOptions, choose_keyframe, find_shots, split_shots

CUTS = {
    "cuts/bikes.mp4": [30, 76, 137, 187, 242],
    "cuts/sintel_150.mkv": [76, 121],
    "cuts/nasa_13013.mp4": [127, 202],
    "format/cuts_counter.mp4": [10, 20],
}
NO_CUTS = [
    "cuts/cockatoo.mp4",
    "natural/blackswan.mp4",
    "natural/carphone_pristine.mp4",
    "natural/stream-of-water.mp4",
    "flicker/bedroom_processed.mkv",
    "flicker/winter_scenes_in_holland.mp4",
    "vid4/calendar_lrx4.mkv",
    "vid4/city_lrx4.mkv",
    "vid4/foliage_lrx4.mkv",
    "vid4/walk_lrx4.mkv",
]


def as_frame(picture, index):
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return Frame(pixels, index, pts=index, time_base=Fraction(1, 25), duration=1)


def as_frames(pictures, first_index=0):
    return [as_frame(picture, i) for i, picture in enumerate(pictures, start=first_index)]


def two_shots():
    """24 pictures with a hard cut before number 12; both shots move slowly."""
    light = moving_pictures(12, step=(0.1, 0.2), seed=1)
    dark = moving_pictures(12, step=(0.1, 0.2), seed=2)
    return light + [picture // 3 for picture in dark]


def cuts_of(frames):
    return [shot.first_frame for shot in find_shots(frames)[1:]]


def file_cuts(path):
    with open_clip(path) as clip:
        return cuts_of(clip.frames())


@pytest.mark.parametrize("name", CUTS)
def test_the_cuts_of_real_clips_are_found_at_their_frames(shared_data, name):
    assert file_cuts(shared_data / "clips" / name) == CUTS[name]


@pytest.mark.parametrize("name", NO_CUTS)
def test_motion_and_flicker_without_a_cut_give_one_shot(shared_data, name):
    assert file_cuts(shared_data / "clips" / name) == []


def test_split_and_find_agree_and_lose_no_frame():
    frames = as_frames(two_shots() + two_shots())
    split = [(shot.index, shot.first_frame, list(shot.frames)) for shot in split_shots(frames)]
    found = find_shots(frames)
    assert [shot.first_frame for shot in found] == [0, 12, 24, 36]
    assert [(index, first, len(part)) for index, first, part in split] == [
        (shot.index, shot.first_frame, shot.num_frames) for shot in found
    ]
    assert [frame for _, _, part in split for frame in part] == frames


def test_shots_know_their_times():
    first, second = find_shots(as_frames(two_shots()))
    assert (first.start_seconds, first.end_seconds) == (0.0, 12 / 25)
    assert (second.start_seconds, second.end_seconds) == (12 / 25, 24 / 25)
    assert (second.first_frame, second.last_frame) == (12, 23)


def test_frame_numbers_are_the_clips_own_where_the_stream_starts_late():
    first, second = find_shots(as_frames(two_shots(), first_index=100))
    assert (first.first_frame, second.first_frame, second.last_frame) == (100, 112, 123)
    assert 112 <= second.keyframe <= 123


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_clip_of_very_few_frames_is_one_shot(count):
    (shot,) = find_shots(as_frames(moving_pictures(count)))
    assert (shot.first_frame, shot.last_frame, shot.num_frames) == (0, count - 1, count)
    assert 0 <= shot.keyframe < count


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_odd_pictures_are_taken(size):
    pictures = [np.full((*size, 3), 40 * i, np.uint8) for i in range(6)]
    assert len(find_shots(as_frames(pictures))) == 1


def test_a_clip_without_frames_has_no_shots():
    assert find_shots([]) == []


def test_asking_for_the_next_shot_uses_up_the_one_before():
    shots = split_shots(as_frames(two_shots()))
    first, second = next(shots), next(shots)
    assert list(first.frames) == []
    assert [frame.index for frame in second.frames] == list(range(12, 24))


def test_only_a_few_frames_are_alive_at_once_however_long_the_clip():
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0

    def stream():
        for index, picture in enumerate(moving_pictures(60)):
            frame = as_frame(picture, index)
            alive.add(frame)
            yield frame

    for shot in split_shots(stream()):
        for _ in shot.frames:
            most = max(most, len(alive))
    assert 0 < most <= 5


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_not_a_cut(length):
    pictures = moving_pictures(30, step=(0.0, 0.2))
    for i in range(14, 14 + length):
        pictures[i] = pictures[i] // 4 + 190
    assert cuts_of(as_frames(pictures)) == []


def test_a_shorter_shortest_shot_lets_more_cuts_through():
    frames = as_frames(
        [textured_picture(32, 48, seed=i // 5) // (1 + i // 5 % 2) for i in range(20)]
    )
    by_least = {
        least: len(find_shots(frames, ShotOptions(min_shot_frames=least))) for least in (3, 6)
    }
    assert by_least == {3: 4, 6: 2}


def test_the_keyframe_is_the_one_frame_that_motion_did_not_blur():
    pictures = moving_pictures(20, height=48, width=64)
    blurred = [cv2.blur(picture, (9, 1)) for picture in pictures]
    for sharp in (6, 9, 13):
        mixed = [pictures[i] if i == sharp else blurred[i] for i in range(20)]
        assert find_shots(as_frames(mixed))[0].keyframe == sharp


def test_a_sharp_frame_far_from_the_middle_is_not_the_keyframe():
    sharpness = [9.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 9.0]
    assert choose_keyframe(sharpness, [1.0] * 8) == 3


def test_of_equally_sharp_frames_the_one_at_rest_is_the_keyframe():
    assert choose_keyframe([1.0] * 8, [5.0, 5.0, 5.0, 5.0, 5.0, 0.5, 5.0, 5.0]) == 5


def test_a_still_shot_has_its_keyframe_in_the_middle():
    assert choose_keyframe([1.0] * 9, [0.0] * 9) == 4
