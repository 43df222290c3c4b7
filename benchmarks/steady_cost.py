"""What flicker control and the shot model cost beside one model, 320x180 to 1280x720, rounds
interleaved.

python -m benchmarks.steady_cost
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from itertools import islice, repeat
from statistics import median
from time import perf_counter

import torch

from benchmarks.clips import CLIPS, use_shared_data
from benchmarks.measure import print_table
from vsr.engine.generator import FastGenerator, progressive_upscale
from vsr.image.resample import resize
from vsr.models.networks.shot_network import ShotNetwork
from vsr.models.networks.singan import Generator
from vsr.restore.data_term import CLEAN
from vsr.temporal.deflicker import AUTO_STRENGTH, fusion_options
from vsr.temporal.fusion import Enlarged, fuse_shot
from vsr.train.methods.quick import QuickOptions
from vsr.upscale.shot import FUSION
from vsr.upscale.shot_stages import upscale_shot
from vsr.video.reader import open_clip

SIZE = (180, 320)
SCALE = 4.0


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    use_shared_data()
    torch.set_num_threads(options.threads)
    with open_clip(CLIPS / "natural" / "bigbuckbunny.mp4") as reader:
        lows = [
            resize(frame.pixels, *SIZE).clamp(0, 1)
            for frame in islice(reader.frames(), options.frames)
        ]
    # What the weights are does not change the time; the networks are of the default recipes' sizes.
    generator = FastGenerator(
        "one",
        Generator(QuickOptions().network).eval(),
        QuickOptions().step_ratio,
        torch.device("cpu"),
    )
    networks = (ShotNetwork().eval(), ShotNetwork().eval())
    large = [progressive_upscale(low, [generator], SCALE, 1.0) for low in lows]
    parts: dict[str, Callable[[], Iterable[object]]] = {
        "one model": lambda: (progressive_upscale(low, [generator], SCALE, 1.0) for low in lows),
        "flicker control": lambda: fuse_shot(
            map(Enlarged, lows, large, repeat(None)), fusion_options(AUTO_STRENGTH), 1.0
        ),
        "shot, fast": lambda: upscale_shot(lows, networks, SCALE, CLEAN, FUSION["fast"]),
        "shot, balanced": lambda: upscale_shot(lows, networks, SCALE, CLEAN, FUSION["balanced"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(options.rounds):
        for name, make in parts.items():
            start = perf_counter()
            for _ in make():
                pass
            seconds[name].append((perf_counter() - start) / len(lows))
    one = median(seconds["one model"])
    rows = [
        [name, f"{median(values):.2f}", f"{median(values) / one:.2f}"]
        for name, values in seconds.items()
    ]
    print_table(f"**{options.threads} threads**", ["part", "s/frame", "over one model"], rows)


if __name__ == "__main__":
    main()
