"""Every policy against the truth on real clips: Vid4's own pairs and two clips reduced four times
by vsr itself.

python -m benchmarks.quality --frames 20
python -m benchmarks.quality --policies bicubic --clips calendar city foliage walk
"""

import tempfile
from pathlib import Path

from benchmarks.clips import EXCERPTS, VID4, make_pair, use_shared_data
from benchmarks.measure import (
    COLUMNS,
    cells,
    labels,
    mean_figures,
    measure,
    options_parser,
    print_table,
    train_bank,
)
from vsr.pipeline.options import Recipe
from vsr.upscale import POLICIES


def main() -> None:
    parser = options_parser(__doc__, count=15)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=[*VID4, "street", "water"])
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=POLICIES,
        default=["bicubic", "smi", "dsrfi", "selfrec", "ami", "avgi"],
    )
    options = parser.parse_args()
    use_shared_data()
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            pair = make_pair(name, Path(folder))
            needs_bank = any(POLICIES[name].needs != "nothing" for name in options.policies)
            bank = train_bank(pair.low, options.models / name, options.count) if needs_bank else []
            outcomes[name] = {
                policy: measure(
                    pair, Recipe(policy, steady=0.0), bank, COLUMNS, options.frames
                ).figures
                for policy in options.policies
            }
            print_figures(name, outcomes[name])
    print_means(outcomes)


def print_means(outcomes) -> None:
    """Means over Vid4, where all of it was measured, and over all clips, of figures by clip and
    policy."""
    for title, names in (("Mean of Vid4", VID4), ("Mean of all clips", list(outcomes))):
        if set(names) <= outcomes.keys():
            policies = outcomes[names[0]]
            means = {
                policy: mean_figures([outcomes[name][policy] for name in names])
                for policy in policies
            }
            print_figures(title, means)


def print_figures(title, by_policy) -> None:
    rows = [[policy, *cells(figures, COLUMNS)] for policy, figures in by_policy.items()]
    print_table(f"**{title}**", ["policy", *labels(COLUMNS)], rows)


if __name__ == "__main__":
    main()
