"""What only a GPU shows; skipped without one."""

from dataclasses import replace

import pytest
import torch

from tests.models import BRIEF, picture
from vsr.engine.generator import FastGenerator, progressive_upscale
from vsr.engine.graphs import capture_graph, select_fastest
from vsr.engine.options import EngineOptions, choose_device
from vsr.errors import ModelError
from vsr.train.methods.batched import train_quick_batched
from vsr.train.methods.quick import train_quick

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
CPU = torch.device("cpu")


def trained(seed=0):
    return train_quick(picture(), replace(BRIEF, iterations=12), seed, lambda *_: None).generator


def upscale_on(device, *generators, dtype=torch.float32):
    fast = [
        FastGenerator("m", one, 2**0.5, device, options=EngineOptions(dtype)) for one in generators
    ]
    return lambda pixels: progressive_upscale(pixels, fast, 4, 1.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1 / 255)])
def test_a_gpu_makes_what_a_cpu_makes(dtype, tolerance):
    low, generator = picture(), trained()
    expected = upscale_on(CPU, generator)(low)
    made = upscale_on(choose_device("cuda"), generator, dtype=dtype)(low.cuda())
    torch.testing.assert_close(made.cpu(), expected, atol=tolerance, rtol=0)


def test_a_graph_makes_of_every_picture_what_the_steps_make():
    upscale, low = upscale_on(choose_device("cuda"), trained()), picture().cuda()
    replay, note = capture_graph(upscale, low)
    assert note == "as a CUDA graph"
    made = [replay(each) for each in (low, low.flip(-1), low.flip(-2))]
    for each, result in zip((low, low.flip(-1), low.flip(-2)), made, strict=True):
        torch.testing.assert_close(result, upscale(each), atol=1e-5, rtol=0)


def test_what_cannot_be_a_graph_runs_as_it_is():
    def asks(pixels):
        return pixels * float(pixels.max())

    run, note = capture_graph(asks, picture().cuda())
    assert run is asks
    assert note.startswith("without a CUDA graph: ")
    low = picture().cuda()
    assert capture_graph(upscale_on(choose_device("cuda"), trained()), low)[1] == "as a CUDA graph"


def test_a_model_that_breaks_in_a_graph_is_found():
    generator = trained()
    with torch.no_grad():
        generator.body[2][0].bias[3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        capture_graph(upscale_on(choose_device("cuda"), generator), picture().cuda())


def test_all_models_as_one_agree_with_one_after_another_on_a_gpu():
    device, low = choose_device("cuda"), picture().cuda()
    generators = [trained(seed) for seed in range(3)]
    members = FastGenerator("m", generators, 2**0.5, device)

    def one_by_one(pixels):
        return torch.stack([upscale_on(device, one)(pixels) for one in generators]).mean(dim=0)

    def as_one(pixels):
        return members.mean(progressive_upscale(pixels, [members], 4, 1.0))

    torch.testing.assert_close(as_one(low), one_by_one(low), atol=1e-5, rtol=0)
    chosen, note = select_fastest({"one": one_by_one, "all": as_one}, low)
    assert note.split(",")[0] in ("one", "all")
    torch.testing.assert_close(chosen(low), one_by_one(low), atol=1e-4, rtol=0)


def test_models_trained_together_on_a_gpu_are_those_of_the_cpu():
    options = replace(BRIEF, iterations=20)
    made = dict(
        train_quick_batched(picture(), options, (0, 3), choose_device("cuda"), lambda *_: None)
    )
    for place, seed in enumerate((0, 3)):
        alone = train_quick(picture(), options, seed, lambda *_: None).generator.state_dict()
        for name, value in made[place].generator.state_dict().items():
            torch.testing.assert_close(value, alone[name], atol=1e-4, rtol=0)
