"""Trains the shot model of each shot while the shot before it is being enlarged."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep

from vsr.engine.tiling import set_num_threads
from vsr.errors import InputError, ModelError, OutputError, UsageError, VsrError
from vsr.files import FolderLock
from vsr.models.bank import is_of_shot
from vsr.models.shot_model import ShotModel, load_shot_model, shot_model_files
from vsr.train.clip import make_folder
from vsr.train.fit import TrainingListener, TrainingProgress
from vsr.train.options import ShotTraining
from vsr.train.workers import exit_with_parent
from vsr.upscale.policy import ShotModelSource
from vsr.video.frames import ClipInfo
from vsr.video.step import Step

POLL_SECONDS = 0.2
REPORT_SECONDS = 1.0
"""Time between two news of the training."""
TURN_NAME = ".vsr-turn"
"""Lock by which processes that train models of one clip take turns: whoever comes later finds the
models."""
_ERRORS = {error.__name__: error for error in (InputError, ModelError, OutputError, UsageError)}

OnWait = Callable[[str, float | None], None]
"""Takes what a run waits for, and the share of it that is done."""


@dataclass(frozen=True)
class _News:
    """A word of the process that trains: of its progress, or the error that ended it."""

    text: str
    share: float | None = None
    error: str = ""
    """Class of the error."""


@contextmanager
def training_ahead(
    clip: str | Path,
    info: ClipInfo,
    models: str | Path,
    options: ShotTraining = ShotTraining("all"),
    *,
    trains: bool = True,
    threads: int | None = None,
    on_wait: OnWait = lambda *_: None,
) -> Iterator[ShotModelSource]:
    """Yield a source of the models of a clip's shots: each waits until a process of its own has
    trained it; models that are there are used.

    Without `trains` all are there. `threads` are those of the training, None: of all cores. While
    the source waits, `on_wait` hears of the training. The source raises the error that ended the
    training. Raises `UsageError` for a pipe, which cannot be read twice.
    """
    if str(clip) == "-":
        raise UsageError("models are trained on a clip that is read twice, so it cannot be a pipe.")
    if not trains:
        yield _Source(info, Path(models), None, None, on_wait)
        return
    # A process, not a thread: training holds the interpreter between its small operations.
    context = multiprocessing.get_context("spawn")
    news, send = context.Pipe(duplex=False)
    arguments = (str(clip), str(models), options, threads, send)
    trainer = context.Process(target=_train, args=arguments, daemon=True)
    trainer.start()
    # Held by the trainer alone, so that its end is seen.
    send.close()
    try:
        yield _Source(info, Path(models), trainer, news, on_wait)
    finally:
        # Its unfinished model is not needed any more; finished ones stay in the bank.
        trainer.terminate()
        trainer.join()
        news.close()


class _Source:
    """The models of a clip's shots, as they become ready."""

    def __init__(
        self,
        info: ClipInfo,
        models: Path,
        trainer: multiprocessing.context.SpawnProcess | None,
        news: Connection | None,
        on_wait: OnWait,
    ) -> None:
        self._info, self._models = info, models
        self._trainer, self._news = trainer, news
        self._on_wait = on_wait
        self._last = _News("training")

    def __call__(self, step: Step) -> Sequence[ShotModel]:
        """Wait for the model of the shot that begins with `step`."""
        first = step.frame
        while True:
            # Before looking: what was finished just before the end is then still seen.
            is_training = self._trainer is not None and self._trainer.is_alive()
            for path in shot_model_files(self._models):
                model = load_shot_model(path)
                if is_of_shot(model.card, self._info.identity, first.seconds):
                    return [model]
            self._hear()
            if not is_training:
                raise _ERRORS.get(self._last.error, ModelError)(
                    self._last.text
                    if self._last.error
                    else f"the shot model of frame {first.index} could not be trained; the same "
                    "command tries again."
                )
            self._on_wait(self._last.text, self._last.share)
            sleep(POLL_SECONDS)

    def _hear(self) -> None:
        """Take in the news of the training; the last is what counts."""
        try:
            while self._news is not None and self._news.poll():
                self._last = self._news.recv()
        except EOFError:
            self._news = None


def _train(
    clip: str, models: str, options: ShotTraining, threads: int | None, news: Connection
) -> None:
    """Train in the process. All cores are at work on the first model, which the enlarging waits
    for; later ones share them with it."""
    # Needed by this process alone.
    from vsr.train.shot import train_shots

    # Ctrl-C reaches the parent as well, which ends this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    if threads is not None:
        set_num_threads(threads)
    last = 0.0

    def report(state: TrainingProgress) -> None:
        nonlocal last
        if monotonic() - last >= REPORT_SECONDS:
            last = monotonic()
            step = f"step {state.iteration} of {state.iterations}"
            news.send(_News(f"training: {step}", state.iteration / state.iterations))

    try:
        make_folder(Path(models))
        with FolderLock(Path(models), "models are being trained in it", TURN_NAME, waits=True):
            train_shots(clip, models, options, TrainingListener(on_progress=report))
    except VsrError as error:
        news.send(_News(str(error), error=type(error).__name__))
        sys.exit(error.exit_code)
    except OSError as error:
        news.send(_News(f"cannot write models to {models}: {error.strerror}.", error="OutputError"))
        sys.exit(OutputError.exit_code)
