"""How near KernelGAN's kernel comes to the true one, on photographs halved in known ways and
rounded to 8 bits.

    python -m benchmarks.kernels                       # ten seconds a kernel on one core
    python -m benchmarks.kernels --set iterations=2    # as good as without the game: a second each

The distance is the sum of the absolute differences of the taps; a kernel that says nothing would be
bicubic.
"""

import time
from argparse import ArgumentParser
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.clips import Excerpt, use_shared_data
from benchmarks.measure import print_table
from benchmarks.zssrgan import bicubic_reduction
from vsr.image.blur import (
    KernelTaps,
    bicubic_kernel,
    gaussian_kernel,
    reduce_blurred,
    taps_to_tensor,
)
from vsr.models.kernel_file import kernel_summary
from vsr.records import with_settings
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.published_kernelgan import (
    PublishedKernelGanOptions,
    estimate_kernel_as_published,
)

IMAGES = ("set14/comic", "set5/baby", "urban100/img_062", "set14/flowers", "bsd/148026")
BORDER_PX = 5
"""Left off the low resolution: there a kernel saw what is outside the picture."""
BICUBIC = F.pad(bicubic_kernel(), (3, 2, 3, 2))
KERNELS = {
    "2.2 / 0.9 px at 30 degrees": gaussian_kernel(13, (2.2, 0.9), 30),
    "1.5 px all around": gaussian_kernel(13, (1.5, 1.5), 0),
    "3.0 / 1.2 px at 120 degrees": gaussian_kernel(13, (3.0, 1.2), 120),
    "bicubic": BICUBIC,
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", nargs="+", default=IMAGES, metavar="SET/NAME", help="of the stills"
    )
    parser.add_argument(
        "--method",
        choices=("cross-scale", "kernelgan"),
        default="cross-scale",
        help="of vsr kernel",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="option of KernelGAN"
    )
    options = parser.parse_args()
    use_shared_data()
    published = options.method == "kernelgan"
    defaults = PublishedKernelGanOptions() if published else KernelGanOptions()
    settings = with_settings(defaults, options.set)
    rows = []
    for name in options.images:
        truth = next(Excerpt(f"../stills/{name.replace('/', '/HR/')}.png").pictures())
        rows += [row_of(name, truth, kernel, settings) for kernel in KERNELS]
    print_table(
        "**Kernels found, x2**",
        [
            "image",
            "true kernel",
            "distance",
            "bicubic's",
            "rests on",
            "mismatch (bicubic's)",
            "found",
            "CPU-s",
        ],
        rows,
    )


def row_of(
    name: str,
    truth: torch.Tensor,
    kernel: str,
    options: KernelGanOptions | PublishedKernelGanOptions,
) -> list[str]:
    """One estimate beside its truth."""
    reduce = (
        bicubic_reduction
        if kernel == "bicubic"
        else partial(reduce_blurred, kernel=KERNELS[kernel])
    )
    low = (reduce(truth).clamp(0, 1) * 255).round() / 255
    start = time.process_time()
    published = isinstance(options, PublishedKernelGanOptions)
    estimate = (estimate_kernel_as_published if published else estimate_kernel)(
        low[:, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX], options, 0, lambda *_: None
    )
    seconds = time.process_time() - start
    kernel_fit = estimate.kernel_fit
    return [
        name,
        kernel,
        f"{distance(estimate.kernel, KERNELS[kernel]):.2f}",
        f"{float((BICUBIC - KERNELS[kernel]).abs().sum()):.2f}",
        kernel_fit.basis,
        f"{kernel_fit.mismatch:.2f} ({kernel_fit.bicubic_mismatch:.2f})",
        kernel_summary(estimate.kernel).split(": ")[1].removeprefix("standard deviation "),
        f"{seconds:.0f}",
    ]


def distance(found: KernelTaps, truth: torch.Tensor) -> float:
    """Sum of the absolute differences of the taps, bicubic's eight laid into the middle of
    thirteen."""
    taps = taps_to_tensor(found)
    return float(((taps if len(taps) == len(truth) else BICUBIC) - truth).abs().sum())


if __name__ == "__main__":
    main()
