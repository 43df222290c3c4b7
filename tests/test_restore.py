"""Degradation estimates against known degradations, the data term, grain, and clean clips."""

import json
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from tests.clips import read_frames, write_clip
from vsr.errors import InterruptedRunError
from vsr.image.resample import back_project, resize
from vsr.pipeline.inspection import inspect_clip
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run
from vsr.progress import Listener
from vsr.restore import edges
from vsr.restore.data_term import CLEAN, DataTerm, soft_threshold, trust_for
from vsr.restore.degradation import estimate_blur, estimate_degradation, step_to_qp
from vsr.restore.dirt import dirt_share
from vsr.restore.edges import edge_levels, limit_overshoot
from vsr.restore.finishing import Finishing, add_grain
from vsr.restore.inspection import Inspection
from vsr.video.frames import Frame
from vsr.video.read.fields import field_statistics
from vsr.video.read.hevc_quantizer import HevcQuantizers
from vsr.video.read.quantizers import h264_step, hevc_step
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.step import Degradation, ShotRef, Step, Trust
from vsr.video.writer import EncodeOptions

HEIGHT, WIDTH = 96, 128
LOSSLESS = EncodeOptions(codec="ffv1")


def scene(count, speed=1):
    """A pan over surfaces, edges and texture, in grey levels, (3, H, W) each."""
    random = torch.Generator().manual_seed(3)
    width = WIDTH + speed * count
    coarse = torch.rand(3, HEIGHT // 16, width // 16 + 1, generator=random)
    picture = 40 + 150 * resize(coarse, HEIGHT, width).clamp(0, 1)
    picture[:, 20:40, 30:60] += 60
    fine = torch.rand(3, 32, 40, generator=random).repeat_interleave(1, 2)
    picture[:, 60:92, 70:110] = 60 + 120 * fine
    return [picture[:, :, speed * i : speed * i + WIDTH].clamp(0, 255) for i in range(count)]


def frames_of(pictures, step=None):
    return [
        Frame((p.round().clamp(0, 255) / 255).float(), i, i, Fraction(1, 25), quantizer_step=step)
        for i, p in enumerate(pictures)
    ]


def with_noise(pictures, sigma, *, gray=False):
    random = torch.Generator().manual_seed(0)
    channels = 1 if gray else 3
    return [p + sigma * torch.randn(channels, HEIGHT, WIDTH, generator=random) for p in pictures]


def to_arrays(pictures):
    return [p.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy() for p in pictures]


@pytest.mark.parametrize("sigma", [3.0, 6.0, 12.0])
def test_noise_is_measured_within_a_sixth(sigma):
    found = estimate_degradation(frames_of(with_noise(scene(8), sigma)))
    assert found.noise_sigma == pytest.approx(sigma, rel=0.17)
    assert found.chroma_noise_sigma == pytest.approx(sigma, rel=0.25)


def test_noise_that_black_and_white_cut_off_is_measured_elsewhere():
    pictures = [picture.clone() for picture in scene(8)]
    for picture in pictures:
        # Flatter than all else, and without blue: half of its noise is cut off.
        picture[:, :48] = picture.new_tensor([120.0, 140.0, 2.0])[:, None, None]
    found = estimate_degradation(frames_of(with_noise(pictures, 12.0)))
    assert found.noise_sigma == pytest.approx(12, rel=0.1)


def test_gray_noise_is_noise_of_luma_alone():
    found = estimate_degradation(frames_of(with_noise(scene(8), 6.0, gray=True)))
    assert found.noise_sigma == pytest.approx(6, rel=0.17)
    assert found.luma_noise_sigma == pytest.approx(6, rel=0.17)
    assert found.chroma_noise_sigma < 1


@pytest.mark.parametrize("speed", [0, 1, 3])
def test_texture_and_motion_are_no_noise(speed):
    found = estimate_degradation(frames_of(scene(8, speed)))
    assert trust_for(found).is_full
    assert not found.interlaced
    assert not found.telecined


def test_noise_is_found_in_texture_without_any_flat_place():
    random = torch.Generator().manual_seed(0)
    texture = 50 + 150 * resize(torch.rand(3, 24, 36, generator=random), 144, 216).clamp(0, 1)
    for sigma in (0, 6):
        moving = [torch.roll(texture, shift, -1) for shift in range(8)]
        seen = [p + sigma * torch.randn(p.shape, generator=random) for p in moving]
        found = estimate_degradation(frames_of(seen))
        assert found.noise_sigma == pytest.approx(sigma, abs=1)


def test_strong_noise_alone_is_not_taken_for_fields():
    """Few frames of noise vote for an order, at random; they used to decide."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        picture = cv2.GaussianBlur(random.uniform(0, 255, (48, 64)), (0, 0), 3)
        lumas = [np.roll(picture, n, 1) + random.normal(0, 12, picture.shape) for n in range(12)]
        assert not field_statistics(lumas).interlaced


def test_a_small_clip_without_any_flat_place_is_not_taken_for_noisy():
    sample = Path(__file__).resolve().parents[1] / "samples" / "clip.mp4"
    (shot,), _ = inspect_clip(sample)
    assert shot.degradation.noise_sigma == 0
    assert trust_for(shot.degradation).is_full


@pytest.mark.parametrize("crf", [20, 28, 36])
def test_quantizers_of_h264_come_from_the_decoder(tmp_path, crf):
    clip = write_clip(
        tmp_path / "a.mkv",
        to_arrays(scene(8)),
        codec_options={"qp": str(crf), "x264-params": "ipratio=1:pbratio=1"},
    )
    (shot,), _ = inspect_clip(clip)
    # Skipped blocks carry the quantizer of their neighbors.
    assert shot.degradation.qp == pytest.approx(crf, abs=1.5)


def test_other_codecs_tell_their_quantizers_or_nothing(tmp_path):
    pictures = to_arrays(with_noise(scene(6), 4))
    told = {
        codec: write_clip(tmp_path / f"{codec}.mkv", pictures, codec=codec, codec_options=options)
        for codec, options in (
            ("mpeg2video", {"q": "8"}),
            ("mpeg4", {"q": "8"}),
            ("libvpx-vp9", {"crf": "40", "b": "0", "cpu-used": "5"}),
        )
    }
    for codec, clip in told.items():
        (shot,), _ = inspect_clip(clip)
        assert shot.degradation.qp is not None, codec
        assert 5 < shot.degradation.qp < 52, codec
    silent = write_clip(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    (shot,), _ = inspect_clip(silent)
    assert shot.degradation.qp is None


@pytest.mark.parametrize("container", ["mkv", "mp4", "ts"])
def test_quantizers_of_hevc_come_from_slice_headers(tmp_path, container):
    clip = write_clip(
        tmp_path / f"a.{container}",
        to_arrays(scene(8)),
        codec="libx265",
        codec_options={"x265-params": "qp=30:ipratio=1:pbratio=1:log-level=none"},
    )
    with open_clip(clip, ReadOptions()) as reader:
        steps = [frame.quantizer_step for frame in reader.frames()]
    assert steps == [pytest.approx(hevc_step(30))] * 8
    assert step_to_qp(hevc_step(30)) == pytest.approx(27)


def test_broken_headers_of_hevc_tell_nothing(tmp_path):
    clip = write_clip(
        tmp_path / "a.mkv",
        to_arrays(scene(8)),
        codec="libx265",
        codec_options={"x265-params": "log-level=none"},
    )
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = [bytearray(extradata), bytearray(packets[random.integers(len(packets))])]
        for data in damaged:
            for at in random.integers(0, min(len(data), 120), 4):
                data[at] = random.integers(256)
        reader = HevcQuantizers(bytes(damaged[0]))
        found = reader.quantizer(bytes(damaged[1]))
        assert found is None or 0 <= found <= 51
    assert HevcQuantizers(None).quantizer(b"") is None


def test_quantizer_scale_is_that_of_h264():
    assert h264_step(4) == pytest.approx(1, rel=0.02)
    assert h264_step(28) == pytest.approx(16, rel=0.02)
    assert step_to_qp(h264_step(31.5)) == pytest.approx(31.5)


def test_blur_is_measured_and_sharp_pictures_have_none():
    random = torch.Generator().manual_seed(0)
    # Like nature: power falls with the square of the frequency.
    spectrum = torch.fft.rfft2(torch.randn(1, 512, 512, generator=random))
    cycles = torch.hypot(torch.fft.fftfreq(512)[:, None], torch.fft.rfftfreq(512)[None])
    picture = torch.fft.irfft2(spectrum / cycles.clamp_min(1 / 512))
    picture = (0.5 + 0.12 * picture / picture.std()).clamp(0, 1).repeat(3, 1, 1)
    assert estimate_blur([resize(picture, 256, 256)]) is None
    offsets = torch.arange(-12, 13) ** 2
    taps = torch.exp(-offsets / 2 / 3.0**2)
    kernel = (taps[:, None] * taps / taps.sum() ** 2)[None, None]
    blurred = torch.nn.functional.conv2d(picture[:, None], kernel, padding=12)[:, 0]
    found = estimate_blur([blurred[:, ::2, ::2]])
    assert found.wide_px == pytest.approx(1.5, rel=0.3)
    assert found.narrow_px == pytest.approx(1.5, rel=0.3)
    assert estimate_blur([torch.rand(3, 20, 20)]) is None


def test_a_full_trust_is_plain_back_projection():
    image, low = torch.rand(3, 32, 40), torch.rand(3, 8, 10)
    expected = back_project(image, low, 0.7).clamp(0, 1)
    torch.testing.assert_close(DataTerm(0.7).back_project(image.clone(), low), expected)
    assert CLEAN.keep is None


def test_soft_threshold_takes_noise_away_and_leaves_edges():
    random = torch.Generator().manual_seed(0)
    noise = 6 * torch.randn(3, 64, 64, generator=random)
    assert soft_threshold(noise, 9.0).std() < 1.7
    edge = torch.zeros(1, 64, 64)
    edge[:, :, 32:] = 100
    kept = soft_threshold(edge, 9.0)
    assert float((kept[:, :, 40:] - 100).abs().max()) < 10
    torch.testing.assert_close(soft_threshold(noise, 1e-6), noise, atol=1e-4, rtol=0)


def test_luma_and_color_are_trusted_apart():
    residual = torch.zeros(3, 32, 32)
    residual[0] = 0.05
    only_color = DataTerm(1, Trust(0.0, 1000.0)).trusted(residual)
    torch.testing.assert_close(only_color, torch.full((3, 32, 32), 0.299 * 0.05))
    luma = DataTerm(1, Trust(1000.0, 1000.0)).trusted(residual)
    assert float(luma.abs().max()) < 1e-6


def test_strength_scales_trust_and_little_is_left_alone():
    noisy = Degradation(qp=30, noise_sigma=6, luma_noise_sigma=4, chroma_noise_sigma=6)
    full, half = trust_for(noisy), trust_for(noisy, 0.5)
    assert half.luma_threshold == pytest.approx(full.luma_threshold / 2, abs=1e-3)
    assert trust_for(noisy, 0).is_full
    assert trust_for(Degradation(qp=10, noise_sigma=1)).is_full
    assert (
        trust_for(Degradation(qp=34)).luma_threshold > trust_for(Degradation(qp=28)).luma_threshold
    )


def test_restoring_a_clean_clip_changes_no_byte(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", to_arrays(scene(10)), codec="ffv1", pixel_format="bgr0")
    for scale in (1.0, 2.0):
        results = []
        for restore in ("auto", 0.0):
            output = tmp_path / f"{scale}-{restore}.mkv"
            recipe = Recipe(
                "bicubic" if scale > 1 else None,
                scale=scale,
                steady=0.9 if scale > 1 else None,
                restore=restore,
                metrics=(),
                encode=LOSSLESS,
            )
            run(clip, recipe, RunFiles(output))
            results.append([frame.to_ndarray(format="rgb24") for frame in read_frames(output)])
        np.testing.assert_array_equal(results[0], results[1])


def test_scale_1_restores_a_noisy_clip_without_a_model(tmp_path):
    clean = scene(10)
    noisy = to_arrays(with_noise(clean, 6))
    clip = write_clip(tmp_path / "a.mkv", noisy, codec="ffv1", pixel_format="bgr0")
    output = tmp_path / "out.mkv"
    manifest = run(clip, Recipe(scale=1.0, metrics=(), encode=LOSSLESS), RunFiles(output))
    assert manifest.policy == "restore"
    made = [frame.to_ndarray(format="rgb24") for frame in read_frames(output)]
    before, after = (
        np.mean(
            [
                (one.astype(float) - true) ** 2
                for one, true in zip(pictures, to_arrays(clean), strict=True)
            ][2:]
        )
        for pictures in (noisy, made)
    )
    assert after < 0.65 * before
    assert manifest.degradation[0]["noise_sigma"] == pytest.approx(6, rel=0.17)


def test_a_resumed_look_is_the_same(tmp_path):
    steps = [Step(frame, ShotRef(0, 0)) for frame in frames_of(with_noise(scene(30), 6))]
    whole = Inspection(1.0)
    marked = list(whole.through(iter(steps)))
    again = Inspection(1.0)
    again.restore(whole.state())
    rest = list(again.through(iter(steps[20:])))
    assert [step.shot for step in rest] == [step.shot for step in marked[20:]]
    assert not rest[0].shot.trust.is_full


def test_looking_holds_few_frames():
    taken = []

    def steps():
        for frame in frames_of(scene(40)):
            taken.append(frame.index)
            yield Step(frame, ShotRef(0, 0))

    stream = Inspection(1.0).through(steps())
    next(stream)
    assert len(taken) <= 48
    for expected in range(1, 20):
        assert next(stream).frame.index == expected
    assert len(taken) <= 21


def test_grain_is_of_the_strength_asked_for_and_the_same_every_time():
    flat = torch.full((3, 64, 80), 0.5)
    levels = ((0, 2.0), (128, 4.0), (255, 2.0))
    made = add_grain(flat, levels, 7, 2)
    assert float(255 * (made - flat).std()) == pytest.approx(4, rel=0.15)
    torch.testing.assert_close(made, add_grain(flat, levels, 7, 2))
    assert not torch.equal(made, add_grain(flat, levels, 8, 2))
    step = Step(frames_of(scene(1))[0], ShotRef(0, 0), flat)
    (kept,) = Finishing(0.0, 4.0).through(iter([step]))
    assert kept.picture is flat
    (kept,) = Finishing("keep", 4.0).through(iter([step]))
    assert kept.picture is flat


@pytest.mark.parametrize("count", [1, 2, 4])
def test_short_gray_and_tiny_clips_go_through(tmp_path, count):
    for name, array, pixel_format in (
        ("gray", np.full((32, 32, 3), 90, np.uint8), "gray"),
        ("tiny", np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8), "bgr0"),
    ):
        clip = write_clip(
            tmp_path / f"{name}.mkv", [array] * count, codec="ffv1", pixel_format=pixel_format
        )
        shots, damage = inspect_clip(clip)
        assert len(shots) == 1
        assert not damage


def test_inspect_writes_the_keys_of_the_contract(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mkv", to_arrays(scene(6)))
    record = tmp_path / "found.json"
    from vsr.cli import app

    app(["inspect", str(clip), "--json", str(record)], standalone_mode=False)
    (shot,) = json.loads(record.read_text())["shots"]
    wanted = {
        "first_frame",
        "qp",
        "noise_sigma",
        "blur",
        "interlaced",
        "telecined",
        "brightness_flicker",
    }
    assert wanted <= set(shot)


def test_decoders_tell_steps_beside_frames(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", to_arrays(scene(4)), codec_options={"qp": "30"})
    with open_clip(clip, ReadOptions()) as reader:
        steps = [frame.quantizer_step for frame in reader.frames()]
    assert all(step is not None and 8 < step < 40 for step in steps)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    """With a compressed clip, flicker control and grain."""
    clip = write_clip(tmp_path / "a.mkv", to_arrays(scene(24)), codec_options={"qp": "34"})
    recipe = Recipe(
        "bicubic",
        scale=2.0,
        steady=0.9,
        grain=0.5,
        metrics=(),
        encode=EncodeOptions(codec="ffv1", segment_frames=6),
    )
    run(clip, recipe, RunFiles(tmp_path / "whole.mkv"))
    asked = iter(range(100))
    stopping = Listener(should_stop=lambda: next(asked) == 9)
    with pytest.raises(InterruptedRunError):
        run(clip, recipe, RunFiles(tmp_path / "parts.mkv"), listener=stopping)
    assert run(clip, recipe, RunFiles(tmp_path / "parts.mkv")).resumed_at_frame == 6
    whole, parts = (
        [frame.to_ndarray(format="rgb24") for frame in read_frames(tmp_path / name)]
        for name in ("whole.mkv", "parts.mkv")
    )
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("size", [(12, 200), (16, 112), (24, 56), (31, 640), (32, 33), (90, 32)])
def test_frames_of_any_shape_are_looked_at_without_harm(size):
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, *size, generator=generator) for _ in range(4)]
    assert 0 <= dirt_share(pictures) <= 1


def test_overshoot_at_plain_edges_is_limited_and_texture_is_not_touched():
    columns = torch.arange(160).float()
    edge = (columns - 80).clamp(-2, 2) / 4 + 0.5
    truth = (0.25 + 0.5 * edge).expand(3, 96, 160).contiguous()
    low = resize(truth, 24, 40)
    ringing = truth + 0.06 * torch.exp(-(((columns - 84.5) / 2) ** 2))
    limited = limit_overshoot(ringing, low)
    assert float((ringing - truth).max()) > 0.1 * 0.5
    assert float((limited - truth).max()) < 0.04 * 0.5
    assert limit_overshoot(truth, low) is truth
    random = torch.Generator().manual_seed(0)
    texture = resize(torch.rand(3, 48, 80, generator=random), 96, 160).clamp(0, 1)
    assert limit_overshoot(texture, resize(texture, 24, 40)) is texture
    line = torch.full((3, 96, 160), 0.2)
    line[:, :, 80:83] = 0.9
    assert limit_overshoot(line, resize(line, 24, 40)) is line


def test_edges_are_the_same_however_many_are_looked_at_together(monkeypatch):
    random = torch.Generator().manual_seed(1)
    blocks = torch.rand(6, 8, generator=random).repeat_interleave(12, 0).repeat_interleave(12, 1)
    whole = edge_levels(blocks)
    assert torch.isfinite(whole[0]).sum() > 1000
    monkeypatch.setattr(edges, "MAX_WINDOWS", 7)
    for level, other in zip(whole, edge_levels(blocks), strict=True):
        torch.testing.assert_close(level, other, rtol=0, atol=0)


def test_less_detail_is_believed_the_coarser_the_quantizer():
    shares = [trust_for(Degradation(qp=qp)).detail for qp in (None, 20, 29, 34, 40, 51)]
    assert shares[:3] == [1, 1, 1]
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert min(shares) >= 0.4
    assert trust_for(Degradation(qp=40), 0).detail == 1


def patches(left, right):
    """Detail of two strengths, in gray levels, of random sign: (1, 64, 256) in units of 1."""
    random = torch.Generator().manual_seed(0)
    signs = torch.rand(1, 64, 256, generator=random).round() * 2 - 1
    return signs * torch.tensor([left, right]).repeat_interleave(128) / 255


def test_detail_that_is_weak_beside_the_errors_of_coding_is_not_believed():
    detail = patches(12.0, 1.0)
    believed = DataTerm(trust=Trust(detail=0.8, detail_error=3.0)).believed(detail, 2)
    gain = believed / detail
    # Wiener's gain, where no window reaches over the border of both.
    torch.testing.assert_close(gain[..., :96], torch.full((1, 64, 96), 0.8 * 144 / (144 + 9)))
    torch.testing.assert_close(gain[..., 160:], torch.full((1, 64, 96), 0.8 * 1 / (1 + 9)))
    # No seam in between, and nothing beyond the two.
    steps = gain.diff(dim=-1)
    assert float(steps.max()) < 1e-5
    assert float(steps.min()) > -0.04


def test_weak_detail_with_errors_comes_nearer_to_the_truth_and_strong_detail_stays():
    random = torch.Generator().manual_seed(1)
    errors = 2.0 / 255 * torch.randn(1, 64, 256, generator=random)
    term = DataTerm(trust=Trust(detail_error=2.0))
    for strength, most in ((1.0, 0.75), (20.0, 1.05)):
        truth = patches(strength, strength)
        before, after = (
            float((made - truth).square().mean())
            for made in (truth + errors, term.believed(truth + errors, 4))
        )
        assert after < most * before


def test_detail_of_clean_and_of_noisy_shots_has_no_errors_of_coding():
    detail = patches(5.0, 0.1)
    for found in (Degradation(), Degradation(qp=10), Degradation(noise_sigma=6)):
        term = DataTerm(trust=trust_for(found))
        assert torch.equal(term.believed(detail, 2), detail)
    errors = [trust_for(Degradation(qp=qp)).detail_error for qp in (18, 24, 30, 36, 45)]
    # The step doubles every 6 (ITU-T H.264, 8.5.9), as far as networks for clean shots are used.
    assert errors[1] / errors[0] == pytest.approx(2, rel=1e-2)
    assert errors[2] / errors[1] == pytest.approx(2, rel=1e-2)
    assert errors[2] < errors[3] == errors[4]
    assert trust_for(Degradation(qp=30), 0.5).detail_error == pytest.approx(errors[2] / 2, abs=1e-3)


@pytest.mark.parametrize("size", [(2, 2), (6, 70), (33, 47)])
def test_detail_of_pictures_of_any_size_is_measured(size):
    detail = torch.full((1, *size), 6 / 255)
    believed = DataTerm(trust=Trust(detail_error=6.0)).believed(detail, 2)
    torch.testing.assert_close(believed, detail / 2)


REAL_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
CLEAN_CLIPS = [
    ("vid4/calendar_lrx4.mkv", 0),
    ("vid4/city_lrx4.mkv", 0),
    ("vid4/foliage_lrx4.mkv", 0),
    ("vid4/walk_lrx4.mkv", 0),
    *(
        (f"natural/{name}.mp4", first)
        for name in ("stream-of-water", "blackswan")
        for first in (0, 20)
    ),
    *(("natural/flower.mp4", first) for first in (0, 60, 100)),
    *(("natural/bigbuckbunny.mp4", first) for first in (0, 100)),
    *(("natural/juggle_120.mp4", first) for first in (0, 60)),
    *(("natural/coffee_120.mp4", first) for first in (0, 60)),
    *(("cuts/bikes.mp4", first) for first in (80, 142)),
    ("cuts/cockatoo.mp4", 0),
    ("cuts/sintel_150.mkv", 30),
    ("natural/carphone_pristine.mp4", 0),
]
"""Files and the frames that 12 of each begin with."""


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="needs the real clips of ../shared/data")
@pytest.mark.parametrize(("file", "first"), CLEAN_CLIPS)
def test_no_clean_clip_changes_by_a_byte(file, first, tmp_path):
    """Reduced four times, where they are not small already, so that codecs leave no trace."""
    with open_clip(REAL_CLIPS / file) as reader:
        pictures = [frame.pixels for frame in islice(reader.frames(), first, first + 12)]
    height, width = (side if side < 200 else side // 4 for side in pictures[0].shape[-2:])
    lows = to_arrays([255 * resize(picture, height, width) for picture in pictures])
    clip = write_clip(tmp_path / "a.mkv", lows, codec="ffv1", pixel_format="bgr0")
    results = []
    for restore in ("auto", 0.0):
        output = tmp_path / f"{restore}.mkv"
        recipe = Recipe(scale=1.0, restore=restore, metrics=(), encode=LOSSLESS)
        run(clip, recipe, RunFiles(output))
        results.append([frame.to_ndarray(format="rgb24") for frame in read_frames(output)])
    np.testing.assert_array_equal(results[0], results[1])
