"""Models that are steady by training: what the loss over neighbouring frames gains, and what it
costs.

python -m benchmarks.neighbours --frames 12 --count 2
"""

import tempfile
from pathlib import Path

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data
from benchmarks.measure import (
    COLUMNS,
    SECONDS,
    cells,
    cpu_seconds,
    labels,
    mean_figures,
    measure,
    options_parser,
    print_table,
)
from vsr.models.bank import load_bank
from vsr.pipeline.options import Recipe
from vsr.train.keyframe import train_keyframe

SHOWN = [name for name in COLUMNS if name not in (SECONDS, "ssim_y")]


def main() -> None:
    parser = options_parser(__doc__, count=2)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["city", "walk"])
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 2])
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            rows = []
            for neighbours in options.neighbours:
                bank = Path(folder) / name / str(neighbours)
                start = cpu_seconds()
                # On one core, so that its time is that of the training alone.
                train_keyframe(pair.low, bank, count=options.count, neighbours=neighbours)
                seconds = (cpu_seconds() - start) / options.count
                figures = mean_figures(
                    [
                        measure(
                            pair, Recipe("smi", steady=0.0), [model], SHOWN, options.frames
                        ).figures
                        for model in load_bank(bank)
                    ]
                )
                rows.append([str(neighbours), *cells(figures, SHOWN), f"{seconds:.1f}"])
            head = ["neighbours", *labels(SHOWN), "CPU-seconds a model"]
            print_table(f"**{name}**: smi, mean of {options.count} models", head, rows)


if __name__ == "__main__":
    main()
