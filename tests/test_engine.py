from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.models import BRIEF, picture
from vsr.engine import convolutions
from vsr.engine.convolutions import ConvolutionStack
from vsr.engine.generator import FastGenerator, progressive_upscale, step_sizes
from vsr.engine.options import EngineOptions, choose_device
from vsr.engine.precision import choose_dtype
from vsr.engine.resampling import back_project_in_place
from vsr.engine.shot_network import FastShotNetwork
from vsr.engine.tiling import Strips, set_num_threads, strip_rows
from vsr.errors import ModelError, UsageError
from vsr.image.resample import back_project, resize
from vsr.models.bank import load_bank
from vsr.models.networks.shot_network import ShotNetwork
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.pipeline.options import resolve_recipe
from vsr.train.methods.quick import train_quick
from vsr.upscale.shot_stages import pad_planes
from vsr.video.reader import open_clip

CPU = torch.device("cpu")
SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def published_generator():
    """With normalisation statistics that are not the identity."""
    torch.manual_seed(0)
    generator = Generator(NetworkSpec(width=8, batch_norm=True, tanh=True, padding="zeros"))
    for _ in range(5):
        generator(torch.randn(1, 3, 20, 20), torch.zeros(1, 3, 20, 20))
    return generator.eval()


def trained_generator():
    return train_quick(picture(), BRIEF, 0, lambda *_: None).generator


@pytest.mark.parametrize("make", [published_generator, trained_generator])
def test_the_fast_generator_is_the_network(make):
    generator = make()
    base = picture(37, 29)
    with torch.inference_mode():
        plain = (generator((2 * base - 1)[None], (2 * base - 1)[None])[0] + 1) / 2
        fast = FastGenerator("m", generator, 1.5, CPU).add_detail(base)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "strips"), [(16, 40, 1), (90, 40, 2), (300, 40, 4), (41, 20_000, 7)]
)
def test_strips_give_the_whole_frame(height, width, strips):
    generator = trained_generator()
    base = picture(height, 64).repeat(1, 1, -(-width // 64))[:, :, :width]
    assert -(-height // strip_rows(height, width)) == strips
    with torch.inference_mode():
        whole = generator((2 * base - 1)[None], (2 * base - 1)[None])[0] / 2 + 0.5
        fast = FastGenerator("m", generator, 1.5, CPU).add_detail(base)
    torch.testing.assert_close(fast, whole, atol=1e-5, rtol=0)


def test_steps_reach_exactly_the_size_that_was_asked_for():
    assert step_sizes(30, 50, 4, 2**0.5) == [(42, 71), (60, 100), (85, 141), (120, 200)]
    assert step_sizes(31, 33, 2, 2 ** (1 / 3))[-1] == (62, 66)
    assert len(step_sizes(31, 33, 4, 2 ** (1 / 3))) == 6
    assert step_sizes(31, 33, 1, 2**0.5) == []
    assert step_sizes(31, 33, 2.7, 2**0.5)[-1] == (84, 89)


def test_a_scale_that_the_models_were_not_trained_for_is_refused():
    with pytest.raises(ModelError, match=r"scale of 1\.05"):
        step_sizes(30, 50, 1.05, 2**0.5)


def test_enlarging_agrees_with_the_input_and_stays_in_range():
    low = picture(40, 48)
    fast = FastGenerator("m", trained_generator(), 2**0.5, CPU)
    large = progressive_upscale(low, [fast], 4, back_projection_weight=1.0)
    assert large.shape == (3, 160, 192)
    assert large.min() >= 0
    assert large.max() <= 1
    free = progressive_upscale(low, [fast], 4, back_projection_weight=0.0)

    def disagreement(image):
        return (resize(image, 40, 48) - low).abs().mean()

    assert disagreement(large) < 0.5 * disagreement(free)


def test_a_step_is_resize_then_detail_then_back_projection():
    low = picture(40, 48)
    generator = trained_generator()
    fast = FastGenerator("m", generator, 2.0, CPU)
    base = 2 * resize(low, 80, 96)[None] - 1
    with torch.inference_mode():
        expected = ((generator(base, base)[0] + 1) / 2).clamp(0, 1)
        expected = (expected + resize(low - resize(expected, 40, 48), 80, 96)).clamp(0, 1)
    torch.testing.assert_close(
        progressive_upscale(low, [fast], 2, 1.0), expected, atol=1e-5, rtol=0
    )


def test_generators_take_turns_over_the_steps():
    low = picture(40, 48)
    one = FastGenerator("one", trained_generator(), 2.0, CPU)
    other_network = train_quick(
        picture(seed=5), replace(BRIEF, iterations=10), 1, lambda *_: None
    ).generator
    other = FastGenerator("other", other_network, 2.0, CPU)
    halfway = progressive_upscale(low, [one], 2, 0.0)
    torch.testing.assert_close(
        progressive_upscale(low, [one, other], 4, 0.0),
        progressive_upscale(halfway, [other], 2, 0.0),
    )


def test_devices_are_chosen_by_name():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="unknown device gpu"):
        choose_device("gpu")
    with pytest.raises(ModelError, match="cuda:99"):
        choose_device("cuda:99")


def fast_one(generator, chosen=EngineOptions()):
    return FastGenerator("one", generator, 2**0.5, CPU, options=chosen)


def test_a_tile_changes_the_pieces_and_not_the_result():
    generator, base = trained_generator(), picture(150, 200)
    whole = fast_one(generator).add_detail(base)
    torch.testing.assert_close(
        fast_one(generator, EngineOptions(max_strip_px=32**2)).add_detail(base), whole
    )


@pytest.mark.parametrize(("multiple", "fitting"), [(1, 12), (2, 12), (2, 13)])
def test_strips_are_halved_where_a_gpus_memory_runs_out_and_stay_so(multiple, fitting):
    strips = Strips(torch.device("cuda", 0))
    done, tries = [], []

    def work(top, end):
        tries.append(end - top)
        if end - top > fitting:
            raise torch.OutOfMemoryError
        done.extend(range(top, end))

    strips.cover(work, 90, 40, multiple)
    assert done == list(range(90))
    assert all(rows % multiple == 0 for rows in tries[:-1])
    assert tries[0] == 90
    tries.clear()
    strips.cover(work, 90, 40, multiple)
    assert max(tries) <= fitting, "what did not fit once is not tried again"


def test_a_row_that_does_not_fit_is_told_with_what_to_do():
    def work(top, end):
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match=r"strips of 2 rows of 40 pixels.*--device cpu"):
        Strips(torch.device("cuda", 0)).cover(work, 90, 40, 2)


def test_the_result_does_not_depend_on_the_number_of_threads():
    generator, low, before = trained_generator(), picture(90, 160), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            results.append(progressive_upscale(low, [fast_one(generator)], 4, 1.0))
    finally:
        set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_without_the_fused_operator_the_result_is_the_same(monkeypatch):
    generator, base = trained_generator(), picture(40, 48)
    fused = fast_one(generator).add_detail(base)
    monkeypatch.delattr(torch.ops, "mkldnn")
    convolutions.fused_activation_works.cache_clear()
    try:
        plain = fast_one(generator).add_detail(base)
    finally:
        monkeypatch.undo()
        convolutions.fused_activation_works.cache_clear()
    torch.testing.assert_close(plain, fused, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(80, 96), (51, 70)])
def test_a_second_step_of_back_projection_is_what_one_more_step_makes(size):
    image, low = resize(picture(40, 48), *size), 0.9 * resize(picture(40, 48), 20, 24)
    expected = back_project(back_project(image, low, 0.8), low, 0.8).clamp(0, 1)
    found = back_project_in_place(image.clone(), low, 0.8, twice=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def shot_network_and_planes():
    torch.manual_seed(3)
    network = ShotNetwork().eval()
    return network, torch.stack([picture(44, 60)[0], *(0.1 * picture(44, 60)[:2]).repeat(2, 1, 1)])


def test_winograds_algorithm_gives_the_networks_own_result():
    network, planes = shot_network_and_planes()
    with torch.inference_mode():
        plain = network(pad_planes(planes, network.spec.halo)[None])[0]
        fast = FastShotNetwork(network).missing_detail(planes)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shade", [0.0, 0.7])
def test_bars_at_the_border_are_what_the_network_makes_of_them(monkeypatch, shade):
    network, planes = shot_network_and_planes()
    barred = F.pad(planes, (0, 0, 60, 80))
    barred[0, :60] = barred[0, -80:] = shade
    # A second shade, and a neighbor that differs, are none of a bar.
    shaded, changed = barred.clone(), barred.clone()
    shaded[0, 10:20] = 0.5
    changed[1, 10, 7] = 0.1
    rows = []
    cover = Strips.cover

    def counted(strips, work, height, *others):
        rows.append(height)
        cover(strips, work, height, *others)

    monkeypatch.setattr(Strips, "cover", counted)
    for given in (barred, shaded, changed, torch.full_like(barred, 0.0)):
        with torch.inference_mode():
            plain = network(pad_planes(given, network.spec.halo)[None])[0]
        detail = FastShotNetwork(network).missing_detail(given)
        torch.testing.assert_close(detail, plain, atol=1e-5, rtol=0)
    margin = network.spec.halo + 2
    assert rows == [44 + 2 * margin, 60 + 44 + margin, 60 + 44 + margin, 2]


@pytest.mark.parametrize("shade", [0.0, 0.7])
def test_flat_parts_beside_a_title_are_what_the_network_makes_of_them(monkeypatch, shade):
    network, planes = shot_network_and_planes()
    # A title that reaches from border to border, between two shades.
    titled = F.pad(planes, (300, 340, 0, 0))
    titled[0, :, :330] += shade * (titled[0, :, :330] == 0)
    titled[0, :, 330:] += 0.4 * (titled[0, :, 330:] == 0)
    # A slope is not flat, though each part of it is, nor is a neighbor that differs.
    sloping, changed = titled.clone(), titled.clone()
    sloping[0, :, 400:] += torch.linspace(0, 0.6 / 255, 300)
    changed[1, 20, 600] = 0.1
    asked = []
    convolve = ConvolutionStack.__call__

    def counted(stack, padded):
        asked.append(2 * padded.shape[3] - 2 * network.spec.halo)
        return convolve(stack, padded)

    monkeypatch.setattr(ConvolutionStack, "__call__", counted)
    widths = []
    for given in (titled, sloping, changed, titled[:, :, :250]):
        with torch.inference_mode():
            plain = network(pad_planes(given, network.spec.halo)[None])[0]
        detail = FastShotNetwork(network).missing_detail(given)
        torch.testing.assert_close(detail, plain, atol=1e-4, rtol=0)
        widths.append(sum(asked))
        asked.clear()
    # Parts of 16 columns with 2 more on each side.
    title = 6 * 16 + 2 * 2
    assert widths == [title, title + 2 * (16 + 2 * 2), title + 3 * 16 + 2 * 2, 2]


def test_without_winograds_algorithm_the_result_is_the_same(monkeypatch):
    network, planes = shot_network_and_planes()
    first = FastShotNetwork(network).missing_detail(planes)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    convolutions.winograd_works.cache_clear()
    try:
        second = FastShotNetwork(network).missing_detail(planes)
    finally:
        convolutions.winograd_works.cache_clear()
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_bf16_stays_near_fp32_on_the_sample():
    with open_clip(SAMPLES / "clip.mp4") as reader:
        low = next(reader.frames()).pixels

    def enlarged(model, options):
        fast = FastGenerator(
            model.name, model.generator, model.card.step_ratio, CPU, options=options
        )
        return progressive_upscale(low, [fast], 4, 1.0)

    for model in load_bank(SAMPLES / "ckpts")[:2]:
        error = 255 * (
            enlarged(model, EngineOptions()) - enlarged(model, EngineOptions(dtype=torch.bfloat16))
        )
        assert (error.abs() <= 1).float().mean() >= 0.999
        assert error.abs().max() <= 2
        assert 20 * torch.log10(255 / error.square().mean().sqrt()) >= 60


@pytest.mark.parametrize(
    ("units", "auto"),
    [
        ((), torch.float32),
        (("avx512_bf16",), torch.float32),
        (("bf16",), torch.float32),
        (("avx512_bf16", "amx_bf16"), torch.bfloat16),
    ],
)
def test_bf16_is_chosen_by_what_the_processor_has_and_never_by_a_clock(monkeypatch, units, auto):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True))
    assert choose_dtype("auto", CPU) == auto
    assert choose_dtype("fp32", CPU) == torch.float32
    if units:
        assert choose_dtype("bf16", CPU) == torch.bfloat16
    else:
        with pytest.raises(ModelError, match="no instructions for bf16"):
            choose_dtype("bf16", CPU)
    with pytest.raises(ModelError, match="does not compute in fp16"):
        choose_dtype("fp16", CPU)
    with pytest.raises(UsageError, match="unknown dtype half"):
        choose_dtype("half", CPU)


def test_values_that_are_not_finite_name_their_model():
    generator = trained_generator()
    with torch.no_grad():
        generator.body[2][0].bias[3] = float("nan")
    with pytest.raises(ModelError, match="model one gave values that are not finite"):
        fast_one(generator).add_detail(picture(40, 48))


@pytest.mark.parametrize(("option", "least"), [("tile", 32), ("threads", 1)])
def test_pieces_and_threads_that_cannot_be_are_refused(option, least):
    with pytest.raises(UsageError, match=f"--{option} is 0; expected a whole number from {least}"):
        resolve_recipe(None, [], {option: 0})
