"""Runs on a GPU that is only pretended: they mix no devices and end in the CPU's picture. See
tests/test_gpu.py too."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import make_model, make_shot_model, picture
from tests.pretended_gpu import pretended_gpu, transfers
from vsr.errors import ModelError
from vsr.image.pyramid_flow import pyramid_flow
from vsr.image.resample import resize
from vsr.models.bank import load_bank
from vsr.upscale.fitness import dsrf
from vsr.video.reader import open_clip

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")
METRICS = ["psnr", "ssim", "flicker", "sharpness_live", "lr_psnr"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return write_clip(
        folder / "clip.mkv", moving_pictures(4, 40, 48), codec="ffv1", pixel_format="bgr0"
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    for seed in range(3):
        make_model(folder, f"m{seed}", picture(), seed)
    return folder


def pictures(path):
    with open_clip(path) as reader:
        return torch.stack([frame.pixels for frame in reader.frames()])


@pytest.mark.parametrize("policy", ["smi", "avgi", "dsrfi", "bicubic"])
def test_a_run_on_a_gpu_mixes_no_devices_and_makes_what_a_cpu_makes(policy, clip, bank, tmp_path):
    with_models = {} if policy == "bicubic" else {"models": bank}
    # Motion is estimated in another way there, so that only pictures without it are equal.
    chosen = {"scale": 2, "codec": "ffv1", "dtype": "fp32", "steady": 0}
    truth = vsr.run(clip, tmp_path / "truth.mkv", policy="lanczos", device="cpu", **chosen).output
    chosen |= {"policy": policy, "metrics": METRICS, "reference": truth} | with_models
    on_cpu = vsr.run(clip, tmp_path / "cpu.mkv", device="cpu", **chosen)
    with pretended_gpu() as device:
        on_gpu = vsr.run(clip, tmp_path / "gpu.mkv", device=str(device), **chosen)
    assert (on_gpu.device, on_gpu.frames_out, on_gpu.models) == ("cuda:0", 4, on_cpu.models)
    torch.testing.assert_close(
        pictures(on_gpu.output), pictures(on_cpu.output), atol=1.01 / 255, rtol=0
    )
    for name in METRICS:
        assert on_gpu.metrics[name]["mean"] == pytest.approx(on_cpu.metrics[name]["mean"], rel=1e-2)


def test_a_graph_that_cannot_be_made_is_told_and_done_without(clip, bank, tmp_path):
    with pretended_gpu() as device:
        manifest = vsr.run(
            clip,
            tmp_path / "gpu.mkv",
            policy="avgi",
            models=bank,
            device=str(device),
            dtype="fp32",
            scale=2,
        )
    (decision,) = manifest.decisions
    assert "without a CUDA graph: " in decision["reason"]
    assert any(
        way in decision["reason"] for way in ("one model after another", "all models as one")
    )
    assert any("not by NVENC" in note for note in manifest.notes)


def test_a_model_that_is_used_on_a_gpu_stays_where_its_bank_has_it(bank):
    """Another run of the process may be using it there."""
    model, shot_model, frame = load_bank(bank)[0], make_shot_model(), picture()
    expected = dsrf(model, frame)
    with pretended_gpu() as device:
        assert dsrf(model, frame.to(device)) == pytest.approx(expected, abs=1e-5)
        copies = shot_model.networks_on(device)
        assert all(next(network.parameters()).device == device for network in copies)
        assert shot_model.networks_on(device)[0] is copies[0], "copied once"
    for network in (model.critic, *shot_model.networks):
        assert next(network.parameters()).device == torch.device("cpu")
    assert shot_model.networks_on(torch.device("cpu")) == shot_model.networks


WAYS = {
    "shot": {"policy": "shot", "train": "never"},
    "shot, best": {"policy": "shot", "train": "never", "quality": "best"},
    "one model, steadied": {"policy": "smi"},
    "one model, steadied to a target": {"policy": "smi", "target_flicker": 0.8},
    "models averaged": {"policy": "avgi"},
    "noise removed": {"policy": "smi", "remove_noise": "on"},
}


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[pytest.mark.slow] if "target" in way else []) for way in WAYS],
)
def test_between_reader_and_writer_no_picture_leaves_the_gpu(way, bank, tmp_path):
    chosen = WAYS[way] | ({} if WAYS[way]["policy"] == "shot" else {"models": bank})
    counts = []
    # What is moved once for a run (weights, the state to resume from) is the same in both. Metrics
    # look at frame 9.
    for frames in (8, 10):
        clip = tmp_path / f"{frames}.mkv"
        noisy = [add_noise(one, seed) for seed, one in enumerate(moving_pictures(frames, 24, 48))]
        write_clip(clip, noisy, codec="ffv1", pixel_format="bgr0")
        with pretended_gpu() as device:
            vsr.run(clip, tmp_path / f"{frames}_x4.mkv", device=str(device), dtype="fp32", **chosen)
        large = [one for one in transfers if torch.Size(one[1]).numel() >= 24 * 48 / 4]
        counts.append(Counter(large))
    # Of each frame the source goes up, and the three planes of the result come down.
    assert counts[1] - counts[0] == {("up", (3, 24, 48)): 2, ("down", (96, 192)): 6}


def add_noise(picture, seed):
    noise = np.random.default_rng(seed).normal(0, 5, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("way", ["shot", "shot, best", "one model, steadied"])
def test_motion_on_a_gpu_is_worth_as_much_as_that_of_a_cpu(way, bank, tmp_path):
    chosen = WAYS[way] | ({} if WAYS[way]["policy"] == "shot" else {"models": bank})
    lossless = {"codec": "ffv1", "pixel_format": "bgr0"}
    truth = write_clip(tmp_path / "truth.mkv", list(panned_clouds(5, 160, 192)), **lossless)
    reduced = [resize(one, 40, 48).clamp(0, 1) for one in pictures(truth)]
    low = write_clip(tmp_path / "low.mkv", [to_bytes(one) for one in reduced], **lossless)
    chosen |= {"codec": "ffv1", "dtype": "fp32", "reference": truth}
    chosen |= {"metrics": ["psnr_y", "flicker"]}
    on_cpu = vsr.run(low, tmp_path / "cpu.mkv", device="cpu", **chosen).metrics
    with pretended_gpu() as device:
        on_gpu = vsr.run(low, tmp_path / "gpu.mkv", device=str(device), **chosen).metrics
    assert on_gpu["psnr_y"]["mean"] == pytest.approx(on_cpu["psnr_y"]["mean"], abs=0.05)
    assert on_gpu["flicker"]["mean"] == pytest.approx(on_cpu["flicker"]["mean"], rel=0.05)


def panned_clouds(frames, height, width):
    """A picture with detail of all sizes, seen through a window that moves 2.6 pixels a frame."""
    rng = np.random.default_rng(0)
    clouds = sum(
        sigma * gaussian_filter(rng.normal(size=(height + 40, width + 40, 3)), (sigma, sigma, 0))
        for sigma in (0.6, 2, 6, 20)
    )
    levels = 128 + 50 * clouds / clouds.std()
    for number in range(frames):
        moved = shift(levels, (-1.0 * number, -2.4 * number, 0), order=3, mode="nearest")
        yield moved[:height, :width].round().clip(0, 255).astype(np.uint8)


def to_bytes(picture):
    return (255 * picture).round().byte().permute(1, 2, 0).numpy()


def test_two_runs_on_a_gpu_make_the_same_frames(clip, tmp_path):
    made = []
    for name in ("one.mkv", "other.mkv"):
        with pretended_gpu() as device:
            out = tmp_path / name
            vsr.run(clip, out, device=str(device), codec="ffv1", dtype="fp32", **WAYS["shot"])
        made.append(pictures(out))
    assert torch.equal(*made)


def test_memory_that_runs_out_in_the_middle_of_the_flow_ends_the_run_with_a_line(
    clip, tmp_path, monkeypatch
):
    calls = []

    def runs_out(source, *rest):
        calls.append(source.shape)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return pyramid_flow(source, *rest)

    monkeypatch.setattr("vsr.image.dense_motion.pyramid_flow", runs_out)
    output = tmp_path / "out.mkv"
    with (
        pretended_gpu() as device,
        pytest.raises(ModelError, match="not enough memory"),
    ):
        vsr.run(clip, output, device=str(device), dtype="fp32", **WAYS["shot"])
    assert not output.exists()


def test_the_pretended_gpu_refuses_a_tensor_that_was_left_on_the_cpu():
    with pretended_gpu() as device:
        there = torch.ones(3).to(device)
        assert there.is_cuda
        assert float((there + 1).sum()) == 6
        with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
            there + torch.ones(3)
