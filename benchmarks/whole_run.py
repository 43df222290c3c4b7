r"""A whole `vsr run`, decoder to encoder, against the same run with the plain network, other
upscalers and ffmpeg.

    python -m benchmarks.whole_run
    python -m benchmarks.whole_run --models 15 --frames 3

320x180 to 1280x720, `--steady 0`, live metrics off on both sides, libx264 at its default, CPU time
of all threads. The other upscalers' networks have random weights, which changes no time; what is
given for them is their network, as shipped in fp32, and the reading and writing of our own run. The
slowest are measured on a frame of a quarter the sides.
"""

import resource
import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from benchmarks.clips import CLIPS, use_shared_data, write_lossless
from benchmarks.measure import print_table
from benchmarks.side_by_side import Contestant, race
from vsr.engine.generator import FastGenerator
from vsr.engine.tiling import set_num_threads
from vsr.image.resample import resize
from vsr.models.networks.singan import Generator, NetworkSpec
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import StageClock
from vsr.pipeline.run import run
from vsr.train.keyframe import train_keyframe
from vsr.video.reader import open_clip
from vsr.video.writer import EncodeOptions

SIZE = (180, 320)
LIKE_FFMPEG = EncodeOptions(pixel_format="yuv420p")
SMALLER = 4
"""Sides of a whole frame over those of one that slow networks are measured on."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--bank", type=Path, default=Path(tempfile.gettempdir()) / "vsr-benchmarks" / "whole-run"
    )
    parser.add_argument("--only-ours", action="store_true", help="without the other upscalers")
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mkv"
        with open_clip(CLIPS / "natural" / "bigbuckbunny.mp4") as reader:
            pictures = (frame.pixels for frame in islice(reader.frames(), options.frames))
            write_lossless(clip, (resize(picture, *SIZE).clamp(0, 1) for picture in pictures))
        # A bank for each excerpt: its keyframe depends on how long that is.
        bank = options.bank / str(options.frames)
        train_keyframe(clip, bank, count=options.models)
        policy = "smi" if options.models == 1 else "avgi"
        ours = compare_with_plain(clip, policy, bank, options)
        if not options.only_ours:
            compare_with_others(clip, ours, options)


def compare_with_plain(clip: Path, policy: str, bank: Path, options: Namespace) -> float:
    """CPU seconds of our own run a frame."""
    arguments = (str(clip), policy, str(bank))
    costs = race(
        {
            "ours": Contestant(whole_run, (*arguments, False)),
            "plain network": Contestant(whole_run, (*arguments, True), keeps_memory=False),
            "ours, 2 threads": Contestant(whole_run, (*arguments, False), threads=2),
        },
        options.rounds,
    )
    ours = costs["ours"].cpu
    rows = [
        [name, f"{1000 * cost.cpu / options.frames:.0f}", f"{cost.cpu / ours:.2f}"]
        for name, cost in costs.items()
    ]
    title = f"{options.models} models, {policy}, {options.frames} frames"
    print_table(title, ["what", "CPU ms a frame", "over ours"], rows)
    print(
        f"\ntwo threads over one, wall: {costs['ours'].wall / costs['ours, 2 threads'].wall:.2f}",
        flush=True,
    )
    return ours / options.frames


def compare_with_others(clip: Path, ours: float, options: Namespace) -> None:
    in_and_out = outside_the_network(clip, options.frames)
    lanczos = ffmpeg_lanczos(clip, clip.with_name("lanczos.mp4")) / options.frames
    rows = [["ffmpeg scale=lanczos", f"{1000 * lanczos:.0f}", f"{lanczos / ours:.3f}"]]
    for name, cost in others(options.rounds).items():
        rows.append(
            [name, f"{1000 * (cost + in_and_out):.0f}", f"{(cost + in_and_out) / ours:.2f}"]
        )
    title = f"The same clip by others; reading and writing take {1000 * in_and_out:.0f} ms a frame"
    print_table(title, ["what", "CPU ms a frame", "over ours"], rows)


def whole_run(clip: str, policy: str, bank: str, is_plain: bool) -> Callable[[], object]:
    set_num_threads(torch.get_num_threads())
    if is_plain:
        FastGenerator.__init__, FastGenerator.enlarge = keep_plain, enlarge_plainly  # type: ignore[method-assign]
    recipe = Recipe(policy, steady=0.0, metrics=(), encode=LIKE_FFMPEG)
    target = Path(tempfile.mkdtemp()) / "out.mp4"
    return lambda: run(clip, recipe, RunFiles(target, models=bank, overwrite=True))


def keep_plain(self, name, generator, step_ratio, _, step_options=None, options=None):  # noqa: ARG001
    from vsr.engine.generator import StepOptions

    self.name, self.step_ratio, self.spec, self.step_options = (
        name,
        step_ratio,
        generator.spec,
        step_options or StepOptions(),
    )
    self.plain = generator.eval()


def enlarge_plainly(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    scaled = (2 * resize(image, height, width) - 1)[None]
    return ((self.plain(scaled, scaled) + 1) / 2)[0].clamp(0, 1)


def outside_the_network(clip: Path, frames: int) -> float:
    """Seconds of reading and writing a frame."""
    clock = StageClock()
    recipe = Recipe("bicubic", steady=0.0, metrics=(), threads=1, encode=LIKE_FFMPEG)
    run(clip, recipe, RunFiles(clip.with_name("bicubic.mp4")), clock=clock)
    seconds = clock.seconds()
    return (seconds["read"] + seconds["write"]) / frames


def others(rounds: int) -> dict[str, float]:
    """Seconds a 1280x720 frame of each network."""
    whole, part = SIZE, tuple(side // SMALLER for side in SIZE)
    contestants = {
        "Real-ESRGAN animevideov3": (Contestant(network, (compact, *whole), keeps_memory=False), 1),
        "Real-ESRGAN x4plus (RRDBNet-23)": (
            Contestant(network, (rrdb, *part), keeps_memory=False),
            SMALLER**2,
        ),
        "SinGAN's own SR, 128 channels": (
            Contestant(singan_sr, part, keeps_memory=False),
            SMALLER**2,
        ),
    }
    costs = race(
        {name: contestant for name, (contestant, _) in contestants.items()}, max(1, rounds // 2)
    )
    return {name: costs[name].cpu * factor for name, (_, factor) in contestants.items()}


def network(make: Callable[[], nn.Module], height: int, width: int) -> Callable[[], object]:
    return partial(make().eval(), torch.rand(1, 3, height, width))


def compact() -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_feat=64, num_conv=16, upscale=4, act_type="prelu")


def rrdb() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=64, num_blocks=23, scale=4)


def singan_sr(height: int, width: int) -> Callable[[], object]:
    """SR.py of the published code: six steps of 4^(1/6), each through the finest generator."""
    generator = Generator(
        NetworkSpec(width=128, batch_norm=True, tanh=True, padding="zeros")
    ).eval()
    low = torch.rand(1, 3, height, width)

    def enlarge() -> torch.Tensor:
        image = low
        for step in range(1, 7):
            factor = 4 ** (step / 6)
            size = [round(height * factor), round(width * factor)]
            image = nn.functional.interpolate(image, size, mode="bicubic")
            image = generator(image, image)
        return image

    return enlarge


def ffmpeg_lanczos(clip: Path, target: Path) -> float:
    """CPU seconds of all frames, with the encoder's settings that `vsr run` has by default."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-i",
        str(clip),
        "-vf",
        "scale=1280:720:flags=lanczos",
    ]
    command += [
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-crf",
        "16",
        "-preset",
        "medium",
        str(target),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
