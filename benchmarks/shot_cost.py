"""Cost of the shot model, of flicker control and of a shot's training, here and in another
checkout, 320x180 to 1280x720; a process each, which take turns.

    git worktree add --detach ../earlier COMMIT
    python -m benchmarks.shot_cost ../earlier
    python -m benchmarks.shot_cost ../earlier --cores 2 --parts training
    python -m benchmarks.shot_cost --cores 2

The networks are those of the shipped priors. Processor time on one thread, or with `--cores` the
time by the clock, which needs a machine with nothing else to do; without another checkout that of
one core stands beside it. `training` is a whole model, all else a frame. Three clips are made, for
`balanced`: a lecture, in which nothing moves but the clip itself in a window of a twentieth of the
frame; the clip between black bars, a quarter of the frame, at the left and the right; and names
that scroll on black.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from itertools import islice, repeat
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from vsr.models.shot_model import Quality

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT.parent / "shared" / "data" / "clips" / "natural" / "bigbuckbunny.mp4"
SIZE = (180, 320)
SCALE = 4.0
FRAMES = 12
LECTURE_FRAMES = 24
PARTS = (
    "one model",
    "flicker control",
    "shot, balanced",
    "shot, fast",
    "shot, best",
    "shot, lecture",
    "shot, bars",
    "shot, names",
    "training",
)


def main() -> None:
    """Print the medians and their ratio for each part."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, nargs="?")
    parser.add_argument("--cores", type=int, help="measure by the clock, on so many cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--serve", action="store_true", help="be one of the two")
    given = parser.parse_args()
    if given.serve:
        serve(given.clip, given.cores)
        return
    if given.earlier is None and given.cores is None:
        parser.error("there is nothing to compare with: name another checkout, or give --cores")
    if not given.clip.is_file():
        sys.exit(f"this needs {given.clip}, which is not part of the repository; or give --clip")
    if given.earlier is None:
        sides = {"one core": (ROOT, 1), f"{given.cores} cores": (ROOT, given.cores)}
    else:
        sides = {"before": (given.earlier.resolve(), given.cores), "now": (ROOT, given.cores)}
    servers = {name: start(root, given.clip, cores) for name, (root, cores) in sides.items()}
    rows = []
    for part in given.parts:
        seconds: dict[str, list[float]] = {name: [] for name in servers}
        # The first round makes ready what is made once.
        for _ in range(given.rounds + 1):
            for name, server in servers.items():
                seconds[name].append(ask(server, part))
        before, now = (median(values[1:]) for values in seconds.values())
        rows.append([part, f"{before:.3f}", f"{now:.3f}", f"{now / before:.2f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    first, second = sides
    print(f"\n| part | {first} | {second} | {second} / {first} |\n|---|--:|--:|--:|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    for server in servers.values():
        server.terminate()


def start(root: Path, clip: Path, cores: int | None) -> subprocess.Popen[str]:
    """Start this very file on the package of a checkout."""
    by_clock = [] if cores is None else ["--cores", str(cores)]
    return subprocess.Popen(
        [sys.executable, __file__, str(root), "--serve", "--clip", str(clip), *by_clock],
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": str(cores or 1)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(server: subprocess.Popen[str], part: str) -> float:
    """Have a part done once; its seconds, a frame where it is one of frames."""
    assert server.stdin is not None
    assert server.stdout is not None
    print(part, file=server.stdin, flush=True)
    return float(server.stdout.readline())


def serve(clip: Path, cores: int | None) -> None:
    """Do the parts that are asked for, until the end of the input."""
    parts = make_parts(clip, cores or 1)
    clock = time.process_time if cores is None else time.perf_counter
    for line in sys.stdin:
        start_seconds = clock()
        count = parts[line.strip()]()
        print((clock() - start_seconds) / count, flush=True)


def held_still(lows: list["torch.Tensor"], number: int) -> "torch.Tensor":
    """The first of the frames, with a window in which they go on, forth and back."""
    height, width = (2 * side // 9 for side in SIZE)
    turn = number % (2 * len(lows) - 2)
    shown = lows[min(turn, 2 * len(lows) - 2 - turn)]
    frame = lows[0].clone()
    window = slice(60, 60 + height), slice(120, 120 + width)
    frame[:, *window] = shown[:, *window]
    return frame


def barred(low: "torch.Tensor") -> "torch.Tensor":
    """The middle three quarters of a frame between black bars."""
    import torch

    width = SIZE[1] // 8
    frame = torch.zeros_like(low)
    frame[..., width:-width] = low[..., width:-width]
    return frame


def names(number: int) -> "torch.Tensor":
    """A frame of names that scroll upwards by 3 lines of the picture a frame."""
    import cv2
    import numpy as np
    import torch

    height, width = SIZE
    drawn = np.zeros((4 * height, 4 * width), np.uint8)
    for line in range(12):
        place = (width, 40 + 80 * line - 12 * number)
        cv2.putText(drawn, f"A NAME OF LENGTH {line}", place, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 230, 4)
    low = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(low).float().div_(255).expand(3, -1, -1).contiguous()


def make_parts(clip: Path, cores: int) -> dict[str, Callable[[], int]]:
    """Make what does each part and counts the frames."""
    import torch

    from vsr.cli import keep_freed_memory
    from vsr.engine.generator import FastGenerator, progressive_upscale
    from vsr.engine.tiling import set_num_threads
    from vsr.image.resample import resize
    from vsr.models.networks.singan import Generator
    from vsr.models.prior import load_shipped_prior
    from vsr.restore.data_term import CLEAN
    from vsr.temporal.backprojection import MultiframeOptions
    from vsr.temporal.deflicker import AUTO_STRENGTH, fusion_options
    from vsr.temporal.fusion import Enlarged, fuse_shot
    from vsr.train.methods.quick import QuickOptions
    from vsr.train.methods.shot_network import ADAPTATION, train_shot_model
    from vsr.upscale.shot import FUSION
    from vsr.upscale.shot_stages import upscale_shot
    from vsr.video.reader import open_clip

    try:
        from vsr.engine.tiling import single_thread
    except ImportError:
        # Where it was in earlier checkouts.
        from vsr.train.optimizer import single_thread
    keep_freed_memory()
    set_num_threads(cores)
    with open_clip(clip) as reader:
        frames = islice(reader.frames(), FRAMES)
        lows = [resize(frame.pixels, *SIZE).clamp(0, 1) for frame in frames]
    lecture = [held_still(lows, number) for number in range(LECTURE_FRAMES)]
    networks = load_shipped_prior().networks
    pairs = dict.fromkeys(FUSION, networks)
    # Checkouts of before have one prior for all qualities, or for two of them.
    with suppress(TypeError, KeyError):
        for quality in FUSION:
            pairs[quality] = load_shipped_prior(quality).networks
    method = QuickOptions()
    # What the weights are does not change the time.
    network, cpu = Generator(method.network).eval(), torch.device("cpu")
    generator = FastGenerator("one", network, method.step_ratio, cpu)
    large = [progressive_upscale(low, [generator], SCALE, 1.0) for low in lows]

    def one_model() -> int:
        return len([progressive_upscale(low, [generator], SCALE, 1.0) for low in lows])

    def flicker_control() -> int:
        pictures = map(Enlarged, lows, large, repeat(None))
        return sum(1 for _ in fuse_shot(pictures, fusion_options(AUTO_STRENGTH), CLEAN))

    def shot(quality: "Quality", frames: list[torch.Tensor] = lows) -> int:
        multiframe = MultiframeOptions() if quality == "best" else None
        fusion, pair = FUSION[quality], pairs[quality]
        return sum(
            1 for _ in upscale_shot(frames, pair, SCALE, CLEAN, fusion, multiframe=multiframe)
        )

    def training() -> int:
        # As the command trains: cores share a batch, not a convolution.
        with single_thread():
            train_shot_model([lows], ADAPTATION, 0, lambda *_: None, starts=networks)
        return 1

    return {
        "one model": one_model,
        "flicker control": flicker_control,
        "shot, balanced": lambda: shot("balanced"),
        "shot, fast": lambda: shot("fast"),
        "shot, best": lambda: shot("best"),
        "shot, lecture": lambda: shot("balanced", lecture),
        "shot, bars": lambda: shot("balanced", [barred(low) for low in lows]),
        "shot, names": lambda: shot("balanced", [names(number) for number in range(FRAMES)]),
        "training": training,
    }


if __name__ == "__main__":
    main()
