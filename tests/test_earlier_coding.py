"""Earlier compression that the picture tells, and what tells none."""

import cv2
import numpy as np
import pytest

import vsr
from tests.clips import read_frames, textured_picture, write_clip
from vsr.pipeline.inspection import inspect_clip
from vsr.restore.data_term import trust_for
from vsr.restore.earlier_coding import earlier_quantizer
from vsr.video.reader import ReadOptions

HEIGHT, WIDTH = 130, 194


def pictures(count=8):
    """A texture that moves, with fine noise of its own and some edges, uint8 RGB (H, W, 3)."""
    grain = np.random.default_rng(0).normal(0, 5, (HEIGHT, WIDTH + count, 1))
    made = []
    for index in range(count):
        picture = textured_picture(HEIGHT, WIDTH, (0, -index)) + grain[:, index : index + WIDTH]
        picture = picture.clip(0, 255).astype(np.uint8)
        cv2.circle(picture, (90 - index, 60), 35, (220, 200, 60), -1, cv2.LINE_AA)
        made.append(picture)
    return made


def gray(picture):
    """Luma in levels of 255."""
    return picture @ np.array([0.299, 0.587, 0.114])


def stored_again(path, source, **options):
    """Decode a clip, and store what comes out."""
    return write_clip(
        path, [frame.to_ndarray(format="rgb24") for frame in read_frames(source)], **options
    )


LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}


@pytest.mark.parametrize(
    ("codec", "options", "quantizer"),
    [
        ("libx264", {"qp": "28", "i_qfactor": "1", "b_qfactor": "1"}, 28),
        ("libx264", {"qp": "34", "i_qfactor": "1", "b_qfactor": "1"}, 34),
        ("libx264", {"qp": "40", "i_qfactor": "1", "b_qfactor": "1"}, 40),
        # Steps of 16 gray levels: 6 log2(16 / .625).
        ("mpeg2video", {"qmin": "8", "qmax": "8"}, 28),
        ("mjpeg", {"qmin": "8", "qmax": "8", "strict": "unofficial"}, 30),
    ],
)
def test_the_quantizer_of_an_earlier_encoder_is_seen_behind_a_lossless_one(
    tmp_path, codec, options, quantizer
):
    coded = write_clip(tmp_path / "a.mkv", pictures(), codec=codec, codec_options=options)
    (shot,), _ = inspect_clip(stored_again(tmp_path / "b.mkv", coded, **LOSSLESS))
    assert shot.degradation.qp is None
    assert shot.degradation.earlier_qp == pytest.approx(quantizer + 3, abs=4)
    assert not trust_for(shot.degradation).is_full
    assert any("compressed before" in remedy for remedy in shot.remedies)


def test_it_is_seen_behind_a_fine_encoder_and_not_sought_behind_a_coarse_one(tmp_path):
    coded = write_clip(tmp_path / "a.mkv", pictures(), codec_options={"crf": "30"})
    found = {}
    for crf in ("8", "26"):
        clip = stored_again(tmp_path / f"{crf}.mkv", coded, codec_options={"crf": crf})
        (shot,), _ = inspect_clip(clip)
        found[crf] = shot.degradation
    assert found["8"].qp < 16
    assert found["8"].earlier_qp == pytest.approx(found["8"].coarsest_qp)
    assert found["8"].earlier_qp > 26
    assert found["26"].earlier_qp is None
    # What the user tells is believed, and nothing else is looked for.
    (shot,), _ = inspect_clip(tmp_path / "8.mkv", ReadOptions(quantizer=0))
    assert (shot.degradation.qp, shot.degradation.earlier_qp) == (0, None)
    assert trust_for(shot.degradation).is_full


def test_a_run_restores_by_it_and_records_it(tmp_path):
    coded = write_clip(tmp_path / "a.mkv", pictures(), codec_options={"qp": "40"})
    clip = stored_again(tmp_path / "b.mkv", coded, **LOSSLESS)
    made = vsr.run(clip, tmp_path / "c.mkv", train="never", scale=2, metrics=())
    assert made.degradation[0]["earlier_qp"] > 34
    assert made.decisions[0]["reason"].startswith("no model was trained for quantizer")
    assert any("of an earlier encoder" in note for note in made.notes)


def coded_picture(tmp_path):
    coded = write_clip(tmp_path / "a.mkv", pictures(2), codec_options={"qp": "32"})
    return gray(read_frames(coded)[0].to_ndarray(format="rgb24"))


def test_nothing_is_seen_where_the_blocks_are_lost(tmp_path):
    picture = coded_picture(tmp_path)
    assert earlier_quantizer(picture) is not None
    assert earlier_quantizer(picture[1:, 2:]) is None
    for share, method in ((0.75, cv2.INTER_AREA), (1.5, cv2.INTER_CUBIC), (2, cv2.INTER_LINEAR)):
        assert (
            earlier_quantizer(cv2.resize(picture, None, fx=share, fy=share, interpolation=method))
            is None
        )
    assert earlier_quantizer(picture[:48, :64]) is None


def natural():
    return gray(pictures(1)[0])


def noisy(sigma):
    return natural() + np.random.default_rng(1).normal(0, sigma, (HEIGHT, WIDTH))


def squares(side):
    levels = np.random.default_rng(2).uniform(0, 255, (192 // side, 256 // side))
    return np.kron(levels, np.ones((side, side)))


def lines(rows, columns):
    picture = np.full((192, 256), 200.0)
    picture[::rows] = picture[:, ::columns] = 30
    return picture


def bars():
    """Black bars whose edges lie between blocks, around a smooth picture."""
    picture = cv2.GaussianBlur(natural(), (0, 0), 1.5)[:128, :192]
    picture[:16] = picture[112:] = 0
    return np.pad(picture, ((0, 2), (0, 2)))


def text():
    picture = np.full((192, 256), 235, np.uint8)
    for line in range(10):
        place = (3, 18 + 18 * line)
        cv2.putText(picture, f"Line {line} of a page", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 16.0)
    return picture


CLEAN = {
    "a picture": natural,
    "little noise": lambda: noisy(3),
    "much noise": lambda: noisy(12),
    "a blur": lambda: cv2.GaussianBlur(natural(), (0, 0), 1.5),
    "squares of 4": lambda: squares(4),
    "squares of 8": lambda: squares(8),
    "squares of 16": lambda: squares(16),
    "enlarged pixels": lambda: np.kron(natural()[:40, :60], np.ones((4, 4))),
    "lines on the blocks' edges": lambda: lines(16, 16),
    "lines beside them": lambda: lines(12, 20),
    "black bars": bars,
    "text": text,
    "a gradient": lambda: np.tile(np.linspace(0, 255, 256), (192, 1)),
    "nothing": lambda: np.full((192, 256), 90.0),
}


@pytest.mark.parametrize("make", CLEAN.values(), ids=CLEAN)
def test_nothing_is_seen_in_what_was_never_coded(make):
    assert earlier_quantizer(make()) is None
