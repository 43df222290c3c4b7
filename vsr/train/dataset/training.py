"""`vsr train`: a network from a folder of pictures, resumable."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.errors import InterruptedRunError, ModelError, OutputError
from vsr.files import MAX_NAME_BYTES, write_atomically
from vsr.train.dataset.checkpoint import load_state, output_lock, save_state, state_path
from vsr.train.dataset.dataset import BatchSampler, ImageDataset, usable_images
from vsr.train.dataset.generator import TrainableGenerator
from vsr.train.dataset.methods import DatasetMethod
from vsr.train.dataset.plan import Plan, make_plan, resolve_method
from vsr.train.dataset.trainer import Trainer
from vsr.train.dataset.validation import (
    NullLogger,
    TensorBoardLogger,
    TrainingLogger,
    ValidationResult,
    validate,
)
from vsr.upscale.networks import load_network
from vsr.upscale.networks.architectures import ARCHITECTURES
from vsr.upscale.networks.files import NetworkCard, encode_network, wrap_network

SECONDS_BETWEEN_STATES = 60.0
VALUES_EVERY_STEPS = 10
DIVERGENCE_HINT = "Lower the rate, as by --set learning_rate=1e-4."
IterationProgress = Callable[[int, int, float], None]
"""Step, all steps, loss."""


@dataclass(frozen=True)
class TrainingListener:
    """Where a training tells what it does."""

    notify: Callable[[str], None] = lambda _: None
    progress: IterationProgress = lambda *_: None
    tensorboard: Path | None = None
    """Folder for curves and validation pictures."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked after each step; where it says so, the state is kept and the training ends."""


@dataclass(frozen=True)
class TrainingReport:
    """What came of a training."""

    file: str
    method: str
    steps: int
    resumed_at_step: int
    pictures: int
    seconds: float
    """Of this run of the command."""
    loss_curve: list[float]
    """Distance from the truth over windows of steps."""
    validation: list[dict[str, float]]


def train(
    images: Sequence[Path],
    output: Path,
    *,
    method: str,
    scale: int = 4,
    settings: Sequence[str] = (),
    validation: Path | None = None,
    start: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    restart: bool = False,
    overwrite: bool = False,
    listener: TrainingListener = TrainingListener(),
) -> TrainingReport:
    """Train a network on the pictures in the folders `images` and write it to `output`.

    A training that was stopped goes on where its state was last saved, with the same result as one
    in one go on the same device and threads. One that diverges stops, its best state is written,
    and `ModelError` says so. Raises `OutputError` where another process trains this output, and
    `InterruptedRunError` where the user asks for an end.
    """
    chosen = resolve_method(method, scale, settings)
    check_output_path(output)
    target = choose_device(device)
    scale = chosen.network.scale
    crop_px = chosen.options.crop_px - chosen.options.crop_px % scale
    with output_lock(output):
        check_overwrite(output, overwrite)
        paths = usable_images(images, crop_px, listener.notify)
        validation_set = (
            [] if validation is None else usable_images([validation], 4 * scale, listener.notify)
        )
        plan = make_plan(method, chosen, seed, paths, validation_set, start)
        network = make_network(chosen, start, seed, target, listener.notify)
        generator = TrainableGenerator(
            ARCHITECTURES[chosen.arch], chosen.network, network, chosen.options.consistency_passes
        )
        trainer = Trainer(generator, chosen.options, crop_px, seed, target)
        validations = load_state(trainer, plan, output, restart, listener.notify)
        training = TrainingRun(
            trainer,
            plan,
            chosen,
            output,
            validations,
            ImageDataset(validation_set, scale),
            len(paths),
            listener,
        )
        return training.run(
            BatchSampler(ImageDataset(paths, scale), scale, crop_px, chosen.options.batch, seed)
        )


def make_network(
    method: DatasetMethod,
    start: Path | None,
    seed: int,
    device: torch.device,
    notify: Callable[[str], None],
) -> nn.Module:
    """A fresh network, with the weights of `start` where those have the same names and shapes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[method.arch].build(method.network)
    if start is not None:
        given = load_network(start, torch.device("cpu")).run
        # A network that spandrel found is wrapped in its description.
        theirs = (given if isinstance(given, nn.Module) else given.model).state_dict()  # type: ignore[attr-defined]
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


def check_output_path(output: Path) -> None:
    """Raise `OutputError`, before any work, where a network of this name could not be written."""
    if output.suffix != ".safetensors":
        raise OutputError(
            f"cannot write a network to {output}: expected a name that ends in .safetensors."
        )
    if len(os.fsencode(output.name)) > MAX_NAME_BYTES:
        raise OutputError(
            f"cannot write {output}: its name has more than {MAX_NAME_BYTES} bytes. Choose another."
        )
    folder = output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"cannot write {output}: its folder is missing or read-only. Choose another place."
        )


def check_overwrite(output: Path, overwrite: bool) -> None:
    """Raise `OutputError` where something has the output's name already."""
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give -y to replace it, or name another file.")


class TrainingRun:
    """One run of the command."""

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan,
        method: DatasetMethod,
        output: Path,
        validations: list[ValidationResult],
        validation_set: ImageDataset,
        num_pictures: int,
        listener: TrainingListener,
    ) -> None:
        self._trainer, self._plan, self._method, self._output = trainer, plan, method, output
        self._validations, self._validation_set, self._num_pictures = (
            validations,
            validation_set,
            num_pictures,
        )
        self._listener = listener
        self._resumed_at = trainer.step
        folder = listener.tensorboard
        self._logger: TrainingLogger = (
            NullLogger() if folder is None else TensorBoardLogger(folder, trainer.step)
        )

    def run(self, batches: BatchSampler) -> TrainingReport:
        """Go on to the last step, and write the network."""
        trainer, steps = self._trainer, self._method.options.steps
        began = saved_at = monotonic()
        while trainer.step < steps and not trainer.has_diverged:
            values = trainer.advance(*batches.batch_at(trainer.step))
            self._listener.progress(trainer.step, steps, sum(values.values()))
            if trainer.step % VALUES_EVERY_STEPS == 0:
                self._logger.values(trainer.step, values)
            if trainer.step % self._method.options.validate_every == 0 or trainer.step == steps:
                self._validate()
            should_stop = trainer.step < steps and self._listener.should_stop()
            if should_stop or monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                save_state(trainer, self._validations, self._plan, self._output)
                saved_at = monotonic()
            if should_stop:
                self._logger.close()
                words = f"stopped after step {trainer.step} of {steps}; its state is kept"
                raise InterruptedRunError(words, can_resume=True)
        self._logger.close()
        self._finish()
        return TrainingReport(
            str(self._output),
            self._plan.method,
            trainer.step,
            self._resumed_at,
            self._num_pictures,
            monotonic() - began,
            trainer.windows,
            [asdict(validation) for validation in self._validations],
        )

    def _validate(self) -> None:
        """Measure the averaged network on the validation pictures, where there are any."""
        if not self._validation_set.paths:
            return
        upscaler = wrap_network(self._output.stem, self._card(), self._trainer.average)
        figure, pictures = validate(upscaler, self._validation_set)
        self._validations.append(ValidationResult(self._trainer.step, figure))
        self._logger.log_validation(self._validations[-1], pictures)
        count = len(self._validation_set.paths)
        self._listener.notify(
            f"step {self._trainer.step}: {figure:.2f} dB PSNR-Y on {count} validation pictures"
        )

    def _finish(self) -> None:
        """Write the averaged network, or after a divergence the best one, and then say so."""
        trainer = self._trainer
        diverged_at = trainer.step if trainer.has_diverged else None
        if diverged_at is not None:
            if trainer.best_window is None:
                raise ModelError(
                    f"the training diverged within {diverged_at} steps: nothing is kept. "
                    f"{DIVERGENCE_HINT}"
                )
            trainer.restore_best()
        try:
            write_atomically(self._output, encode_network(self._card(), trainer.average))
            state_path(self._output).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {self._output}: {error.strerror}. Choose another place."
            ) from None
        if diverged_at is not None:
            raise ModelError(
                f"the training diverged at step {diverged_at}; {self._output} holds its best "
                f"state, of step {trainer.best_step}. {DIVERGENCE_HINT}"
            )

    def _card(self) -> NetworkCard:
        training = {
            "pictures": self._num_pictures,
            "steps": self._trainer.best_step if self._trainer.has_diverged else self._trainer.step,
            "seed": self._plan.seed,
            "options": self._plan.options,
            "validation": [asdict(validation) for validation in self._validations],
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
