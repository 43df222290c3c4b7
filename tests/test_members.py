from dataclasses import replace

import pytest
import torch

from tests.models import BRIEF, picture
from vsr.engine.generator import FastGenerator, StepOptions, can_batch, progressive_upscale
from vsr.engine.graphs import Autotuner, capture_graph, is_close, select_fastest
from vsr.engine.options import EngineOptions
from vsr.errors import ModelError
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.train.methods.quick import train_quick

CPU = torch.device("cpu")
PUBLISHED = NetworkSpec(width=8, batch_norm=True, tanh=True, padding="zeros")


def trained_generators(count=3):
    options = replace(BRIEF, iterations=12)
    return [
        train_quick(picture(), options, seed, lambda *_: None).generator for seed in range(count)
    ]


def published_generators(count=3):
    torch.manual_seed(0)
    generators = [Generator(PUBLISHED) for _ in range(count)]
    for generator in generators:
        generator(torch.randn(1, 3, 20, 20), torch.zeros(1, 3, 20, 20))
    return [generator.eval() for generator in generators]


@pytest.mark.parametrize("make", [trained_generators, published_generators])
@pytest.mark.parametrize("options", [EngineOptions(), EngineOptions(max_strip_px=50**2)])
def test_members_as_one_make_what_each_makes_alone(make, options):
    generators, low, step_options = make(), picture(40, 48), StepOptions(projections=2)
    members = FastGenerator("m", generators, 2**0.5, CPU, step_options, options)
    together = progressive_upscale(low, [members], 4, 0.8)
    alone = [
        progressive_upscale(low, [FastGenerator("m", one, 2**0.5, CPU, step_options)], 4, 0.8)
        for one in generators
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        members.mean(together), torch.stack(alone).mean(dim=0), atol=1e-5, rtol=0
    )
    # Else a mix-up of members would not show.
    assert min((one - other).abs().max() for one, other in [alone[:2], alone[1:]]) > 1e-3


def test_one_model_is_an_ensemble_of_one():
    (generator,), low = trained_generators(1), picture(40, 48)
    one = progressive_upscale(low, [FastGenerator("m", generator, 2.0, CPU)], 2, 1.0)
    listed = FastGenerator("m", [generator], 2.0, CPU)
    assert torch.equal(progressive_upscale(low, [listed], 2, 1.0), one)
    assert torch.equal(listed.mean(one), one)


def test_folding_leaves_the_networks_as_they_are():
    """In training mode a normalization would else be found switched to its running statistics."""
    generators = [generator.train() for generator in published_generators(2)]
    FastGenerator("m", generators, 2.0, CPU)
    assert all(module.training for generator in generators for module in generator.modules())


def test_a_broken_member_is_found():
    generators = trained_generators()
    with torch.no_grad():
        generators[1].body[2][0].bias[3] = float("inf")
    members = FastGenerator("one of 3 models", generators, 2.0, CPU)
    with pytest.raises(ModelError, match="one of 3 models gave values that are not finite"):
        progressive_upscale(picture(), [members], 2, 0.0)


def test_what_cannot_run_as_one_is_known():
    generators = published_generators(2)
    assert can_batch(generators, StepOptions())
    assert not can_batch(generators[:1], StepOptions())
    assert not can_batch([*generators, Generator(BRIEF.network)], StepOptions())
    assert not can_batch(generators, StepOptions(self_ensemble=True))
    assert not can_batch(generators, StepOptions(kernel=((1.0,),)))


def test_on_a_cpu_the_first_way_is_taken_as_it_is_and_nothing_is_tried():
    tried = []

    def way(name):
        return lambda pixels: tried.append(name) or pixels

    first, second = way("first"), way("second")
    assert select_fastest({"first": first, "second": second}, picture()) == (first, "")
    assert capture_graph(first, picture()) == (first, "")
    assert tried == []


def test_what_was_found_for_a_shot_holds_for_the_next_of_the_same_models_and_size():
    found = Autotuner()
    ways = [{"": lambda pixels: pixels} for _ in range(4)]
    one, _ = found.find(ways[0], picture(), ("a", 1.0))
    assert found.find(ways[1], picture(seed=1), ("a", 1.0))[0] is one
    assert found.find(ways[2], picture(44), ("a", 1.0))[0] is ways[2][""]
    assert found.find(ways[3], picture(44), ("a", 0.5))[0] is ways[3][""]


def test_pictures_that_differ_by_a_grey_level_are_not_the_same():
    one = picture()
    assert is_close(one, one + 1e-4)
    assert not is_close(one, one + 1 / 255)
    assert not is_close(one, one * float("nan"))
