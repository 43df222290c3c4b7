"""The shot model: training across scale, its file, and the policy that applies it."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from time import perf_counter

import numpy as np
import pytest
import torch

from tests.clips import moving_pictures, write_clip
from tests.steps import upscale_frames
from vsr.engine.shot_network import FastShotNetwork
from vsr.engine.tiling import limited_threads, single_thread
from vsr.errors import ModelError, UsageError
from vsr.image.blur import gaussian_kernel, reduce_blurred, taps_from_tensor
from vsr.image.resample import resize
from vsr.models.bank import has_shot_model, load_bank
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.shot_model import (
    load_shot_model,
    load_shot_models,
    save_shot_model,
    shot_model_files,
)
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import run
from vsr.restore.data_term import CLEAN, DataTerm
from vsr.temporal.backprojection import MultiframeOptions, back_project_multiframe
from vsr.temporal.fusion import FusionOptions
from vsr.temporal.registration import ShotRegistrar
from vsr.train.methods.shot_network import ShotTrainingOptions, train_shot_model
from vsr.train.shot import train_shot, training_runs
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.upscale.shot_stages import (
    ShotStages,
    input_planes,
    look_ahead,
    pad_planes,
    to_luma,
    upscale_shot,
)
from vsr.video.frames import Frame
from vsr.video.shots import Shot
from vsr.video.step import Trust

QUICK = ShotTrainingOptions(
    iterations=(60, 30), network=ShotNetworkSpec(neighbours=1, width=12, layers=3)
)
FUSION = FusionOptions(memory=0.9, look_ahead=1)


def as_pixels(pictures):
    return [torch.from_numpy(picture).permute(2, 0, 1).float() / 255 for picture in pictures]


@pytest.fixture(scope="module")
def lows():
    return as_pixels(moving_pictures(10, 48, 40))


@pytest.fixture(scope="module")
def trained(lows):
    return train_shot_model([lows], QUICK, seed=0, progress=lambda *_: None)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shot")
    pictures = moving_pictures(8, 48, 40)
    clip = write_clip(folder / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    train_shot(clip, folder / "bank", budget_seconds=2, prior="none")
    return clip, folder / "bank"


def test_training_lowers_the_error_of_frames_restored_from_half_their_size(lows, trained):
    halves = [
        resize(to_luma(low), low.shape[1] // 2, low.shape[2] // 2).clamp(0, 1) for low in lows
    ]
    restored = list(upscale_shot(halves, trained.networks, 2, CLEAN, FUSION))

    def error(pictures):
        return np.mean(
            [
                float((one - to_luma(low)).square().mean())
                for one, low in zip(pictures, lows, strict=True)
            ]
        )

    plain = [
        resize(half, *low.shape[1:]).clamp(0, 1) for half, low in zip(halves, lows, strict=True)
    ]
    assert error(restored) < 0.7 * error(plain)


def test_equal_seeds_give_equal_models_and_others_do_not(lows, trained):
    again = train_shot_model([lows], QUICK, seed=0, progress=lambda *_: None)
    other = train_shot_model([lows], QUICK, seed=1, progress=lambda *_: None)
    weights = [next(iter(model.networks[1].parameters())) for model in (trained, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_model_does_not_depend_on_the_number_of_cores(lows, trained):
    weights = []
    for threads in (1, 2, 3):
        with limited_threads(threads), single_thread():
            made = train_shot_model([lows], QUICK, seed=0, progress=lambda *_: None)
        weights.append(torch.cat([each.flatten() for each in made.networks[1].parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_a_budget_ends_the_training_by_the_clock(lows):
    endless = replace(QUICK, iterations=(10**9, 10**9))
    made = train_shot_model([lows], endless, seed=0, progress=lambda *_: None, budget_seconds=1.0)
    assert 1 <= made.iterations[0] < 10**6


def test_a_budget_is_all_for_the_network_that_is_trained(lows):
    endless = replace(QUICK, iterations=(10**9, 0))
    began = perf_counter()
    made = train_shot_model([lows], endless, seed=0, progress=lambda *_: None, budget_seconds=2.0)
    assert perf_counter() - began >= 2.0
    assert made.iterations[0] >= 1
    assert made.iterations[1] == 0


@pytest.mark.parametrize("trained_one", [0, 1])
def test_a_network_of_no_steps_stays_as_it_begins(lows, trained, trained_one):
    iterations = (4, 0) if trained_one == 0 else (0, 4)
    made = train_shot_model(
        [lows],
        replace(QUICK, iterations=iterations),
        seed=0,
        progress=lambda *_: None,
        starts=trained.networks,
    )
    assert made.iterations == iterations
    for number, (one, other) in enumerate(zip(made.networks, trained.networks, strict=True)):
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (number != trained_one)


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3, 4, 5])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_every_scale_and_length_gives_as_many_frames_of_the_right_size(
    lows, trained, scale, frames
):
    enlarged = list(upscale_shot(lows[:frames], trained.networks, scale, CLEAN, FUSION))
    assert len(enlarged) == frames
    _, height, width = lows[0].shape
    assert {tuple(picture.shape) for picture in enlarged} == {
        (3, int(height * scale + 0.5), int(width * scale + 0.5))
    }
    assert all(float(picture.min()) >= 0 and float(picture.max()) <= 1 for picture in enlarged)


def test_the_result_agrees_with_the_low_resolution_frame(lows, trained):
    enlarged = list(upscale_shot(lows, trained.networks, 4, CLEAN, FUSION))
    for low, large in zip(lows, enlarged, strict=True):
        error = (resize(large, *low.shape[1:]) - low).square().mean()
        assert -10 * torch.log10(error) > 40


def test_a_shot_whose_detail_is_all_error_of_coding_is_enlarged_without_detail(lows, trained):
    def enlarged(trust):
        return torch.stack(
            list(upscale_shot(lows[:3], trained.networks, 4, DataTerm(trust=trust), FUSION))
        )

    without = enlarged(Trust(luma_threshold=1, chroma_threshold=1, detail=0))
    all_error = enlarged(Trust(luma_threshold=1, chroma_threshold=1, detail_error=1e6))
    torch.testing.assert_close(all_error, without, atol=1e-5, rtol=0)
    assert float((enlarged(Trust(1, 1)) - without).abs().max()) > 0.01


def test_strips_give_what_the_whole_picture_gives(trained):
    network = trained.networks[0]
    planes = torch.rand(3, 600, 200, generator=torch.Generator().manual_seed(0))
    whole = network(pad_planes(planes, network.spec.halo)[None])[0]
    assert torch.allclose(FastShotNetwork(network).missing_detail(planes), whole, atol=1e-5)


@pytest.mark.parametrize("multiframe", [None, MultiframeOptions()])
def test_frames_are_read_only_as_far_ahead_as_is_stated(lows, trained, multiframe):
    read = 0

    def counted():
        nonlocal read
        for low in lows * 3:
            read += 1
            yield low

    with limited_threads(1):
        stream = upscale_shot(counted(), trained.networks, 4, CLEAN, FUSION, multiframe)
        for done, _ in enumerate(stream, start=1):
            assert read <= done + look_ahead(QUICK.network.neighbours, 4, FUSION, multiframe)


def shot_stages(trained):
    return ShotStages(trained.networks, 4, CLEAN, FUSION)


def test_stages_beside_each_other_give_the_very_frames_of_stages_in_turn(lows, trained):
    results = []
    for threads in (1, 3):
        with limited_threads(threads):
            steps = shot_stages(trained).through((low, None) for low in lows)
            results.append(torch.stack([one.picture for one in steps]))
    assert torch.equal(*results)


def test_stages_beside_each_other_go_on_from_what_another_process_left(lows, trained):
    with limited_threads(3):
        stages = shot_stages(trained)
        steps = stages.through((low, None) for low in lows)
        whole = []
        for index, one in enumerate(steps):
            whole.append(one.picture)
            if index == 5:
                known, lead = stages.pictures(), stages.lead
        again = shot_stages(trained).through(
            ((low, None) for low in lows[5 - lead :]), known, num_done=1 + lead
        )
        rest = [one.picture for one in again][1 + lead :]
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[6:], strict=True))


def test_a_shot_that_is_left_early_ends_its_threads(lows, trained):
    before = threading.active_count()
    with limited_threads(3):
        steps = shot_stages(trained).through((low, None) for low in lows)
        next(steps)
        assert threading.active_count() > before
        steps.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("shot stage")]


def test_agreeing_with_neighbours_explains_their_input_better(lows):
    registrar = ShotRegistrar()
    for index, low in enumerate(lows[:5]):
        registrar.add(index, low)
    lumas = {index: to_luma(low) for index, low in enumerate(lows[:5])}
    start = resize(lumas[2], 96, 80)

    def disagreement(picture):
        shown = [registrar.onto(other, 2).warp(picture) for other in (0, 1, 3, 4)]
        errors = [
            resize(one, 48, 40) - lumas[other]
            for one, other in zip(shown, (0, 1, 3, 4), strict=True)
        ]
        return sum(float(error.square().mean()) for error in errors)

    assert disagreement(
        back_project_multiframe(start, 2, lumas, registrar, MultiframeOptions())
    ) < 0.9 * disagreement(start)


def test_a_window_without_neighbours_holds_zeros(lows):
    registrar = ShotRegistrar()
    registrar.add(0, lows[0])
    own = resize(to_luma(lows[0]), 96, 80)
    planes = input_planes(own, 0, [(0, own)], 2, registrar)
    assert planes.shape == (5, 96, 80)
    assert torch.equal(planes[0], own[0])
    assert not planes[1:].any()


def test_of_a_still_scene_the_neighbours_add_nothing_new(lows):
    registrar = ShotRegistrar()
    for index in range(3):
        registrar.add(index, lows[0])
    own = resize(to_luma(lows[0]), 96, 80)
    planes = input_planes(own, 1, [(0, own), (1, own), (2, own)], 1, registrar)
    assert planes[1:].abs().max() < 1e-3


def test_a_shot_model_is_found_beside_keyframe_models_and_never_taken_for_one(bank):
    _, folder = bank
    assert has_shot_model(folder)
    assert [model.card.arch for model in load_shot_models(folder)] == ["window"]
    assert load_bank(folder) == []


def test_training_again_keeps_the_model_that_is_there(bank):
    clip, folder = bank
    before = shot_model_files(folder)[0].read_bytes()
    report = train_shot(clip, folder, budget_seconds=2, prior="none")
    assert (len(report.trained), len(report.kept)) == (0, 1)
    assert shot_model_files(folder)[0].read_bytes() == before


def test_a_model_is_read_back_as_it_was_written(bank, tmp_path):
    _, folder = bank
    model = load_shot_models(folder)[0]
    path = tmp_path / "copy.shot.safetensors"
    save_shot_model(path, model.card, model.networks)
    copy = load_shot_model(path)
    assert copy.card == model.card
    for one, other in zip(
        model.networks[1].parameters(), copy.networks[1].parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("damage", ["cut", "garbage", "metadata"])
def test_a_damaged_shot_model_is_refused_by_name(bank, tmp_path, damage):
    _, folder = bank
    content = bytearray(shot_model_files(folder)[0].read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "garbage":
        content[:64] = bytes(64)
    else:
        content = content.replace(b'\\"layers\\": 5', b'\\"layers\\": 9')
    broken = tmp_path / "broken.shot.safetensors"
    broken.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.shot\.safetensors"):
        load_shot_model(broken)


def frames_of(pixels):
    return [Frame(one, index, index, Fraction(1, 25)) for index, one in enumerate(pixels)]


def context_of(models, identity=""):
    return PolicyContext(
        [], 2, torch.device("cpu"), identity, PolicyOptions(), shot_models=lambda _: models
    )


def test_the_policy_takes_the_model_of_the_shot_itself(bank, lows):
    model = load_shot_models(bank[1])[0]
    context = context_of([model], model.card.clip_identity)
    enlarged, decisions = upscale_frames(POLICIES["shot"], context, frames_of(lows[:4]))
    assert [frame.pts for frame in enlarged] == [0, 1, 2, 3]
    assert decisions[0].reason == "trained on this shot"


def test_among_models_of_other_shots_the_one_that_restores_best_is_taken(bank, lows):
    good = load_shot_models(bank[1])[0]
    spec = good.networks[0].spec
    torch.manual_seed(0)
    noisy = ShotNetwork(spec)
    with torch.no_grad():
        noisy.body[-1].weight.mul_(30)
    bad = replace(good, name="bad", networks=(noisy.eval(), noisy.eval()))
    context = context_of([bad, good])
    _, decisions = upscale_frames(POLICIES["shot"], context, frames_of(lows[:3]))
    assert decisions[0].models == (good.name,)
    assert [name for name, _ in decisions[0].ranking] == [good.name, "bad"]


def test_without_a_shot_model_the_policy_says_how_to_get_one(lows):
    with pytest.raises(ModelError, match="vsr train-shot"):
        upscale_frames(POLICIES["shot"], context_of([]), frames_of(lows[:1]))


@pytest.mark.parametrize(
    ("frames", "frame_px", "runs", "covered"),
    [(10, 10**4, 1, 10), (300, 10**4, 6, 48), (300, 10**7, 1, 8)],
)
def test_long_shots_are_learned_from_runs_spread_over_them(frames, frame_px, runs, covered):
    shot = Shot(0, 100, 99 + frames, 0.0, 1.0, 100)
    chosen = training_runs(shot, frame_px)
    assert (len(chosen), sum(map(len, chosen))) == (runs, covered)
    assert all(run.start >= 100 and run.stop <= 100 + frames for run in chosen)


@pytest.mark.parametrize(("option", "value"), [("seed", -1), ("budget_seconds", 0), ("shots", 7)])
def test_impossible_requests_are_refused_before_training(bank, tmp_path, option, value):
    with pytest.raises(UsageError):
        train_shot(bank[0], tmp_path, **{option: value})


@pytest.mark.slow
def test_models_are_trained_ahead_for_every_shot_and_used_on_it(tmp_path):
    pictures = moving_pictures(20, 40, 48, step=(0.1, 0.2), seed=1)[:12]
    pictures += [255 - picture for picture in moving_pictures(20, 40, 48, step=(0.1, 0.2), seed=2)]
    clip = write_clip(tmp_path / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    command = [
        sys.executable,
        "-c",
        "from vsr.cli import main; main()",
        "run",
        str(clip),
        "--train-ahead",
        "--scale",
        "2",
    ]
    command += [
        "--models",
        str(tmp_path / "bank"),
        "--json",
        str(tmp_path / "run.json"),
        "-o",
        str(tmp_path / "out.mkv"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["policy"], record["frames_out"], record["shots"]) == ("shot", 32, [0, 12])
    reasons = [decision["reason"] for decision in record["decisions"]]
    assert [reason.partition(" from prior")[0] for reason in reasons] == [
        "trained on this shot"
    ] * 2
    assert len({decision["models"][0] for decision in record["decisions"]}) == 2


def test_a_known_blur_is_undone(tmp_path):
    kernel = gaussian_kernel(11, (1.8, 1.4), 20.0)
    truths = as_pixels(moving_pictures(8, 96, 80))
    lows = [reduce_blurred(truth, kernel) for truth in truths]
    errors = []
    for rows in (None, taps_from_tensor(kernel)):
        options = replace(QUICK, kernel=rows)
        networks = train_shot_model([lows], options, 0, lambda *_: None).networks
        made = upscale_shot(lows, networks, 2, CLEAN, FUSION, kernel=rows)
        errors.append(
            sum(float((a - b).square().mean()) for a, b in zip(made, truths, strict=True))
        )
    assert errors[1] < 0.5 * errors[0]


def test_the_blur_lies_in_the_card_and_binds_the_model_to_doublings(bank, tmp_path):
    clip, _ = bank
    kernel = tmp_path / "kernel.json"
    rows = taps_from_tensor(gaussian_kernel(9, (1.5, 1.5), 0.0))
    kernel.write_text(json.dumps(rows))
    for choice in (None, str(kernel), "auto"):
        train_shot(clip, tmp_path / "bank", budget_seconds=0.2, kernel=choice)
    models = load_shot_models(tmp_path / "bank")
    assert len(models) == 3
    assert sorted(model.card.kernel is not None for model in models)[-1]
    recipe = Recipe("shot", scale=2.0, metrics=())
    report = run(clip, recipe, RunFiles(tmp_path / "a.mkv", tmp_path / "bank"))
    (used,) = report.models
    assert "kernel" in used
    with pytest.raises(ModelError, match="blur kernel"):
        run(clip, replace(recipe, scale=3.0), RunFiles(tmp_path / "b.mkv", tmp_path / "bank"))
    with pytest.raises(UsageError, match="kernel"):
        train_shot(clip, tmp_path / "bank", kernel=str(tmp_path / "none.json"))
