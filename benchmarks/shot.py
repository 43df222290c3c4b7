r"""The shot model against one model, with and without flicker control, against AVGI, and against
the prior alone.

python -m benchmarks.shot
python -m benchmarks.shot --prior none --models FOLDER --versions "shot fast" shot "shot best"
python -m benchmarks.shot --versions prior shot --border 0
python -m benchmarks.shot --frames 12 --clips street taxi water cockatoo swan flower juggle friday \
    --versions smi "smi auto" shot
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from benchmarks.clips import EXCERPTS, VID4, Pair, make_pair, use_shared_data
from benchmarks.measure import (
    BORDER_PX,
    COLUMNS,
    Figures,
    cpu_seconds,
    measure,
    options_parser,
    train_bank,
)
from benchmarks.quality import print_figures, print_means
from vsr.models.prior import PriorChoice, load_shipped_prior
from vsr.models.shot_model import ShotModel, load_shot_models
from vsr.pipeline.options import Recipe
from vsr.train.shot import train_shot
from vsr.upscale import PolicyOptions
from vsr.upscale.policy import ShotModelSource

VERSIONS = {
    "bicubic": Recipe("bicubic"),
    "smi": Recipe("smi", steady=0.0),
    "smi auto": Recipe("smi"),
    "avgi": Recipe("avgi", steady=0.0),
    "shot fast": Recipe("shot", policies=PolicyOptions(quality="fast")),
    "shot": Recipe("shot"),
    "shot best": Recipe("shot", policies=PolicyOptions(quality="best")),
    "prior fast": Recipe("shot", policies=PolicyOptions(quality="fast")),
    "prior": Recipe("shot"),
    "prior best": Recipe("shot", policies=PolicyOptions(quality="best")),
}
"""Without flicker control, but for `auto` and the shot model, which has its own. `prior`
is the shipped prior, trained on nothing of the clip."""


def main() -> None:
    parser = options_parser(__doc__, count=15)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(VID4))
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument(
        "--prior",
        choices=get_args(PriorChoice),
        default="auto",
        help="what shot models begin from (auto: as the quality has it); for none take a folder "
        "--models of its own",
    )
    parser.add_argument(
        "--border", type=int, default=BORDER_PX, help="pixels left off when scoring"
    )
    options = parser.parse_args()
    use_shared_data()
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            outcomes[name] = measure_versions(
                pair,
                options.versions,
                options.models / name,
                options.count,
                options.frames,
                options.prior,
                options.border,
            )
            print_figures(name, outcomes[name])
    print_means(outcomes)


def measure_versions(
    pair: Pair,
    versions: list[str],
    folder: Path,
    count: int,
    frames: int | None,
    prior: PriorChoice,
    border: int,
) -> dict[str, Figures]:
    policies = {VERSIONS[version].policy for version in versions if "prior" not in version}
    bank = (
        train_bank(pair.low, folder, count if "avgi" in policies else 1)
        if policies & {"smi", "avgi"}
        else []
    )
    figures = {}
    for version in versions:
        recipe = replace(VERSIONS[version], prior=prior)
        models: list[ShotModel] = []
        if "prior" in version:
            models = [load_shipped_prior(recipe.prior_choice).as_shot_model()]
        elif recipe.policy == "shot":
            models = train_shot_models(pair.low, folder, recipe.prior_choice)
        figures[version] = measure(
            pair, recipe, bank, COLUMNS, frames, source_of(models), border
        ).figures
    return figures


def source_of(models: list[ShotModel]) -> ShotModelSource:
    return lambda _: models


def train_shot_models(
    clip: Path,
    folder: Path,
    prior: PriorChoice = "auto",
    kernel: str | None = None,
    restore: float | Literal["auto"] = "auto",
    quantizer: float | None = None,
) -> list[ShotModel]:
    """The shot models of a clip with the default settings, but for the prior, the kernel, the
    restoration and the quantizer; those that are there already are kept."""
    start = cpu_seconds()
    report = train_shot(
        clip,
        folder,
        shots="all",
        prior=prior,
        kernel=kernel,
        restore=restore,
        quantizer=quantizer,
    )
    if report.trained:
        each = (cpu_seconds() - start) / len(report.trained)
        print(
            f"{folder.name}: {len(report.trained)} shot models, {each:.1f} CPU-seconds each",
            file=sys.stderr,
        )
    return load_shot_models(folder)


if __name__ == "__main__":
    main()
