"""What a student keeps of the many models that it stands for, and what it costs.

python -m benchmarks.student --frames 12
python -m benchmarks.student --clips calendar city foliage walk
"""

import tempfile
from pathlib import Path

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data
from benchmarks.measure import (
    COLUMNS,
    SECONDS,
    cells,
    labels,
    measure,
    options_parser,
    print_table,
    train_bank,
)
from vsr.models.bank import load_bank
from vsr.pipeline.options import Recipe
from vsr.train.distill import describe_gap, distil

POLICIES = ("smi", "avgi", "student")


def main() -> None:
    parser = options_parser(__doc__, count=15)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["city", "walk"])
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            bank = options.models / name
            train_bank(pair.low, bank, options.count)
            report = distil(pair.low, bank)
            if report.students:
                print(f"{name}: distilled in {report.seconds:.0f} s")
            models = load_bank(bank)
            by_policy = {
                policy: measure(
                    pair, Recipe(policy, steady=0.0), models, COLUMNS, options.frames
                ).figures
                for policy in POLICIES
            }
            rows = [[policy, *cells(figures, COLUMNS)] for policy, figures in by_policy.items()]
            print_table(f"**{name}**", ["policy", *labels(COLUMNS)], rows)
            print(f"\nStudent against AVGI: {difference(by_policy['student'], by_policy['avgi'])}.")
            for model in models:
                if model.card.distillation is not None:
                    print(f"Stored with {model.name}: {describe_gap(model.card.distillation)}.")


def difference(student, teacher) -> str:
    psnr = student["psnr_y"] - teacher["psnr_y"]
    ratios = {
        metric: student[metric] / teacher[metric] for metric in ("flicker", "sharpness", SECONDS)
    }
    return (
        f"{psnr:+.3f} dB, {ratios['flicker']:.3f} x its flicker, {ratios['sharpness']:.3f} x its "
        f"sharpness, 1/{1 / ratios[SECONDS]:.1f} of its time"
    )


if __name__ == "__main__":
    main()
