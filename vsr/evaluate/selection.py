"""Does a policy find the best model of a bank? The evidence of SinGANxSR on DSRF, for a bank and
pictures with a truth.

Every picture is enlarged by every model; the best model is the one of the best figure. Policies
that choose rank the models without the truth, and are judged by how often the best one is among
their first, by the correlation of their misfit with the figure, and by what their first choice
loses: the regret.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import isfinite
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr

from vsr.engine.options import choose_device
from vsr.errors import InputError, ModelError, OutputError, UsageError
from vsr.evaluate.images import RgbImage, to_rgb_image
from vsr.files import write_atomically
from vsr.image.resample import resize
from vsr.metrics import METRICS
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.bank import Model, load_bank
from vsr.models.networks import on_device
from vsr.records import load_options, to_table
from vsr.train.dataset.dataset import DATASET_SUFFIXES, find_images
from vsr.upscale import POLICIES, PolicyContext, PolicyOptions
from vsr.upscale.policy import Decision
from vsr.video.frames import Frame
from vsr.video.reader import open_clip
from vsr.video.step import ShotRef, Step

TOPS = (1, 2, 3)
MAP_LIMIT = 3.0
"""Deviations of the keyframe's own map at which the colors of a discrimination map end."""
LABEL_PX = 16


@dataclass(frozen=True)
class SelectionStudy:
    """A recipe for `vsr experiment` that judges policies by the models they choose."""

    title: str
    selectors: tuple[str, ...]
    """Policies that rank the bank's models: dsrfi, selfrec."""
    metrics: tuple[str, ...] = ("lpips", "psnr_y")
    """The figures that say which model is best, each with a table of its own."""
    pictures: int = 12
    """Spread over the folder or clip; 0 takes all."""
    scale: int = 4
    border: int = 8
    """Pixels left off each side when scoring."""
    as_published: bool = False
    """Whether models enlarge as the policies' sources have it, as in a run `--as-published`."""


@dataclass(frozen=True)
class PictureTrial:
    """One picture: the figures of every model, and every policy's misfits."""

    picture: str
    figures: dict[str, dict[str, float | None]]
    """Metric and model."""
    misfits: dict[str, dict[str, float]]
    """Policy and model; the policy takes the least."""


@dataclass(frozen=True)
class SelectionRow:
    """One policy judged by one metric; shares are of the pictures."""

    metric: str
    policy: str
    top: tuple[float, ...]
    """Share of pictures whose best model is the first, among the first two, three."""
    correlation: float | None
    """Spearman's, of misfit and figure over all pictures and models; above 0 where less misfit
    means better pictures."""
    regret: float
    """Mean loss of the first choice against the best model, in the metric's unit."""


@dataclass(frozen=True)
class SelectionReport:
    """The rows of a study, chance among them, and the pictures that they are of."""

    study: SelectionStudy
    models: tuple[str, ...]
    trials: tuple[PictureTrial, ...]
    rows: tuple[SelectionRow, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values for strict JSON."""
        return {
            "study": to_table(self.study),
            "models": list(self.models),
            "trials": [asdict(trial) for trial in self.trials],
            "rows": [asdict(row) for row in self.rows],
        }

    def to_markdown(self) -> str:
        """The tables, one for each metric."""
        lines = [self.study.title, "", f"{len(self.models)} models, {len(self.trials)} pictures"]
        for metric in self.study.metrics:
            head = " | ".join(f"best in top {top}" for top in TOPS)
            unit = "" if METRICS[metric].unit == "1" else f" {METRICS[metric].unit}"
            lines += ["", f"**{metric}**", "", f"| policy | {head} | correlation | regret{unit} |"]
            lines.append("|---|" + "--:|" * (len(TOPS) + 2))
            rows = [row for row in self.rows if row.metric == metric]
            for row in rows:
                correlation = "-" if row.correlation is None else f"{row.correlation:.2f}"
                shares = " | ".join(f"{share:.2f}" for share in row.top)
                lines.append(f"| {row.policy} | {shares} | {correlation} | {row.regret:.4g} |")
            if not rows:
                lines.append("| not available |" + " - |" * (len(TOPS) + 2))
        return "\n".join(lines)


def is_selection_study(path: Path) -> bool:
    """Whether a recipe is one of these, and not one that trains networks."""
    try:
        return bool(re.search(r"(?m)^selectors\s*=", path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError):
        # Whoever loads it says what is wrong.
        return False


def load_selection_study(path: Path) -> SelectionStudy:
    """Load a recipe. Raises `UsageError` for one that is wrong."""
    study = load_options(SelectionStudy, path)
    for name in study.selectors:
        if name not in ("dsrfi", "selfrec"):
            raise UsageError(f"{path}: {name} ranks no models; expected dsrfi or selfrec.")
    return study


def run_selection_study(
    study: SelectionStudy,
    data: Path,
    models: Path,
    *,
    device: str = "auto",
    pictures: Path | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> SelectionReport:
    """Judge the policies on the models of a bank and the pictures of `data`, a clip or a folder at
    full size, which are reduced here.

    The folder `pictures` takes a discrimination map of every critic for each of them. Raises
    `ModelError` for a bank of less than two models, `InputError` for data without a picture.
    """
    target = choose_device(device)
    bank = load_bank(models)
    options = PolicyOptions(as_published=study.as_published)
    context = PolicyContext(bank, float(study.scale), target, "", options)
    members = context.models
    if len(members) < 2:
        raise ModelError(
            f"{models} has {len(members)} models; choosing needs two or more. Train one on each of "
            "several keyframes, as with --shots all."
        )
    trials = []
    for name, picture in _pictures_of(data, study):
        notify(f"picture {name}")
        height, width = (side // study.scale for side in picture.shape[-2:])
        truth = picture[:, : height * study.scale, : width * study.scale].to(target)
        low = resize(truth, height, width).clamp(0, 1)
        trials.append(_try(name, low, truth, context, study))
        if pictures is not None:
            path = pictures / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.png"
            _write(path, draw_maps(members, low))
    rows = [row for metric in study.metrics for row in judge(trials, metric, study.selectors)]
    names = tuple(model.name for model in members)
    return SelectionReport(study, names, tuple(trials), tuple(rows))


def judge(
    trials: Sequence[PictureTrial], metric: str, selectors: Sequence[str]
) -> list[SelectionRow]:
    """Judge policies, and a model drawn at random, by one metric; none where it has no figures."""
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    # As losses: the least is best, whatever the metric.
    losses = [
        {
            model: sign * figure
            for model, figure in trial.figures[metric].items()
            if figure is not None
        }
        for trial in trials
    ]
    known = [(trial, loss) for trial, loss in zip(trials, losses, strict=True) if loss]
    if not known:
        return []
    rows = []
    for selector in selectors:
        firsts, regrets, pairs = [], [], []
        for trial, loss in known:
            misfits = trial.misfits[selector]
            ranking = sorted(loss, key=lambda model: misfits[model])
            firsts.append(ranking.index(min(loss, key=lambda model: loss[model])))
            regrets.append(loss[ranking[0]] - min(loss.values()))
            pairs += [(misfits[model], loss[model]) for model in loss]
        top = tuple(fmean(first < count for first in firsts) for count in TOPS)
        correlation = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        found = correlation if isfinite(correlation) else None
        rows.append(SelectionRow(metric, selector, top, found, fmean(regrets)))
    by_chance = fmean(fmean(loss.values()) - min(loss.values()) for _, loss in known)
    shares = tuple(fmean(min(count / len(loss), 1.0) for _, loss in known) for count in TOPS)
    return [*rows, SelectionRow(metric, "chance", shares, 0.0, by_chance)]


def draw_maps(models: Sequence[Model], low: torch.Tensor) -> RgbImage:
    """Draw what each model's critic says of each place of a picture (3, h, w), beside the picture.

    Blue is below and red above the mean on the critic's own keyframe, at the ends by `MAP_LIMIT` of
    its deviations there; the title tells DSRF, the mean of the map so drawn.
    """
    size = (low.shape[-1], low.shape[-2])
    tiles = [_titled(to_rgb_image(low), "picture")]
    for model in models:
        if model.critic is None:
            continue
        mean, deviation = model.card.critic_mean or 0.0, model.card.critic_std or 1.0
        with torch.inference_mode():
            scores = on_device(model.critic, low.device)((2 * low - 1)[None])[0, 0].cpu().numpy()
        part = np.clip((scores - mean) / (MAP_LIMIT * max(deviation, 1e-12)), -1, 1)
        shades = np.rint(127.5 * (part + 1)).astype(np.uint8)
        colored = cv2.applyColorMap(cv2.resize(shades, size), cv2.COLORMAP_TURBO)[..., ::-1]
        tiles.append(
            _titled(np.ascontiguousarray(colored), f"{model.name} {scores.mean() - mean:+.3f}")
        )
    return np.hstack(tiles)


def _titled(image: RgbImage, title: str) -> RgbImage:
    bar = np.full((LABEL_PX, image.shape[1], 3), 255, np.uint8)
    # The end of a model's name tells it from the others.
    room = max(image.shape[1] // 6, 1)
    cv2.putText(bar, title[-room:], (1, 11), cv2.FONT_HERSHEY_PLAIN, 0.7, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, image])


def _try(
    name: str, low: torch.Tensor, truth: torch.Tensor, context: PolicyContext, study: SelectionStudy
) -> PictureTrial:
    frame = Frame(low, 0, 0, Fraction(1, 25))
    misfits = {
        selector: dict(_run(selector, frame, context)[1].ranking) for selector in study.selectors
    }
    figures: dict[str, dict[str, float | None]] = {metric: {} for metric in study.metrics}
    for model in context.models:
        generator = context.alternate(
            context.decide(frame, [model.name], "one after another"), frame.pixels
        )[0]
        board = Scoreboard(
            study.metrics, has_truth=True, has_low_resolution=True, border=study.border
        )
        board.update(Frame(generator(low), 0, 0, Fraction(1, 25)), truth, low)
        for metric, result in board.compute().items():
            figures[metric][model.name] = result.mean
    return PictureTrial(name, figures, misfits)


def _run(policy: str, frame: Frame, context: PolicyContext) -> tuple[torch.Tensor, Decision]:
    """Run a policy on a shot of one frame."""
    stage = POLICIES[policy].make(context)
    [step] = stage.through(iter([Step(frame, ShotRef(0, 0))]))
    assert step.picture is not None
    return step.picture, stage.decisions[0]


def _pictures_of(data: Path, study: SelectionStudy) -> Iterator[tuple[str, torch.Tensor]]:
    """Pictures of a folder by name, or frames of a clip by number, spread over it."""
    if data.is_dir() and any(path.suffix.lower() in DATASET_SUFFIXES for path in data.rglob("*")):
        paths = find_images(data)
        for number in _spread(len(paths), study.pictures):
            with open_clip(paths[number]) as reader:
                frame = next(reader.frames(), None)
            if frame is None:
                raise InputError(f"{paths[number]} holds no picture.")
            yield paths[number].stem, frame.pixels
        return
    with open_clip(data) as reader:
        count = sum(1 for _ in reader.frames())
    wanted = set(_spread(count, study.pictures))
    if not wanted:
        raise InputError(f"{data} has no frame that can be decoded.")
    with open_clip(data) as reader:
        for frame in reader.frames():
            if frame.index in wanted:
                yield f"{data.stem}-{frame.index:06d}", frame.pixels


def _spread(available: int, wanted: int) -> list[int]:
    count = min(wanted, available) or available
    return [(2 * number + 1) * available // (2 * count) for number in range(count)]


def _write(path: Path, image: RgbImage) -> None:
    is_made, png = cv2.imencode(".png", image[..., ::-1])
    assert is_made, "any picture of 8 bit is a PNG"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, png.tobytes())
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Name another folder for the pictures."
        ) from None
