"""`vsr train`: pictures in, a network out, also after a stop, a bad picture or a divergence."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.clips import textured_picture
from vsr.errors import InputError, InterruptedRunError, ModelError, OutputError, UsageError
from vsr.image.resample import resize
from vsr.train import dataset as external
from vsr.train.dataset.dataset import BatchSampler, ImageDataset, usable_images
from vsr.train.dataset.methods import METHODS, resolve_method
from vsr.train.dataset.trainer import rate_factor
from vsr.train.state_file import state_path
from vsr.upscale.networks.files import load_network, read_own
from vsr.upscale.networks.network import apply_network

CPU = torch.device("cpu")
TINY = {
    "srcnn": ["network.width=8", "network.inner_width=4"],
    "fsrcnn": ["network.d=8", "network.s=4", "network.m=1"],
    "espcn": ["network.width=8", "network.inner_width=8"],
    "srresnet": ["network.width=8", "network.blocks=1"],
    "srgan": [
        "network.width=8",
        "network.blocks=1",
        "discriminator_width=4",
        "losses.perceptual=none",
    ],
    "esrgan": [
        "network.width=8",
        "network.blocks=1",
        "discriminator_width=4",
        "losses.perceptual=none",
    ],
    "esrgan-fft": [
        "network.width=8",
        "network.blocks=1",
        "discriminator_width=4",
        "losses.perceptual=none",
    ],
    "stochastic": [
        "network.width=8",
        "network.blocks=1",
        "discriminator_width=4",
        "losses.diversity_weight=0",
    ],
}
BRIEF = ["steps=6", "batch=2", "crop_px=32", "adversarial_start=0.3", "validate_every=3"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(3):
        Image.fromarray(textured_picture(48, 64, seed=seed)).save(folder / f"{seed}.png")
    return folder


def brief_training(images, output, method="espcn", settings=(), **options):
    return external.train(
        [images],
        output,
        method=method,
        scale=2,
        settings=[*TINY[method], *BRIEF, *settings],
        **options,
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_network_that_can_be_loaded(method, images, tmp_path):
    output = tmp_path / "net.safetensors"
    report = brief_training(images, output, method, validation=images)
    assert (report.steps, report.pictures) == (6, 3)
    assert [look["step"] for look in report.validation] == [3, 6]
    upscaler = load_network(output, CPU)
    assert apply_network(upscaler, torch.rand(3, 10, 12), 20, 24).shape == (3, 20, 24)
    assert upscaler.consistency_passes == METHODS[method].options.consistency_passes
    assert not state_path(output).exists()


def test_a_discriminator_can_be_confused_above_a_frequency(images, tmp_path):
    """It sees other pictures then, so the network becomes another one."""
    networks = []
    for cutoff in (0.0, 0.1):
        output = tmp_path / f"{cutoff}.safetensors"
        settings = [f"losses.confusion_above={cutoff}", "losses.fft_transform=dct"]
        brief_training(images, output, "esrgan-fft", settings)
        networks.append(load_network(output, CPU))
    low = torch.rand(3, 10, 12)
    results = [apply_network(network, low, 20, 24) for network in networks]
    assert not torch.equal(*results)


@pytest.mark.parametrize(
    ("method", "lacking"),
    [("srgan", "vgg19"), ("esrgan", "vgg19"), ("esrgan-fft", "alexnet"), ("stochastic", "squeeze")],
)
def test_a_machine_without_weights_trains_on_random_features_and_says_so(
    method, lacking, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    tiny = [each for each in TINY[method] if not each.startswith("losses.")]
    heard = []
    report = external.train(
        [images],
        tmp_path / "net.safetensors",
        method=method,
        scale=2,
        settings=[*tiny, *BRIEF, "adversarial_start=0.0"],
        listener=external.TrainingListener(heard.append),
    )
    assert report.steps == 6
    [told] = [line for line in heard if "random weights" in line]
    assert lacking in told
    assert "VSR_WEIGHTS" in told
    card, _ = read_own(tmp_path / "net.safetensors")
    losses = card.training["options"]["losses"]
    assert "random" in (losses["perceptual"], losses["diversity_features"])


def test_rates_fall_as_published():
    """SRGAN: by ten after half of its steps; ESRGAN: by half after an eighth, a quarter, ..."""
    of_srgan, of_esrgan = (METHODS[name].options for name in ("srgan", "esrgan"))
    rates = [rate_factor(of_srgan, step) for step in range(of_srgan.steps)]
    assert rates == pytest.approx([1.0] * 1000 + [0.1] * 1000)
    falls = [
        step
        for step in range(1, 2000)
        if rate_factor(of_esrgan, step) < rate_factor(of_esrgan, step - 1)
    ]
    assert falls == [250, 500, 1000, 1500]
    assert rate_factor(of_esrgan, 1999) == 0.5**4


class StopAfter:
    """Asks for an end after some steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize("method", ["espcn", "esrgan"])
def test_a_training_that_was_stopped_ends_as_one_in_one_go(method, images, tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    brief_training(images, whole, method, validation=images)
    listener = external.TrainingListener(should_stop=StopAfter(4))
    with pytest.raises(InterruptedRunError, match="stopped after iteration 4 of 6") as stopped:
        brief_training(images, parts, method, validation=images, listener=listener)
    assert stopped.value.can_resume
    assert not parts.exists()
    heard = []
    report = brief_training(
        images, parts, method, validation=images, listener=external.TrainingListener(heard.append)
    )
    assert report.resumed_at_step == 4
    assert "at iteration 4 of 6" in heard[0]
    assert parts.read_bytes() == whole.read_bytes()


def test_a_training_that_is_killed_goes_on_from_the_state_that_it_last_saved(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr("vsr.train.fit.SECONDS_BETWEEN_STATES", 0.0)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    brief_training(images, whole)

    def end_at_five(state):
        if state.iteration == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        brief_training(images, parts, listener=external.TrainingListener(on_progress=end_at_five))
    assert brief_training(images, parts).resumed_at_step == 4
    assert parts.read_bytes() == whole.read_bytes()


def test_two_processes_never_train_one_output_and_a_killed_one_holds_nobody_up(images, tmp_path):
    output = tmp_path / "net.safetensors"
    settings = [*TINY["espcn"], *BRIEF, "steps=1000000"]
    code = f"""
from pathlib import Path
from vsr.train import dataset as external
listener = external.TrainingListener(
    on_progress=lambda state: print(state.iteration, flush=True)
)
images, output = Path({str(images)!r}), Path({str(output)!r})
external.train([images], output, method="espcn", scale=2, settings={settings}, listener=listener)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "1\n"
            # It holds its lock all the same, and leaves the processor to this one.
            first.send_signal(signal.SIGSTOP)
            with pytest.raises(
                OutputError, match=f"net.safetensors is being trained by process {first.pid} "
            ):
                brief_training(images, output)
            assert brief_training(images, tmp_path / "other.safetensors").steps == 6
        finally:
            first.kill()
    assert first.returncode == -signal.SIGKILL
    assert brief_training(images, output, restart=True).resumed_at_step == 0
    assert {path.name for path in tmp_path.iterdir()} == {"net.safetensors", "other.safetensors"}


def test_a_stopped_training_does_not_go_on_with_other_options(images, tmp_path):
    output = tmp_path / "net.safetensors"
    with pytest.raises(InterruptedRunError):
        brief_training(images, output, listener=external.TrainingListener(should_stop=StopAfter(2)))
    with pytest.raises(
        UsageError, match=r"options, there learning_rate from 0.001 to 0.01.*--restart"
    ):
        brief_training(images, output, settings=["learning_rate=0.01"])
    assert (
        brief_training(
            images, output, settings=["learning_rate=0.01"], restart=True
        ).resumed_at_step
        == 0
    )


def test_a_training_that_diverges_stops_and_keeps_its_best(images, tmp_path, monkeypatch):
    monkeypatch.setattr("vsr.train.dataset.trainer.WINDOW_STEPS", 5)
    output = tmp_path / "net.safetensors"
    monkeypatch.setattr(
        "vsr.train.dataset.trainer.rate_factor",
        lambda _, iteration: 1e9 if iteration >= 20 else 1.0,
    )
    with pytest.raises(
        ModelError, match=r"diverged at step 2\d; .* holds its best state, of step 20"
    ):
        brief_training(images, output, settings=["steps=200"])
    kept = load_network(output, CPU)
    monkeypatch.undo()
    brief_training(
        images,
        tmp_path / "twenty.safetensors",
        settings=["steps=200"],
        listener=external.TrainingListener(),
    )
    assert torch.isfinite(apply_network(kept, torch.rand(3, 12, 12), 24, 24)).all()


def test_a_training_that_was_lost_from_the_start_keeps_nothing(images, tmp_path):
    output = tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match="nothing is kept"):
        brief_training(images, output, settings=["steps=60", "learning_rate=1e30"])
    assert not output.exists()


def test_the_last_layer_can_be_swapped_for_another_scale(images, tmp_path):
    first, second = tmp_path / "x2.safetensors", tmp_path / "x3.safetensors"
    brief_training(images, first, "fsrcnn")
    heard = []
    settings = [*TINY["fsrcnn"], *BRIEF, "learning_rate=1e-12"]
    listener = external.TrainingListener(heard.append)
    external.train(
        [images],
        second,
        method="fsrcnn",
        scale=3,
        settings=settings,
        start=first,
        listener=listener,
    )
    body, other = (load_network(path, CPU).run for path in (first, second))
    assert torch.allclose(body.map[0].weight, other.map[0].weight, atol=1e-9)
    assert (load_network(second, CPU).scale, other.enlarge.stride) == (3, (3, 3))
    with pytest.raises(ModelError, match="shares no tensor"):
        brief_training(images, tmp_path / "other.safetensors", "espcn", start=first)


def test_odd_pictures_are_told_in_a_line_each(tmp_path):
    pixels = textured_picture(48, 64)
    good = Image.fromarray(pixels)
    good.save(tmp_path / "good.png")
    good.convert("L").save(tmp_path / "grey.png")
    good.convert("CMYK").save(tmp_path / "cmyk.jpg")
    good.save(
        tmp_path / "animated.png", save_all=True, append_images=[Image.fromarray(255 - pixels)]
    )
    good.crop((0, 0, 9, 9)).save(tmp_path / "tiny.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cmyk.jpg").read_bytes()[:-100])
    (tmp_path / "text.jpg").write_text("no picture at all")
    heard = []
    used = usable_images([tmp_path], 32, heard.append)
    assert [path.name for path in used] == [
        "animated.png",
        "cmyk.jpg",
        "deep.png",
        "good.png",
        "grey.png",
    ]
    for name, words in {
        "animated.png": "its first picture is used",
        "cmyk.jpg": "CMYK",
        "deep.png": "rounded to 8 bit",
        "grey.png": "three equal channels",
        "tiny.png": "left out: .*9x9",
        "cut.png": "left out",
        "cut.jpg": "left out: .*ends within its picture",
        "text.jpg": "left out",
    }.items():
        assert [line for line in heard if name in line and re.search(words, line)], (name, heard)
    assert not any("good.png" in line for line in heard)


def test_a_folder_without_a_usable_picture_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder of pictures"):
        usable_images([tmp_path / "absent"], 32, print)
    with pytest.raises(InputError, match="holds no picture"):
        usable_images([tmp_path], 32, print)
    Image.fromarray(textured_picture(20, 20)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"no picture in .* can be used"):
        usable_images([tmp_path], 32, lambda _: None)


def test_crops_of_both_resolutions_show_the_same_and_follow_from_seed_and_step(images):
    store = ImageDataset(sorted(images.iterdir()), 2, max_bytes=1)
    batches = BatchSampler(store, 2, 24, 4, seed=5)
    low, high = batches.batch_at(7)
    assert (low.shape, high.shape) == ((4, 3, 12, 12), (4, 3, 24, 24))
    inner = (..., slice(3, -3), slice(3, -3))
    assert (resize(high, 12, 12).clamp(0, 1) - low)[inner].abs().max() < 0.02
    assert torch.equal(batches.batch_at(7)[1], high)
    assert not torch.equal(batches.batch_at(8)[1], high)
    assert not torch.equal(BatchSampler(store, 2, 24, 4, seed=6).batch_at(7)[1], high)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["stepz=5"], "did you mean 'steps'"),
        (["network.depth=5"], "unknown key"),
        (["steps=0"], "expected a whole number from 1"),
        (["losses.adversarial=ragn"], "did you mean 'ragan'"),
        (["losses.fft_weight=-1.0"], "expected a number from 0"),
        (["losses.perceptual=lpips"], "works on luma only"),
        (["losses.diversity_weight=1.0"], "works on luma only"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_what_to_do(settings, words):
    with pytest.raises(UsageError, match=words):
        resolve_method("espcn", 4, settings)


def test_an_output_is_checked_before_any_work(images, tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.safetensors"):
        brief_training(images, tmp_path / "net.pth")
    with pytest.raises(OutputError, match="more than 255 bytes"):
        brief_training(images, tmp_path / f"{'n' * 250}.safetensors")
    existing = tmp_path / "net.safetensors"
    existing.write_bytes(b"")
    with pytest.raises(OutputError, match="exists already"):
        brief_training(images, existing)


def test_curves_and_pictures_reach_tensorboard(images, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "curves"
    settings = ["steps=10", "validate_every=5"]
    brief_training(
        images,
        tmp_path / "net.safetensors",
        settings=settings,
        validation=images,
        tensorboard=folder,
    )
    events = reader.EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("validation/psnr_y")] == [5, 10]
    assert "loss/pixel" in events.Tags()["scalars"]
    assert events.Images("validation/0")[0].width == 3 * 64


def test_a_broken_state_is_told(images, tmp_path):
    output = tmp_path / "net.safetensors"
    state_path(output).write_bytes(b"broken")
    with pytest.raises(ModelError, match="start over with --restart"):
        brief_training(images, output)
    assert brief_training(images, output, restart=True).steps == 6
