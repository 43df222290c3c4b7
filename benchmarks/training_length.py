"""What longer training gives: the default recipe against more iterations, on models of clips with a
truth.

    python -m benchmarks.training_length --frames 5

On two cores 15 models of a 320x180 keyframe take some 50 seconds with 500 iterations each, 3
minutes with 2000 and 10 minutes with 7000.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data
from benchmarks.measure import COLUMNS, SECONDS, cells, labels, measure, options_parser, print_table
from vsr.models.bank import load_bank
from vsr.pipeline.options import Recipe
from vsr.train.keyframe import train_keyframe

SHOWN = [name for name in COLUMNS if name not in (SECONDS, "ssim_y", "lr_psnr")]


def main() -> None:
    parser = options_parser(__doc__, count=3)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["city", "walk"])
    parser.add_argument("--iterations", type=int, nargs="+", default=[500, 2000, 7000])
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            rows = []
            for iterations in options.iterations:
                bank, start = Path(folder) / name / str(iterations), time.process_time()
                train_keyframe(
                    pair.low, bank, count=options.count, settings=[f"iterations={iterations}"]
                )
                each = (time.process_time() - start) / options.count
                models = load_bank(bank)
                for policy in ("smi", "avgi"):
                    figures = measure(
                        pair, Recipe(policy, steady=0.0), models, SHOWN, options.frames
                    ).figures
                    rows.append([f"{iterations}", policy, f"{each:.0f}", *cells(figures, SHOWN)])
            title = f"**{name}, {options.count} models**"
            print_table(title, ["iterations", "policy", "CPU s a model", *labels(SHOWN)], rows)


if __name__ == "__main__":
    main()
