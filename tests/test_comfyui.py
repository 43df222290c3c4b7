"""The work of the ComfyUI nodes; `python -m benchmarks.comfyui` runs them in ComfyUI itself."""

import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, read_frames, write_clip
from vsr.errors import InputError, UsageError
from vsr.image.resample import resize
from vsr.video.reader import open_clip

PACK = Path(__file__).resolve().parents[1] / "integrations" / "comfyui"
PLAIN = {"policy": "bicubic", "scale": 2.0}


def load_work():
    """The pack is no part of the package: ComfyUI loads it from its folder."""
    spec = importlib.util.spec_from_file_location("vsr_comfyui_work", PACK / "work.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


work = load_work()


class Host:
    """ComfyUI's hooks: a bar, and a cancel button that is pressed after some frames."""

    def __init__(self, cancel_after=None):
        self.bar = []
        self.asked = 0
        self.cancel_after = cancel_after

    def is_cancelled(self):
        self.asked += 1
        return self.cancel_after is not None and len(self.bar) >= self.cancel_after

    @property
    def hooks(self):
        return work.Hooks(lambda done, total: self.bar.append((done, total)), self.is_cancelled)


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mkv", moving_pictures(12), codec="ffv1", pixel_format="bgr0")


def batch_of(path):
    """Pictures as ComfyUI holds them: (N, H, W, C) in [0, 1]."""
    with open_clip(path) as reader:
        return torch.stack([frame.pixels.permute(1, 2, 0) for frame in reader.frames()])


def flickering(low):
    """A batch twice as large, with detail that is another in each picture."""
    random = torch.Generator().manual_seed(0)
    large = resize(low.permute(0, 3, 1, 2), 64, 96)
    large = large + 0.03 * torch.randn(large.shape, generator=random)
    return large.clamp(0, 1).permute(0, 2, 3, 1)


def test_a_file_is_upscaled_on_disk_with_progress(clip, tmp_path):
    host = Host()
    out = tmp_path / "out.mp4"
    notes = work.upscale_file(clip, out, PLAIN, ["encode.crf=12"], host.hooks)
    assert len(read_frames(out)) == 12
    assert host.bar[-1][0] == 12
    assert isinstance(notes, list)


def test_a_cancelled_file_leaves_no_result_and_goes_on_when_asked_for_again(clip, tmp_path):
    out, settings = tmp_path / "out.mp4", ["encode.segment_frames=4"]
    with pytest.raises(work.Cancelled):
        work.upscale_file(clip, out, PLAIN, settings, Host(cancel_after=6).hooks)
    assert not out.exists()
    notes = work.upscale_file(clip, out, PLAIN, settings, Host().hooks)
    assert "resuming at frame 4" in notes
    assert len(read_frames(out)) == 12


def test_a_batch_is_steadied_as_the_command_steadies_the_same_pictures(clip, tmp_path):
    low = batch_of(clip)
    large = (flickering(low) * 255).round() / 255
    enlarged = write_clip(
        tmp_path / "large.mkv",
        [(255 * each).round().byte().numpy() for each in large],
        codec="ffv1",
        pixel_format="bgr0",
    )
    vsr.steady(enlarged, clip, tmp_path / "calm.mkv", codec="ffv1", pix_fmt="gbrp16le", metrics=())
    host = Host()
    steadied = work.steady_batch(large, low, {}, [], host.hooks)
    assert host.bar == [(n, 12) for n in range(1, 13)]
    assert steadied.shape == large.shape
    assert (steadied - batch_of(tmp_path / "calm.mkv")).abs().max() < 1e-4
    assert (steadied - large).abs().max() > 0.01


def test_opacity_is_left_out_of_a_batch(clip):
    low = batch_of(clip)[:3]
    large = flickering(low)
    opaque = torch.ones(3, 64, 96, 1)
    steadied = work.steady_batch(torch.cat([large, opaque], -1), low, {}, [], Host().hooks)
    assert torch.equal(steadied, work.steady_batch(large, low, {}, [], Host().hooks))


def test_a_cancelled_batch_ends_between_two_pictures(clip):
    low = batch_of(clip)
    host = Host(cancel_after=3)
    with pytest.raises(work.Cancelled):
        work.steady_batch(flickering(low), low, {}, [], host.hooks)
    assert len(host.bar) == 3


def test_batches_that_do_not_belong_together_are_refused(clip):
    low = batch_of(clip)
    large = flickering(low)
    hooks = Host().hooks
    with pytest.raises(ValueError, match="holds 5 pictures and low_resolution 12"):
        work.steady_batch(large[:5], low, {}, [], hooks)
    with pytest.raises(ValueError, match="expected pictures"):
        work.steady_batch(large[0], low, {}, [], hooks)
    with pytest.raises(InputError, match="smaller than"):
        work.steady_batch(low, large, {}, [], hooks)
    with pytest.raises(InputError, match="does not show"):
        work.steady_batch(1 - large, low, {}, [], hooks)
    with pytest.raises(UsageError, match="--steady"):
        work.steady_batch(large, low, {"steady": "strong"}, [], hooks)


def test_a_file_is_scored(clip, tmp_path):
    out = tmp_path / "out.mkv"
    vsr.run(clip, out, codec="ffv1", metrics=(), **PLAIN)
    host = Host()
    means = work.score_file(out, None, clip, ["flicker_live", "lr_psnr"], host.hooks)
    assert means["lr_psnr"] > 25
    assert np.isfinite(means["flicker_live"])
    assert host.bar
    with pytest.raises(work.Cancelled):
        work.score_file(out, None, clip, [], Host(cancel_after=0).hooks)


def test_a_video_in_memory_lies_on_disk_for_as_long_as_it_is_read(clip, tmp_path):
    content = clip.read_bytes()
    with work.on_disk(io.BytesIO(content), tmp_path / "temp") as copy:
        assert copy.read_bytes() == content
    assert not copy.exists()
    with work.on_disk(str(clip), tmp_path / "temp") as same:
        assert same == clip
    assert clip.exists()


def test_settings_are_lines():
    assert work.split_settings(" a=1\n\n b.c=2 \n") == ["a=1", "b.c=2"]


def test_the_workflows_name_nodes_that_the_pack_has():
    nodes = (PACK / "nodes.py").read_text()
    for path in (PACK / "example_workflows").glob("*.json"):
        ours = [
            each["class_type"]
            for each in json.loads(path.read_text()).values()
            if each["class_type"].startswith("Vsr")
        ]
        assert ours
        assert all(f'node_id="{name}"' in nodes for name in ours)
