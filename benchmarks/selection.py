"""Does a policy find the best model of a bank? One model for each of several unrelated keyframes,
every clip's frames.

    python -m benchmarks.selection

A frame is enlarged by every model of the bank; the best is the one of the highest PSNR-Y. `regret`
is what is lost by taking the first of the ranking instead, `chance` a model drawn at random.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.clips import EXCERPTS, VID4, Pair, make_pair, use_shared_data
from benchmarks.measure import BORDER_PX, options_parser, print_table, train_bank
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model
from vsr.upscale import POLICIES, Decision, PolicyContext, PolicyOptions
from vsr.video.frames import Frame
from vsr.video.reader import open_clip
from vsr.video.step import ShotRef, Step

DEFAULT_CLIPS = (
    *VID4,
    "street",
    "taxi",
    "cockatoo",
    "flower",
    "swan",
    "bunny",
    "carphone",
    "friday",
)
SELECTORS = ("dsrfi", "selfrec")
TOPS = (1, 2, 3)


@dataclass(frozen=True)
class Trial:
    """One frame: how good each model is, and in which order a policy ranks them."""

    own: str
    """Name of the model of the frame's own clip."""
    quality: dict[str, float]
    """PSNR-Y in dB by model."""
    rankings: dict[str, list[str]]
    """Models, best first, by policy."""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=DEFAULT_CLIPS)
    parser.add_argument(
        "--tests", type=int, default=3, metavar="N", help="unseen frames of each clip (default 3)"
    )
    options = parser.parse_args()
    use_shared_data()
    with tempfile.TemporaryDirectory() as folder:
        pairs = [make_pair(name, Path(folder)) for name in options.clips]
        own = [train_bank(pair.low, options.models / pair.name, 1)[0] for pair in pairs]
        trials = [
            try_models(frame, truth, own, model.name)
            for pair, model in zip(pairs, own, strict=True)
            for frame, truth in unseen_frames(pair, model, options.tests, options.frames)
        ]
    rows = [summary(selector, trials) for selector in SELECTORS]
    head = [
        "policy",
        *(f"best in top {top}" for top in TOPS),
        "own clip first",
        "Spearman",
        "regret dB",
    ]
    print_table(f"{len(own)} models, {len(trials)} frames", head, [*rows, chance(trials, len(own))])


def unseen_frames(
    pair: Pair, model: Model, count: int, frames: int | None
) -> list[tuple[Frame, torch.Tensor]]:
    """`count` frames spread over the clip with their truth, none of them the keyframe."""
    with open_clip(pair.low) as reader:
        both = list(islice(zip(reader.frames(), pair.truth.pictures(), strict=False), frames))
    unseen = [(frame, truth) for frame, truth in both if frame.index != model.card.keyframe]
    return [
        unseen[round(part * (len(unseen) - 1))] for part in torch.linspace(0, 1, count).tolist()
    ]


def try_models(frame: Frame, truth: torch.Tensor, models: Sequence[Model], own: str) -> Trial:
    rankings = {
        selector: [
            name for name, _ in run_policy(selector, PolicyOptions(), frame, models)[1].ranking
        ]
        for selector in SELECTORS
    }
    quality = {}
    for model in models:
        large, _ = run_policy("smi", PolicyOptions(model=model.name), frame, models)
        board = Scoreboard(["psnr_y"], has_truth=True, has_low_resolution=False, border=BORDER_PX)
        board.update(large, truth)
        quality[model.name] = board.compute()["psnr_y"].mean
    return Trial(own, quality, rankings)


def run_policy(
    policy: str, options: PolicyOptions, frame: Frame, models: Sequence[Model]
) -> tuple[Frame, Decision]:
    """A policy on a shot of one frame."""
    context = PolicyContext(models, 4.0, torch.device("cpu"), "", options)
    stage = POLICIES[policy].make(context)
    [step] = stage.through(iter([Step(frame, ShotRef(0, frame.index))]))
    return step.result, stage.decisions[0]


def summary(selector: str, trials: Sequence[Trial]) -> list[str]:
    best = [max(trial.quality, key=trial.quality.get) for trial in trials]
    rankings = [trial.rankings[selector] for trial in trials]
    accuracy = [
        fmean(name in ranking[:top] for name, ranking in zip(best, rankings, strict=True))
        for top in TOPS
    ]
    own = fmean(ranking[0] == trial.own for ranking, trial in zip(rankings, trials, strict=True))
    spearman = fmean(rank_correlation(trial.quality, trial.rankings[selector]) for trial in trials)
    regret = fmean(
        max(trial.quality.values()) - trial.quality[trial.rankings[selector][0]] for trial in trials
    )
    return [
        selector,
        *(f"{share:.2f}" for share in accuracy),
        f"{own:.2f}",
        f"{spearman:.2f}",
        f"{regret:.2f}",
    ]


def chance(trials: Sequence[Trial], models: int) -> list[str]:
    regret = fmean(max(trial.quality.values()) - fmean(trial.quality.values()) for trial in trials)
    accuracy = [f"{min(top / models, 1):.2f}" for top in TOPS]
    return ["chance", *accuracy, f"{1 / models:.2f}", "0.00", f"{regret:.2f}"]


def rank_correlation(quality: dict[str, float], ranking: Sequence[str]) -> float:
    """Spearman's, between quality and the place in the ranking; 1 where the best comes first and
    the worst last."""
    by_quality = sorted(quality, key=quality.get, reverse=True)
    count = len(ranking)
    squares = sum((by_quality.index(name) - place) ** 2 for place, name in enumerate(ranking))
    return 1 - 6 * squares / (count * (count**2 - 1))


if __name__ == "__main__":
    main()
