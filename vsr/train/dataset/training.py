"""`vsr train`: a network from a folder of pictures, resumable."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from vsr.engine.options import choose_device
from vsr.errors import InterruptedRunError, ModelError, OutputError
from vsr.files import LONGEST_NAME_BYTES, write_whole
from vsr.train.dataset.checkpoint import alone, save_state, state_path, take_up
from vsr.train.dataset.dataset import Batches, PictureStore, usable_pictures
from vsr.train.dataset.generator import Learner
from vsr.train.dataset.methods import Method
from vsr.train.dataset.plan import Plan, make_plan, resolve_method
from vsr.train.dataset.trainer import Course
from vsr.train.dataset.validation import Diary, Look, NoDiary, TensorBoardDiary, validate
from vsr.upscale.networks import load_upscaler
from vsr.upscale.networks.architectures import ARCHITECTURES
from vsr.upscale.networks.files import UpscalerCard, as_upscaler, encode_upscaler

SECONDS_BETWEEN_STATES = 60.0
VALUES_EVERY_STEPS = 10
WHAT_TO_DO = "Lower the rate, as by --set learning_rate=1e-4."
Progress = Callable[[int, int, float], None]
"""Step, all steps, loss."""


@dataclass(frozen=True)
class Telling:
    """Where a training tells what it does."""

    say: Callable[[str], None] = lambda _: None
    progress: Progress = lambda *_: None
    tensorboard: Path | None = None
    """Folder for curves and validation pictures."""
    is_stopping: Callable[[], bool] = lambda: False
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
    telling: Telling = Telling(),
) -> TrainingReport:
    """Train a network on the pictures in the folders `images` and write it to `output`.

    A training that was stopped goes on where its state was last saved, with the same result as one in one go on the
    same device and threads. One that diverges stops, its best state is written, and `ModelError` says so. Raises
    `OutputError` where another process trains this output, and `InterruptedRunError` where the user asks for an end.
    """
    chosen = resolve_method(method, scale, settings)
    check_place(output)
    target = choose_device(device)
    scale = chosen.network.scale
    crop_px = chosen.options.crop_px - chosen.options.crop_px % scale
    with alone(output):
        check_free(output, overwrite)
        paths = usable_pictures(images, crop_px, telling.say)
        judged = [] if validation is None else usable_pictures([validation], 4 * scale, telling.say)
        plan = make_plan(method, chosen, seed, paths, judged, start)
        network = make_network(chosen, start, seed, target, telling.say)
        learner = Learner(ARCHITECTURES[chosen.arch], chosen.network, network, chosen.options.consistency_passes)
        course = Course(learner, chosen.options, crop_px, seed, target)
        looks = take_up(course, plan, output, restart, telling.say)
        training = Training(course, plan, chosen, output, looks, PictureStore(judged, scale), len(paths), telling)
        return training.run(Batches(PictureStore(paths, scale), scale, crop_px, chosen.options.batch, seed))


def make_network(
    method: Method, start: Path | None, seed: int, device: torch.device, say: Callable[[str], None]
) -> nn.Module:
    """A fresh network, with the weights of `start` where those have the same names and shapes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[method.arch].build(method.network)
    if start is not None:
        given = load_upscaler(start, torch.device("cpu")).run
        # A network that spandrel found is wrapped in its description.
        theirs = (given if isinstance(given, nn.Module) else given.model).state_dict()  # type: ignore[attr-defined]
        own = network.state_dict()
        fitting = {name: each for name, each in theirs.items() if name in own and own[name].shape == each.shape}
        if not fitting:
            raise ModelError(
                f"{start} shares no tensor with the network of this method; expected the same architecture."
            )
        network.load_state_dict(own | fitting)
        anew = sorted({name.partition(".")[0] for name in own.keys() - fitting.keys()})
        say(f"starting from {start}" + (f"; {', '.join(anew)} begins anew" if anew else ""))
    return network.to(device).train()


def check_place(output: Path) -> None:
    """Raise `OutputError`, before any work, where a network of this name could not be written."""
    if output.suffix != ".safetensors":
        raise OutputError(f"cannot write a network to {output}: expected a name that ends in .safetensors.")
    if len(os.fsencode(output.name)) > LONGEST_NAME_BYTES:
        raise OutputError(f"cannot write {output}: its name has more than {LONGEST_NAME_BYTES} bytes. Choose another.")
    folder = output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {output}: its folder is missing or read-only. Choose another place.")


def check_free(output: Path, overwrite: bool) -> None:
    """Raise `OutputError` where something has the output's name already."""
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already; give -y to replace it, or name another file.")


class Training:
    """One run of the command."""

    def __init__(
        self,
        course: Course,
        plan: Plan,
        method: Method,
        output: Path,
        looks: list[Look],
        judged: PictureStore,
        num_pictures: int,
        telling: Telling,
    ) -> None:
        self._course, self._plan, self._method, self._output = course, plan, method, output
        self._looks, self._judged, self._num_pictures = looks, judged, num_pictures
        self._telling = telling
        self._resumed_at = course.step
        folder = telling.tensorboard
        self._diary: Diary = NoDiary() if folder is None else TensorBoardDiary(folder, course.step)

    def run(self, batches: Batches) -> TrainingReport:
        """Go on to the last step, and write the network."""
        course, steps = self._course, self._method.options.steps
        began = saved_at = monotonic()
        while course.step < steps and not course.has_diverged:
            values = course.advance(*batches.of_step(course.step))
            self._telling.progress(course.step, steps, sum(values.values()))
            if course.step % VALUES_EVERY_STEPS == 0:
                self._diary.values(course.step, values)
            if course.step % self._method.options.validate_every == 0 or course.step == steps:
                self._look()
            is_stopping = course.step < steps and self._telling.is_stopping()
            if is_stopping or monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                save_state(course, self._looks, self._plan, self._output)
                saved_at = monotonic()
            if is_stopping:
                self._diary.close()
                words = f"stopped after step {course.step} of {steps}; its state is kept"
                raise InterruptedRunError(words, can_go_on=True)
        self._diary.close()
        self._finish()
        return TrainingReport(
            str(self._output),
            self._plan.method,
            course.step,
            self._resumed_at,
            self._num_pictures,
            monotonic() - began,
            course.windows,
            [asdict(look) for look in self._looks],
        )

    def _look(self) -> None:
        """Measure the averaged network on the validation pictures, where there are any."""
        if not self._judged.paths:
            return
        upscaler = as_upscaler(self._output.stem, self._card(), self._course.average)
        figure, pictures = validate(upscaler, self._judged)
        self._looks.append(Look(self._course.step, figure))
        self._diary.look(self._looks[-1], pictures)
        count = len(self._judged.paths)
        self._telling.say(f"step {self._course.step}: {figure:.2f} dB PSNR-Y on {count} validation pictures")

    def _finish(self) -> None:
        """Write the averaged network, or after a divergence the best one, and then say so."""
        course = self._course
        diverged_at = course.step if course.has_diverged else None
        if diverged_at is not None:
            if course.best_window is None:
                raise ModelError(f"the training diverged within {diverged_at} steps: nothing is kept. {WHAT_TO_DO}")
            course.go_back_to_best()
        try:
            write_whole(self._output, encode_upscaler(self._card(), course.average))
            state_path(self._output).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self._output}: {error.strerror}. Choose another place.") from None
        if diverged_at is not None:
            raise ModelError(
                f"the training diverged at step {diverged_at}; {self._output} holds its best state, of step "
                f"{course.best_step}. {WHAT_TO_DO}"
            )

    def _card(self) -> UpscalerCard:
        training = {
            "pictures": self._num_pictures,
            "steps": self._course.best_step if self._course.has_diverged else self._course.step,
            "seed": self._plan.seed,
            "options": self._plan.options,
            "validation": [asdict(look) for look in self._looks],
        }
        passes = self._method.options.consistency_passes
        return UpscalerCard(self._method.arch, self._plan.network, self._plan.method, training, version("vsr"), passes)
