"""Runs on a GPU that is only pretended: they mix no devices and end in the CPU's picture. See
tests/test_gpu.py too."""

import pytest
import torch

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import make_model, make_shot_model, picture
from tests.pretended_gpu import pretended_gpu
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
    chosen = {"scale": 2, "codec": "ffv1", "dtype": "fp32"}
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


def test_the_pretended_gpu_refuses_a_tensor_that_was_left_on_the_cpu():
    with pretended_gpu() as device:
        there = torch.ones(3).to(device)
        assert there.is_cuda
        assert float((there + 1).sum()) == 6
        with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
            there + torch.ones(3)
