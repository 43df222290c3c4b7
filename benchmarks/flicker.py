"""The front of flicker against sharpness: strengths of flicker control x policies; draws
`docs/figures/front.png`.

    python -m benchmarks.flicker --frames 12
    python -m benchmarks.flicker --frames 12 --policies smi --clips street taxi water cockatoo swan
    flower juggle friday

Each policy runs once without flicker control; every strength is applied to that. Seconds are those
of flicker control.
"""

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter

from benchmarks.clips import EXCERPTS, VID4, Pair, make_pair, use_shared_data
from benchmarks.measure import (
    BORDER_PX,
    SECONDS,
    Figures,
    cells,
    labels,
    mean_figures,
    options_parser,
    print_table,
    train_bank,
    upscale,
)
from benchmarks.shot import train_shot_models
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model, load_bank
from vsr.models.shot_model import ShotModel
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.temporal.deflicker import AUTO_STRENGTH, FlickerControl
from vsr.train.distill import distil
from vsr.upscale import POLICIES
from vsr.video.frames import Frame
from vsr.video.step import ShotRef, Step

TARGET = Path(__file__).resolve().parents[1] / "docs" / "figures" / "front.png"
STRENGTHS = (0.0, 0.5, 0.8, 0.9, AUTO_STRENGTH)
SHOWN = ("psnr_y", "sharpness", "lpips", "warping_error", "flicker", "lr_psnr", SECONDS)
Front = dict[str, dict[float, Figures]]
"""Figures by policy and strength."""


def main() -> None:
    parser = options_parser(__doc__, count=15)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(VID4))
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=POLICIES,
        default=["bicubic", "smi", "ami", "avgi", "student", "shot"],
    )
    parser.add_argument("--strengths", nargs="+", type=float, default=STRENGTHS)
    parser.add_argument("--no-drawing", action="store_true", help="print tables only")
    options = parser.parse_args()
    use_shared_data()
    fronts = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            fronts.append(measure_front(make_pair(name, Path(folder)), options))
            print_front(name, fronts[-1])
    means = mean_front(fronts)
    print_front("Mean of all clips", means)
    if not options.no_drawing:
        draw(means, TARGET)


def measure_front(pair: Pair, options: Namespace) -> Front:
    folder = options.models / pair.name
    shot_models = train_shot_models(pair.low, folder) if "shot" in options.policies else []
    needs_bank = any(POLICIES[name].needs == "bank" for name in options.policies)
    bank = train_bank(pair.low, folder, options.count) if needs_bank else []
    if "student" in options.policies:
        distil(pair.low, folder)
        bank = load_bank(folder)
    return {
        policy: measure_policy(pair, policy, bank, shot_models, options)
        for policy in options.policies
    }


def measure_policy(
    pair: Pair,
    policy: str,
    bank: Sequence[Model],
    shot_models: Sequence[ShotModel],
    options: Namespace,
) -> dict[float, Figures]:
    recipe = Recipe(policy, steady=0.0)
    upscaled = upscale(pair.low, recipe, bank, [], StageClock(), lambda _: shot_models)
    plain = list(islice(upscaled, options.frames))
    return {strength: measure_strength(pair, plain, strength) for strength in options.strengths}


def measure_strength(pair: Pair, plain: Sequence[tuple[Frame, Frame]], strength: float) -> Figures:
    shot = ShotRef(0, 0)
    steps = (Step(low, shot, large.pixels) for low, large in plain)
    start = perf_counter()
    steadied = list(FlickerControl(strength).through(steps))
    seconds = (perf_counter() - start) / len(plain)
    metrics = [name for name in SHOWN if name != SECONDS]
    board = Scoreboard(metrics, has_truth=True, has_low_resolution=True, border=BORDER_PX)
    for step, truth in zip(steadied, pair.truth.pictures(), strict=False):
        board.update(step.result, truth, step.frame.pixels)
    return {name: result.mean for name, result in board.compute().items()} | {SECONDS: seconds}


def mean_front(fronts: Sequence[Front]) -> Front:
    return {
        policy: {
            strength: mean_figures([front[policy][strength] for front in fronts])
            for strength in strengths
        }
        for policy, strengths in fronts[0].items()
    }


def print_front(title: str, front: Front) -> None:
    rows = [
        [policy, "auto" if strength == AUTO_STRENGTH else f"{strength:g}", *cells(figures, SHOWN)]
        for policy, strengths in front.items()
        for strength, figures in strengths.items()
    ]
    print_table(f"**{title}**", ["policy", "steady", *labels(SHOWN)], rows)


def draw(front: Front, target: Path) -> None:
    """Flicker over sharpness, one line for each policy; the truth is where both are perfect."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.8), dpi=110, layout="constrained")
    for policy, strengths in front.items():
        across = [figures["sharpness"] for figures in strengths.values()]
        up = [figures["flicker"] for figures in strengths.values()]
        (line,) = axes.plot(across, up, marker="o", markersize=4, label=policy)
        if AUTO_STRENGTH in strengths:
            chosen = strengths[AUTO_STRENGTH]
            axes.plot(
                chosen["sharpness"],
                chosen["flicker"],
                marker="*",
                markersize=15,
                color=line.get_color(),
            )
        axes.annotate(
            "0",
            (across[0], up[0]),
            textcoords="offset points",
            xytext=(6, 4),
            color=line.get_color(),
        )
    axes.plot(1.0, 0.0, marker="D", markersize=9, color="black", linestyle="none", label="truth")
    axes.set(
        xlabel="sharpness (1: as sharp as the truth)",
        ylabel="flicker (grey levels that the truth does not have)",
        title="Along each line flicker control grows from 0; the star is auto",
        xlim=(None, 1.03),
        ylim=(-0.2, None),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    print(f"\n{target.name}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
