from dataclasses import replace
from fractions import Fraction
from zlib import crc32

import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import make_model, make_shot_model, picture
from tests.steps import upscale_frames
from vsr.engine.generator import FastGenerator, progressive_upscale, step_sizes
from vsr.errors import ModelError, UsageError
from vsr.image.blur import gaussian_kernel, taps_from_tensor
from vsr.image.noise import (
    MIN_BACK_PROJECTION_WEIGHT,
    back_projection_weight_for_noise,
    noise_level,
)
from vsr.image.resample import resize
from vsr.models.bank import Distillation
from vsr.pipeline.options import resolve_recipe
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.upscale.fitness import dsrf, restoration_error
from vsr.video.frames import Frame
from vsr.video.reader import open_clip

CPU = torch.device("cpu")
FUSING = {name for name, policy in POLICIES.items() if policy.deflickers}
PLAIN = {name for name, policy in POLICIES.items() if policy.needs == "nothing"}
HERE, ELSEWHERE = picture(seed=0), picture(seed=9) ** 2


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Three models of one keyframe and one of another, each trained for a moment."""
    folder = tmp_path_factory.mktemp("bank")
    here = {"clip_identity": "clip", "shot_start_seconds": 0.0, "shot_end_seconds": 1.0}
    there = {"clip_identity": "clip", "shot_start_seconds": 1.0, "shot_end_seconds": 2.0}
    models = [make_model(folder, f"here-{seed}", HERE, seed, **here) for seed in range(3)]
    return [*models, make_model(folder, "there-0", ELSEWHERE, **there)]


@pytest.fixture(scope="module")
def bank_for_all(bank, tmp_path_factory):
    """The three models of one keyframe, and one for each policy that has models of its own."""
    folder = tmp_path_factory.mktemp("own")
    kernel = {
        "kernel": taps_from_tensor(gaussian_kernel(13, (1.5, 1.0), 30)),
        "scale_factors": (2.0, 2.0),
    }
    own = {
        "student": {"distillation": Distillation("avgi", ("here-0", "here-1"), 50.0, 1.0)},
        "zssr": {"arch": "zssr"},
        "kernelgan": {"arch": "zssr", **kernel},
        "zssrgan": {"arch": "zssrgan", **kernel},
    }
    identity = bank[0].card.clip_identity
    # One network under three cards: that of each frame of `shot`.
    of_frames = [
        replace(
            bank[0],
            name=f"baseline-{number}",
            card=replace(bank[0].card, arch="baseline-singan-quick", frame_time=number / 10),
        )
        for number in range(3)
    ]
    return [
        *bank[:3],
        *of_frames,
        *(
            make_model(folder, f"here-{name}", HERE, 3, clip_identity=identity, **card)
            for name, card in own.items()
        ),
    ]


def shot(*pictures, start=0):
    return [
        Frame(pixels, start + i, start + i, Fraction(1, 10)) for i, pixels in enumerate(pictures)
    ]


def context_of(models, scale=2.0, clip_identity="clip", **options):
    return PolicyContext(
        models,
        scale,
        CPU,
        clip_identity,
        PolicyOptions(**options),
        shot_models=lambda _: [make_shot_model()],
    )


def upscale(policy, models, frames, decisions=None, **options):
    made, decided = upscale_frames(POLICIES[policy], context_of(models, **options), frames)
    if decisions is not None:
        decisions += decided
    return made


def by_one(model, pixels, scale=2.0, back_projection_weight=1.0):
    generator = FastGenerator(model.name, model.generator, model.card.step_ratio, CPU)
    return progressive_upscale(pixels, [generator], scale, back_projection_weight)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scale", [2.0, 2.7])
def test_every_policy_keeps_every_frame_and_its_time_and_gives_the_size_asked_for(
    policy, scale, bank_for_all
):
    frames = shot(HERE, ELSEWHERE, HERE)
    if scale != 2 and policy in ("kernelgan", "zssrgan"):
        with pytest.raises(ModelError, match="works at scales 2, 4, 8 and 16"):
            upscale(policy, bank_for_all, frames, scale=scale)
        return
    large = upscale(policy, bank_for_all, frames, scale=scale)
    assert [(frame.index, frame.pts, frame.time_base) for frame in large] == [
        (frame.index, frame.pts, frame.time_base) for frame in frames
    ]
    for frame in large:
        assert frame.pixels.shape == (3, int(40 * scale + 0.5), int(48 * scale + 0.5))
        assert frame.pixels.min() >= 0
        assert frame.pixels.max() <= 1


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - FUSING))
def test_every_policy_without_fusion_is_deterministic_and_looks_no_further_back(
    policy, bank_for_all
):
    alone = upscale(policy, bank_for_all, shot(HERE))[0].pixels
    assert torch.equal(upscale(policy, bank_for_all, shot(HERE, HERE))[1].pixels, alone)


def test_the_baseline_uses_the_model_of_the_very_frame(bank):
    own = [
        replace(m, card=replace(m.card, arch="baseline-singan-quick", frame_time=number / 10))
        for number, m in enumerate(bank[:3])
    ]
    decisions = []
    frames = shot(HERE, HERE, HERE)
    made = upscale("baseline", own, frames, decisions, back_projection_weight=1.0)
    assert [each.models for each in decisions] == [(m.name,) for m in own]
    for model, frame in zip(own, made, strict=True):
        assert torch.equal(frame.pixels, by_one(model, HERE))
    with pytest.raises(ModelError, match="a model of frame 3"):
        upscale("baseline", own, shot(HERE, start=3))


@pytest.mark.parametrize("policy", sorted(PLAIN))
def test_a_scale_of_one_leaves_interpolated_frames_as_they_are(policy):
    assert torch.equal(upscale(policy, [], shot(HERE), scale=1.0)[0].pixels, HERE)


def test_bicubic_is_our_resize(bank):
    expected = resize(HERE, 80, 96).clamp(0, 1)
    assert torch.equal(upscale("bicubic", [], shot(HERE))[0].pixels, expected)


def test_smi_uses_the_first_model_of_the_shots_own_keyframe(bank):
    decisions = []
    large = upscale("smi", bank, shot(HERE), decisions)
    assert decisions[0].models == ("here-0",)
    torch.testing.assert_close(large[0].pixels, by_one(bank[0], HERE))
    upscale("smi", bank, shot(ELSEWHERE, start=15), decisions)
    assert decisions[1].models == ("there-0",)
    assert decisions[1].reason == "trained on this shot"


def test_smi_uses_the_model_that_is_named(bank):
    decisions = []
    upscale("smi", bank, shot(HERE), decisions, model="here-2")
    assert decisions[0].models == ("here-2",)
    with pytest.raises(ModelError, match="no model here-9; it has here-0"):
        upscale("smi", bank, shot(HERE), model="here-9")


def test_a_shot_without_models_of_its_own_takes_the_keyframe_that_restores_it_best(bank):
    decisions = []
    upscale("smi", bank, shot(ELSEWHERE), decisions, clip_identity="another clip")
    errors = {
        model.name: restoration_error(
            FastGenerator("", model.generator, model.card.step_ratio, CPU), ELSEWHERE
        )
        for model in (bank[0], bank[3])
    }
    assert decisions[0].models == (min(errors, key=errors.get),)
    assert "best restore" in decisions[0].reason


def test_ami_changes_the_generator_at_every_step(bank):
    large = upscale("ami", bank, shot(HERE), scale=4.0, order=("here-2", "here-0"))
    generators = [
        FastGenerator("", model.generator, model.card.step_ratio, CPU)
        for model in (bank[2], bank[0])
    ]
    torch.testing.assert_close(large[0].pixels, progressive_upscale(HERE, generators, 4.0, 1.0))
    other_order = upscale("ami", bank, shot(HERE), scale=4.0, order=("here-0", "here-2"))
    assert not torch.equal(other_order[0].pixels, large[0].pixels)


def test_ami_takes_the_first_two_models_of_the_keyframe(bank):
    decisions = []
    upscale("ami", bank[:3], shot(HERE), decisions)
    assert decisions[0].models == ("here-0", "here-1")
    upscale("ami", bank[:3], shot(HERE), decisions, alternating=3)
    assert decisions[1].models == ("here-0", "here-1", "here-2")


def test_avgi_is_the_mean_of_the_models_pictures(bank):
    expected = torch.stack([by_one(model, HERE) for model in bank[:3]]).mean(0)
    torch.testing.assert_close(upscale("avgi", bank[:3], shot(HERE))[0].pixels, expected)
    pair = torch.stack([by_one(model, HERE) for model in bank[:2]]).mean(0)
    torch.testing.assert_close(upscale("avgi", bank[:3], shot(HERE), members=2)[0].pixels, pair)


@pytest.mark.parametrize(
    ("policy", "count"), [("smi", 0), ("dsrfi", 0), ("selfrec", 0), ("ami", 1), ("avgi", 1)]
)
def test_too_few_models_are_refused_before_a_frame_is_read(policy, count, bank):
    with pytest.raises(ModelError, match=f"policy {policy} needs"):
        POLICIES[policy].make(context_of(bank[:count]))


def test_models_of_different_steps_cannot_alternate(bank):
    odd = replace(bank[1], card=replace(bank[1].card, scale_factors=(1.26, 1.26)))
    with pytest.raises(ModelError, match="one step ratio"):
        POLICIES["ami"].make(context_of([bank[0], odd], order=("here-0", "here-1")))


def test_dsrf_is_the_difference_of_the_critics_means(bank):
    model = bank[0]
    with torch.inference_mode():
        on_frame, on_keyframe = (
            model.critic((2 * image - 1)[None]).mean() for image in (ELSEWHERE, HERE)
        )
    assert dsrf(model, ELSEWHERE) == pytest.approx(float(on_frame - on_keyframe), abs=1e-5)
    assert dsrf(model, HERE) == pytest.approx(0, abs=1e-6)


def test_a_frame_too_small_for_the_critic_is_told(bank):
    with pytest.raises(ModelError, match="5x4"):
        dsrf(bank[0], torch.rand(3, 4, 5))
    assert noise_level(torch.rand(3, 1, 1)) == 0


def test_dsrfi_ranks_by_least_absolute_dsrf_and_tells_how_clear_the_choice_was(bank):
    decisions = []
    upscale("dsrfi", bank, shot(ELSEWHERE), decisions)
    ranking = dict(decisions[0].ranking)
    assert ranking == pytest.approx({model.name: abs(dsrf(model, ELSEWHERE)) for model in bank})
    assert decisions[0].models == (min(ranking, key=ranking.get),) == ("there-0",)
    best, second = sorted(ranking.values())[:2]
    assert decisions[0].margin == pytest.approx((second - best) / max(best, 1e-12))


def test_selfrec_takes_the_model_that_restores_the_frame_best(bank):
    decisions = []
    upscale("selfrec", bank, shot(HERE), decisions)
    errors = {
        model.name: restoration_error(
            FastGenerator("", model.generator, model.card.step_ratio, CPU), HERE
        )
        for model in bank
    }
    assert decisions[0].models == (min(errors, key=errors.get),)


def test_a_choice_is_made_once_a_shot_unless_asked_for_every_frame(bank):
    frames = shot(HERE, ELSEWHERE, ELSEWHERE)
    decisions = []
    upscale("dsrfi", bank, frames, decisions)
    assert [decision.frame for decision in decisions] == [0]
    decisions.clear()
    upscale("dsrfi", bank, frames, decisions, per_frame=True)
    assert [decision.frame for decision in decisions] == [0, 1]
    decisions.clear()
    upscale("selfrec", bank, frames, decisions, per_frame=True, hysteresis=1e15)
    assert [decision.frame for decision in decisions] == [0]


def test_noise_is_measured_where_the_picture_is_flat():
    flat_and_textured = torch.cat([torch.full((3, 64, 48), 0.5), picture(64, 48)], dim=2)
    assert noise_level(flat_and_textured) < 0.5
    noise = torch.randn(flat_and_textured.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (4, 8):
        measured = noise_level((flat_and_textured + noise * sigma / 255).clamp(0, 1))
        assert measured == pytest.approx(sigma, rel=0.3)


def test_agreement_is_full_on_clean_input_and_falls_with_noise():
    assert back_projection_weight_for_noise(0) == back_projection_weight_for_noise(1) == 1
    assert back_projection_weight_for_noise(50) == pytest.approx(MIN_BACK_PROJECTION_WEIGHT)
    levels = [back_projection_weight_for_noise(noise) for noise in range(10)]
    assert levels == sorted(levels, reverse=True)


def test_the_agreement_that_a_user_chose_is_used(bank):
    decisions = []
    large = upscale("smi", bank, shot(HERE), decisions, back_projection_weight=0.0)
    assert decisions[0].back_projection_weight == 0
    torch.testing.assert_close(large[0].pixels, by_one(bank[0], HERE, back_projection_weight=0.0))


@pytest.fixture(scope="module")
def noisy_bank(bank):
    """The models of one keyframe, as if each had been trained with noise of its own size."""
    return [
        replace(model, card=replace(model.card, noise_amplitude=0.1 * (number + 1)))
        for number, model in enumerate(bank[:3])
    ]


def published_loop(models, low, frame, names):
    """SinGANxSR's super-resolution: enlarge, add noise for the network's eyes, add its detail;
    models take turns over the steps. No back-projection."""
    image, sizes = low, step_sizes(*low.shape[-2:], 4.0, models[0].card.step_ratio)
    random = torch.Generator().manual_seed(crc32(f"0/{frame}/{names}".encode()))
    for step, size in enumerate(sizes):
        model = models[step % len(models)]
        base = 2 * resize(image, *size) - 1
        noise = torch.randn(1 if step == 0 else 3, *size, generator=random).expand(3, -1, -1)
        noisy = base + model.card.noise_amplitude * noise
        with torch.inference_mode():
            image = ((model.generator(noisy[None], base[None])[0] + 1) / 2).clamp(0, 1)
    return image


@pytest.mark.parametrize("policy", ["smi", "dsrfi", "ami", "avgi"])
def test_policies_as_published_are_the_loop_of_their_source(policy, noisy_bank):
    frames = [Frame(HERE, index, index, Fraction(1, 25)) for index in (0, 3)]
    context = PolicyContext(noisy_bank, 4.0, CPU, "clip", PolicyOptions(as_published=True))
    made, decisions = upscale_frames(POLICIES[policy], context, frames)
    assert decisions[0].back_projection_weight == 0
    used = [next(m for m in noisy_bank if m.name == name) for name in decisions[0].models]
    for frame, result in zip(frames, made, strict=True):
        if policy == "avgi":
            alone = [published_loop([m], HERE, frame.index, m.name) for m in used]
            expected = torch.stack(alone).mean(dim=0)
        else:
            expected = published_loop(used, HERE, frame.index, used[0].name)
        assert torch.allclose(result.pixels, expected, atol=1e-5)
    assert not torch.equal(made[0].pixels, made[1].pixels), "noise is drawn anew for every frame"


def test_zssr_as_published_takes_its_rounds_and_its_self_ensemble(bank_for_all):
    frames = [Frame(HERE, 0, 0, Fraction(1, 25))]
    published, by_hand = (
        upscale_frames(
            POLICIES["zssr"], PolicyContext(bank_for_all, 4.0, CPU, "clip", options), frames
        )[0]
        for options in (
            PolicyOptions(as_published=True),
            PolicyOptions(self_ensemble=True, projections=10, back_projection_weight=1.0),
        )
    )
    assert torch.equal(published[0].pixels, by_hand[0].pixels)


def test_as_published_switches_off_what_no_source_has():
    given = {"as_published": True}
    assert (resolve_recipe(None, [], given).steady, resolve_recipe(None, [], given).restore) == (
        0,
        0,
    )
    assert resolve_recipe(None, [], given | {"steady": 0.5, "restore": 1}).steady == 0.5
    context = PolicyContext([], 4.0, CPU, "", PolicyOptions(as_published=True))
    with pytest.raises(UsageError, match="this project's own"):
        POLICIES["shot"].make(context)


OWN = '''
from torch.nn.functional import interpolate


def mine(context):
    """Repeat pixels."""
    return lambda pixels: interpolate(pixels[None], scale_factor=context.scale)[0]


def wrong_size(context):
    return lambda pixels: pixels


def raises(context):
    return [][0]


def raises_late(context):
    return lambda pixels: pixels.no_such_thing


def no_stage(context):
    return 5
'''


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(3, 32, 40), codec="ffv1")
    return clip, path


def test_a_policy_can_be_a_function_of_the_users_own(own, tmp_path):
    """In a file and in Python; both repeat pixels, which numpy does as well."""
    clip, path = own
    lossless = {"codec": "ffv1", "pix_fmt": "bgr0", "steady": 0, "scale": 2.0}

    def mine(context):
        return lambda pixels: pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)

    with open_clip(clip) as reader:
        expected = [
            frame.pixels.numpy().repeat(2, axis=1).repeat(2, axis=2) for frame in reader.frames()
        ]
    for number, policy in enumerate((f"{path}:mine", mine)):
        out = tmp_path / f"{number}.mkv"
        manifest = vsr.run(clip, out, policy=policy, restore=0, **lossless)
        assert manifest.policy.endswith("mine")
        with open_clip(out) as reader:
            made = [frame.pixels.numpy() for frame in reader.frames()]
        assert len(made) == 3
        for one, other in zip(made, expected, strict=True):
            assert np.abs(one - other).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nothing", "has no function nothing; it has mine, wrong_size"),
        ("raises", r"raised IndexError, line 15: list index out of range"),
        ("raises_late", r"raised AttributeError, line 19: .*no_such_thing"),
        ("wrong_size", r"made \(3, 32, 40\) of frame 0; expected a tensor of \(3, 128, 160\)"),
        ("no_stage", "returned a int; expected a PolicyStage"),
        ("", "expected FILE.py:FUNCTION"),
    ],
)
def test_a_policy_of_the_users_own_that_fails_is_told_in_one_line(function, words, own, tmp_path):
    clip, path = own
    with pytest.raises(UsageError, match=words) as failed:
        vsr.run(clip, tmp_path / "out.mkv", policy=f"{path}:{function}")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out.mkv").exists()


def test_a_file_that_is_not_there_or_is_no_python_is_told_and_recipes_name_none(own, tmp_path):
    clip, path = own
    with pytest.raises(UsageError, match="there is no file"):
        vsr.run(clip, policy=f"{tmp_path}/other.py:mine")
    (tmp_path / "bad.py").write_text("def (:")
    with pytest.raises(UsageError, match="raised SyntaxError"):
        vsr.run(clip, policy=f"{tmp_path}/bad.py:mine")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'policy = "{path}:mine"\n')
    with pytest.raises(UsageError, match="which would run code"):
        vsr.run(clip, recipe=recipe)
