"""ZSSR against bicubic interpolation on photographs, at twice the size, reduced bicubically.

python -m benchmarks.zssr                # default schedule, a minute an image on one core
python -m benchmarks.zssr --full         # the published schedule, ten minutes or more an image
"""

import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.clips import use_shared_data
from benchmarks.measure import print_table
from benchmarks.stills import FACTOR, figures_of, make_still
from vsr.image.resample import resize
from vsr.models.bank import load_bank
from vsr.train.keyframe import train_keyframe
from vsr.upscale import PolicyOptions

WAYS = {
    "one pass": PolicyOptions(back_projection_weight=1.0),
    "ten projections": PolicyOptions(back_projection_weight=1.0, projections=10),
    "ten projections, self-ensemble": PolicyOptions(
        back_projection_weight=1.0, projections=10, self_ensemble=True
    ),
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", nargs="+", default=["set5/butterfly", "set5/woman"], metavar="SET/NAME"
    )
    parser.add_argument("--full", action="store_true", help="the published schedule")
    parser.add_argument(
        "--models", type=Path, default=Path(tempfile.gettempdir()) / "vsr-benchmarks" / "zssr"
    )
    options = parser.parse_args()
    use_shared_data()
    rows = []
    for name in options.images:
        still = make_still(
            name,
            options.models / "clips",
            "bicubic",
            lambda truth: resize(truth, truth.shape[-2] // FACTOR, truth.shape[-1] // FACTOR),
        )
        bank = options.models / ("full" if options.full else "default") / still.name
        start = time.process_time()
        report = train_keyframe(still.low, bank, method="zssr", full=options.full, count=1)
        seconds = f"{time.process_time() - start:.0f}" if report.trained else "-"
        models = load_bank(bank)
        bicubic = figures_of(still, "bicubic", [])["psnr_y"]
        made = [figures_of(still, "zssr", models, way)["psnr_y"] for way in WAYS.values()]
        rows.append(
            [
                still.name,
                f"{bicubic:.2f}",
                *(f"{value:.2f}" for value in made),
                f"{made[-1] - bicubic:+.2f}",
                seconds,
            ]
        )
    schedule = "published" if options.full else "default"
    print_table(
        f"**x2, PSNR-Y in dB, {schedule} schedule**",
        ["image", "bicubic", *WAYS, "gain", "CPU-seconds of training"],
        rows,
    )


if __name__ == "__main__":
    main()
