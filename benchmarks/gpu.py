r"""What a GPU is good for: networks beside its limits, whole frames, graphs, many models as one,
whole shots with their motion, training, codecs.

    python -m benchmarks.gpu                                   # on a GPU, in some minutes
    python -m benchmarks.gpu --device cpu --size 64 96 --models 1 3 --training-models 3 --iterations
    4

Times are medians of several rounds after warm-up: of the clock, with the GPU waited for before and
after; on a CPU, whose cores others may use as well, of the processor. Weights are random: speed
does not depend on them. Sizes are of the result, four times the input.
"""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import av
import numpy as np
import torch
from av.codec.hwaccel import HWAccel
from spandrel import ModelLoader

from vsr.engine.generator import FastGenerator, progressive_upscale, step_sizes
from vsr.engine.graphs import Upscale, capture_graph, is_close
from vsr.engine.options import DTYPES, EngineOptions, choose_device
from vsr.engine.precision import choose_dtype
from vsr.image.dense_motion import fine_flow, invert_flow
from vsr.image.resample import back_project, resize
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.models.prior import load_shipped_prior
from vsr.restore.data_term import CLEAN
from vsr.temporal.deflicker import AUTO_STRENGTH, fusion_options
from vsr.temporal.fusion import Enlarged, fuse_shot
from vsr.temporal.registration import PreparedFrame, ShotRegistrar
from vsr.train.methods import METHODS
from vsr.train.methods.quick import QuickOptions
from vsr.train.methods.singan import FaithfulOptions
from vsr.upscale.shot import FUSION
from vsr.upscale.shot_stages import upscale_shot
from vsr.video.reader import open_clip
from vsr.video.write.encoders import EncodeOptions, choose_encoder

SCALE = 4
STEP_RATIO = 2**0.5
LEAST_SECONDS, LEAST_ROUNDS = 0.3, 3
"""Of all rounds of one measurement."""
CLIP_FRAMES, CLIP_FPS = 90, 30
SHOT_FRAMES = 12
STEADY = fusion_options(AUTO_STRENGTH)


@dataclass(frozen=True)
class Limits:
    """What the device does at the most, measured here."""

    flops: dict[torch.dtype, float]
    """Of products of matrices, each second."""
    bytes_per_second: float
    """Read and written, by a copy."""


def main() -> None:
    options = parsed()
    device = choose_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(
        f"{name}, torch {torch.__version__}; precision of `--dtype auto`: "
        f"{choose_dtype('auto', device)}"
    )
    limits = measured_limits(device)
    for height, width in sizes(options):
        networks(device, limits, options, height, width)
        frames(device, options, height, width)
        shots(device, limits, options, height, width)
    training(device, options)
    codecs(device, min(sizes(options)))


def parsed() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", default="cuda", help="cpu, cuda or cuda:N (default %(default)s)"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, action="append", metavar=("H", "W"), help="of the result"
    )
    parser.add_argument("--models", type=int, nargs="+", default=[1, 15])
    parser.add_argument(
        "--width", type=int, default=16, help="of the networks (default %(default)s)"
    )
    parser.add_argument("--training-models", type=int, default=15)
    parser.add_argument(
        "--iterations", type=int, default=60, help="of a training (default %(default)s)"
    )
    return parser.parse_args()


def sizes(options: Namespace) -> list[tuple[int, int]]:
    return [(height, width) for height, width in options.size or [(1080, 1920), (2160, 3840)]]


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Median of rounds, with the device waited for."""
    call()
    taken = [timed(call, device)]
    while sum(taken) < LEAST_SECONDS or len(taken) < LEAST_ROUNDS:
        taken.append(timed(call, device))
    return median(taken)


def timed(call: Callable[[], object], device: torch.device) -> float:
    clock = perf_counter if device.type == "cuda" else process_time
    wait_for(device)
    start = clock()
    call()
    wait_for(device)
    return clock() - start


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured_limits(device: torch.device) -> Limits:
    side, length = (8192, 2**28) if device.type == "cuda" else (512, 2**22)
    flops = {}
    for dtype in dtypes_of(device):
        left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        flops[dtype] = 2 * side**3 / seconds_of(lambda left=left, right=right: left @ right, device)
    source = torch.rand(length, device=device)
    target = torch.empty_like(source)
    moved = (
        2
        * source.numel()
        * source.element_size()
        / seconds_of(lambda: target.copy_(source), device)
    )
    rows = [
        [f"products in {word(dtype)}", f"{rate / 1e12:.3g} TFLOP/s"]
        for dtype, rate in flops.items()
    ]
    print_table(
        "Limits", ["what", "rate"], [*rows, ["memory, read and written", f"{moved / 1e9:.3g} GB/s"]]
    )
    return Limits(flops, moved)


def dtypes_of(device: torch.device) -> list[torch.dtype]:
    if device.type == "cuda":
        return [DTYPES[name] for name in ("fp32", "bf16", "fp16")]
    # A CPU with units for bf16 computes in it by default.
    return list(dict.fromkeys([torch.float32, choose_dtype("auto", device)]))


def networks(
    device: torch.device, limits: Limits, options: Namespace, height: int, width: int
) -> None:
    """One network on one picture: no resizing, no back-projection."""
    generator = new_generators(1, options.width)[0]
    picture = torch.rand(3, height, width, device=device)
    channels = [tuple(weight.shape[:2]) for weight in generator.parameters() if weight.dim() == 4]
    flop = 2 * 9 * sum(out * into for out, into in channels) * height * width
    features = sum(out + into for out, into in channels) * height * width
    plain = new_generators(1, options.width)[0].to(device)
    base = 2 * picture[None] - 1
    times = {"plain, channels first, fp32": (eager_seconds(plain, base, device), torch.float32)}
    for dtype in dtypes_of(device):
        fast = FastGenerator("m", generator, STEP_RATIO, device, options=EngineOptions(dtype))
        times[f"ours, {word(dtype)}"] = (
            seconds_of(lambda fast=fast: fast.add_detail(picture), device),
            dtype,
        )
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        times["plain, channels first, TF32"] = (eager_seconds(plain, base, device), torch.float32)
        torch.backends.cudnn.allow_tf32 = False
    slowest = next(iter(times.values()))[0]
    rows = [
        [
            what,
            f"{1000 * seconds:.3g}",
            f"{slowest / seconds:.2f}",
            f"{100 * flop / seconds / limits.flops[dtype]:.0f} %",
            f"{100 * features * dtype.itemsize / seconds / limits.bytes_per_second:.0f} %",
        ]
        for what, (seconds, dtype) in times.items()
    ]
    head = ["network alone", "ms", "over plain fp32", "of its products", "of memory"]
    print_table(f"{width}x{height}, {options.width} channels, 1 model", head, rows)


@torch.inference_mode()
def eager_seconds(network: Generator, base: torch.Tensor, device: torch.device) -> float:
    return seconds_of(lambda: network(base, base), device)


def frames(device: torch.device, options: Namespace, height: int, width: int) -> None:
    """All steps of a frame, as a run takes them: one model after another and as one, as they are
    and as a graph."""
    low = torch.rand(3, height // SCALE, width // SCALE, device=device)
    engine = EngineOptions(choose_dtype("auto", device))
    rows = []
    for count in options.models:
        ways = ways_to(count, options.width, device, engine)
        expected = next(iter(ways.values()))(low)
        times: dict[str, float] = {}
        for what, way in ways.items():
            run, note = capture_graph(way, low)
            for variant, call in {what: way, ", ".join(filter(None, [what, note])): run}.items():
                times[variant] = seconds_of(lambda call=call: call(low), device)
                over, same = (
                    next(iter(times.values())) / times[variant],
                    is_close(call(low), expected),
                )
                rows.append(
                    [
                        f"{count} models, {variant}",
                        f"{1 / times[variant]:.3g}",
                        f"{over:.2f}",
                        str(same),
                    ]
                )
    print_table(
        f"{low.shape[2]}x{low.shape[1]} to {width}x{height}, {word(engine.dtype)}",
        ["whole frames", "frames/s", "over the first", "same picture"],
        rows,
    )
    large = torch.rand(3, height, width, device=device)
    middle = torch.rand(3, int(height / STEP_RATIO), int(width / STEP_RATIO), device=device)
    parts = {
        "resize of the last step": lambda: resize(middle, height, width),
        "back-projection of the last step": lambda: back_project(large, low, 1.0),
    }
    rows = [[what, f"{1000 * seconds_of(part, device):.3g}"] for what, part in parts.items()]
    print_table("Parts of it", ["part", "ms"], rows)


def ways_to(
    count: int, width: int, device: torch.device, engine: EngineOptions
) -> dict[str, Upscale]:
    generators = new_generators(count, width)
    fast = [FastGenerator("m", one, STEP_RATIO, device, options=engine) for one in generators]

    def one_by_one(low: torch.Tensor) -> torch.Tensor:
        total = progressive_upscale(low, fast[:1], SCALE, 1.0).clone()
        for one in fast[1:]:
            total += progressive_upscale(low, [one], SCALE, 1.0)
        return total / count

    if count == 1:
        return {"one by one": one_by_one}
    members = FastGenerator("m", generators, STEP_RATIO, device, options=engine)
    return {
        "one by one": one_by_one,
        "as one": lambda low: members.mean(progressive_upscale(low, [members], SCALE, 1.0)),
    }


def new_generators(count: int, width: int) -> list[Generator]:
    """With detail that is small, as that of trained ones is."""
    generators = [Generator(NetworkSpec(width=width)).eval() for _ in range(count)]
    for generator in generators:
        last = generator.body[-1]
        torch.nn.init.normal_(last.weight, 0.0, 0.02)
    return generators


def shots(
    device: torch.device, limits: Limits, options: Namespace, height: int, width: int
) -> None:
    """Consecutive frames as a run makes them, motion and all, beside the network of Real-ESRGAN
    that is meant for video, which looks at one frame at a time."""
    low_size = height // SCALE, width // SCALE
    lows = list(panned(device, *low_size))
    engine = EngineOptions(choose_dtype("auto", device))
    ways: dict[str, tuple[Callable[[], object], float]] = {}
    for quality in ("fast", "balanced"):
        pair = load_shipped_prior(quality).as_shot_model().networks_on(device)
        ways[f"shot, {quality}"] = (
            lambda pair=pair, quality=quality: deplete(
                upscale_shot(lows, pair, SCALE, CLEAN, FUSION[quality], options=engine)
            ),
            # Each network works on the grid that it is given.
            sum(flop_of(one, 4**stage * prod(low_size)) for stage, one in enumerate(pair)),
        )
    steps = sum(map(prod, step_sizes(*low_size, SCALE, STEP_RATIO)))
    for count in options.models:
        enlarge = list(ways_to(count, options.width, device, engine).values())[-1]
        name = "smi" if count == 1 else f"avgi, {count} models"
        flop = count * flop_of(new_generators(1, options.width)[0], steps)
        ways[name] = lambda enlarge=enlarge: deplete(map(enlarge, lows)), flop
        ways[f"{name}, flicker control"] = (
            lambda enlarge=enlarge: deplete(
                fuse_shot((Enlarged(low, enlarge(low), None) for low in lows), STEADY, CLEAN)
            ),
            flop,
        )
    network = foreign_network(device, engine.dtype)
    ways["Real-ESRGAN animevideov3's network"] = (
        lambda: deplete(network(low[None].to(engine.dtype)) for low in lows),
        flop_of(network, prod(low_size)),
    )
    rows = []
    for what, (way, flop) in ways.items():
        with torch.inference_mode():
            seconds = seconds_of(way, device) / len(lows)
        share = flop / seconds / limits.flops[engine.dtype]
        rows.append([what, f"{1 / seconds:.3g}", seconds, f"{100 * share:.0f} %"])
    foreign = rows[-1][2]
    shown = [[what, rate, f"{foreign / seconds:.2f}", share] for what, rate, seconds, share in rows]
    head = ["whole shots", "frames/s", "over Real-ESRGAN's network", "of its products"]
    print_table(f"{len(lows)} frames to {width}x{height}, {word(engine.dtype)}", head, shown)
    motion(device, lows, height, width)


def motion(device: torch.device, lows: list[torch.Tensor], height: int, width: int) -> None:
    """What motion costs, part by part."""
    registrar = ShotRegistrar()
    for number, low in enumerate(lows[:3]):
        registrar.add(number, low)
    large = torch.rand(3, height, width, device=device)
    prepared = [PreparedFrame(low) for low in lows[:2]]
    flow = fine_flow(prepared[0].levels, prepared[1].levels)
    parts = {
        "preparing a frame": lambda: PreparedFrame(lows[0]),
        "flow of a frame": lambda: fine_flow(prepared[0].levels, prepared[1].levels),
        "its inverse": lambda: invert_flow(flow),
        "warp of a result": lambda: registrar.onto(1, 0).warp(large),
        "weights of a result": lambda: registrar.onto(1, 0).weight(large),
    }
    with torch.inference_mode():
        rows = [[what, f"{1000 * seconds_of(part, device):.3g}"] for what, part in parts.items()]
    print_table("Parts of motion", ["part", "ms"], rows)


def panned(device: torch.device, height: int, width: int) -> Iterable[torch.Tensor]:
    """A picture seen through a window that moves."""
    large = resize(torch.rand(3, height // 4 + 8, width // 4 + 8), height + 32, width + 32)
    for number in range(SHOT_FRAMES):
        top, left = number % 16, 2 * number % 32
        window = large[:, top : top + height, left : left + width]
        yield window.clamp(0, 1).to(device)


def flop_of(network: torch.nn.Module, pixels: int) -> float:
    """Of its convolutions, on a grid of so many pixels."""
    weights = sum(each.numel() for each in network.parameters() if each.dim() == 4)
    return 2 * weights * pixels


def foreign_network(device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The published layers, with weights of no meaning."""
    state = {f"body.{number}.weight": torch.zeros(64) for number in range(1, 34, 2)}
    shapes = [(64, 3), *16 * [(64, 64)], (48, 64)]
    for number, (out, into) in enumerate(shapes):
        weight = torch.randn(out, into, 3, 3) / (9 * into) ** 0.5
        state |= {f"body.{2 * number}.weight": weight, f"body.{2 * number}.bias": torch.zeros(out)}
    loaded = ModelLoader().load_from_state_dict(state)
    return loaded.model.eval().to(device, dtype)


def training(device: torch.device, options: Namespace) -> None:
    """The models of a 320x180 keyframe, or of a smaller one for a small `--size`: set-up and
    all."""
    height, width = min((180, 320), *sizes(options))
    keyframe = resize(torch.rand(3, height // 4, width // 4), height, width).clamp(0, 1)
    quick = QuickOptions(iterations=options.iterations)
    smallest = int(min(quick.pair_scales) * min(height, width))
    quick = QuickOptions(iterations=options.iterations, crop_px=min(quick.crop_px, smallest))
    race_training("quick", keyframe, quick, device, options.training_models)
    # The published one takes seconds an iteration on a CPU.
    faithful = FaithfulOptions(iterations=max(1, options.iterations // 20))
    keyframe = resize(keyframe, min(64, height), min(96, width)).clamp(0, 1)
    race_training("faithful", keyframe, faithful, device, options.training_models)


def race_training(
    name: str, keyframe: torch.Tensor, chosen: Any, device: torch.device, models: int
) -> None:
    """Time a method's models as one job, one by one, and one on the CPU."""
    method, seeds = METHODS[name], range(models)
    assert method.batched is not None
    train = method.batched.train

    def one_by_one() -> None:
        for seed in seeds:
            deplete(train(keyframe, chosen, [seed], device, lambda *_: None))

    deplete(train(keyframe, chosen, [0], device, lambda *_: None))
    together = timed(
        lambda: deplete(train(keyframe, chosen, seeds, device, lambda *_: None)), device
    )
    apart = timed(one_by_one, device)
    alone = timed(lambda: method.train(keyframe, chosen, 0, lambda *_: None), device)
    rows = [
        [f"{models} models as one job", f"{together:.2f}", f"{apart / together:.2f}"],
        [f"{models} models one by one", f"{apart:.2f}", "1"],
        ["1 model on the CPU", f"{alone:.2f}", ""],
    ]
    height, width = keyframe.shape[-2:]
    title = (
        f"Training {name}, {chosen.iterations} iterations on a {width}x{height} keyframe, "
        f"{device.type}"
    )
    print_table(title, ["what", "s", "over one by one"], rows)


def deplete(items: Iterable[object]) -> None:
    for _ in items:
        pass


def codecs(device: torch.device, size: tuple[int, int]) -> None:
    """NVDEC, with its pictures brought back to main memory, beside the decoder that vsr uses; what
    NVENC says."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_blocks(clip, *size)
        by_software: list[np.ndarray] = []
        seconds = timed(lambda: by_software.extend(first_pictures(clip, None)), device)
        rows = [["software", f"{CLIP_FRAMES / seconds:.0f}", ""]]
        try:
            by_hardware = first_pictures(clip, device)
            seconds = timed(lambda: first_pictures(clip, device), device)
            same = all(
                np.array_equal(one, other)
                for one, other in zip(by_software, by_hardware, strict=True)
            )
            rows.append(["NVDEC", f"{CLIP_FRAMES / seconds:.0f}", str(same)])
        except av.FFmpegError as error:
            rows.append([f"NVDEC does not open: {error.strerror}", "", ""])
        print_table(
            f"Decoding of H.264, {size[1]}x{size[0]}", ["decoder", "frames/s", "same samples"], rows
        )
        with open_clip(clip) as reader:
            plan, notes = choose_encoder(
                reader.info, *size, EncodeOptions(), "matroska", torch.device("cuda", 0)
            )
    print(f"\nEncoder for a run on a GPU: {'; '.join([plan.codec, *notes])}")


def write_blocks(clip: Path, height: int, width: int) -> None:
    """Coloured blocks that move up."""
    blocks = np.random.default_rng(0).integers(
        0, 256, (height // 8 + CLIP_FRAMES, width // 8 + 1, 3), dtype=np.uint8
    )
    pattern = blocks.repeat(8, axis=0).repeat(8, axis=1)[:, :width]
    with av.open(str(clip), "w") as container:
        stream = container.add_stream(
            "libx264", CLIP_FPS, options={"preset": "ultrafast", "crf": "24"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(CLIP_FRAMES):
            picture = np.ascontiguousarray(pattern[index : index + height])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def first_pictures(clip: Path, device: torch.device | None) -> list[np.ndarray]:
    """Decode the clip; the samples of its first pictures in one layout."""
    hardware = (
        None
        if device is None
        else HWAccel("cuda", str(device.index or 0), allow_software_fallback=False)
    )
    with av.open(str(clip), hwaccel=hardware) as container:
        decoded = container.decode(video=0)
        kept = list(islice(decoded, 10))
        deplete(decoded)
    return [frame.reformat(format="yuv420p").to_ndarray() for frame in kept]


def word(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
