"""`vsr train`: a network from a folder of pictures, resumable."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import FolderLock, hidden_sibling, write_atomically
from vsr.records import load_options
from vsr.train.dataset.dataset import BatchSampler, ImageDataset, usable_images
from vsr.train.dataset.methods import (
    PRIOR_METHOD,
    DatasetMethod,
    Plan,
    make_plan,
    resolve_method,
    without_missing_weights,
)
from vsr.train.dataset.outputs import DatasetReport, check_output_path, check_overwrite
from vsr.train.dataset.prior import train_prior
from vsr.train.dataset.trainer import DIVERGENCE_HINT, TrainableGenerator, Trainer
from vsr.train.dataset.validation import TensorBoardLogger, ValidationResult, validate
from vsr.train.fit import ProgressAggregator, TrainingListener, iterate, resume
from vsr.train.options import DatasetTraining
from vsr.train.state_file import StateFile
from vsr.upscale.networks.files import (
    ARCHITECTURES,
    NetworkCard,
    encode_network,
    load_network,
    wrap_network,
)

VALUES_EVERY_STEPS = 10


def train(
    images: Sequence[Path],
    output: Path,
    *,
    # options of vsr train, by tools/write_signatures.py
    method: str = "fsrcnn",
    validation: str | Path | None = None,
    scale: int = 4,
    start: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    restart: bool = False,
    overwrite: bool = False,
    # end of options
    settings: Sequence[str] = (),
    tensorboard: Path | None = None,
    listener: TrainingListener = TrainingListener(),
) -> DatasetReport:
    """Train a network on the pictures in the folders `images` and write it to `output`.

    The keywords are the options of the command, told in `DatasetTraining`; `settings` ("a.b=value")
    change the options of the method. A training that was stopped goes on where its state was last
    saved, with the same result as one in one go on the same device and threads. One that diverges
    stops, its best state is written, and `ModelError` says so. The folder `tensorboard` takes
    curves and validation pictures. Raises `OutputError` where another process trains this output,
    and `InterruptedRunError` where the user asks for an end.
    """
    options = load_options(DatasetTraining, given=locals())
    return train_network(images, output, options, settings, tensorboard, listener)


def train_network(
    images: Sequence[Path],
    output: Path,
    options: DatasetTraining,
    settings: Sequence[str],
    tensorboard: Path | None,
    listener: TrainingListener,
) -> DatasetReport:
    """Do what `train` says, with its options as one value."""
    if options.method == PRIOR_METHOD:
        if tensorboard is not None:
            raise UsageError(f"--tensorboard draws no curves of --method {PRIOR_METHOD} yet.")
        return train_prior(images, output, options, settings, listener)
    chosen = resolve_method(options.method, options.scale, settings)
    check_output_path(output)
    target = choose_device(options.device)
    # A setting may have changed it.
    scale = chosen.network.scale
    crop_px = chosen.options.crop_px - chosen.options.crop_px % scale
    notify = listener.notify
    chosen = without_missing_weights(options.method, chosen, settings, notify)
    # Of its own, so that other networks may be trained in the same folder.
    lock = hidden_sibling(output, ".lock").name
    with FolderLock(output.absolute().parent, f"{output.name} is being trained", lock):
        check_overwrite(output, options.overwrite)
        paths = usable_images(images, crop_px, notify)
        validation_set = []
        if options.validation is not None:
            validation_set = usable_images([options.validation], 4 * scale, notify)
        plan = make_plan(options.method, chosen, options.seed, paths, validation_set, options.start)
        network = make_network(chosen, options.start, options.seed, target, notify)
        generator = TrainableGenerator(
            ARCHITECTURES[chosen.arch], chosen.network, network, chosen.options.consistency_passes
        )
        batches = BatchSampler(
            ImageDataset(paths, scale), scale, crop_px, chosen.options.batch, options.seed
        )
        trainer = Trainer(generator, chosen.options, batches, crop_px, options.seed, target)
        training = TrainingRun(
            trainer, plan, chosen, output, ImageDataset(validation_set, scale), len(paths)
        )
        return training.run(listener, tensorboard, options.restart)


def make_network(
    method: DatasetMethod,
    start: Path | None,
    seed: int,
    device: torch.device,
    notify: Callable[[str], None],
) -> nn.Module:
    """Build a network, with the weights of `start` where those have the same names and shapes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[method.arch].build(method.network)
    if start is not None:
        given = load_network(start, torch.device("cpu")).run
        # A network that spandrel found is wrapped in its description.
        theirs = (given if isinstance(given, nn.Module) else given.model).state_dict()  # type: ignore[attr-defined]
        # By name and shape: another scale changes the last layer alone.
        own = network.state_dict()
        fitting = {
            name: each
            for name, each in theirs.items()
            if name in own and own[name].shape == each.shape
        }
        if not fitting:
            raise ModelError(
                f"{start} shares no tensor with the network of this method; expected the same "
                "architecture."
            )
        network.load_state_dict(own | fitting)
        anew = sorted({name.partition(".")[0] for name in own.keys() - fitting.keys()})
        notify(
            f"starting from {start}"
            + (f"; {', '.join(anew)} starts from random weights" if anew else "")
        )
    return network.to(device).train()


class TrainingRun:
    """One run of the command."""

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan,
        method: DatasetMethod,
        output: Path,
        validation_set: ImageDataset,
        num_pictures: int,
    ) -> None:
        self._trainer, self._plan, self._method, self._output = trainer, plan, method, output
        self._validation_set, self._num_pictures = validation_set, num_pictures

    def run(
        self, listener: TrainingListener, tensorboard: Path | None, restart: bool
    ) -> DatasetReport:
        """Go on to the last step, and write the network."""
        trainer, steps, began = self._trainer, self._method.options.steps, monotonic()
        states = StateFile(self._output, asdict(self._plan), listener.notify, begins_anew=False)
        if restart:
            states.remove()
        resume(trainer, states)
        resumed_at = trainer.iterations_done
        logger = None if tensorboard is None else TensorBoardLogger(tensorboard, resumed_at)
        report = partial(ProgressAggregator(1, listener).update, 0)
        try:
            for loss in iterate(trainer, states, listener.should_stop):
                step = trainer.iterations_done
                report(step, steps, loss)
                if logger is not None and step % VALUES_EVERY_STEPS == 0:
                    logger.values(step, trainer.values)
                if step % self._method.options.validate_every == 0 or trainer.is_over:
                    self._validate(logger, listener.notify)
        finally:
            if logger is not None:
                logger.close()
        self._write(states)
        return DatasetReport(
            str(self._output),
            self._plan.method,
            trainer.iterations_done,
            resumed_at,
            self._num_pictures,
            monotonic() - began,
            trainer.windows,
            trainer.validations,
        )

    def _validate(self, logger: TensorBoardLogger | None, notify: Callable[[str], None]) -> None:
        """Measure the averaged network on the validation pictures, where there are any."""
        if not self._validation_set.paths:
            return
        trainer, count = self._trainer, len(self._validation_set.paths)
        step = trainer.iterations_done
        upscaler = wrap_network(self._output.stem, self._card(), trainer.average)
        figure, pictures = validate(upscaler, self._validation_set, trainer.device)
        trainer.validations.append(asdict(ValidationResult(step, figure)))
        if logger is not None:
            logger.log_validation(ValidationResult(step, figure), pictures)
        notify(f"step {step}: {figure:.2f} dB PSNR-Y on {count} validation pictures")

    def _write(self, states: StateFile) -> None:
        """Write the averaged network, which after a divergence is the best one, and then say so."""
        trainer = self._trainer
        try:
            # The state goes last: a kill in between leaves both, and the same command ends at once.
            content = encode_network(self._card(), trainer.average)
            write_atomically(self._output, content)
            states.remove()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._output}: {error.strerror}. Choose another place."
            ) from None
        if trainer.has_diverged:
            raise ModelError(
                f"the training diverged at step {trainer.iterations_done}; {self._output} holds "
                f"its best state, of step {trainer.best_step}. {DIVERGENCE_HINT}"
            )

    def _card(self) -> NetworkCard:
        trainer = self._trainer
        training = {
            "pictures": self._num_pictures,
            "steps": trainer.best_step if trainer.has_diverged else trainer.iterations_done,
            "seed": self._plan.seed,
            "options": self._plan.options,
            "validation": trainer.validations,
        }
        passes = self._method.options.consistency_passes
        return NetworkCard(
            self._method.arch,
            self._plan.network,
            self._plan.method,
            training,
            __version__,
            passes,
        )
