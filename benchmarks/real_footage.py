r"""Clips as people have them, compressed, noisy and blurred, each beside the truth it was made of.

    python -m benchmarks.real_footage --frames 8 --clips walk foliage
    python -m benchmarks.real_footage --frames 8 --clips walk --inputs crf28 noise6 \
        --methods shot "shot, restored"
    python -m benchmarks.real_footage --estimates --clips calendar city foliage walk

The first prints, for each input, the mean over clips of PSNR-Y, LPIPS, flicker, sharpness and the
PSNR of the color differences, each beside bicubic's; the last what is estimated of each input.
"""

import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean

import av
import torch
from av.video.reformatter import Colorspace

from benchmarks.clips import (
    DATA,
    EXCERPTS,
    RATE,
    Pair,
    make_pair,
    use_shared_data,
    write_lossless,
)
from benchmarks.degraded import blur_and_subsample
from benchmarks.measure import BORDER_PX, options_parser, print_table, upscale
from benchmarks.shot import train_shot_models
from vsr.metrics.scoreboard import Scoreboard
from vsr.pipeline.inspection import inspect_clip
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.video.reader import open_clip

METRICS = ("psnr_y", "lpips", "flicker", "sharpness")
COLOR = "color"
REALESR = DATA / "weights" / "realesr-animevideov3.pth"
Pictures = list[torch.Tensor]


def noisy(sigma: float) -> Callable[[Pictures], Pictures]:
    """Gaussian noise of `sigma` grey levels on each channel, the same for every call."""

    def degrade(pictures: Pictures) -> Pictures:
        random = torch.Generator().manual_seed(0)
        return [
            picture + sigma / 255 * torch.randn(picture.shape, generator=random)
            for picture in pictures
        ]

    return degrade


def unchanged(pictures: Pictures) -> Pictures:
    return pictures


ENCODINGS: dict[str, tuple[str, dict[str, str]]] = {
    "crf18": ("libx264", {"crf": "18", "preset": "medium"}),
    "crf23": ("libx264", {"crf": "23", "preset": "medium"}),
    "crf28": ("libx264", {"crf": "28", "preset": "medium"}),
    "crf33": ("libx264", {"crf": "33", "preset": "medium"}),
    "x265": ("libx265", {"crf": "28", "preset": "medium", "x265-params": "log-level=none"}),
    "mpeg2": ("mpeg2video", {"qmin": "4", "qmax": "4"}),
    "noise6crf28": ("libx264", {"crf": "28", "preset": "medium"}),
}
"""Codec and options; MPEG-2 at the fixed quantizer that 1.5 Mbit/s have on full-sized video."""
DEGRADATIONS: dict[str, Callable[[Pictures], Pictures]] = {
    "clean": unchanged,
    "noise3": noisy(3),
    "noise6": noisy(6),
    "noise12": noisy(12),
    "noise6crf28": noisy(6),
}
INPUTS = ("clean", "blur", *ENCODINGS, "noise3", "noise6", "noise12")
METHODS = {
    "bicubic": Recipe("bicubic"),
    "shot": Recipe("shot", restore=0.0),
    "shot, restored": Recipe("shot"),
    "realesr": Recipe(upscaler=str(REALESR), steady=0.0),
    "realesr, steadied": Recipe(upscaler=str(REALESR), restore=0.0),
    "realesr, restored": Recipe(upscaler=str(REALESR)),
}


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["walk", "foliage"])
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--estimates", action="store_true", help="print what is estimated, and enlarge nothing"
    )
    options = parser.parse_args()
    use_shared_data()
    options.models.mkdir(parents=True, exist_ok=True)
    if options.estimates:
        return print_estimates(options)
    methods = [name for name in options.methods if "realesr" not in name or REALESR.exists()]
    for kind in options.inputs:
        rows = [
            compare(make_input(name, kind, options), methods, options) for name in options.clips
        ]
        print_means(kind, methods, rows)
    return None


def make_input(name: str, kind: str, options: Namespace) -> Pair:
    """The excerpt of that name, degraded, kept beside the models."""
    frames = options.frames or 24
    path = options.models / f"{name}-{kind}-{frames}.mkv"
    if not path.exists():
        if kind == "blur":
            lows = list(islice(map(blur_and_subsample, EXCERPTS[name].pictures()), frames))
        else:
            with open_clip(make_pair(name, options.models).low) as reader:
                lows = [frame.pixels for frame in islice(reader.frames(), frames)]
        pictures = DEGRADATIONS.get(kind, unchanged)(lows)
        if kind in ENCODINGS:
            encode(path, pictures, *ENCODINGS[kind])
        else:
            write_lossless(path, pictures)
    return Pair(f"{name}-{kind}-{frames}", path, EXCERPTS[name])


def encode(path: Path, pictures: Pictures, codec: str, codec_options: dict[str, str]) -> None:
    """4:2:0 of (3, H, W) pictures, tagged BT.709, at `RATE`."""
    with av.open(str(path), "w") as out:
        stream = None
        for picture in pictures:
            levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
            frame = av.VideoFrame.from_ndarray(
                levels.permute(1, 2, 0).contiguous().numpy(), format="rgb24"
            )
            if stream is None:
                stream = out.add_stream(
                    codec, rate=RATE, width=frame.width, height=frame.height, pix_fmt="yuv420p"
                )
                stream.options = codec_options
                stream.codec_context.colorspace = Colorspace.ITU709
            out.mux(
                stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709))
            )
        out.mux(stream.encode(None))


def compare(pair: Pair, methods: list[str], options: Namespace) -> dict[str, dict[str, float]]:
    """The figures of each method on one input."""
    shot_models = []
    if any(name.startswith("shot") for name in methods):
        shot_models = train_shot_models(pair.low, options.models / pair.name)
    figures = {}
    for name in methods:
        board = Scoreboard(METRICS, has_truth=True, has_low_resolution=True, border=BORDER_PX)
        colors = []
        made = upscale(
            pair.low, replace(METHODS[name]), [], [], StageClock(), lambda _: shot_models
        )
        truths: Iterator[torch.Tensor] = pair.truth.pictures()
        for (low, large), truth in zip(made, truths, strict=False):
            board.update(large, truth, low.pixels)
            colors.append(color_psnr(large.pixels, truth))
        means = {metric: result.mean for metric, result in board.compute().items()}
        figures[name] = means | {COLOR: fmean(colors)}
        print(f"{pair.name} {name}: {figures[name]}", file=sys.stderr, flush=True)
    return figures


def color_psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """PSNR in dB of Cb and Cr together, the border left off."""
    inner = slice(BORDER_PX, -BORDER_PX)
    differences = []
    for picture in (one, other):
        red, green, blue = picture[:, inner, inner].clamp(0, 1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        differences.append(torch.stack([0.564 * (blue - luma), 0.713 * (red - luma)]))
    error = float((differences[0] - differences[1]).square().mean())
    return 100.0 if error == 0 else -10 * math.log10(error)


def print_means(kind: str, methods: list[str], clips: list[dict[str, dict[str, float]]]) -> None:
    """One row a method: means over clips, and beside them what they are against bicubic's."""
    rows = []
    for name in methods:
        mean = {m: fmean(clip[name][m] for clip in clips) for m in (*METRICS, COLOR)}
        row = [name, f"{mean['psnr_y']:.2f}"]
        if "bicubic" in methods:
            base = {m: fmean(clip["bicubic"][m] for clip in clips) for m in (*METRICS, COLOR)}
            row += [
                f"{mean['psnr_y'] - base['psnr_y']:+.2f}",
                f"{mean['lpips']:.3f}",
                f"{mean['lpips'] / base['lpips']:.2f}",
                f"{mean['flicker']:.2f}",
                f"{mean['flicker'] / base['flicker']:.2f}",
                f"{mean['sharpness']:.2f}",
                f"{mean[COLOR] - base[COLOR]:+.2f}",
            ]
        rows.append(row)
    head = ["method", "PSNR-Y dB"]
    if "bicubic" in methods:
        head += ["+", "LPIPS", "x bicubic", "flicker", "x bicubic", "sharpness", "color dB +"]
    print_table(f"**{kind}**", head, rows)


def print_estimates(options: Namespace) -> None:
    """What is found of each input, beside what was done to it."""
    rows = []
    for kind in options.inputs:
        for name in options.clips:
            (shot, *_), _ = inspect_clip(make_input(name, kind, options).low)
            found = shot.degradation
            rows.append(
                [
                    kind,
                    name,
                    "-" if found.qp is None else f"{found.qp:.1f}",
                    f"{found.noise_sigma:.2f}",
                    "-" if found.blur is None else f"{found.blur:.2f}",
                ]
            )
    print_table("**estimates**", ["input", "clip", "quantizer", "noise", "blur px"], rows)


if __name__ == "__main__":
    main()
