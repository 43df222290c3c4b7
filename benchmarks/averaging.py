"""What averaging gains, by how the models are trained: the more alike they are, the less there is
to average out.

python -m benchmarks.averaging --frames 8 --count 6
"""

import tempfile
from pathlib import Path

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data
from benchmarks.measure import COLUMNS, SECONDS, cells, labels, measure, options_parser, print_table
from vsr.models.bank import load_bank
from vsr.pipeline.options import Recipe
from vsr.train.keyframe import train_keyframe
from vsr.train.workers import available_cores

VARIANTS = {
    "default": {},
    "twice as long": {"iterations": 1000},
    "stronger adversarial loss": {"adversarial_weight": 0.3},
    "earlier, denser, stronger adversarial loss": {
        "adversarial_weight": 0.2,
        "adversarial_every": 1,
        "adversarial_start": 0.3,
    },
}
"""Changes to the quick recipe."""
SHOWN = [name for name in COLUMNS if name not in (SECONDS, "ssim_y", "lr_psnr")]


def main() -> None:
    parser = options_parser(__doc__, count=6)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["city", "street"])
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            rows = []
            for variant, changes in VARIANTS.items():
                bank = Path(folder) / name / variant
                train_keyframe(
                    pair.low,
                    bank,
                    count=options.count,
                    settings=[f"{key}={value}" for key, value in changes.items()],
                    workers=available_cores(),
                )
                models = load_bank(bank)
                one, mean = (
                    measure(pair, Recipe(policy, steady=0.0), models, SHOWN, options.frames).figures
                    for policy in ("smi", "avgi")
                )
                less = [
                    f"{100 * (mean[metric] / one[metric] - 1):+.1f} %"
                    for metric in ("warping_error", "flicker")
                ]
                rows += [
                    [variant, "smi", *cells(one, SHOWN), ""],
                    ["", "avgi", *cells(mean, SHOWN), " / ".join(less)],
                ]
            print_table(
                f"**{name}**",
                ["training", "policy", *labels(SHOWN), "avgi's warping error / flicker"],
                rows,
            )


if __name__ == "__main__":
    main()
