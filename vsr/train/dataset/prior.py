"""Trains the prior of shot models on pictures: both networks, one after the other, on sequences
made of the pictures as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import FolderLock, hidden_sibling, write_atomically
from vsr.image.degradation import KnownDegradation
from vsr.image.resample import resize
from vsr.models.networks.growth import can_grow, grow
from vsr.models.networks.modulated import DegradationKnots, ModulatedShotNetwork
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.prior import PRIOR_ARCH, Prior, PriorCard, encode_prior, load_prior
from vsr.models.shot_model import NetworkPair
from vsr.records import option, to_table, with_settings
from vsr.restore.data_term import DataTerm, trust_for
from vsr.temporal.fusion import FusionOptions
from vsr.train.dataset.dataset import usable_images
from vsr.train.dataset.degradations import DegradationOptions
from vsr.train.dataset.methods import PRIOR_METHOD, pictures_identity
from vsr.train.dataset.outputs import DatasetReport, check_output_path, check_overwrite
from vsr.train.dataset.perceptual import load_perceptual
from vsr.train.dataset.sequences import MIN_PICTURE_PX, SequenceMaker, SequenceOptions
from vsr.train.fit import ProgressAggregator, TrainingListener, iterate, resume
from vsr.train.methods.shot_network import (
    Example,
    ShotModelTraining,
    ShotTrainingOptions,
    TrainedShotNetworks,
    enlarge_fused,
    restoration_error,
    windows,
)
from vsr.train.options import DatasetTraining
from vsr.train.state_file import StateFile

VALIDATION_SEQUENCES = 6
VALIDATION_SEED = 2**31
"""Beyond all seeds of trainings, so that no sequence of theirs is seen again."""


@dataclass(frozen=True)
class PriorOptions:
    """A training of a prior; defaults are for two cores of a CPU and less than an hour."""

    iterations: tuple[int, int] = option(
        (9000, 12000), "Steps of the two networks; 0 leaves one as it begins.", at_least=0
    )
    learning_rates: tuple[float, float] = option(
        (2e-3, 1.5e-3), "Learning rates that the two begin with.", above=0
    )
    batch: int = option(4, "Crops in a step.", at_least=1)
    crop_px: int = option(64, "Side of the crops.", at_least=16)
    contrast_weight: float = option(
        0.15, "Weight of the local contrast in the loss: 0 is softer.", at_least=0
    )
    average_decay: float = option(
        0.999, "Decay of the moving average of the weights, which is kept.", at_least=0, below=1
    )
    pool: int = option(160, "Sequences that crops are drawn from at a time.", at_least=1)
    steps_per_sequence: int = option(
        40, "Steps after which the oldest of them gives way to a new one.", at_least=1
    )
    validate_every: int = option(1500, "Steps between two validations.", at_least=1)
    first: ShotNetworkSpec = ShotNetworkSpec(width=64, layers=6)
    second: ShotNetworkSpec = ShotNetworkSpec(width=40, layers=5)
    fusion: FusionOptions = FusionOptions(memory=0.9, look_ahead=2)
    """Fusion of what the second network learns from."""
    sequences: SequenceOptions = SequenceOptions()
    trains: Literal["networks", "changes"] = option(
        "networks",
        "Networks for clean shots, or, of those of --start, the changes for degraded shots.",
    )
    knots: DegradationKnots = DegradationKnots()
    degradations: DegradationOptions = DegradationOptions()
    perceptual_weight: float = option(
        0.0, "Weight of LPIPS in the loss of the second network; needs its weights.", at_least=0
    )
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "Precision of the convolutions; bf16 is fast on a GPU, and on a CPU with AMX."
    )

    def __post_init__(self) -> None:
        if not any(self.iterations):
            raise UsageError("iterations are 0 for both networks: give one of them some steps.")
        if self.first.neighbours != self.second.neighbours:
            raise UsageError("first.neighbours and second.neighbours must be the same.")


class PriorTraining(ShotModelTraining):
    """The two networks of a prior, one after the other, over sequences that come and go.

    The pool of sequences follows from the number of steps alone, so that a training that was
    stopped sees what it would have seen.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        options: PriorOptions,
        seed: int,
        device: torch.device,
        starts: NetworkPair,
    ) -> None:
        alike = ShotTrainingOptions(
            network=options.first,
            iterations=options.iterations,
            learning_rates=options.learning_rates,
            crop_px=options.crop_px,
            batch=options.batch,
            contrast_weight=options.contrast_weight,
            average_decay=options.average_decay,
            fusion=options.fusion,
        )
        # Before the first network is made ready, which looks at them.
        self._prior_options, self._device = options, device
        super().__init__([], alike, seed, device=device, starts=starts)
        self._maker = make_sequences(paths, options, seed)
        self._pool: dict[int, list[Example]] = {}
        self._perceptual = load_perceptual("lpips", device) if options.perceptual_weight else None

    def examples_of(self, maker: SequenceMaker, number: int) -> list[Example]:
        """Make the windows of a sequence for the network in training, in half precision."""
        sequence = maker.make(number)
        lows = [low.to(self._device) for low in sequence.low]
        inputs, targets = lows, sequence.clean
        halo = self._network.network.spec.halo
        # Fine quantizers as well, though runs leave these to networks for clean shots: the changes
        # then grow from nothing.
        known = KnownDegradation(sequence.degradation.qp or 0.0)
        data_term = DataTerm(trust=trust_for(sequence.degradation))
        # The first network doubles the size, so its truth is half the clean frame's; the second
        # goes on from there.
        if self._finished:
            first = self._finished[0]
            if isinstance(first, ModulatedShotNetwork):
                first = first.for_degradation(known)
            fusion = self._options.fusion
            inputs = enlarge_fused(lows, first, fusion, data_term=data_term)
        else:
            targets = [halved(clean) for clean in targets]
        targets = [target.to(self._device) for target in targets]
        reach = self._options.network.neighbours
        examples = windows(lows, inputs, targets, reach, halo)
        if self._prior_options.trains == "changes":
            shares = torch.tensor(self._prior_options.knots.shares(known), device=self._device)
            examples = (
                (torch.cat([planes, _filled(shares, planes)]), target)
                for planes, target in examples
            )
        # The pool takes half the memory so; crops become float32 when they are drawn.
        return [(planes.half(), target.half()) for planes, target in examples]

    def error(self, maker: SequenceMaker) -> float:
        """Mean absolute error of luma, in gray levels, on sequences of another maker."""
        errors = []
        for number in range(VALIDATION_SEQUENCES):
            examples = [
                (planes.float(), target.float())
                for planes, target in self.examples_of(maker, number)
            ]
            errors.append(restoration_error(self._network.average, examples))
        return 255 * sum(errors) / len(errors)

    @property
    def stage(self) -> int:
        """Number of networks that are trained."""
        return len(self._finished)

    def _build_examples(self, stage: int) -> list[Example]:
        self._pool = {}
        return self._pooled(stage)

    def _draw_crops(self) -> Example:
        options, stage = self._prior_options, len(self._finished)
        if self._stage_iterations[stage] % options.steps_per_sequence == 0:
            self._examples = self._pooled(stage)
        # Of two batches the one of more contrast: flat walls teach little, and there are many.
        drawn = [super(PriorTraining, self)._draw_crops() for _ in range(2)]
        pairs = []
        for one, other in zip(*(zip(*batch, strict=True) for batch in drawn), strict=True):
            pairs.append(max(one, other, key=lambda pair: float(pair[1].float().std())))
        planes, targets = zip(*pairs, strict=True)
        return torch.stack(planes).float(), torch.stack(targets).float()

    def _pooled(self, stage: int) -> list[Example]:
        """Bring the pool up to the step that is about to be made."""
        options = self._prior_options
        newest = self._stage_iterations[stage] // options.steps_per_sequence
        # Each network has sequences of its own numbers.
        first = stage * 10**6 + newest
        wanted = range(first, first + options.pool)
        self._pool = {number: self._pool[number] for number in wanted if number in self._pool}
        for number in wanted:
            if number not in self._pool:
                self._pool[number] = self.examples_of(self._maker, number)
        return [example for number in wanted for example in self._pool[number]]

    def _rate_factors(self, network: ShotNetwork) -> list[float]:
        if self._prior_options.trains == "networks":
            return super()._rate_factors(network)
        # What clean shots are restored by stays as it is.
        return [float(name.startswith("changes.")) for name, _ in network.named_parameters()]

    def _crop_loss(self, planes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # Without its cache: parts of a batch share it from several threads.
        with torch.autocast(
            planes.device.type,
            torch.bfloat16,
            enabled=self._prior_options.precision == "bf16",
            cache_enabled=False,
        ):
            return super()._crop_loss(planes, target)

    def _loss(self, result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = super()._loss(result, target)
        # What the second network makes is looked at; what the first makes is gone on from.
        if self._perceptual is not None and self._finished:
            gray = (luma.expand(-1, 3, -1, -1) for luma in (result, target))
            loss = loss + self._prior_options.perceptual_weight * self._perceptual(*gray)
        return loss


def make_sequences(paths: Sequence[Path], options: PriorOptions, seed: int) -> SequenceMaker:
    """Make a maker of the sequences that a training needs."""
    degradations = options.degradations if options.trains == "changes" else None
    return SequenceMaker(paths, options.sequences, seed, degradations)


def _filled(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A plane (H, W) of each value, as large as those of `like`."""
    return values[:, None, None].expand(-1, *like.shape[-2:])


def halved(picture: torch.Tensor) -> torch.Tensor:
    """Reduce a clean frame (1, H, W) to the truth of the first network."""
    height, width = picture.shape[-2:]
    return resize(picture, height // 2, width // 2).clamp(0, 1)


def train_prior(
    images: Sequence[Path],
    output: Path,
    options: DatasetTraining,
    settings: Sequence[str],
    listener: TrainingListener,
) -> DatasetReport:
    """Train a prior on the pictures in the folders `images` and write it to `output`; one that was
    stopped goes on. Raises as `vsr.train.dataset.train` does."""
    chosen = with_settings(PriorOptions(), settings)
    if options.scale != 4:
        raise UsageError(
            f"--scale is {options.scale}; a prior serves all scales and is trained at 4: leave "
            "it out."
        )
    check_output_path(output)
    device = choose_device(options.device)
    began, notify = monotonic(), listener.notify
    lock = hidden_sibling(output, ".lock").name
    with FolderLock(output.absolute().parent, f"{output.name} is being trained", lock):
        check_overwrite(output, options.overwrite)
        paths = usable_images(images, MIN_PICTURE_PX, notify)
        validation: list[Path] = []
        if options.validation is not None:
            validation = usable_images([options.validation], MIN_PICTURE_PX, notify)
        pictures = pictures_identity(paths)
        plan = {
            "method": PRIOR_METHOD,
            "options": to_table(chosen),
            "seed": options.seed,
            "pictures": pictures,
            "validation": pictures_identity(validation),
            "start": "" if options.start is None else load_prior(options.start).sha256,
        }
        training = PriorTraining(
            paths, chosen, options.seed, device, _starts(chosen, options, listener)
        )
        states = StateFile(output, plan, notify, begins_anew=False)
        if options.restart:
            states.remove()
        resume(training, states)
        resumed_at = training.iterations_done
        judge = make_sequences(validation, chosen, VALIDATION_SEED)
        report = partial(ProgressAggregator(1, listener).update, 0)
        validations: list[dict[str, float]] = []
        for loss in iterate(training, states, listener.should_stop):
            step = training.iterations_done
            report(step, training.iterations, loss)
            if validation and step % chosen.validate_every == 0 and not training.is_over:
                error = training.error(judge)
                validations.append({"step": step, "error_levels": error})
                notify(f"step {step}: network {training.stage + 1} errs by {error:.3f} levels")
        made = training.trained()
        _write(output, _card(chosen, options, len(paths), pictures, made), made, states)
    return DatasetReport(
        str(output),
        PRIOR_METHOD,
        training.iterations_done,
        resumed_at,
        len(paths),
        monotonic() - began,
        list(made.loss_curve),
        validations,
    )


def _starts(
    chosen: PriorOptions, options: DatasetTraining, listener: TrainingListener
) -> NetworkPair:
    """The networks that the two begin as: random, or those of the file to start from."""
    if options.start is not None:
        prior = load_prior(options.start)
        _check_shapes(prior, chosen)
        listener.notify(f"starting from {options.start}")
        if chosen.trains == "networks":
            return _grown(prior, chosen, options.seed)
        return prior.networks_with_changes(chosen.knots)
    if chosen.trains == "changes":
        raise UsageError("trains=changes needs the networks that are changed: give --start PRIOR.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return ShotNetwork(chosen.first), ShotNetwork(chosen.second)


def _check_shapes(prior: Prior, chosen: PriorOptions) -> None:
    """Raise `ModelError` where a prior's networks cannot become those to train."""
    names, wanted = ("first", "second"), (chosen.first, chosen.second)
    for name, network, spec in zip(names, prior.networks, wanted, strict=True):
        own = network.spec
        may_begin = can_grow(own, spec) if chosen.trains == "networks" else own == spec
        if not may_begin:
            raise ModelError(
                f"{prior.path}: its {name} network ({own.summary()}) cannot become the one to "
                f"train ({spec.summary()}). Networks can grow in {name}.width alone, and where "
                "changes are trained not at all."
            )


def _grown(prior: Prior, chosen: PriorOptions, seed: int) -> NetworkPair:
    """Grow a prior's networks to the shapes to train; those that have them stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = (
            grow(network, spec)
            for network, spec in zip(prior.networks, (chosen.first, chosen.second), strict=True)
        )
    return first, second


def _card(
    chosen: PriorOptions,
    options: DatasetTraining,
    num_pictures: int,
    pictures: str,
    made: TrainedShotNetworks,
) -> PriorCard:
    training: dict[str, Any] = {
        "pictures": num_pictures,
        "pictures_hash": pictures,
        "iterations": list(made.iterations),
        "loss_curve": list(made.loss_curve),
        "seed": options.seed,
        "options": to_table(chosen),
    }
    if chosen.trains == "networks":
        if options.start is not None:
            training["begun_from"] = load_prior(options.start).name
        return PriorCard(PRIOR_ARCH, chosen.first, chosen.second, training, __version__)
    assert options.start is not None, "changes are those of a prior's networks"
    start = load_prior(options.start)
    # Where the networks come from is told first, as without the changes.
    training = {**start.card.training, "start": start.name, "changes": training}
    return PriorCard(PRIOR_ARCH, chosen.first, chosen.second, training, __version__, chosen.knots)


def _write(output: Path, card: PriorCard, made: TrainedShotNetworks, states: StateFile) -> None:
    try:
        # The state goes last: a kill in between leaves both, and the same command ends at once.
        write_atomically(output, encode_prior(card, made.networks))
        states.remove()
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror}. Choose another place."
        ) from None
