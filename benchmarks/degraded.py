"""Inputs as they are met: compressed, noisy or blurred by an unknown kernel; the model is trained
on such a keyframe.

    python -m benchmarks.degraded --frames 16
    python -m benchmarks.degraded --frames 16 --steadied

`auto` is the default weight of the back-projection, which follows the input's noise
(`vsr/image/noise.py`).
"""

import tempfile
from argparse import Namespace
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.clips import EXCERPTS, SCALE, Pair, degraded_pair, reduce, use_shared_data
from benchmarks.measure import cells, labels, measure, options_parser, print_table, train_bank
from vsr.models.shot_model import load_shot_models
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles
from vsr.train.shot import train_shot
from vsr.upscale import PolicyOptions
from vsr.video.writer import EncodeOptions

CRFS = (23, 28)
NOISE = 6 / 255
BLUR_DOWN_PX, BLUR_ACROSS_PX = 2.2, 1.4
"""Standard deviations, in pixels of the truth."""
SHOWN = ("psnr_y", "lpips", "flicker", "sharpness")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["walk", "foliage"])
    parser.add_argument(
        "--steadied",
        action="store_true",
        help="flicker control and the shot model, not the weights",
    )
    options = parser.parse_args()
    use_shared_data()
    for name in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            inputs = make_inputs(name, Path(folder), options.frames)
            compare = compare_steadied if options.steadied else compare_weights
            rows = [row for pair in inputs for row in compare(pair, options)]
        print_table(f"**{name}**", ["input", "method", "weight", "noise", *labels(SHOWN)], rows)


def make_inputs(name: str, folder: Path, frames: int | None) -> list[Pair]:
    clean = degraded_pair(f"{name}-clean", folder, name, reduce, frames)
    noisy = degraded_pair(f"{name}-noise", folder, name, NoisyReduction(), frames)
    blurred = degraded_pair(f"{name}-blur", folder, name, blur_and_subsample, frames)
    return [clean, *(compress(clean, name, crf) for crf in CRFS), noisy, blurred]


class NoisyReduction:
    """Reduces pictures and adds Gaussian noise, other noise to each; the same sequence for every
    instance."""

    def __init__(self) -> None:
        self._random = torch.Generator().manual_seed(0)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        low = reduce(picture)
        return low + NOISE * torch.randn(low.shape, generator=self._random)


def blur_and_subsample(picture: torch.Tensor) -> torch.Tensor:
    """Every fourth pixel after an anisotropic Gaussian; sampled at the middle of each block, so
    nothing is shifted."""
    reach = 4 * SCALE
    distance = torch.arange(-reach, reach) + 0.5
    down, across = (
        torch.exp(-((distance / sigma) ** 2) / 2) for sigma in (BLUR_DOWN_PX, BLUR_ACROSS_PX)
    )
    kernel = torch.outer(down / down.sum(), across / across.sum())
    margin = reach - SCALE // 2
    padded = F.pad(picture[:, None], (margin,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None], stride=SCALE)[:, 0]


def compress(clean: Pair, name: str, crf: int) -> Pair:
    """The clean clip through H.264 4:2:0, written by the product itself at a scale of 1."""
    label = f"{name}-crf{crf}"
    encode = EncodeOptions("libx264", crf, "medium", "yuv420p")
    low = clean.low.with_name(f"{label}.mkv")
    pipeline.run(clean.low, Recipe("bicubic", scale=1, metrics=(), encode=encode), RunFiles(low))
    return Pair(label, low, clean.truth)


def compare_weights(pair: Pair, options: Namespace) -> list[list[str]]:
    bank = train_bank(pair.low, options.models / pair.name, options.count)
    kind = pair.name.rpartition("-")[2]
    bicubic = measure(pair, Recipe("bicubic"), [], SHOWN, options.frames)
    rows = [[kind, "bicubic", "", "", *cells(bicubic.figures, SHOWN)]]
    for weight in (None, 0.0, 0.5, 1.0):
        recipe = Recipe("smi", steady=0.0, policies=PolicyOptions(back_projection_weight=weight))
        outcome = measure(pair, recipe, bank, SHOWN, options.frames)
        method = "smi, auto" if weight is None else "smi, fixed"
        chosen, noise = (
            f"{outcome.decision.back_projection_weight:.2f}",
            f"{outcome.decision.noise:.1f}",
        )
        rows.append([kind, method, chosen, noise, *cells(outcome.figures, SHOWN)])
    return rows


def compare_steadied(pair: Pair, options: Namespace) -> list[list[str]]:
    """Interpolation, one model without and with flicker control, the shot model."""
    bank = train_bank(pair.low, options.models / pair.name, options.count)
    train_shot(pair.low, options.models / pair.name)
    shot_models = load_shot_models(options.models / pair.name)
    methods = {
        "bicubic": Recipe("bicubic"),
        "smi": Recipe("smi", steady=0.0),
        "smi, steadied": Recipe("smi"),
        "shot": Recipe("shot"),
    }
    kind = pair.name.rpartition("-")[2]
    rows = []
    for method, recipe in methods.items():
        outcome = measure(pair, recipe, bank, SHOWN, options.frames, lambda _: shot_models)
        decided = outcome.decision
        said = (
            ["", ""]
            if decided is None
            else [f"{decided.back_projection_weight:.2f}", f"{decided.noise:.1f}"]
        )
        rows.append([kind, method, *said, *cells(outcome.figures, SHOWN)])
    return rows


if __name__ == "__main__":
    main()
