r"""The networks alone: against the plain ones, against what the processor multiplies, on two cores;
agreement.

    python -m benchmarks.engine
    python -m benchmarks.engine --width 32 --models 1

The plain network is as published: fp32, channels first, normalisation not folded, a whole frame at
once, with the allocator as it comes. Weights are random but for the agreement, which is of the
models of `samples/ckpts`.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import print_table
from benchmarks.side_by_side import Contestant, race
from vsr.engine.generator import FastGenerator, progressive_upscale
from vsr.engine.options import EngineOptions, bf16_speedup
from vsr.models.bank import load_bank
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.video.reader import open_clip

CPU = torch.device("cpu")
SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MATRIX = (4096, 512, 512)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 15])
    parser.add_argument("--size", type=int, nargs=2, default=[720, 1280], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    height, width = options.size
    gflop = (
        2e-9
        * sum(weight.numel() for weight in Generator(spec(options.width)).parameters())
        * height
        * width
    )
    rows = []
    for models in options.models:
        arguments = (options.width, models, height, width)
        costs = race(
            {
                "plain": Contestant(plain, arguments, keeps_memory=False),
                "ours": Contestant(ours, arguments),
                "ours, 2 threads": Contestant(ours, arguments, threads=2),
                "matrices": Contestant(matrices),
            },
            options.rounds,
        )
        peak = 2e-9 * MATRIX[0] * MATRIX[1] * MATRIX[2] / costs["matrices"].cpu
        for name in ("plain", "ours"):
            cpu = costs[name].cpu
            rate = models * gflop / cpu
            cells = [
                f"{1000 * cpu:.0f}",
                f"{costs['plain'].cpu / cpu:.2f}",
                f"{rate:.0f}",
                f"{100 * rate / peak:.0f} %",
            ]
            rows.append([f"{models} models, {name}", *cells])
        scaling = costs["ours"].wall / costs["ours, 2 threads"].wall
        rows.append(
            [
                f"{models} models, ours on 2 threads",
                f"{1000 * costs['ours, 2 threads'].wall:.0f} (wall)",
                f"{scaling:.2f} x one thread",
                "",
                "",
            ]
        )
    title = f"{width}x{height}, {options.width} channels, one thread, CPU time"
    print_table(title, ["network", "ms", "over plain", "GF/s", "of fp32 matrices"], rows)
    print(f"\nbf16 runs at {bf16_speedup():.2f} times the speed of fp32 here.")
    print_table(
        "Agreement on the sample, 3 models, first frame x4",
        ["what", "largest error", "PSNR dB"],
        agreement(),
    )


def spec(width: int) -> NetworkSpec:
    return NetworkSpec(width=width, batch_norm=True)


def plain(channels: int, models: int, height: int, width: int) -> Callable[[], object]:
    generators = [Generator(spec(channels)).eval() for _ in range(models)]
    picture = torch.rand(1, 3, height, width)
    return lambda: torch.stack([generator(picture, picture) for generator in generators]).mean(
        dim=0
    )


def ours(channels: int, models: int, height: int, width: int) -> Callable[[], object]:
    fast = [
        FastGenerator(str(each), Generator(spec(channels)).eval(), 2**0.5, CPU)
        for each in range(models)
    ]
    picture = torch.rand(3, height, width)

    def mean() -> torch.Tensor:
        total = fast[0].add_detail(picture)
        for generator in fast[1:]:
            total += generator.add_detail(picture)
        return total / len(fast)

    return mean


def matrices() -> Callable[[], object]:
    rows, inner, columns = MATRIX
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    return lambda: left @ right


def agreement() -> list[list[str]]:
    with open_clip(SAMPLES / "clip.mp4") as reader:
        low = next(iter(reader.frames())).pixels
    # Where the processor has no bf16 it is computed all the same, slowly.
    models = load_bank(SAMPLES / "ckpts")[:3]
    whole, strips, rough = (
        mean_of(low, models, options)
        for options in (
            EngineOptions(max_strip_px=10**9),
            EngineOptions(max_strip_px=64**2),
            EngineOptions(dtype=torch.bfloat16),
        )
    )
    return [
        [
            "strips against larger ones",
            f"{float((strips - whole).abs().max()):.1e}",
            f"{psnr(strips, whole):.0f}",
        ],
        [
            "bf16 against fp32",
            f"{255 * float((rough - whole).abs().max()):.2f} grey levels",
            f"{psnr(rough, whole):.1f}",
        ],
    ]


def mean_of(low: torch.Tensor, models: list, options: EngineOptions) -> torch.Tensor:
    fast = [
        FastGenerator(m.name, m.generator, m.card.step_ratio, CPU, options=options) for m in models
    ]
    return torch.stack([progressive_upscale(low, [one], 4.0, 1.0) for one in fast]).mean(dim=0)


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * torch.log10((one - other).square().mean() + 1e-20))


if __name__ == "__main__":
    main()
