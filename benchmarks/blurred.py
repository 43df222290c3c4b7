"""Clips through an unknown blur, x4: what learning the blur gains, without and with flicker
control.

    python -m benchmarks.blurred --frames 8

The blur is an anisotropic Gaussian of standard deviations 2.2 and 0.9 pixels, turned by 30 degrees,
before each of two halvings. `kernelgan` is ZSSR trained with the kernel that `--kernel auto` finds
on the clip itself.
"""

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.clips import EXCERPTS, SCALE, degraded_pair, use_shared_data
from benchmarks.measure import COLUMNS, SECONDS, cells, labels, measure, options_parser, print_table
from benchmarks.zssrgan import UNKNOWN
from vsr.image.blur import FACTOR, kernel_of_factor, reduce_blurred, taps_from_tensor
from vsr.models.bank import load_bank
from vsr.models.kernel_file import KernelRecord, write_kernel
from vsr.pipeline.options import Recipe
from vsr.train.fit import TrainingListener
from vsr.train.keyframe import train_keyframe

SHOWN = [name for name in COLUMNS if name not in (SECONDS, "lr_psnr")]
ITERATIONS = 150


def main() -> None:
    parser = options_parser(__doc__, count=1)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["walk", "foliage"])
    options = parser.parse_args()
    use_shared_data()
    blur = partial(reduce_blurred, kernel=kernel_of_factor(UNKNOWN, SCALE), factor=SCALE)
    with tempfile.TemporaryDirectory() as folder:
        true_kernel = Path(folder) / "true.json"
        write_kernel(
            KernelRecord("", 0, 0, FACTOR, taps_from_tensor(UNKNOWN), "given", 0.0, 0.0, (), 0.0),
            true_kernel,
        )
        for name in options.clips:
            pair = degraded_pair(name, Path(folder), name, blur, options.frames)
            ways = {
                "bicubic": ("bicubic", None),
                "ZSSR, bicubic kernel": ("zssr", None),
                "ZSSR, kernel found": ("kernelgan", "auto"),
                "ZSSR, true kernel": ("kernelgan", true_kernel),
            }
            rows = []
            for label, (policy, kernel) in ways.items():
                bank = options.models / "blurred" / name / label.replace(" ", "-")
                if policy != "bicubic":
                    settings = [f"iterations={ITERATIONS}"]
                    train_keyframe(
                        pair.low,
                        bank,
                        method="zssr",
                        kernel=kernel,
                        count=1,
                        settings=settings,
                        listener=TrainingListener(print),
                    )
                models = [] if policy == "bicubic" else load_bank(bank)
                for steady in (0.0, "auto"):
                    recipe = Recipe(policy, steady=steady)
                    figures = measure(pair, recipe, models, SHOWN, options.frames).figures
                    rows.append([label, "-" if steady == 0 else steady, *cells(figures, SHOWN)])
            print_table(f"**{name}, blurred**", ["way", "flicker control", *labels(SHOWN)], rows)


if __name__ == "__main__":
    main()
