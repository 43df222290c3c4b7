r"""Clips as people have them, compressed, noisy and blurred, each beside the truth it was made of.

    python -m benchmarks.real_footage --frames 12 --crop 96x64
    python -m benchmarks.real_footage --frames 12 --crop 96x64 --clips walk --inputs crf28 noise6 \
        --methods shot "shot, restored"
    python -m benchmarks.real_footage --frames 12 --crop 96x64 --inputs crf28 \
        --methods bicubic "shot, restored" "shot, told 32" "shot, told 36"
    python -m benchmarks.real_footage --estimates --clips calendar city foliage walk

The first prints, for each input, the mean over clips of PSNR-Y, LPIPS, flicker, sharpness and the
PSNR of the color differences, each beside bicubic's, and the worst clip; the third beside it what
comes of one quantizer for all clips, as a user would tell it; the last what is estimated of each
input. What is measured is kept beside the models, so the same command goes on after a stop;
`--again METHOD` measures a method anew, and `--seconds` stops after so long.
"""

import json
import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from time import monotonic

import av
import torch
from av.video.reformatter import Colorspace

from benchmarks.clips import (
    DATA,
    EXCERPTS,
    RATE,
    SCALE,
    VID4,
    Excerpt,
    Pair,
    make_pair,
    use_shared_data,
    write_lossless,
)
from benchmarks.degraded import blur_and_subsample
from benchmarks.measure import BORDER_PX, options_parser, print_table, upscale
from benchmarks.shot import train_shot_models
from benchmarks.zssrgan import UNKNOWN
from vsr.image.blur import kernel_of_factor, reduce_blurred
from vsr.metrics.scoreboard import Scoreboard
from vsr.pipeline.inspection import inspect_clip
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.profile import StageClock
from vsr.pipeline.session import Session
from vsr.upscale import PolicyOptions
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions, open_clip

METRICS = ("psnr_y", "lpips", "flicker", "sharpness")
COLOR = "color"
REALESR = DATA / "weights" / "realesr-animevideov3.pth"
Pictures = list[torch.Tensor]
Figures = dict[str, float]
CLIPS = (*VID4, "street", "cockatoo", "bunny", "carphone", "swan")
"""Clips of the whole table."""
MAX_LOSS_DB = 0.05
"""Below bicubic on a single clip."""


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
    "mjpeg": ("mjpeg", {"qmin": "8", "qmax": "8", "strict": "unofficial"}),
    "vp8": ("libvpx", {"qmin": "40", "qmax": "40", "crf": "40", "b": "50M"}),
    "av1": ("libsvtav1", {"crf": "56", "preset": "8"}),
    "noise6crf28": ("libx264", {"crf": "28", "preset": "medium"}),
}
"""Codec and options; MPEG-2 at the fixed quantizer that 1.5 Mbit/s have on full-sized video."""
STORED_AGAIN = {f"{kind}-transcoded": kind for kind in ("crf23", "crf28", "crf33", "mpeg2")}
"""Encodings whose pictures are stored without loss, so that no stream tells of them."""
DEGRADATIONS: dict[str, Callable[[Pictures], Pictures]] = {
    "clean": unchanged,
    "noise3": noisy(3),
    "noise6": noisy(6),
    "noise12": noisy(12),
    "noise6crf28": noisy(6),
}
BLURS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "blur": blur_and_subsample,
    "strongblur": lambda picture: reduce_blurred(picture, kernel_of_factor(UNKNOWN, SCALE), SCALE),
}
"""Reductions in place of the bicubic one; that of `benchmarks.blurred` is the strong one."""
INPUTS = ("clean", *BLURS, *ENCODINGS, *STORED_AGAIN, "noise3", "noise6", "noise12")
METHODS = {
    "bicubic": Recipe("bicubic"),
    "shot": Recipe("shot", restore=0.0),
    "shot, restored": Recipe("shot"),
    "shot, best": Recipe("shot", policies=PolicyOptions(quality="best")),
    "shot, kernel": Recipe("shot"),
    "realesr": Recipe(upscaler=str(REALESR), steady=0.0, restore=0.0),
    "realesr, steadied": Recipe(restore=0.0),
    "realesr, restored": Recipe(),
}
"""The last two steady what the one before them has made."""
TOLD = {f"shot, told {quantizer}": float(quantizer) for quantizer in (20, 24, 28, 32, 34, 36, 40)}
"""Methods that are told a quantizer and estimate none; left out where no methods are named."""
USUAL_METHODS = tuple(METHODS)
METHODS |= {
    name: Recipe("shot", read=ReadOptions(quantizer=quantizer)) for name, quantizer in TOLD.items()
}
BANK_SUFFIXES = {
    "shot": "",
    "shot, restored": "-restored",
    "shot, best": "-best",
    "shot, kernel": "-kernel",
} | {name: f"-told-{quantizer:g}" for name, quantizer in TOLD.items()}
"""Ends of the names of the banks of methods: the models are trained in different ways."""
STEADIED = ("realesr, steadied", "realesr, restored")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(CLIPS))
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(USUAL_METHODS))
    parser.add_argument(
        "--crop", type=crop_size, metavar="WxH", help="take this much of the middle of each input"
    )
    parser.add_argument("--again", nargs="+", choices=METHODS, default=[])
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument(
        "--estimates", action="store_true", help="print what is estimated, and enlarge nothing"
    )
    options = parser.parse_args()
    use_shared_data()
    options.models.mkdir(parents=True, exist_ok=True)
    if options.estimates:
        return print_estimates(options)
    methods = [name for name in options.methods if "realesr" not in name or REALESR.exists()]
    measure_missing(methods, options)
    known = read_figures(options)
    for kind in options.inputs:
        print_means(kind, methods, options.clips, known)
    return None


def crop_size(text: str) -> tuple[int, int]:
    """Width and height of `WxH`, in pixels."""
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise ArgumentTypeError(f"{text} is no size; expected WxH, such as 96x64")
    return int(width), int(height)


def figures_file(options: Namespace) -> Path:
    crop = "" if options.crop is None else "-{}x{}".format(*options.crop)
    path: Path = options.models / f"figures-{options.frames or 24}{crop}.json"
    return path


def read_figures(options: Namespace) -> dict[str, Figures]:
    """What was measured so far, by clip, input and method."""
    path = figures_file(options)
    known: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    return known


def measure_missing(methods: list[str], options: Namespace) -> None:
    """Measure what is not known yet, as long as there is time; each figure is kept at once."""
    start = monotonic()
    known = read_figures(options)
    for kind in options.inputs:
        for name in options.clips:
            keys = {method: f"{name} {kind} {method}" for method in methods}
            missing = [m for m, key in keys.items() if key not in known or m in options.again]
            if not missing or monotonic() - start > options.seconds:
                continue
            pair = make_input(name, kind, options)
            for method, figures in compare(pair, missing, options):
                known[keys[method]] = figures
                print(f"{keys[method]}: {figures}", file=sys.stderr, flush=True)
                figures_file(options).write_text(json.dumps(known, indent=0))


@dataclass(frozen=True)
class Middle(Excerpt):
    """The part of an excerpt that its low resolution was cut to."""

    crop: tuple[int, int] | None = None

    def pictures(self) -> Iterator[torch.Tensor]:
        """(3, H, W) in [0, 1]."""
        for picture in super().pictures():
            yield middle(picture, self.crop, SCALE)


def middle(picture: torch.Tensor, crop: tuple[int, int] | None, scale: int = 1) -> torch.Tensor:
    """The middle of (3, H, W), of `crop` times `scale` pixels, or as much as a smaller picture
    has; of even sides in low resolution, as encoders want it."""
    # In whole pixels of the low resolution, so that a truth is cut where its input is.
    height, width = (side // scale for side in picture.shape[-2:])
    most_width, most_height = crop or (width, height)
    keep_width, keep_height = (
        min(most, side) // 2 * 2 for most, side in ((most_width, width), (most_height, height))
    )
    top, left = (height - keep_height) // 2, (width - keep_width) // 2
    rows = slice(scale * top, scale * (top + keep_height))
    return picture[:, rows, scale * left : scale * (left + keep_width)]


def make_input(name: str, kind: str, options: Namespace) -> Pair:
    """The excerpt of that name, degraded, kept beside the models."""
    frames = options.frames or 24
    crop = "" if options.crop is None else "-{}x{}".format(*options.crop)
    label = f"{name}-{kind}-{frames}{crop}"
    path = options.models / f"{label}.mkv"
    if not path.exists() and kind in STORED_AGAIN:
        with open_clip(make_input(name, STORED_AGAIN[kind], options).low) as reader:
            write_lossless(path, [frame.pixels for frame in reader.frames()])
    if not path.exists():
        if kind in BLURS:
            lows = list(islice(map(BLURS[kind], EXCERPTS[name].pictures()), frames))
        else:
            with open_clip(make_pair(name, options.models).low) as reader:
                lows = [frame.pixels for frame in islice(reader.frames(), frames)]
        pictures = DEGRADATIONS.get(kind, unchanged)([middle(low, options.crop) for low in lows])
        if kind in ENCODINGS:
            encode(path, pictures, *ENCODINGS[kind])
        else:
            write_lossless(path, pictures)
    return Pair(label, path, Middle(**vars(EXCERPTS[name]), crop=options.crop))


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


def compare(pair: Pair, methods: list[str], options: Namespace) -> Iterator[tuple[str, Figures]]:
    """The figures of each method on one input."""
    for name in methods:
        shot_models = []
        if name.startswith("shot"):
            folder = options.models / (pair.name + BANK_SUFFIXES[name])
            shot_models = train_shot_models(
                pair.low,
                folder,
                METHODS[name].prior_choice,
                kernel="auto" if name == "shot, kernel" else None,
                restore=METHODS[name].restore,
                quantizer=METHODS[name].read.quantizer,
            )
        board = Scoreboard(METRICS, has_truth=True, has_low_resolution=True, border=BORDER_PX)
        colors = []
        if name in STEADIED:
            made = steadied(enlarged_by_realesr(pair, options), pair.low, METHODS[name])
        else:
            made = upscale(
                pair.low, METHODS[name], [], [], StageClock(), lambda _, known=shot_models: known
            )
        kept = options.models / f"{pair.name}-realesr.mkv"
        pictures = []
        truths: Iterator[torch.Tensor] = pair.truth.pictures()
        for (low, large), truth in zip(made, truths, strict=False):
            board.update(large, truth, low.pixels)
            colors.append(color_psnr(large.pixels, truth))
            pictures.append(large.pixels)
        if name == "realesr":
            write_lossless(kept, pictures)
        means = {metric: result.mean for metric, result in board.compute().items()}
        yield name, means | {COLOR: fmean(colors)}


def enlarged_by_realesr(pair: Pair, options: Namespace) -> Path:
    """The network's result, which takes most of the time, kept for both ways to steady it."""
    path: Path = options.models / f"{pair.name}-realesr.mkv"
    if not path.exists():
        made = upscale(pair.low, METHODS["realesr"], [], [], StageClock())
        write_lossless(path, [large.pixels for _, large in made])
    return path


def steadied(result: Path, low: Path, recipe: Recipe) -> Iterator[tuple[Frame, Frame]]:
    """Each frame of `low` with what flicker control makes of its enlargement in `result`."""
    recipe = replace(recipe, policy="given", steady="auto", metrics=())
    files = RunFiles(low_resolution=low)
    with Session.open(result, recipe, files, writes=False) as session:
        for step in session.steps():
            yield step.frame, step.result


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


def print_means(kind: str, methods: list[str], clips: list[str], known: dict[str, Figures]) -> None:
    """One row a method: means over the clips that all methods were measured on, beside bicubic's,
    and the clip that loses most against it."""
    complete = [clip for clip in clips if all(f"{clip} {kind} {name}" in known for name in methods)]
    if not complete or "bicubic" not in methods:
        return
    rows = []
    bases = [known[f"{clip} {kind} bicubic"] for clip in complete]
    base = {metric: fmean(each[metric] for each in bases) for metric in (*METRICS, COLOR)}
    for name in methods:
        figures = [known[f"{clip} {kind} {name}"] for clip in complete]
        mean = {m: fmean(each[m] for each in figures) for m in (*METRICS, COLOR)}
        gains = [one["psnr_y"] - other["psnr_y"] for one, other in zip(figures, bases, strict=True)]
        flickers = [
            one["flicker"] / other["flicker"] for one, other in zip(figures, bases, strict=True)
        ]
        rows.append(
            [
                name,
                f"{mean['psnr_y']:.2f}",
                f"{mean['psnr_y'] - base['psnr_y']:+.2f}",
                f"{min(gains):+.2f}",
                f"{mean['lpips']:.3f}",
                f"{mean['lpips'] / base['lpips']:.2f}",
                f"{mean['flicker'] / base['flicker']:.2f}",
                f"{max(flickers):.2f}",
                f"{mean['sharpness']:.2f}",
                f"{mean[COLOR] - base[COLOR]:+.2f}",
            ]
        )
    head = ["method", "PSNR-Y dB", "+", "worst", "LPIPS", "x bicubic", "flicker x", "worst"]
    head += ["sharpness", "color dB +"]
    print_table(f"**{kind}** ({', '.join(complete)})", head, rows)


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
                    "-" if found.coarsest_qp is None else f"{found.coarsest_qp:.1f}",
                    f"{found.noise_sigma:.2f}",
                    "-" if found.blur is None else f"{found.blur:.2f}",
                ]
            )
    print_table("**estimates**", ["input", "clip", "quantizer", "noise", "blur px"], rows)


if __name__ == "__main__":
    main()
