"""The prior at scales other than 4: bicubic interpolation, the shot model that knows the clip
alone, the prior alone, and the shot model that begins from it.

    python -m benchmarks.scales --clips calendar walk
"""

import tempfile
from argparse import ArgumentParser
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import torch

from benchmarks.clips import EXCERPTS, VID4, use_shared_data, write_lossless
from benchmarks.measure import print_table, upscale
from benchmarks.shot import source_of, train_shot_models
from vsr.image.resample import resize
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.prior import load_shipped_prior
from vsr.models.shot_model import ShotModel
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock

SCALES = ("1.5", "2", "3", "8")
METRICS = ("psnr_y", "lpips")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(VID4))
    parser.add_argument("--scales", nargs="+", default=list(SCALES))
    parser.add_argument("--frames", type=int, default=12)
    given = parser.parse_args()
    use_shared_data()
    rows = []
    for name in given.clips:
        for scale in given.scales:
            for method, cells in measure_scale(name, Fraction(scale), given.frames).items():
                rows.append([name, scale, method, *cells])
                print(rows[-1], flush=True)
    print_table("scales", ["clip", "scale", "method", "PSNR-Y dB", "LPIPS (squeeze)"], rows)


def measure_scale(name: str, scale: Fraction, frames: int) -> dict[str, list[str]]:
    """The figures of each method, of frames that were reduced by `scale`."""
    # A multiple of 24 stays whole at all scales, and even where it is small.
    truths = [whole_multiple(picture, 24) for picture in islice(EXCERPTS[name].pictures(), frames)]
    height, width = (int(side / scale) for side in truths[0].shape[-2:])
    recipe = Recipe("shot", scale=float(scale))
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "low.mkv"
        write_lossless(clip, (resize(truth, height, width) for truth in truths))
        alone = train_shot_models(clip, Path(folder) / "none", "none")
        begun = train_shot_models(clip, Path(folder) / "begun")
        prior = [load_shipped_prior().as_shot_model()]
        return {
            "bicubic": score(clip, truths, replace(recipe, policy="bicubic"), []),
            "clip alone": score(clip, truths, recipe, alone),
            "prior alone": score(clip, truths, recipe, prior),
            "prior and clip": score(clip, truths, recipe, begun),
        }


def score(
    clip: Path, truths: list[torch.Tensor], recipe: Recipe, models: list[ShotModel]
) -> list[str]:
    board = Scoreboard(METRICS, has_truth=True, has_low_resolution=False, border=8)
    made = upscale(clip, recipe, [], [], StageClock(), source_of(models))
    for (_, large), truth in zip(made, truths, strict=True):
        board.update(large, truth)
    results = board.compute()
    return [f"{results['psnr_y'].mean:.2f}", f"{results['lpips'].mean:.3f}"]


def whole_multiple(picture: torch.Tensor, multiple: int) -> torch.Tensor:
    height, width = (side - side % multiple for side in picture.shape[-2:])
    return picture[:, :height, :width]


if __name__ == "__main__":
    main()
