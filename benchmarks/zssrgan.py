"""Seed 001's table 1 by our own runs, at twice the size: images reduced bicubically, and by a
kernel that is unknown.

    python -m benchmarks.zssrgan                       # the table, some five minutes an image on
    one core
    python -m benchmarks.zssrgan --full                # with the published schedules
    python -m benchmarks.zssrgan --games               # how the games of the three regimes go, on
    the first image

The seed's table is the mean of 15 images that were reduced bicubically, with the regime `fixed`.
The unknown kernel is an anisotropic Gaussian of standard deviations 2.2 and 0.9 pixels of the
truth, turned by 30 degrees. Kernels found are compared with the true one, tap by tap.
"""

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.clips import use_shared_data
from benchmarks.measure import Figures, mean_figures, print_table
from benchmarks.stills import FACTOR, Still, figures_of, make_still
from vsr.engine.tiling import single_thread
from vsr.image.blur import (
    bicubic_kernel,
    gaussian_kernel,
    reduce_blurred,
    taps_from_tensor,
    taps_to_tensor,
)
from vsr.image.resample import resize
from vsr.models.bank import load_bank
from vsr.models.kernel_file import KernelRecord, draw_kernel, write_kernel
from vsr.records import with_settings
from vsr.train.fit import TrainingListener
from vsr.train.keyframe import train_keyframe
from vsr.train.methods import METHODS
from vsr.train.methods.zssrgan import ZSSRGAN_AS_PUBLISHED, ZssrGanOptions
from vsr.upscale import PolicyOptions
from vsr.video.reader import open_clip

UNKNOWN = gaussian_kernel(13, (2.2, 0.9), 30)
REGIMES = ("fixed", "serial", "semi-e2e")
SYSTEMS = ("zssr", "kernelgan", "zssrgan")
PROJECTIONS = PolicyOptions(back_projection_weight=1.0, projections=2)
FORMS = {
    "psnr_y": ".2f",
    "ms_ssim": ".3f",
    "ssim_y": ".3f",
    "sharpness": ".2f",
    "difference": ".3f",
    "correlation": ".3f",
}


def bicubic_reduction(truth: torch.Tensor) -> torch.Tensor:
    return resize(truth, truth.shape[-2] // FACTOR, truth.shape[-1] // FACTOR)


DEGRADATIONS = {"bicubic": bicubic_reduction, "unknown": partial(reduce_blurred, kernel=UNKNOWN)}
TRUE_KERNELS = {"bicubic": F.pad(bicubic_kernel(), (3, 2, 3, 2)), "unknown": UNKNOWN}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images",
        nargs="+",
        default=["set14/comic", "set5/butterfly"],
        metavar="SET/NAME",
        help="of the stills",
    )
    parser.add_argument(
        "--degradations", nargs="+", choices=DEGRADATIONS, default=list(DEGRADATIONS)
    )
    parser.add_argument(
        "--regime", choices=REGIMES, default="serial", help="of ZSSRGAN in the table"
    )
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="beside bicubic"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="option of ZSSR and ZSSRGAN"
    )
    parser.add_argument("--full", action="store_true", help="the published schedules")
    parser.add_argument(
        "--figure", type=Path, help="draw the true unknown kernel above the first image's estimate"
    )
    parser.add_argument(
        "--games", action="store_true", help="losses and accuracies of the regimes, not the table"
    )
    parser.add_argument(
        "--models", type=Path, default=Path(tempfile.gettempdir()) / "vsr-benchmarks" / "zssrgan"
    )
    options = parser.parse_args()
    use_shared_data()
    if options.games:
        show_games(options)
        return
    for degradation in options.degradations:
        several = [systems_of(name, degradation, options) for name in options.images]
        rows = []
        for system in several[0]:
            figures = mean_figures([each[system] for each in several])
            cells = [
                "-" if (value := figures.get(name)) is None else format(value, form)
                for name, form in FORMS.items()
            ]
            rows.append([system, *cells])
        schedule = "published" if options.full else " ".join(["default", *options.set])
        print_table(
            (
                f"**{degradation} kernel, x2, mean of {', '.join(options.images)}, {schedule} "
                "schedule**"
            ),
            [
                "system",
                "PSNR-Y dB",
                "MS-SSIM",
                "SSIM-Y",
                "sharpness",
                "sum of differences",
                "correlation",
            ],
            rows,
        )
    if options.figure is not None:
        draw_kernels(options)


def systems_of(name: str, degradation: str, options: Namespace) -> dict[str, Figures]:
    """Figures of each system on one image, trained where its bank is not there yet."""
    still = make_still(name, options.models / "clips", degradation, DEGRADATIONS[degradation])
    folder = (
        options.models / ("full" if options.full else "default") / f"{still.name}-{degradation}"
    )
    train = partial(
        train_keyframe,
        still.low,
        full=options.full,
        settings=options.set,
        count=1,
        listener=TrainingListener(lambda line: print(line, file=sys.stderr)),
    )
    trainings = {
        "zssr": {},
        "kernelgan": {"kernel": "auto"},
        "zssrgan": {"method": "zssrgan", "regime": options.regime},
    }
    for system in options.systems:
        train(folder / "bank", **({"method": "zssr"} | trainings[system]))
    bank = load_bank(folder / "bank")
    no_kernel = {"difference": None, "correlation": None}
    figures = {"bicubic": figures_of(still, "bicubic", []) | no_kernel}
    for system in options.systems:
        (model,) = [model for model in bank if model.card.system == system]
        kernel = (
            no_kernel
            if model.card.kernel is None
            else likeness(model.card.kernel, TRUE_KERNELS[degradation])
        )
        figures[system] = figures_of(still, system, bank, PROJECTIONS) | kernel
    if degradation == "unknown":
        known = folder / "true.json"
        write_kernel(
            KernelRecord("", 0, 0, FACTOR, taps_from_tensor(UNKNOWN), "given", 0.0, 0.0, (), 0.0),
            known,
        )
        train(folder / "true", method="zssr", kernel=known)
        figures["zssr with the true kernel"] = (
            figures_of(still, "kernelgan", load_bank(folder / "true"), PROJECTIONS) | no_kernel
        )
    return figures


def draw_kernels(options: Namespace) -> None:
    """For half the size and for a quarter of it, left to right."""
    name = options.images[0].split("/")[1]
    bank = load_bank(
        options.models / ("full" if options.full else "default") / f"{name}-unknown" / "bank"
    )
    (found,) = [model.card.kernel for model in bank if model.card.system == "kernelgan"]
    drawn = [draw_kernel(taps_from_tensor(UNKNOWN)), draw_kernel(found)]
    gap = np.full_like(drawn[0][:12], 255)
    cv2.imwrite(str(options.figure), np.concatenate([drawn[0], gap, drawn[1]]))


def likeness(found: tuple[tuple[float, ...], ...], truth: torch.Tensor) -> Figures:
    """Sum of the absolute differences of the taps, and their correlation."""
    taps = taps_to_tensor(found)
    taps = taps if len(taps) == len(truth) else TRUE_KERNELS["bicubic"]
    correlation = torch.corrcoef(torch.stack([taps.flatten(), truth.flatten()]))[0, 1]
    return {"difference": float((taps - truth).abs().sum()), "correlation": float(correlation)}


def show_games(options: Namespace) -> None:
    """Losses over tenths of the training, and the discriminator's accuracy, of each regime."""
    still: Still = make_still(
        options.images[0], options.models / "clips", "unknown", DEGRADATIONS["unknown"]
    )
    with open_clip(still.low) as reader:
        keyframe = next(reader.frames()).pixels
    rows = []
    for regime in REGIMES:
        with single_thread():
            chosen = with_settings(
                ZSSRGAN_AS_PUBLISHED if options.full else ZssrGanOptions(), options.set
            )
            trained = METHODS["zssrgan"].train(
                keyframe, replace(chosen, regime=regime), 0, lambda *_: None
            )
        curves = {"reconstruction (L1)": trained.loss_curve, **trained.curves}
        rows += [
            [regime, name, " ".join(f"{value:.3f}" for value in curve)]
            for name, curve in curves.items()
            if curve
        ]
    print_table(
        f"**{options.images[0]}, unknown kernel**",
        ["regime", "curve", "over tenths of its part"],
        rows,
    )


if __name__ == "__main__":
    main()
