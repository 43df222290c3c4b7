r"""The shot model against one model, with and without flicker control, and against AVGI.

python -m benchmarks.shot
python -m benchmarks.shot --frames 12 --clips street taxi water cockatoo swan flower juggle friday \
    --versions smi "smi auto" shot
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.clips import EXCERPTS, VID4, Pair, make_pair, use_shared_data
from benchmarks.measure import COLUMNS, Figures, cpu_seconds, measure, options_parser, train_bank
from benchmarks.quality import print_figures, print_means
from vsr.models.shot_model import ShotModel, load_shot_models
from vsr.pipeline.options import Recipe
from vsr.train.shot import train_shot
from vsr.upscale import PolicyOptions

VERSIONS = {
    "bicubic": Recipe("bicubic"),
    "smi": Recipe("smi", steady=0.0),
    "smi auto": Recipe("smi"),
    "avgi": Recipe("avgi", steady=0.0),
    "shot fast": Recipe("shot", policies=PolicyOptions(quality="fast")),
    "shot": Recipe("shot"),
    "shot best": Recipe("shot", policies=PolicyOptions(quality="best")),
}
"""Without flicker control, but for `auto` and the shot model, which has its own."""


def main() -> None:
    parser = options_parser(__doc__, count=15)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(VID4))
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=list(VERSIONS))
    options = parser.parse_args()
    use_shared_data()
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            outcomes[name] = measure_versions(
                pair, options.versions, options.models / name, options.count, options.frames
            )
            print_figures(name, outcomes[name])
    print_means(outcomes)


def measure_versions(
    pair: Pair, versions: list[str], folder: Path, count: int, frames: int | None
) -> dict[str, Figures]:
    policies = {VERSIONS[version].policy for version in versions}
    bank = (
        train_bank(pair.low, folder, count if "avgi" in policies else 1)
        if policies & {"smi", "avgi"}
        else []
    )
    shot_models = train_shot_models(pair.low, folder) if "shot" in policies else []
    return {
        version: measure(
            pair, VERSIONS[version], bank, COLUMNS, frames, lambda _: shot_models
        ).figures
        for version in versions
    }


def train_shot_models(clip: Path, folder: Path, kernel: str | None = None) -> list[ShotModel]:
    """The shot models of a clip with the default settings, but for the kernel; those that are there
    already are kept."""
    start = cpu_seconds()
    report = train_shot(clip, folder, shots="all", kernel=kernel)
    if report.trained:
        each = (cpu_seconds() - start) / len(report.trained)
        print(
            f"{folder.name}: {len(report.trained)} shot models, {each:.1f} CPU-seconds each",
            file=sys.stderr,
        )
    return load_shot_models(folder)


if __name__ == "__main__":
    main()
