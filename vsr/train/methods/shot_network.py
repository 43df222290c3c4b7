"""Trains the two networks of a shot model across scale, on nothing but frames of the shot.

The first network learns to double frames that were halved. The second learns from what the first,
fused along the motion, makes of frames that were reduced four times: its inputs in use are such
pictures, not clean ones.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F

from vsr.image.resample import resize
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.temporal.fusion import FusionOptions
from vsr.temporal.registration import ShotRegistrar
from vsr.train.methods.adam import Adam, cosine_decay
from vsr.train.methods.crops import integer_sampler
from vsr.train.methods.method import IterationProgress, loss_curve_summary
from vsr.train.methods.quick import update_ema
from vsr.upscale.shot_stages import STAGE_SCALE, input_planes, pad_planes, to_luma, upscale_shot

Example = tuple[torch.Tensor, torch.Tensor]
"""Planes of a window (planes, H + 2 halo, W + 2 halo), and the luma (1, H, W) that the frame should
have."""


@dataclass(frozen=True)
class ShotTrainingOptions:
    """Settings of the training of a shot model."""

    network: ShotNetworkSpec = ShotNetworkSpec()
    iterations: tuple[int, int] = (450, 450)
    """Of the first network and of the second, which begins as a copy of the first."""
    learning_rates: tuple[float, float] = (2e-3, 1e-3)
    example_scales: tuple[tuple[float, ...], tuple[float, ...]] = ((1.0, 0.8, 0.6), (1.0, 0.8))
    """The frames at these sizes give the targets of the two."""
    crop_px: int = 40
    batch: int = 4
    average_decay: float = 0.99
    """Of the exponential moving average of the weights, which is what is kept."""
    fusion: FusionOptions = FusionOptions(memory=0.9, look_ahead=2)
    """Of what the second network learns from."""


@dataclass(frozen=True, eq=False)
class TrainedShotNetworks:
    """What training made."""

    networks: tuple[ShotNetwork, ShotNetwork]
    iterations: tuple[int, int]
    loss_curve: tuple[float, ...]


def train_shot_model(
    runs: Sequence[Sequence[torch.Tensor]],
    options: ShotTrainingOptions,
    seed: int,
    progress: IterationProgress,
    budget_seconds: float | None = None,
) -> TrainedShotNetworks:
    """Train on runs of consecutive frames of one shot, each frame RGB (3, h, w) in [0, 1].

    Deterministic for a seed and thread count; with a budget the clock ends the training of each
    network after half of it, instead of the iterations.
    """
    start = perf_counter()
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ShotNetwork(options.network)
    lumas = [[to_luma(frame) for frame in run] for run in runs]
    networks: list[ShotNetwork] = []
    losses: list[float] = []
    done: list[int] = []
    total = sum(options.iterations)
    for stage, planned in enumerate(options.iterations):
        examples = [
            example
            for scale in options.example_scales[stage]
            for run in lumas
            for example in _examples(run, scale, networks, options)
        ]
        end = (
            None
            if budget_seconds is None
            else start + budget_seconds * (stage + 1) / len(options.iterations)
        )
        schedule = _Schedule(planned, end)
        before = sum(options.iterations[:stage])

        def report(share: float, loss: float, before: int = before, planned: int = planned) -> None:
            progress(before + round(share * planned), total, loss)

        network, stage_losses = _train(network, examples, options, stage, random, schedule, report)
        networks.append(network)
        losses += stage_losses
        done.append(len(stage_losses))
    return TrainedShotNetworks(
        (networks[0], networks[1]), (done[0], done[1]), loss_curve_summary(losses)
    )


class _Schedule:
    """How far training has come: by iterations, or by the clock where that has an end."""

    def __init__(self, iterations: int, end_seconds: float | None) -> None:
        self._iterations = iterations
        self._start, self._end = perf_counter(), end_seconds

    def share_done(self, iteration: int) -> float:
        """From 0 to 1; at least one iteration is always made."""
        if self._end is None:
            return iteration / self._iterations
        if iteration == 0:
            return 0.0
        return min(1.0, (perf_counter() - self._start) / max(self._end - self._start, 1e-3))


def _train(
    start: ShotNetwork,
    examples: Sequence[Example],
    options: ShotTrainingOptions,
    stage: int,
    random: torch.Generator,
    schedule: _Schedule,
    report: Callable[[float, float], None],
) -> tuple[ShotNetwork, list[float]]:
    network = copy.deepcopy(start).requires_grad_(True)
    average = copy.deepcopy(start).requires_grad_(False)
    optimizer = Adam(network, options.learning_rates[stage])
    side = _crop_side(examples, options)
    losses: list[float] = []
    while (share := schedule.share_done(len(losses))) < 1:
        optimizer.learning_rate = cosine_decay(options.learning_rates[stage], share)
        planes, target = _draw_crops(examples, side, options, random)
        halo = options.network.halo
        output = planes[:, :1, halo:-halo, halo:-halo] + network(planes)
        loss = F.l1_loss(output, target)
        optimizer.minimize(loss)
        losses.append(loss.item())
        update_ema(average, network, min(options.average_decay, len(losses) / (len(losses) + 9)))
        report(schedule.share_done(len(losses)), losses[-1])
    return average, losses


def _examples(
    run: Sequence[torch.Tensor],
    scale: float,
    networks: Sequence[ShotNetwork],
    options: ShotTrainingOptions,
) -> Iterator[Example]:
    """Windows with the luma that their frame should have, for frames (1, h, w) at `scale`.

    For the first network (none is trained yet) the input is half the target's size, else a quarter:
    the trained one brings it to half.
    """
    reduction = STAGE_SCALE ** (1 + len(networks))
    height, width = (
        reduction * max(1, round(side * scale / reduction)) for side in run[0].shape[-2:]
    )
    targets = [resize(luma, height, width).clamp(0, 1) for luma in run]
    lows = [
        _quantize(resize(target, height // reduction, width // reduction)) for target in targets
    ]
    inputs = lows
    if networks:
        pair = (networks[0], networks[0])
        inputs = list(upscale_shot(lows, pair, STAGE_SCALE, 1.0, options.fusion))
    enlarged = [resize(picture, height, width) for picture in inputs]
    reach = options.network.neighbours
    registrar = ShotRegistrar()
    for index, low in enumerate(lows):
        registrar.add(index, low.expand(3, -1, -1))
    for index, target in enumerate(targets):
        near = range(max(0, index - reach), min(len(run), index + reach + 1))
        planes = input_planes(
            enlarged[index], index, [(other, enlarged[other]) for other in near], reach, registrar
        )
        registrar.discard_before(index + 1 - reach)
        yield pad_planes(planes, options.network.halo), target


def _quantize(luma: torch.Tensor) -> torch.Tensor:
    """In 8 bits, as a clip's own frames are."""
    return (luma.clamp(0, 1) * 255).round() / 255


def _crop_side(examples: Sequence[Example], options: ShotTrainingOptions) -> int:
    """Even, and no longer than any side of the examples."""
    smallest = min(min(target.shape[-2:]) for _, target in examples)
    return min(options.crop_px, smallest - smallest % 2)


def _draw_crops(
    examples: Sequence[Example], side: int, options: ShotTrainingOptions, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of matching crops, each of an example drawn at random, flipped and turned at
    random."""
    draw = integer_sampler(random)
    extended = side + 2 * options.network.halo
    inputs, targets = [], []
    for _ in range(options.batch):
        planes, target = examples[draw(len(examples))]
        top, left = (
            2 * draw((target.shape[1] - side) // 2 + 1),
            2 * draw((target.shape[2] - side) // 2 + 1),
        )
        turns, flip = draw(4), draw(2)
        crops = (
            planes[:, top : top + extended, left : left + extended],
            target[:, top : top + side, left : left + side],
        )
        augmented = [torch.rot90(crop, turns, (1, 2)) for crop in crops]
        if flip:
            augmented = [crop.flip(2) for crop in augmented]
        inputs.append(augmented[0])
        targets.append(augmented[1])
    return torch.stack(inputs), torch.stack(targets)
