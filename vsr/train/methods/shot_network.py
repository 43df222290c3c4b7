"""Trains the two networks of a shot model across scale, on nothing but frames of the shot.

The first network learns to double frames that were halved. The second learns from what the first,
fused along the motion, makes of frames that were reduced four times: its inputs in use are such
pictures, not clean ones.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F

from vsr.image.blur import KernelTaps, kernel_of_factor, reduce_blurred, taps_to_tensor
from vsr.image.resample import resize
from vsr.models.networks.shot_network import BLOCK, ShotNetwork, ShotNetworkSpec
from vsr.models.shot_model import Quality
from vsr.progress import never
from vsr.restore.data_term import CLEAN, DataTerm
from vsr.temporal.fusion import FusionOptions
from vsr.temporal.registration import ShotRegistrar
from vsr.train.crops import draw_placement, integer_sampler, without_halo
from vsr.train.fit import IterationProgress, Training, fit, loss_curve_summary
from vsr.train.optimizer import AveragedNetwork, cosine_decay, warm_decay
from vsr.train.state_file import StateFile
from vsr.upscale.shot_stages import STAGE_SCALE, input_planes, pad_planes, to_luma, upscale_shot

Example = tuple[torch.Tensor, torch.Tensor]
"""Planes of a window (planes, H + 2 halo, W + 2 halo), and the luma (1, H, W) that the frame should
have."""
CPU = torch.device("cpu")
CONTRAST_WINDOW_PX = 5
CROPS_OF_A_CORE = 2
"""Crops of a batch that one core of a CPU learns from; the number of cores must not change it. All
four crops by one core take 42 and 15 ms of its time (first network and second), two by two 45 and
18, one by one 50 and 24."""


@dataclass(frozen=True)
class ShotTrainingOptions:
    """Settings of the training of a shot model."""

    network: ShotNetworkSpec = ShotNetworkSpec()
    """Shape of both, unless they begin from a prior, which has its own."""
    iterations: tuple[int, int] = (450, 450)
    """Steps of the first network and of the second, which begins as a copy of the first unless
    there is a prior. 0 leaves a network as it begins."""
    learning_rates: tuple[float, float] = (2e-3, 1e-3)
    example_scales: tuple[tuple[float, ...], tuple[float, ...]] = ((1.0, 0.8, 0.6), (1.0, 0.8))
    """The frames at these sizes give the targets of the two."""
    crop_px: int = 40
    batch: int = 4
    contrast_weight: float = 0.0
    """Weight of the local contrast in the loss; see `contrast_loss`."""
    average_decay: float = 0.99
    """Decay of the exponential moving average of the weights, which is what is kept."""
    fusion: FusionOptions = FusionOptions(memory=0.9, look_ahead=2)
    """Fusion of what the second network learns from."""
    kernel: KernelTaps | None = None
    """Blur of the reduction to half the size by which the shot was made; None: bicubic."""
    held_out: float = 0.0
    """Share of the examples, the last ones, that a network is not trained on: where it does not
    restore them better than the network it began from, that one stays."""


ADAPTATION = ShotTrainingOptions(
    iterations=(150, 0),
    learning_rates=(1e-3, 4e-4),
    example_scales=((1.0, 0.8), (1.0, 0.8)),
    contrast_weight=0.12,
    held_out=0.2,
)
"""From a prior. Its second network learned with LPIPS, which a clip's training lacks: 16 steps for
it take juggle's LPIPS from .245 to .283, and its PSNR up by .16 dB."""
ADAPTATIONS: dict[Quality, ShotTrainingOptions] = {
    "fast": replace(ADAPTATION, iterations=(40, 80), learning_rates=(5e-4, 4e-4)),
    "balanced": ADAPTATION,
    "best": ADAPTATION,
}
"""From the prior of each quality; that of `fast` knows no LPIPS."""


@dataclass(frozen=True, eq=False)
class TrainedShotNetworks:
    """The networks of a shot model, on the CPU, and how they were trained."""

    networks: tuple[ShotNetwork, ShotNetwork]
    iterations: tuple[int, int]
    """0 where the network is the one that the training began from."""
    loss_curve: tuple[float, ...]


def train_shot_model(
    runs: Sequence[Sequence[torch.Tensor]],
    options: ShotTrainingOptions,
    seed: int,
    progress: IterationProgress,
    budget_seconds: float | None = None,
    *,
    device: torch.device = CPU,
    states: StateFile | None = None,
    should_stop: Callable[[], bool] = never,
    starts: tuple[ShotNetwork, ShotNetwork] | None = None,
) -> TrainedShotNetworks:
    """Train on runs of consecutive frames of one shot, each frame RGB (3, h, w) in [0, 1].

    Deterministic for a seed, whatever the number of cores; with a budget the clock ends the
    training of each network that is trained after its share of it, instead of the iterations.
    `starts` are the networks of a prior, from which the two begin.
    """
    training = ShotModelTraining(runs, options, seed, budget_seconds, device, starts)
    fit(training, progress, states, should_stop)
    return training.trained()


class ShotModelTraining(Training):
    """The two networks of a shot model, one after the other."""

    kept = (
        "losses",
        "seconds",
        "_random",
        "_stage_iterations",
        "_stage_began",
        "_network",
    )
    _examples: list[Example]
    """Examples of the network in training; empty until they are built."""

    def __init__(
        self,
        runs: Sequence[Sequence[torch.Tensor]],
        options: ShotTrainingOptions,
        seed: int,
        budget_seconds: float | None = None,
        device: torch.device = CPU,
        starts: tuple[ShotNetwork, ShotNetwork] | None = None,
    ) -> None:
        super().__init__(sum(options.iterations))
        if starts is not None:
            # Crops and windows follow from the shape of the networks.
            options = replace(options, network=starts[0].spec)
        self._began = perf_counter()
        self._options, self._budget_seconds = options, budget_seconds
        self._random = torch.Generator().manual_seed(seed)
        # Copies: a prior serves other trainings as well.
        self._starts = starts and tuple(copy.deepcopy(start).to(device) for start in starts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Made on the CPU, whose random numbers are the same everywhere.
            self._newborn = ShotNetwork(options.network).to(device)
        # Color is enlarged with the detail of luma, so luma is all that is learned.
        self._lumas = [[to_luma(frame).to(device) for frame in run] for run in runs]
        self._finished: list[ShotNetwork] = []
        self._held_out: list[Example] = []
        self._stage_iterations = [0] * len(options.iterations)
        self._begin_stage()

    @property
    def seconds(self) -> float:
        """Time that this training has taken, over all its runs."""
        return perf_counter() - self._began

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        # A training that goes on has the time of its earlier runs behind it.
        self._began = perf_counter() - seconds

    @property
    def iterations_done(self) -> int:
        """Number of those planned that are behind; with a budget by the clock."""
        stage = len(self._finished)
        planned = self._options.iterations
        if stage == len(planned):
            return self.iterations
        return sum(planned[:stage]) + round(self._share_done() * planned[stage])

    @property
    def is_over(self) -> bool:
        return len(self._finished) == len(self._options.iterations)

    def step(self) -> None:
        """Restore the luma of some crops; behind the last of a network begin the next one."""
        options, stage = self._options, len(self._finished)
        if not self._examples:
            # Built late: what a resumed training has behind it needs none.
            self._examples = self._build_examples(stage)
            # Even, for the network works on blocks of pixels; no longer than any example's side.
            smallest = min(min(target.shape[-2:]) for _, target in self._examples)
            self._side = min(options.crop_px, smallest - smallest % BLOCK)
            # The last ones in time: what lies between frames that are trained on tells little.
            count = round(options.held_out * len(self._examples)) if self._starts else 0
            self._held_out = self._examples[len(self._examples) - count :]
            self._examples = self._examples[: len(self._examples) - count]
            if not self._stage_iterations[stage]:
                self._stage_began = self.seconds
        rate = cosine_decay(options.learning_rates[stage], self._share_done())
        planes, target = self._draw_crops()
        # A GPU wants all crops at once.
        size = CROPS_OF_A_CORE if target.device.type == "cpu" else len(target)
        losses = [
            partial(self._crop_loss, *crops)
            for crops in zip(planes.split(size), target.split(size), strict=True)
        ]
        self._stage_iterations[stage] += 1
        decay = warm_decay(options.average_decay, self._stage_iterations[stage])
        self.losses.append(self._network.descend_mean(losses, rate, decay))
        if self._share_done() >= 1:
            self._end_stage()

    def trained(self) -> TrainedShotNetworks:
        """Hand over the averaged networks."""
        first, second = (network.cpu() for network in self._finished)
        return TrainedShotNetworks(
            (first, second),
            (self._stage_iterations[0], self._stage_iterations[1]),
            loss_curve_summary(self.losses),
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of the network in training, and the weights of the one before it."""
        finished = [network.state_dict() for network in self._finished]
        return super().state_dict() | {"finished": finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the network that a state is of."""
        # Those that are not trained are there already.
        while len(self._finished) < len(state["finished"]):
            # No examples are built here, so the end of the stage judges nothing anew.
            self._network.average.load_state_dict(state["finished"][len(self._finished)])
            self._end_stage()
        super().load_state_dict(state)

    def _build_examples(self, stage: int) -> list[Example]:
        """Make the examples of all frames, at the sizes of a stage."""
        halo = self._network.network.spec.halo
        return [
            example
            for scale in self._options.example_scales[stage]
            for run in self._lumas
            for example in _examples(run, scale, self._finished, self._options, halo)
        ]

    def _crop_loss(self, planes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self._loss(_restore(self._network.network, planes), target)

    def _loss(self, result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compare restored crops (N, 1, H, W) with what they should be."""
        loss = F.l1_loss(result, target)
        if self._options.contrast_weight:
            loss = loss + self._options.contrast_weight * contrast_loss(result, target)
        return loss

    def _start(self, stage: int) -> ShotNetwork:
        """The network that a stage's begins as: the prior's, else that of the stage before."""
        if self._starts is not None:
            return self._starts[stage]
        return self._finished[-1] if self._finished else self._newborn

    def _rate_factors(self, network: ShotNetwork) -> list[float]:
        """Factors of the learning rate of a network's parameters."""
        return [1.0 for _ in network.parameters()]

    def _begin_stage(self) -> None:
        stage = len(self._finished)
        start = copy.deepcopy(self._start(stage))
        if not self._options.iterations[stage]:
            self._finish(start.eval().requires_grad_(False))
            return
        self._network = AveragedNetwork(
            start.train().requires_grad_(True), factors=self._rate_factors(start)
        )
        self._examples, self._held_out = [], []
        self._stage_began = self.seconds

    def _end_stage(self) -> None:
        stage = len(self._finished)
        network = self._network.average
        if self._held_out:
            start = self._start(stage)
            # A short training may lose more than it finds: it must gain on frames it has not seen.
            if restoration_error(network, self._held_out) >= restoration_error(
                start, self._held_out
            ):
                network = copy.deepcopy(start).eval().requires_grad_(False)
                # By this 0 the model's card tells that the network is the prior's own.
                self._stage_iterations[stage] = 0
        self._finish(network)

    def _finish(self, network: ShotNetwork) -> None:
        self._finished.append(network)
        if not self.is_over:
            self._begin_stage()

    def _share_done(self) -> float:
        """Share of the network's training that is behind, 0 to 1: by the clock with a budget.

        At least one iteration is always made.
        """
        stage = len(self._finished)
        done, planned = self._stage_iterations[stage], self._options.iterations
        if self._budget_seconds is None:
            return done / planned[stage]
        if done == 0:
            return 0.0
        # Ends are fixed, not lengths: building the second network's examples comes out of its part.
        end = self._budget_seconds * sum(map(bool, planned[: stage + 1])) / sum(map(bool, planned))
        return min(1.0, (self.seconds - self._stage_began) / max(end - self._stage_began, 1e-3))

    def _draw_crops(self) -> Example:
        """Draw a batch of matching crops, each of an example drawn at random, flipped and turned at
        random."""
        options, draw = self._options, integer_sampler(self._random)
        halo = self._network.network.spec.halo
        inputs, targets = [], []
        for _ in range(options.batch):
            planes, target = self._examples[draw(len(self._examples))]
            place = draw_placement(target.shape[-2:], self._side, draw, grid=BLOCK)
            # Planes and target by one place: they must show the same.
            inputs.append(place.cut(planes, halo))
            targets.append(place.cut(target))
        return torch.stack(inputs), torch.stack(targets)


def contrast_loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compare the local contrast of fine detail, (N, 1, H, W) each: the mean difference of its root
    mean squares over small windows.

    Absolute errors alone ask for the median of what a place may look like, which is flat where
    leaves or gravel lie; this asks for as much contrast as there is, wherever it is.
    """
    return F.l1_loss(_fine_contrast(result), _fine_contrast(target))


def _fine_contrast(luma: torch.Tensor) -> torch.Tensor:
    # At the rim the mean is that of what lies within.
    mean = F.avg_pool2d(
        luma, CONTRAST_WINDOW_PX, 1, CONTRAST_WINDOW_PX // 2, count_include_pad=False
    )
    fine = luma - mean
    power = F.avg_pool2d(fine.square(), CONTRAST_WINDOW_PX, 1)
    # The root of 0 has no slope.
    return (power + 1e-5).sqrt()


def _examples(
    run: Sequence[torch.Tensor],
    scale: float,
    networks: Sequence[ShotNetwork],
    options: ShotTrainingOptions,
    halo: int,
) -> Iterator[Example]:
    """Make windows with the luma that their frame should have, for frames (1, h, w) at `scale`.

    For the first network (none is trained yet) the input is half the target's size, else a quarter:
    the trained one brings it to half.
    """
    # The second network sees pictures that the first has enlarged, so it starts one halving lower.
    reduction = STAGE_SCALE ** (1 + len(networks))
    # Multiples of the reduction: each low pixel stands for as many whole ones.
    height, width = (
        reduction * max(1, round(side * scale / reduction)) for side in run[0].shape[-2:]
    )
    # At several sizes: a shot shows the same things at few scales, and more teach more.
    targets = [resize(luma, height, width).clamp(0, 1) for luma in run]
    lows = [_quantize(_reduced(target, reduction, options.kernel)) for target in targets]
    inputs = lows
    if networks:
        # With fusion, as in use: the second network must know its rest of noise and ghosts.
        inputs = enlarge_fused(lows, networks[0], options.fusion, options.kernel)
    yield from windows(lows, inputs, targets, options.network.neighbours, halo)


def enlarge_fused(
    lows: Sequence[torch.Tensor],
    network: ShotNetwork,
    fusion: FusionOptions,
    kernel: KernelTaps | None = None,
    data_term: DataTerm = CLEAN,
) -> list[torch.Tensor]:
    """Double frames (1, h, w) of a shot by the first network, fused along the motion."""
    networks = (network, network)
    return list(upscale_shot(lows, networks, STAGE_SCALE, data_term, fusion, kernel=kernel))


def windows(
    lows: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
    reach: int,
    halo: int,
) -> Iterator[Example]:
    """Make the window of each of consecutive frames: `inputs` (1, ., .) brought to the size of the
    `targets` (1, H, W), along the motion of the low-resolution frames."""
    enlarged = [
        resize(picture, *target.shape[-2:]) for picture, target in zip(inputs, targets, strict=True)
    ]
    # Motion is estimated from the reduced frames, as in use, where no larger ones exist.
    registrar = ShotRegistrar()
    for index, low in enumerate(lows):
        registrar.add(index, low.expand(3, -1, -1))
    for index, target in enumerate(targets):
        near = range(max(0, index - reach), min(len(lows), index + reach + 1))
        planes = input_planes(
            enlarged[index], index, [(other, enlarged[other]) for other in near], reach, registrar
        )
        # Registrations are large; those of frames that no window reaches any more are dropped.
        registrar.discard_before(index + 1 - reach)
        yield pad_planes(planes, halo), target


def _restore(network: ShotNetwork, planes: torch.Tensor) -> torch.Tensor:
    """Restore the luma (N, 1, H, W) of windows."""
    restored: torch.Tensor = without_halo(planes[:, :1], network.spec.halo) + network(planes)
    return restored


def restoration_error(network: ShotNetwork, examples: Sequence[Example]) -> float:
    """Mean absolute error of luma that a network leaves in examples."""
    with torch.inference_mode():
        errors = [
            float(F.l1_loss(_restore(network, planes[None]), target[None]))
            for planes, target in examples
        ]
    return sum(errors) / len(errors)


def _reduced(target: torch.Tensor, reduction: int, kernel: KernelTaps | None) -> torch.Tensor:
    """Reduce a luma (1, H, W) as the camera did that made the clip."""
    if kernel is not None:
        return reduce_blurred(
            target, kernel_of_factor(taps_to_tensor(kernel), reduction), reduction
        )
    height, width = target.shape[-2:]
    return resize(target, height // reduction, width // reduction)


def _quantize(luma: torch.Tensor) -> torch.Tensor:
    """Round to 8 bits, as a clip's own frames are."""
    return (luma.clamp(0, 1) * 255).round() / 255
