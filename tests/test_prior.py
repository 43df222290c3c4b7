"""The prior of shot models: its pictures, its training, its file, and shot models that begin from
it."""

import hashlib
import tomllib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vsr
from tests.clips import moving_pictures, read_frames, textured_picture, write_clip
from tools.gather_pictures import FREE, _named_license, _stanzas
from vsr.errors import InterruptedRunError, ModelError, UsageError
from vsr.image.degradation import KnownDegradation
from vsr.image.resample import resize
from vsr.models import prior as priors
from vsr.models.networks.growth import grow
from vsr.models.networks.modulated import DegradationKnots, ModulatedShotNetwork
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.prior import PRIOR_ARCH, PriorCard, encode_prior, load_prior, load_shipped_prior
from vsr.models.shot_model import load_shot_models
from vsr.pipeline.estimate import training_cost
from vsr.pipeline.inspection import inspect_clip
from vsr.pipeline.need import find_need
from vsr.pipeline.options import Recipe, RunFiles
from vsr.restore.data_term import CLEAN, DataTerm, known_degradation, trust_for
from vsr.temporal.fusion import FusionOptions
from vsr.train import shot as shot_learning
from vsr.train.cost import shot_training_seconds
from vsr.train.dataset import train
from vsr.train.dataset.degradations import DegradationOptions, encode_and_decode
from vsr.train.dataset.sequences import SequenceMaker, SequenceOptions
from vsr.train.fit import TrainingListener
from vsr.train.methods.shot_network import ADAPTATION, ADAPTATIONS, contrast_loss
from vsr.train.shot import MAX_ADAPTATION_PIXELS, adaptation_for, train_shot, training_part
from vsr.upscale import PolicyOptions, shot_stages
from vsr.upscale.shot_stages import to_luma, upscale_shot
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import Shot
from vsr.video.step import Degradation

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TINY = [
    "iterations=[3, 3]",
    "pool=2",
    "steps_per_sequence=2",
    "batch=2",
    "crop_px=16",
    "first.width=8",
    "first.layers=2",
    "second.width=8",
    "second.layers=2",
    "sequences.side_px=96",
    "sequences.frames=5",
    "sequences.drawn=0",
]
CLEAN_WEIGHTS = {
    "balanced": "b9546e7e2f528ea13e94d9afb4524e6ae36a1e1e2c1e1f1106f8c5e3a059b7d3",
    "best": "fe5a72f8edae373657415e174ac3ffe48732a38e6ca6388104b3d8b7cc68b225",
}
BRIEF = replace(ADAPTATION, iterations=(3, 3))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(2):
        cv2.imwrite(str(folder / f"{seed}.png"), textured_picture(260, 300, seed=seed))
    return folder


@pytest.fixture
def clip(tmp_path):
    pictures = moving_pictures(12, 48, 40)
    return write_clip(tmp_path / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0")


@pytest.fixture
def short_clip(tmp_path):
    pictures = moving_pictures(5, 48, 40)
    return write_clip(tmp_path / "short.mkv", pictures, codec="ffv1", pixel_format="bgr0")


def train_tiny(photographs, output, **changes):
    options = {"settings": TINY, "device": "cpu"} | changes
    return train([photographs], output, method="shot-prior", **options)


def train_tiny_changes(photographs, output, start, **changes):
    settings = [*TINY, "trains=changes", "sequences.side_px=128"]
    options = {"start": start, "settings": settings} | changes
    return train_tiny(photographs, output, **options)


def train_briefly(monkeypatch, training=BRIEF):
    for quality in ADAPTATIONS:
        monkeypatch.setitem(ADAPTATIONS, quality, training)


def weights_of(networks):
    return [parameter for network in networks for parameter in network.parameters()]


def are_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def pictures():
    return tomllib.loads(priors.PICTURES.read_text(encoding="utf-8"))["pictures"]


def test_every_picture_of_the_shipped_prior_has_an_author_and_a_free_license():
    for picture in pictures():
        assert picture["author"]
        assert FREE.fullmatch(picture["license"]), picture
        assert len(picture["sha256"]) == 64
    trained_on = [picture for picture in pictures() if picture["use"] == "training"]
    assert load_shipped_prior().card.training["pictures"] == len(trained_on)


@pytest.mark.skipif(not DATA.is_dir(), reason="the clips and stills for measuring are not here")
def test_nothing_that_results_are_measured_on_was_trained_on():
    measured = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in DATA.rglob("*")
        if path.suffix in {".png", ".jpg", ".mp4", ".mkv"}
    }
    assert not measured & {picture["sha256"] for picture in pictures()}


def test_the_shipped_prior_is_small_and_restores_what_it_never_saw():
    assert priors.SHIPPED_PRIORS["balanced"].stat().st_size < 3 * 2**20
    lows = [
        to_luma(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        for picture in moving_pictures(5, 96, 96, seed=5)
    ]
    quarters = [resize(low, 24, 24).clamp(0, 1) for low in lows]
    networks = load_shipped_prior().networks
    restored = upscale_shot(quarters, networks, 4, CLEAN, FusionOptions(0.9, look_ahead=2))
    errors = [
        (float(F.l1_loss(one, low)), float(F.l1_loss(resize(quarter, 96, 96), low)))
        for one, low, quarter in zip(restored, lows, quarters, strict=True)
    ]
    assert sum(own for own, _ in errors) < 0.9 * sum(plain for _, plain in errors)


@pytest.mark.parametrize("quality", CLEAN_WEIGHTS)
def test_the_networks_for_clean_shots_are_as_they_were_to_the_bit(quality):
    prior = load_shipped_prior(quality)
    digest = hashlib.sha256()
    for parameter in weights_of(prior.networks_for(KnownDegradation())):
        digest.update(parameter.numpy().tobytes())
    assert digest.hexdigest() == CLEAN_WEIGHTS[quality]


@pytest.mark.skipif(not DATA.is_dir(), reason="the clips and stills for measuring are not here")
def test_the_prior_for_a_quantizer_restores_coded_frames_better_than_that_for_clean_ones():
    with open_clip(DATA / "clips" / "vid4" / "walk_hr.mkv") as reader:
        frames = [frame.pixels for frame in islice(reader.frames(), 9)]
    truths = [to_luma(pixels)[:, 144:336, 240:480] for pixels in frames]
    lows = [resize(truth, 48, 60).clamp(0, 1) for truth in truths]
    coded, quantizer = encode_and_decode(lows, "libx264", {"qp": "36"})
    term = DataTerm(trust=trust_for(Degradation(qp=quantizer)))
    errors = []
    for known in (KnownDegradation(), KnownDegradation(quantizer)):
        networks = load_shipped_prior().networks_for(known)
        made = list(upscale_shot(coded, networks, 4, term, FusionOptions(0.9, look_ahead=2)))
        errors.append(float(F.l1_loss(torch.stack(made), torch.stack(truths))))
    assert errors[1] < errors[0]


def test_a_stopped_training_of_a_prior_goes_on_as_if_in_one_go(photographs, tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    report = train_tiny(photographs, whole, validation=photographs)
    assert (report.steps, report.pictures) == (6, 2)
    # In the first network, and in the second.
    for _ in range(2):
        answers = iter([False, True])
        stops = TrainingListener(should_stop=lambda answers=answers: next(answers))
        with pytest.raises(InterruptedRunError):
            train_tiny(photographs, parts, listener=stops, validation=photographs)
        assert not parts.exists()
    train_tiny(photographs, parts, validation=photographs)
    assert are_equal(load_prior(whole).networks, load_prior(parts).networks)


def test_a_training_in_bf16_descends_as_one_in_single_precision_does(photographs, tmp_path):
    curves = [
        train_tiny(
            photographs,
            tmp_path / f"{precision}.safetensors",
            settings=[*TINY, f"precision={precision}"],
        ).loss_curve
        for precision in ("fp32", "bf16")
    ]
    assert curves[0] != curves[1]
    assert curves[1] == pytest.approx(curves[0], rel=0.02)


def test_a_wider_network_begins_as_the_function_of_the_one_it_grew_from():
    small = load_shipped_prior().networks[1]
    large = grow(small, replace(small.spec, width=small.spec.width + 13))
    planes = torch.rand(2, small.spec.planes, 40, 44, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(large(planes), small(planes), atol=1e-5)
    # Nothing of the new channels is dead: all that feed old ones, or each other, can learn.
    F.l1_loss(large(planes), torch.zeros(2, 1, 20, 24)).backward()
    for layer, own in zip(large.body[1:], list(small.body)[1:], strict=True):
        outputs, inputs = own.weight.shape[:2]
        assert layer.weight.grad[:outputs, inputs:].abs().max() > 0


def test_a_training_begins_from_the_grown_networks_of_a_file(photographs, tmp_path):
    start, grown = tmp_path / "start.safetensors", tmp_path / "grown.safetensors"
    train_tiny(photographs, start)
    wider = [*TINY, "first.width=12", "second.width=9", "learning_rates=[1e-9, 1e-9]"]
    train_tiny(photographs, grown, start=start, settings=wider)
    small, large = load_prior(start), load_prior(grown)
    assert [network.spec.width for network in large.networks] == [12, 9]
    assert large.card.training["begun_from"] == small.name
    planes = torch.rand(1, 5, 24, 24)
    for one, other in zip(small.networks, large.networks, strict=True):
        assert torch.allclose(one(planes), other(planes), atol=1e-5)
    for settings in (
        [*TINY, "first.width=7"],
        [*TINY, "second.layers=3"],
        [*wider, "trains=changes"],
    ):
        with pytest.raises(ModelError, match="cannot become the one to train") as told:
            train_tiny(photographs, tmp_path / "p.safetensors", start=start, settings=settings)
        assert "\n" not in str(told.value)


def test_pictures_that_cannot_serve_are_named_and_left_out(photographs, tmp_path):
    folder, heard = tmp_path / "odd", []
    folder.mkdir()
    (folder / "broken.png").write_bytes((photographs / "0.png").read_bytes()[:900])
    cv2.imwrite(str(folder / "tiny.png"), textured_picture(20, 20))
    cv2.imwrite(str(folder / "gray.png"), textured_picture(260, 260)[..., 0])
    deep = textured_picture(260, 260, seed=3).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep.png"), deep)
    report = train_tiny(folder, tmp_path / "p.safetensors", listener=TrainingListener(heard.append))
    assert report.pictures == 2
    said = "\n".join(heard)
    for words in ("broken.png", "tiny.png is 20x20", "gray.png: grayscale", "deep.png: more than"):
        assert words in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": 2}, "trained at 4"),
        ({"settings": ["nonsense=1"]}, "nonsense"),
        ({"settings": ["first.neighbours=1"]}, "neighbours"),
        ({"settings": [*TINY, "trains=changes"]}, "--start"),
    ],
)
def test_impossible_trainings_of_a_prior_are_refused(photographs, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        train_tiny(photographs, tmp_path / "p.safetensors", **changes)


def test_sequences_follow_from_their_number_and_move(photographs):
    options = SequenceOptions(side_px=96, noisy=0.0)
    maker = SequenceMaker(sorted(photographs.iterdir()), options, 0)
    one, again, other = maker.make(3), maker.make(3), maker.make(4)
    assert torch.equal(one.clean[0], again.clean[0])
    assert not torch.equal(one.clean[0], other.clean[0])
    assert (len(one.clean), one.clean[0].shape, one.low[0].shape) == (7, (1, 96, 96), (1, 24, 24))
    assert not torch.equal(one.clean[0], one.clean[1])
    reduced = resize(one.clean[2], 24, 24).clamp(0, 1)
    assert (one.low[2] - reduced).abs().max() <= 0.5 / 255 + 1e-6


def test_the_contrast_in_the_loss_is_that_which_is_lacking():
    fine = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(fine, 0.5)
    assert contrast_loss(fine, fine) == 0
    full = contrast_loss(flat, fine)
    # Of half the contrast, half is lacking.
    assert contrast_loss(0.25 + 0.5 * fine, fine) == pytest.approx(0.5 * float(full), rel=0.05)


def test_what_is_known_of_a_shot_weighs_the_changes_between_their_knots():
    knots = DegradationKnots(quantizers=(16, 30, 40))
    assert knots.count == 2
    wanted = {0: (0, 0), 16: (0, 0), 23: (0.5, 0), 30: (1, 0), 35: (0.5, 0.5), 51: (0, 1)}
    for quantizer, shares in wanted.items():
        assert knots.shares(KnownDegradation(quantizer)) == pytest.approx(shares)


def test_a_network_for_a_degradation_computes_what_its_changes_add_up_to():
    spec, random = ShotNetworkSpec(width=8, layers=2), torch.Generator().manual_seed(0)
    network = ModulatedShotNetwork(spec, DegradationKnots()).eval().requires_grad_(False)
    for change in network.changes.parameters():
        change.copy_(0.1 * torch.randn(change.shape, generator=random))
    planes = torch.rand(3, spec.planes, 12, 12, generator=random)
    known = [KnownDegradation(quantizer) for quantizer in (0, 28, 40)]
    shares = torch.tensor([network.knots.shares(each) for each in known])
    filled = shares[..., None, None].expand(-1, -1, 12, 12)
    together = network(torch.cat([planes, filled], dim=1))
    apart = [network.for_degradation(each)(planes[n : n + 1]) for n, each in enumerate(known)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-6)
    # At a knot it is the clean weight and that knot's change, and nothing else.
    own = network.for_degradation(known[1]).body[0].weight
    assert torch.equal(own, network.body[0].weight + network.changes[0].weight[0])
    assert are_equal([network.for_degradation(known[0])], [clean_part(network)])


def clean_part(network):
    plain = ShotNetwork(network.spec)
    plain.load_state_dict(
        {name: value for name, value in network.state_dict().items() if "changes" not in name}
    )
    return plain


def test_changes_for_degraded_shots_leave_the_networks_for_clean_ones_as_they_are(
    photographs, tmp_path
):
    start, whole, parts = (tmp_path / f"{name}.safetensors" for name in ("start", "whole", "parts"))
    train_tiny(photographs, start)
    report = train_tiny_changes(photographs, whole, start, validation=photographs)
    assert report.steps == 6
    # In the first network, and in the second.
    for _ in range(2):
        answers = iter([False, True])
        stops = TrainingListener(should_stop=lambda answers=answers: next(answers))
        with pytest.raises(InterruptedRunError):
            train_tiny_changes(photographs, parts, start, listener=stops, validation=photographs)
    train_tiny_changes(photographs, parts, start, validation=photographs)
    clean, made, resumed = (load_prior(path) for path in (start, whole, parts))
    assert are_equal(made.networks, clean.networks)
    assert are_equal(made.modulated, resumed.modulated)
    known = KnownDegradation(quantizer=35)
    assert not are_equal(made.networks_for(known), clean.networks)
    assert are_equal(clean.networks_for(known), clean.networks)
    assert made.card.training["start"] == clean.name
    assert made.card.training["changes"]["iterations"] == [3, 3]


@pytest.mark.parametrize(
    ("codec", "settings", "quantizer"),
    [
        ("libx264", {"qp": "30"}, 30),
        # A quantizer of 4 is stored, of a step of 8 gray levels: 6 log2(8 / .625).
        ("mpeg2video", {"qmin": "4", "qmax": "4"}, 24.98),
    ],
)
def test_sequences_are_degraded_by_real_encoders_whose_quantizer_is_read(
    codec, settings, quantizer
):
    lows = [
        to_luma(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        for picture in moving_pictures(6, 64, 64, seed=2)
    ]
    decoded, found = encode_and_decode(lows, codec, settings)
    assert found == pytest.approx(quantizer, abs=1.5)
    errors = [float((one - other).abs().mean()) for one, other in zip(decoded, lows, strict=True)]
    assert 0.5 / 255 < max(errors) < 0.1
    again = encode_and_decode(lows, codec, settings)[0]
    assert all(torch.equal(one, other) for one, other in zip(decoded, again, strict=True))


def test_degraded_sequences_differ_by_more_than_rounding_and_tell_their_quantizer(photographs):
    maker = SequenceMaker(
        sorted(photographs.iterdir()),
        SequenceOptions(side_px=128, frames=5),
        0,
        DegradationOptions(min_crf=30),
    )
    for number in range(4):
        made = maker.make(number)
        assert (len(made.low), made.low[0].shape) == (5, (1, 32, 32))
        assert made.degradation.qp > 16
        reduced = [resize(clean, 32, 32).clamp(0, 1) for clean in made.clean]
        errors = [
            float((one - other).abs().mean()) for one, other in zip(made.low, reduced, strict=True)
        ]
        assert 1 / 255 < max(errors) < 0.1


def test_networks_are_told_of_coarse_quantizers_alone():
    assert known_degradation(None).is_clean
    # What little a fine quantizer loses, a model that was trained on the clip restores as well.
    assert known_degradation(Degradation(qp=30)).is_clean
    # Fusion along the motion takes noise away.
    assert known_degradation(Degradation(noise_sigma=6.0, luma_noise_sigma=4.0)).is_clean
    assert known_degradation(Degradation(qp=36)) == KnownDegradation(36)
    assert known_degradation(Degradation(qp=36), strength=0.5) == KnownDegradation(18)
    assert known_degradation(Degradation(qp=36), strength=0).is_clean


def broken_priors(folder):
    content = priors.SHIPPED_PRIORS["balanced"].read_bytes()
    spec = ShotNetworkSpec(width=8, layers=2)
    card = PriorCard(PRIOR_ARCH, spec, ShotNetworkSpec(width=8, layers=3), {}, "0")
    networks = (ShotNetwork(spec), ShotNetwork(spec))
    made = {
        "cut": content[:-100],
        "empty": b"",
        "shape": encode_prior(card, networks),
    }
    for name, bytes_of in made.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(bytes_of)
        yield path
    yield folder / "missing.safetensors"


def test_a_prior_that_cannot_be_used_is_told_in_one_line(tmp_path, clip, monkeypatch):
    for path in broken_priors(tmp_path):
        monkeypatch.setitem(priors.SHIPPED_PRIORS, "balanced", path)
        with pytest.raises(ModelError, match="--prior none") as told:
            train_shot(clip, tmp_path / "bank")
        assert path.name in str(told.value)
        assert "\n" not in str(told.value)


def test_without_the_prior_its_file_is_never_read(tmp_path, short_clip, monkeypatch):
    monkeypatch.setattr(priors, "load_prior", lambda _: pytest.fail("the prior was read"))
    train_shot(short_clip, tmp_path / "bank", prior="none", budget_seconds=0.5)
    (model,) = load_shot_models(tmp_path / "bank")
    assert (model.card.prior, model.card.second_network) == ("", None)


def test_a_short_shot_takes_the_prior_as_it_is(tmp_path, short_clip):
    heard = []
    train_shot(short_clip, tmp_path / "bank", listener=TrainingListener(heard.append))
    (model,) = load_shot_models(tmp_path / "bank")
    assert are_equal(model.networks, load_shipped_prior().networks)
    assert any("short" in line for line in heard)
    assert model.card.iterations == (0, 0)


def test_a_shot_model_that_is_no_better_than_its_prior_gives_way_to_it(tmp_path, clip, monkeypatch):
    ruinous = replace(BRIEF, learning_rates=(0.5, 0.5), average_decay=0.0)
    train_briefly(monkeypatch, ruinous)
    train_shot(clip, tmp_path / "bank")
    (model,) = load_shot_models(tmp_path / "bank")
    assert model.card.iterations == (0, 0)
    assert are_equal(model.networks, load_shipped_prior().networks)


def test_a_shot_model_begins_from_the_prior_and_says_so(tmp_path, clip, monkeypatch):
    train_briefly(monkeypatch)
    train_shot(clip, tmp_path / "bank")
    (model,) = load_shot_models(tmp_path / "bank")
    prior = load_shipped_prior()
    assert model.card.prior == prior.name
    assert [network.spec for network in model.networks] == [prior.card.first, prior.card.second]
    with pytest.raises(ModelError, match="knows the clip alone"):
        train_shot(clip, tmp_path / "bank", prior="none")
    made = vsr.run(
        clip, policy="shot", models=tmp_path / "bank", output=tmp_path / "o.mkv", scale=2
    )
    assert prior.name in made.decisions[0]["reason"]


@pytest.mark.parametrize("quality", ["balanced", "best"])
def test_a_shot_teaches_the_first_network_alone(tmp_path, clip, monkeypatch, quality):
    brief = replace(ADAPTATIONS[quality], iterations=(3, ADAPTATIONS[quality].iterations[1]))
    train_briefly(monkeypatch, brief)
    train_shot(clip, tmp_path / "bank", prior=quality)
    (model,) = load_shot_models(tmp_path / "bank")
    prior = load_shipped_prior(quality)
    assert model.card.iterations == (3, 0)
    assert not are_equal(model.networks[:1], prior.networks[:1])
    assert are_equal(model.networks[1:], prior.networks[1:])


def test_degraded_shots_are_learned_from_more_briefly():
    clean, coded = Degradation(), Degradation(qp=24.0)
    noisy = Degradation(noise_sigma=6.0, luma_noise_sigma=6.0)
    for quality, usual in ADAPTATIONS.items():
        assert adaptation_for(clean, 1.0, quality) == usual
        assert adaptation_for(coded, 0.0, quality) == usual
    usual = ADAPTATIONS["balanced"]
    for degraded in (coded, noisy):
        brief = adaptation_for(degraded, 1.0, "balanced")
        assert 0 < brief.iterations[0] < usual.iterations[0]
        assert replace(brief, iterations=usual.iterations) == usual


def test_the_time_of_a_training_follows_from_its_steps():
    frames = [torch.from_numpy(one).permute(2, 0, 1) / 255 for one in moving_pictures(6, 48, 40)]
    trainings = [replace(BRIEF, iterations=(steps, 0)) for steps in (4000, 40, 40)]
    networks = load_shipped_prior().networks
    long, short, none = shot_training_seconds(frames, [5, 5, 0], trainings, networks)
    assert none == 0
    assert 0 < short < long / 10


def test_a_run_that_trains_nothing_uses_the_prior_alone(tmp_path, short_clip):
    made = vsr.run(short_clip, train="never", output=tmp_path / "o.mkv", scale=3)
    assert made.models == [f"prior {load_shipped_prior().name}"]
    assert made.decisions[0]["reason"] == "no model was trained"
    with pytest.raises(UsageError, match="--models"):
        vsr.run(short_clip, train="never", prior="none", output=tmp_path / "p.mkv")


def test_models_with_and_without_the_prior_are_kept_apart(short_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    needs = [find_need(short_clip, Recipe(prior=prior), RunFiles()) for prior in ("auto", "none")]
    assert needs[0].bank != needs[1].bank
    assert [need.shot_training.prior for need in needs] == ["balanced", "none"]
    # A short shot takes no training, so a run of it takes little time.
    assert training_cost(needs[0]).models == (0.0,)


OTHERS = ("fast", "best")
"""Qualities whose networks are not the usual ones."""


def of_quality(quality):
    return PolicyOptions(quality=quality)


@pytest.mark.parametrize("quality", OTHERS)
def test_the_priors_of_other_qualities_are_small_and_restore_what_they_never_saw(quality):
    prior, usual = load_shipped_prior(quality), load_shipped_prior()
    assert priors.SHIPPED_PRIORS[quality].stat().st_size < 3 * 10**6
    assert prior.card.training["pictures_hash"] == usual.card.training["pictures_hash"]
    lows = [
        to_luma(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        for picture in moving_pictures(5, 96, 96, seed=5)
    ]
    quarters = [resize(low, 24, 24).clamp(0, 1) for low in lows]
    restored = upscale_shot(quarters, prior.networks, 4, CLEAN, FusionOptions(0.9, look_ahead=2))
    for one, low, quarter in zip(restored, lows, quarters, strict=True):
        assert F.l1_loss(one, low) < F.l1_loss(resize(quarter, 96, 96), low)


def test_each_quality_has_networks_of_its_own_size():
    counts = [
        sum(map(torch.Tensor.numel, weights_of(load_shipped_prior(quality).networks)))
        for quality in ("fast", "balanced", "best")
    ]
    assert counts[0] < 0.4 * counts[1]
    assert counts[1] < 0.4 * counts[2]


def test_a_run_takes_the_models_of_its_quality_and_else_those_that_it_has_time_for(
    tmp_path, clip, monkeypatch
):
    train_briefly(monkeypatch)
    bank = tmp_path / "bank"
    for quality in priors.SHIPPED_PRIORS:
        train_shot(clip, bank, prior=quality)
    models = {model.card.prior: model for model in load_shot_models(bank)}
    names = {}
    for quality in priors.SHIPPED_PRIORS:
        prior = load_shipped_prior(quality)
        model = models[prior.name]
        assert [one.spec for one in model.networks] == [prior.card.first, prior.card.second]
        names[quality] = model.name
    assert names["fast"].endswith("-fast")
    assert names["best"].endswith("-best")

    def taken(quality):
        out = tmp_path / f"{quality}-{len(list(tmp_path.iterdir()))}.mkv"
        made = vsr.run(clip, policy="shot", models=bank, output=out, scale=2, quality=quality)
        (name,) = made.models
        return name

    assert {quality: taken(quality) for quality in names} == names
    (bank / f"{names['balanced']}.shot.safetensors").unlink()
    # Large networks take too long; of those that do not, the largest there are.
    assert taken("balanced") == names["fast"]
    (bank / f"{names['fast']}.shot.safetensors").unlink()
    assert taken("fast") == names["best"]


@pytest.mark.parametrize("quality", OTHERS)
def test_a_quality_has_a_bank_of_its_own_and_its_models_serve_no_other(
    tmp_path, short_clip, monkeypatch, quality
):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    own = of_quality(quality)
    needs = [
        find_need(short_clip, recipe, RunFiles())
        for recipe in (Recipe(policies=own), Recipe(), Recipe(prior=quality))
    ]
    assert needs[0].bank == needs[2].bank != needs[1].bank
    assert [need.shot_training.prior for need in needs] == [quality, "balanced", quality]
    train_shot(short_clip, tmp_path / "bank", prior=quality)
    files = RunFiles(models=tmp_path / "bank")
    for recipe, lacking in ((Recipe(train="auto"), 1), (Recipe(train="auto", policies=own), 0)):
        assert len(find_need(short_clip, recipe, files).lacking) == lacking


@pytest.mark.parametrize("quality", OTHERS)
def test_a_run_by_itself_trains_networks_of_its_quality_and_enlarges_with_them(
    tmp_path, clip, monkeypatch, quality
):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    train_briefly(monkeypatch)
    made = vsr.run(clip, quality=quality, output=tmp_path / "o.mkv", scale=2)
    assert made.frames_out == 12
    (name,) = made.models
    assert name.endswith(f"-{quality}")
    assert load_shipped_prior(quality).name in made.decisions[0]["reason"]


@pytest.mark.parametrize("quality", OTHERS)
def test_a_run_that_trains_nothing_uses_the_prior_of_its_quality_alone(
    tmp_path, short_clip, quality
):
    made = vsr.run(short_clip, train="never", quality=quality, output=tmp_path / "o.mkv", scale=2)
    assert made.models == [f"prior {load_shipped_prior(quality).name}"]


def test_of_large_frames_the_middle_is_adapted_to():
    shot = Shot(0, 0, 99, 0.0, 4.0, 100)
    runs, (rows, columns) = training_part(shot, 1080, 1920, is_adaptation=True)
    sides = (rows.stop - rows.start, columns.stop - columns.start)
    assert sides[0] * sides[1] * sum(map(len, runs)) <= 1.05 * MAX_ADAPTATION_PIXELS
    assert abs(rows.start + rows.stop - 1080) <= 1
    assert abs(columns.start + columns.stop - 1920) <= 1
    whole, region = training_part(shot, 1080, 1920, is_adaptation=False)
    assert region == (slice(None), slice(None))
    assert whole == shot_learning.training_runs(shot, 1080 * 1920)


@pytest.fixture
def coded_clip(tmp_path):
    pictures = moving_pictures(14, 96, 96, seed=3)
    settings = {"qp": "36", "preset": "veryfast"}
    return write_clip(tmp_path / "coded.mkv", pictures, codec="libx264", codec_options=settings)


def test_a_compressed_shot_takes_the_prior_made_for_its_quantizer(tmp_path, coded_clip):
    heard = []
    train_shot(coded_clip, tmp_path / "bank", listener=TrainingListener(heard.append))
    (model,) = load_shot_models(tmp_path / "bank")
    known = model.card.degradation
    assert known.quantizer == pytest.approx(36, abs=2)
    assert are_equal(model.networks, load_shipped_prior().networks_for(known))
    assert not are_equal(model.networks, load_shipped_prior().networks)
    assert any("quantizer 3" in line and "without training" in line for line in heard)
    made = vsr.run(
        coded_clip, policy="shot", models=tmp_path / "bank", output=tmp_path / "o.mkv", scale=2
    )
    assert "for quantizer 3" in made.decisions[0]["reason"]


def test_a_run_without_training_makes_the_prior_for_each_shots_quantizer(tmp_path, coded_clip):
    reasons = [
        vsr.run(
            coded_clip, train="never", restore=restore, output=tmp_path / f"{restore}.mkv"
        ).decisions[0]["reason"]
        for restore in ("auto", 0)
    ]
    assert reasons[0].startswith("no model was trained for quantizer 3")
    assert reasons[1] == "no model was trained"


def test_the_best_run_of_a_compressed_shot_has_the_usual_networks_for_its_quantizer(
    tmp_path, coded_clip
):
    bank, usual = tmp_path / "bank", load_shipped_prior()
    train_shot(coded_clip, bank, prior="best")
    (model,) = load_shot_models(bank)
    assert model.card.prior == usual.name
    assert are_equal(model.networks, usual.networks_for(model.card.degradation))
    recipe = Recipe(train="auto", policies=of_quality("best"))
    assert not find_need(coded_clip, recipe, RunFiles(models=bank)).lacking
    alone = vsr.run(coded_clip, train="never", quality="best", output=tmp_path / "o.mkv", scale=2)
    assert alone.models == [f"prior {usual.name}"]


def test_best_compares_neighbors_only_where_their_inputs_are_trusted_in_full(
    tmp_path, short_clip, coded_clip, monkeypatch
):
    compared = []

    def unchanged(luma, *_):
        compared.append(luma)
        return luma

    monkeypatch.setattr(shot_stages, "back_project_multiframe", unchanged)
    for clip, is_compared in ((short_clip, True), (coded_clip, False)):
        compared.clear()
        output = tmp_path / f"{clip.stem}-large.mkv"
        vsr.run(clip, train="never", quality="best", output=output, scale=2)
        assert bool(compared) == is_compared


def test_without_restoration_a_compressed_shot_is_trained_on_as_a_clean_one(
    tmp_path, coded_clip, monkeypatch
):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    train_briefly(monkeypatch)
    train_shot(coded_clip, tmp_path / "bank", restore=0)
    (model,) = load_shot_models(tmp_path / "bank")
    assert (model.card.degradation.is_clean, model.card.frames_trained_on) == (True, 14)
    needs = [find_need(coded_clip, Recipe(restore=restore), RunFiles()) for restore in ("auto", 0)]
    assert needs[0].bank != needs[1].bank
    # A degraded shot takes no training, so a run of it takes little time.
    assert training_cost(needs[0]).models == (0.0,)


def test_a_quantizer_that_is_given_takes_the_place_of_the_streams_everywhere(
    tmp_path, coded_clip, monkeypatch
):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    # What was coded coarsely is stored without loss, as by an editor.
    pictures = [frame.to_ndarray(format="rgb24") for frame in read_frames(coded_clip)]
    clip = write_clip(tmp_path / "stored.mkv", pictures, codec="ffv1", pixel_format="bgr0")
    read = ReadOptions(quantizer=36)
    for options, quantizer in ((ReadOptions(), None), (read, 36)):
        (shot,), _ = inspect_clip(clip, options)
        assert shot.degradation.qp == quantizer
    (coded,), _ = inspect_clip(coded_clip, ReadOptions(quantizer=20))
    assert coded.degradation.qp == 20
    needs = [find_need(clip, Recipe(read=each), RunFiles()) for each in (ReadOptions(), read)]
    assert needs[0].bank != needs[1].bank
    assert training_cost(needs[1]).models == (0.0,)
    train_shot(clip, tmp_path / "bank", quantizer=36)
    (model,) = load_shot_models(tmp_path / "bank")
    assert model.card.degradation.quantizer == 36
    made = vsr.run(clip, train="never", quantizer=36, output=tmp_path / "o.mkv", scale=2)
    assert made.decisions[0]["reason"].startswith("no model was trained for quantizer 36")
    assert made.degradation[0]["qp"] == 36


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2010 Somebody
License: GPL-3+

Files: src/zoo/lion.jpg
       src/zoo/bear?.jpg
Copyright: 2011 A. Keeper
License: CC-BY-3.0
Comment: found there
"""


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("gcompris/src/zoo/lion.webp", ("2011 A. Keeper", "CC-BY-3.0")),
        ("gcompris/src/zoo/bear2.webp", ("2011 A. Keeper", "CC-BY-3.0")),
        ("gcompris/src/zoo/tiger.webp", None),
        ("gcompris/src/barn/lion.webp", None),
        ("usr/share/backgrounds/lion.jpg", ("2011 A. Keeper", "CC-BY-3.0")),
    ],
)
def test_a_license_counts_only_where_it_names_the_file(path, origin):
    assert _named_license(path, _stanzas(COPYRIGHT)) == origin
