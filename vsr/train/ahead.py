"""Trains the shot model of each shot while the shot before it is being enlarged."""

import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import torch

from vsr.errors import ModelError, UsageError, VsrError
from vsr.models.shot_model import ShotModel, load_shot_model, shot_model_files
from vsr.train.fit import TrainingListener
from vsr.train.options import ShotTraining
from vsr.train.shot import train_shots
from vsr.train.workers import exit_with_parent
from vsr.upscale.policy import ShotModelSource
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions, open_clip

POLL_SECONDS = 0.2


@contextmanager
def training_ahead(
    clip: str | Path,
    models: str | Path | None,
    read: ReadOptions = ReadOptions(),
    device: str = "auto",
) -> Iterator[ShotModelSource]:
    """Yield a source of shots' models: each waits until a process of its own has trained it; models
    that are there are used.

    Raises `UsageError` without a folder for the models, or for a pipe, which cannot be read twice.
    """
    if models is None:
        raise UsageError("--train-ahead needs a folder that takes the models: --models DIR.")
    if str(clip) == "-":
        raise UsageError("--train-ahead reads the clip twice, so it cannot be a pipe; give a file.")
    with open_clip(clip, read) as reader:
        identity = reader.info.identity
    # A process, not a thread: training holds the interpreter between its small operations.
    trainer = multiprocessing.get_context("spawn").Process(
        target=_train, args=(str(clip), str(models), read, device), daemon=True
    )
    trainer.start()

    def models_for(first: Frame) -> Sequence[ShotModel]:
        while True:
            # Before looking: what was finished just before the end is then still seen.
            is_training = trainer.is_alive()
            for path in shot_model_files(Path(models)):
                model = load_shot_model(path)
                card = model.card
                if (
                    card.clip_identity == identity
                    and card.shot_start_seconds <= first.seconds < card.shot_end_seconds
                ):
                    return [model]
            if not is_training:
                raise ModelError(
                    f"the shot model of frame {first.index} could not be trained; see the message "
                    "above."
                )
            sleep(POLL_SECONDS)

    try:
        yield models_for
    finally:
        # Its unfinished model is not needed any more; finished ones stay in the bank.
        trainer.terminate()
        trainer.join()


def _train(clip: str, models: str, read: ReadOptions, device: str) -> None:
    """Train in the process, on one thread, since the cores are also wanted for enlarging."""
    # Ctrl-C reaches the parent as well, which ends this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    torch.set_num_threads(1)
    try:
        options = ShotTraining("all", device=device, read=read)
        train_shots(clip, models, options, TrainingListener())
    except VsrError as error:
        sys.exit(f"vsr: {error}")
