"""One loop for every training: a stop and a resume change nothing, also inside a training; frames
are read as asked; no compiler of torch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.clips import moving_pictures, write_clip
from tests.models import BRIEF, picture
from tests.pretended_gpu import OnGpu, pretended_gpu
from tests.test_internal_learning import SKEWED, blurred
from vsr.cli import app
from vsr.errors import InterruptedRunError, ModelError, UsageError
from vsr.models.bank import load_bank, load_card
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.models.shot_model import load_shot_models, shot_model_files
from vsr.train import shot as shot_learning
from vsr.train.crops import multiscale_pairs
from vsr.train.distill import StudentOptions, StudentTraining, Teacher, distil
from vsr.train.fit import Training, TrainingListener, fit
from vsr.train.kernel import find_kernel
from vsr.train.keyframe import keyframe_hash, train_keyframe
from vsr.train.methods import METHODS
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.shot_network import (
    ShotModelTraining,
    ShotTrainingOptions,
    _examples,
    train_shot_model,
)
from vsr.train.methods.zssr import PlateauSchedule
from vsr.train.options import KernelSearch
from vsr.train.shot import train_shot
from vsr.train.state_file import StateFile, state_path
from vsr.train.workers import available_cores
from vsr.upscale.shot_stages import to_luma
from vsr.video.reader import ReadOptions, open_clip

SHOT = ShotTrainingOptions(
    network=ShotNetworkSpec(1, 8, 3), iterations=(6, 5), crop_px=24, example_scales=((1.0,), (1.0,))
)
STUDENT = StudentOptions(iterations=9, crop_px=24)
FRAMES = [picture(32, 36, seed) for seed in (0, 0, 0, 0)]


def keyframe_training(name, **changes):
    method = METHODS[name]
    narrow = replace(method.options.network, width=8)
    options = replace(method.options, **({"iterations": 8, "network": narrow} | changes))
    pictures = [blurred(SKEWED) if name == "zssrgan" else picture(40, 44)]
    return method.begin(pictures, options, 3)


GAME = KernelGanOptions(iterations=6, crop_px=48)
RULE = PlateauSchedule(test_every=2, check_every=2, window=4)
TRAININGS = {
    "quick": lambda: keyframe_training("quick", crop_px=24, check_every=2, patience=1),
    "quick with neighbors": lambda: METHODS["quick"].begin(
        [picture(40, 44), picture(40, 44, seed=0)], replace(BRIEF, iterations=8), 3
    ),
    "quick, normalized": lambda: keyframe_training(
        "quick", crop_px=24, network=NetworkSpec(width=8, batch_norm=True)
    ),
    "faithful": lambda: keyframe_training("faithful"),
    "pyramid": lambda: keyframe_training("pyramid", iterations=3, coarsest_px=24),
    "zssr": lambda: keyframe_training("zssr", crop_px=24, rate=RULE),
    "zssrgan, serial": lambda: keyframe_training(
        "zssrgan", crop_px=24, rate=RULE, game=GAME, regime="serial"
    ),
    "zssrgan, fixed": lambda: keyframe_training(
        "zssrgan", crop_px=24, rate=RULE, game=GAME, regime="fixed"
    ),
    "zssrgan, joint": lambda: keyframe_training(
        "zssrgan", crop_px=24, rate=RULE, game=GAME, regime="semi-e2e"
    ),
    "shot": lambda: ShotModelTraining([FRAMES], SHOT, 3),
    "shot, first network alone": lambda: ShotModelTraining(
        [FRAMES], replace(SHOT, iterations=(9, 0)), 3
    ),
    "shot, second network alone": lambda: ShotModelTraining(
        [FRAMES], replace(SHOT, iterations=(0, 9)), 3
    ),
    "student": lambda: StudentTraining(
        Generator(BRIEF.network),
        multiscale_pairs(picture(40, 44), BRIEF.network, BRIEF.step_ratio, [1.0, 0.8]),
        STUDENT,
        3,
    ),
}


def begin(name):
    torch.manual_seed(0)
    return TRAININGS[name]()


def outcome(training):
    """All weights and curves that a training hands over, as one list of tensors."""
    trained = training.trained()
    if isinstance(trained, Generator):
        networks, curves = [trained], [training.losses]
    elif hasattr(trained, "networks"):
        networks, curves = trained.networks, [trained.loss_curve]
    else:
        networks = [each for each in (trained.generator, trained.critic) if each is not None]
        curves = [trained.loss_curve, *trained.curves.values()]
    weights = [value for network in networks for value in network.state_dict().values()]
    return [*weights, *(torch.tensor(curve) for curve in curves)]


class StopAfter:
    """Asks for an end after some iterations."""

    def __init__(self, iterations):
        self.left = iterations

    def __call__(self):
        self.left -= 1
        return self.left == 0


def state_file(folder, plan=None, notify=lambda _: None, begins_anew=True):
    return StateFile(folder / "model", plan or {"seed": 3}, notify, begins_anew=begins_anew)


@pytest.mark.parametrize("iterations", [6, 7])
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_is_stopped_ends_as_one_in_one_go(name, iterations, tmp_path):
    whole = begin(name)
    fit(whole)
    stopped = begin(name)
    with pytest.raises(InterruptedRunError, match="state is kept") as stop:
        fit(stopped, states=state_file(tmp_path), should_stop=StopAfter(iterations))
    assert stop.value.can_resume
    resumed = begin(name)
    heard, said = [], []
    fit(resumed, lambda *news: heard.append(news), state_file(tmp_path, notify=said.append))
    assert len(resumed.losses) == len(whole.losses)
    assert resumed.losses == whole.losses
    assert all(map(torch.equal, outcome(resumed), outcome(whole)))
    assert "at iteration" in said[0]
    assert heard[-1][0] == heard[-1][1] == whole.iterations
    assert len(heard) <= len(whole.losses) - iterations + 1


def test_a_state_is_written_now_and_then_so_that_a_kill_costs_little(tmp_path, monkeypatch):
    monkeypatch.setattr("vsr.train.fit.SECONDS_BETWEEN_STATES", 0.0)

    def killed(done, _total, _loss):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(begin("student"), killed, state_file(tmp_path))
    resumed = begin("student")
    said = []
    fit(resumed, states=state_file(tmp_path, notify=said.append))
    assert "iteration 4 of 9" in said[0]
    whole = begin("student")
    fit(whole)
    assert all(map(torch.equal, outcome(resumed), outcome(whole)))


def test_a_state_of_another_plan_or_a_broken_one_is_told_and_not_used(tmp_path):
    with pytest.raises(InterruptedRunError):
        fit(begin("student"), states=state_file(tmp_path), should_stop=StopAfter(3))
    said = []
    fit(begin("student"), states=state_file(tmp_path, {"seed": 4}, said.append))
    assert said[0].endswith("differs in its seed. The training starts over.")
    with pytest.raises(UsageError, match="give the same command to resume it, or --restart"):
        state_file(tmp_path, {"seed": 4}, begins_anew=False).load(begin("student"))
    path = state_path(tmp_path / "model")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="start over with --restart"):
        state_file(tmp_path, begins_anew=False).load(begin("student"))
    fit(begin("student"), states=state_file(tmp_path, notify=said.append))
    assert said[1].endswith("The training starts over.")


def test_the_search_for_a_kernel_ends_where_it_is_asked_to():
    heard = []
    with pytest.raises(InterruptedRunError, match="after iteration 2 of 6") as stop:
        estimate_kernel(blurred(SKEWED), GAME, 0, lambda *news: heard.append(news), StopAfter(2))
    assert not stop.value.can_resume
    assert len(heard) == 2


def test_a_loss_that_is_not_finite_ends_a_training():
    class Exploding(Training):
        def step(self):
            self.losses.append(float("inf") if len(self.losses) == 3 else 1.0)

    heard = []
    with pytest.raises(ModelError, match="diverged at iteration 4: its loss is not finite"):
        fit(Exploding(9), lambda *news: heard.append(news))
    assert [done for done, _, _ in heard] == [1, 2, 3]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_clip(path, moving_pictures(5, 40, 48), codec="ffv1", pixel_format="bgr0")


def files_of(bank):
    return {path.name: path.read_bytes() for path in bank.iterdir()}


def test_a_shot_model_that_was_stopped_inside_its_training_is_the_one_in_one_go(
    clip, tmp_path, monkeypatch
):
    monkeypatch.setattr(shot_learning, "ShotTrainingOptions", lambda: SHOT)
    train_shot(clip, tmp_path / "whole", prior="none")
    bank = tmp_path / "bank"
    with pytest.raises(InterruptedRunError, match="after iteration 8 of 11"):
        train_shot(clip, bank, prior="none", listener=TrainingListener(should_stop=StopAfter(8)))
    assert shot_model_files(bank) == []
    heard = []
    report = train_shot(
        clip, bank, prior="none", listener=TrainingListener(on_progress=heard.append)
    )
    assert len(report.trained) == 1
    assert heard[0].iteration == 9
    assert (heard[-1].iteration, heard[-1].share_done, heard[-1].models_done) == (11, 1.0, 1)
    assert files_of(bank) == files_of(tmp_path / "whole")


@pytest.mark.parametrize("workers", [1, 2])
def test_keyframe_models_and_a_student_that_were_stopped_are_those_in_one_go(
    clip, tmp_path, workers
):
    brief = {"count": 2, "settings": ["iterations=40", "crop_px=24", "network.width=8"]}
    whole, bank = tmp_path / "whole", tmp_path / "bank"
    train_keyframe(clip, whole, device="cpu", **brief)
    heard = []

    def stops_once_heard_of():
        return len(heard) >= 2

    with pytest.raises(InterruptedRunError) as stop:
        train_keyframe(
            clip,
            bank,
            device="cpu",
            workers=workers,
            listener=TrainingListener(on_progress=heard.append, should_stop=stops_once_heard_of),
            **brief,
        )
    assert stop.value.can_resume
    assert any(name.endswith(".training") for name in files_of(bank))
    train_keyframe(clip, bank, device="cpu", workers=workers, **brief)
    assert files_of(bank) == files_of(whole)
    if workers == 1:
        options = replace(STUDENT, iterations=12)
        distil(clip, whole, options=options, device="cpu")
        listener = TrainingListener(should_stop=StopAfter(5))
        with pytest.raises(InterruptedRunError):
            distil(clip, bank, options=options, device="cpu", listener=listener)
        distil(clip, bank, options=options, device="cpu")
        assert files_of(bank) == files_of(whole)


@pytest.fixture(scope="module")
def combed(tmp_path_factory):
    """A clip whose odd lines were seen half a frame later, as an interlaced camera does."""
    fields = moving_pictures(10, 48, 64, step=(0.0, 2.0))
    pictures = [
        np.where(np.arange(48)[:, None, None] % 2, b, a)
        for a, b in zip(fields[::2], fields[1::2], strict=True)
    ]
    path = tmp_path_factory.mktemp("combed") / "combed.mkv"
    return write_clip(path, pictures, codec="ffv1", pixel_format="bgr0")


def frames_of(clip, read):
    with open_clip(clip, read) as reader:
        return [frame.pixels for frame in reader.frames()]


def test_every_training_on_a_clip_learns_on_deinterlaced_frames_where_asked(
    combed, tmp_path, monkeypatch
):
    monkeypatch.setattr(shot_learning, "ShotTrainingOptions", lambda: SHOT)
    read = ReadOptions(deinterlace="frame")
    clean = frames_of(combed, read)
    assert not torch.equal(clean[2], frames_of(combed, ReadOptions(deinterlace="off"))[2])
    train_shot(combed, tmp_path, prior="none", deinterlace="frame", device="cpu")
    (model,) = load_shot_models(tmp_path)
    expected = train_shot_model([clean], SHOT, 0, lambda *_: None).networks
    for one, other in zip(model.networks, expected, strict=True):
        states = one.state_dict(), other.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    brief = ["iterations=2", "crop_px=24", "network.width=8"]
    train_keyframe(combed, tmp_path, count=2, keyframe=2, deinterlace="frame", settings=brief)
    assert {card.keyframe_hash for card in (one.card for one in load_bank(tmp_path))} == {
        keyframe_hash(clean[2])
    }
    seen = []
    monkeypatch.setattr(Teacher, "pairs", _remembering(Teacher.pairs, seen))
    distil(combed, tmp_path, deinterlace="frame", options=replace(STUDENT, iterations=1))
    assert all(torch.equal(each, clean[2]) for each in seen)
    monkeypatch.setattr("vsr.train.kernel.estimate_kernel", _kernel_of(seen))
    find_kernel(combed, KernelSearch(keyframe=2, read=read), KernelGanOptions())
    assert torch.equal(seen[-1], clean[2])


def _remembering(pairs, seen):
    def remembering(teacher, window, weight):
        seen.append(window)
        return pairs(teacher, window, weight)

    return remembering


def _kernel_of(seen):
    def estimate(pixels, *arguments):
        seen.append(pixels)
        return estimate_kernel(pixels, *arguments)

    return estimate


def test_the_commands_deinterlace_and_choose_a_device(combed, tmp_path, monkeypatch):
    monkeypatch.setattr(shot_learning, "ShotTrainingOptions", lambda: SHOT)
    # As on macOS and Windows.
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert available_cores() >= 1
    bank = str(tmp_path)
    brief = ["--set", "iterations=2", "--set", "crop_px=24", "--set", "network.width=8"]
    app(
        [
            "train-keyframe",
            str(combed),
            "--models",
            bank,
            "--count",
            "1",
            "--keyframe",
            "2",
            "--deinterlace",
            "frame",
            *brief,
        ],
        standalone_mode=False,
    )
    clean = frames_of(combed, ReadOptions(deinterlace="frame"))
    (path,) = tmp_path.glob("*.safetensors")
    assert load_card(path).keyframe_hash == keyframe_hash(clean[2])
    command = ["train-shot", str(combed), "--models", bank, "--deinterlace", "frame", "--device"]
    with pytest.raises(UsageError, match="unknown device gpu"):
        app([*command, "gpu"], standalone_mode=False)
    app([*command, "cpu"], standalone_mode=False)
    assert len(load_shot_models(tmp_path)) == 1
    with pytest.raises(UsageError, match="unknown device gpu"):
        app(["distil", str(combed), "--models", bank, "--device", "gpu"], standalone_mode=False)


def test_no_training_imports_the_compiler_of_torch(tmp_path):
    """torch.optim does, for its first optimizer, which takes seconds."""
    code = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from tests.models import picture
from tests.test_external import TINY
from tests.clips import textured_picture
from PIL import Image
from vsr.train.dataset import train
from vsr.train.methods import METHODS
for name in ("faithful", "pyramid"):
    options = METHODS[name].options
    options = replace(options, iterations=1, network=replace(options.network, width=4))
    METHODS[name].train(picture(32, 36), options, 0, lambda *_: None)
folder = Path(sys.argv[1])
(folder / "images").mkdir()
Image.fromarray(textured_picture(48, 64)).save(folder / "images" / "0.png")
settings = [*TINY["srgan"], "steps=2", "batch=1", "crop_px=32", "adversarial_start=0.0"]
train([folder / "images"], folder / "net.safetensors", method="srgan", settings=settings)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0


def test_teachers_and_windows_are_made_on_the_device_and_models_stay_where_they_are(clip, tmp_path):
    brief = ["iterations=2", "crop_px=24", "network.width=8"]
    train_keyframe(clip, tmp_path, count=2, settings=brief, device="cpu")
    models = load_bank(tmp_path)
    expected = Teacher(models, "avgi").pairs(picture(24, 28), 1.0)
    torch.manual_seed(0)
    network = ShotNetwork(SHOT.network).eval().requires_grad_(False)
    lumas, halo = [to_luma(frame) for frame in FRAMES], network.spec.halo
    windows = list(_examples(lumas, 1.0, [network], SHOT, halo))
    with pretended_gpu() as gpu:
        pairs = Teacher(models, "avgi", gpu).pairs(picture(24, 28).to(gpu), 1.0)
        moved = ShotNetwork(SHOT.network).requires_grad_(False).to(gpu)
        moved.load_state_dict(network.state_dict())
        made = list(_examples([luma.to(gpu) for luma in lumas], 1.0, [moved], SHOT, halo))
    assert all(
        parameter.device.type == "cpu"
        for model in models
        for parameter in model.generator.parameters()
    )
    for pair, one in zip(pairs, expected, strict=True):
        assert isinstance(pair.target, OnGpu)
        torch.testing.assert_close(pair.target.held, one.target, atol=1e-5, rtol=0)
    for (planes, target), (other, truth) in zip(made, windows, strict=True):
        torch.testing.assert_close(planes.held, other, atol=1e-5, rtol=0)
        torch.testing.assert_close(target.held, truth, atol=1e-5, rtol=0)
