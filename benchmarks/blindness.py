"""What each metric sees and what it is blind to: real clips, damaged in one way at a time, scored
against themselves.

    python -m benchmarks.blindness

Each cell holds the metric's change from the undamaged clip, averaged over the clips, and what that
says of the metric: it has `seen` the damage, it is `blind` (a change below `--blind`, 5 %, of the
greatest that any damage makes), or it is `fooled` and calls the damaged clip the better one.
"""

import os
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.clips import DATA, EXCERPTS, reduce, use_shared_data, write_h264
from benchmarks.measure import print_table
from vsr.image.resample import resize
from vsr.metrics import METRICS
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.weights import WEIGHTS_PATH_VARIABLE
from vsr.video.frames import Frame
from vsr.video.reader import open_clip

CLIPS = ("city", "swan", "street")
NOISE = 4 / 255
BRIGHTNESS_STEP = 4 / 255
IDEAL = {
    "psnr": 100,
    "ssim": 1,
    "ms_ssim": 1,
    "psnr_y": 100,
    "ssim_y": 1,
    "lr_psnr": 100,
    "sharpness": 1,
}
"""What an undamaged clip scores; 0 for the other metrics that compare with a truth."""
OWN_SCALE = ("niqe", "brisque", "warping_error", "sharpness_live", "flicker_live")
"""Metrics by which the truth itself has a figure of its own."""
Clip = list[torch.Tensor]


def noise(clip: Clip) -> Clip:
    generator = torch.Generator().manual_seed(0)
    return [
        (pixels + NOISE * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
        for pixels in clip
    ]


def fixed_noise(clip: Clip) -> Clip:
    pattern = NOISE * torch.randn(clip[0].shape, generator=torch.Generator().manual_seed(0))
    return [(pixels + pattern).clamp(0, 1) for pixels in clip]


def blur(clip: Clip) -> Clip:
    return [resize(reduce(pixels), *pixels.shape[-2:]).clamp(0, 1) for pixels in clip]


def compression(clip: Clip) -> Clip:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compressed.mp4"
        write_h264(path, clip, crf=35)
        with open_clip(path) as reader:
            return [frame.pixels for frame in reader.frames()]


def alternating_brightness(clip: Clip) -> Clip:
    return [
        (pixels + BRIGHTNESS_STEP * (0.5 if index % 2 else -0.5)).clamp(0, 1)
        for index, pixels in enumerate(clip)
    ]


def dropped_frame(clip: Clip) -> Clip:
    """A player that shows the frame before in its place: the motion stands still, then jumps."""
    lost = len(clip) // 2
    return [clip[lost - 1] if index == lost else pixels for index, pixels in enumerate(clip)]


DAMAGES: dict[str, Callable[[Clip], Clip]] = {
    "noise": noise,
    "fixed noise": fixed_noise,
    "blur": blur,
    "compression": compression,
    "alternating brightness": alternating_brightness,
    "dropped frame": dropped_frame,
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--frames", type=int, default=10, metavar="N", help="of each clip (default %(default)s)"
    )
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=CLIPS, metavar="NAME")
    parser.add_argument(
        "--blind", type=float, default=0.05, metavar="SHARE", help="default %(default)s"
    )
    options = parser.parse_args()
    use_shared_data()
    os.environ[WEIGHTS_PATH_VARIABLE] += os.pathsep + str(DATA / "metric-params")
    torch.set_num_threads(1)
    clips = [list(islice(EXCERPTS[name].pictures(), options.frames)) for name in options.clips]
    names = [name for name, metric in METRICS.items() if not metric.only_when_named]
    intact = mean_figures(clips, clips, names)
    damaged = {
        label: mean_figures(map(damage, clips), clips, names) for label, damage in DAMAGES.items()
    }
    measured = [name for name in names if intact[name] is not None]
    rows = [row(name, intact, damaged, options.blind) for name in measured]
    title = f"{', '.join(options.clips)}, the first {options.frames} frames of each"
    print_table(title, ["metric", "undamaged", *DAMAGES], rows)
    for name in measured:
        ideal = IDEAL.get(name, 0)
        if name not in OWN_SCALE and abs(intact[name] - ideal) > 1e-6:
            print(f"\n{name} of the undamaged clips is {intact[name]}, expected {ideal}")
    print(
        "\nNot measured, for want of weights: "
        f"{', '.join(sorted(set(names) - set(measured))) or 'none'}."
    )


def mean_figures(results, truths: Sequence[Clip], names: Sequence[str]) -> dict[str, float | None]:
    """Mean over clips of each metric's figure; None where it cannot be measured."""
    scored = [
        score_clip(result, truth, names) for result, truth in zip(results, truths, strict=True)
    ]
    return {
        name: None if scored[0][name] is None else fmean(figures[name] for figures in scored)
        for name in names
    }


def score_clip(result: Clip, truth: Clip, names: Sequence[str]) -> dict[str, float | None]:
    board = Scoreboard(names, has_truth=True, has_low_resolution=True)
    for index, (pixels, true_pixels) in enumerate(zip(result, truth, strict=True)):
        frame = Frame(pixels, index, index, Fraction(1, 25))
        board.update(frame, true_pixels, reduce(true_pixels))
    return {name: figure.mean for name, figure in board.compute().items()}


def row(name: str, intact, damaged, blind_share: float) -> list[str]:
    """The metric, its figure for the undamaged clips, and its change with a verdict for each
    damage."""
    changes = [figures[name] - intact[name] for figures in damaged.values()]
    greatest = max(map(abs, changes))
    return [
        name,
        f"{intact[name]:.4g}",
        *(f"{change:+.3g} {verdict(name, change, greatest, blind_share)}" for change in changes),
    ]


def verdict(name: str, change: float, greatest: float, blind_share: float) -> str:
    if abs(change) <= blind_share * greatest:
        return "blind"
    return "fooled" if (change > 0) == METRICS[name].higher_is_better else "seen"


if __name__ == "__main__":
    main()
