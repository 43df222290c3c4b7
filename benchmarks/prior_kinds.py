"""What the prior owes to the kinds of its pictures: short trainings, each without one kind, judged
on Vid4.

    python -m benchmarks.prior_kinds PICTURES --priors FOLDER

`PICTURES` is what `tools.gather_pictures` fills. Kinds of photographs are listed by eye in
`prior_kinds.toml`; `text` and `drawn` are what vsr writes and draws itself. Nothing is trained on
the clips. What is in the folder of priors already is kept.
"""

import tempfile
import tomllib
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.clips import VID4, make_pair, use_shared_data
from benchmarks.measure import measure, print_table
from benchmarks.shot import source_of
from vsr.models.prior import load_prior
from vsr.pipeline.options import Recipe
from vsr.train.dataset import train

KINDS: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
MADE = {"text": ("sequences.text=0",), "drawn": ("sequences.drawn=0",)}
"""What vsr makes itself, by the settings that leave it out."""
ALL = "nothing"
METRICS = ("psnr_y", "lpips")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--priors", type=Path, required=True, help="folder for what is trained")
    choices = (ALL, *KINDS, *MADE)
    parser.add_argument("--without", nargs="+", choices=choices, default=list(choices))
    parser.add_argument("--iterations", type=int, nargs=2, default=(1500, 2000))
    parser.add_argument("--frames", type=int, default=9)
    given = parser.parse_args()
    use_shared_data()
    given.priors.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in given.without:
        prior = given.priors / f"without_{kind}.safetensors"
        if not prior.exists():
            train_without(kind, given.pictures / "training", prior, given.iterations)
        rows.append([kind, *judge(prior, given.frames)])
        print(rows[-1], flush=True)
    columns = [f"{clip}, {unit}" for clip in (*VID4, "mean") for unit in ("dB", "LPIPS")]
    print_table("prior alone, trained without", ["kind", *columns], rows)


def train_without(kind: str, pictures: Path, prior: Path, iterations: tuple[int, int]) -> None:
    settings = [f"iterations={list(iterations)}", *MADE.get(kind, ())]
    left_out = set(KINDS.get(kind, ()))
    with tempfile.TemporaryDirectory() as folder:
        for picture in sorted(pictures.iterdir()):
            if picture.stem not in left_out:
                (Path(folder) / picture.name).symlink_to(picture.resolve())
        train([Path(folder)], prior, method="shot-prior", settings=settings)


def judge(prior: Path, frames: int) -> list[str]:
    models = [load_prior(prior).as_shot_model()]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in VID4:
            pair = make_pair(name, Path(folder))
            outcome = measure(pair, Recipe("shot"), [], METRICS, frames, source_of(models))
            found.append([outcome.figures[metric] for metric in METRICS])
    found.append([sum(values) / len(VID4) for values in zip(*found, strict=True)])
    return [
        f"{value:.{digits}f}" for pair in found for value, digits in zip(pair, (2, 3), strict=True)
    ]


if __name__ == "__main__":
    main()
