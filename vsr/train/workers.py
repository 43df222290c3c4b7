"""Trains many models, on as many cores as asked, and saves each as soon as it is whole."""

import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from vsr.errors import ModelError, OutputError
from vsr.files import FolderLock
from vsr.models.bank import ModelCard, save_model
from vsr.train.methods.method import Method, TrainedNetworks, single_thread

CPU = torch.device("cpu")
LOCK_NAME = ".vsr-lock"
POLL_SECONDS = 0.2
REPORT_EVERY = 10
"""Iterations between two news of a worker."""


@dataclass(frozen=True)
class BankProgress:
    """How far the training of a bank is."""

    models_done: int
    models: int
    share_done: float
    """Of all iterations of all models to train, 0 to 1."""
    loss: float
    """Reconstruction loss of the model last heard of."""
    seconds_left: float


@dataclass(frozen=True)
class TrainingJob:
    """One model to train."""

    path: Path
    method: Method
    card: ModelCard
    """Complete but for what training tells."""
    pixels: torch.Tensor
    neighbours: tuple[torch.Tensor, ...] = ()
    """Frames around the keyframe, for a method that can make its models steady on them."""


def train_all(
    jobs: Sequence[TrainingJob],
    workers: int,
    progress: Callable[[BankProgress], None],
    device: torch.device = CPU,
) -> None:
    """Train and save every job's model; what was finished before an error or Ctrl-C stays.

    On a GPU all models of a keyframe are one job, where `is_batchable` says so; the others are
    trained on the CPU. Raises `ModelError` for weights that are not finite or a worker that died,
    `OutputError` for a full disk.
    """
    gather = _ProgressAggregator(len(jobs), progress)
    together = {
        number: job for number, job in enumerate(jobs) if device != CPU and is_batchable(job)
    }
    for keyframe in dict.fromkeys(job.card.keyframe_hash for job in together.values()):
        _train_batched(
            {n: job for n, job in together.items() if job.card.keyframe_hash == keyframe},
            device,
            gather,
        )
    _train_separately(
        {number: job for number, job in enumerate(jobs) if number not in together}, workers, gather
    )


def is_batchable(job: TrainingJob) -> bool:
    """Whether a job can be one of several that a GPU does at once."""
    together = job.method.batched
    return (
        together is not None
        and not job.neighbours
        and together.can_train(job.pixels, job.method.options)
    )


def _train_batched(
    jobs: Mapping[int, TrainingJob], device: torch.device, gather: "_ProgressAggregator"
) -> None:
    """Train jobs of one keyframe and one method at once."""
    numbers, first = list(jobs), next(iter(jobs.values()))
    seeds = [job.card.seed for job in jobs.values()]
    assert first.method.batched is not None

    def report(place: int, done: int, total: int, loss: float) -> None:
        gather.update(numbers[place], done, total, loss)

    for place, pair in first.method.batched.train(
        first.pixels, first.method.options, seeds, device, report
    ):
        _save(jobs[numbers[place]], pair)


def _train_separately(
    jobs: Mapping[int, TrainingJob], workers: int, gather: "_ProgressAggregator"
) -> None:
    if min(workers, len(jobs)) <= 1:
        for number, job in jobs.items():
            _train_one(job, partial(gather.update, number))
        return
    context = multiprocessing.get_context("spawn")
    news = context.Queue()
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_start_worker, initargs=(news,)
    )
    try:
        futures = [pool.submit(_train_in_worker, number, job) for number, job in jobs.items()]
        while not all(future.done() for future in futures):
            _raise_first_error(futures)
            try:
                gather.update(*news.get(timeout=POLL_SECONDS))
            except queue.Empty:
                continue
        _raise_first_error(futures)
    except BaseException:
        for worker in set(multiprocessing.active_children()).difference(others):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _raise_first_error(futures: Sequence["Future[None]"]) -> None:
    try:
        for future in futures:
            if future.done():
                future.result()
    except BrokenProcessPool:
        raise ModelError(
            "a training process was killed, perhaps for lack of memory. Finished models are kept: "
            "the same command continues."
        ) from None


class _ProgressAggregator:
    """Turns news of single models into the state of the whole."""

    def __init__(self, models: int, progress: Callable[[BankProgress], None]) -> None:
        self._shares = [0.0] * models
        self._start = perf_counter()
        self._progress = progress

    def update(self, number: int, done: int, total: int, loss: float) -> None:
        self._shares[number] = done / total
        share = sum(self._shares) / len(self._shares)
        seconds = perf_counter() - self._start
        finished = sum(part == 1 for part in self._shares)
        left = seconds / share - seconds
        self._progress(BankProgress(finished, len(self._shares), share, loss, left))


@contextmanager
def bank_lock(bank: Path) -> Iterator[None]:
    """Hold a bank for this training alone, and clear away what a killed one left. Raises
    OutputError."""
    with ExitStack() as resources:
        try:
            resources.enter_context(FolderLock(bank, "models are being trained in it", LOCK_NAME))
            for unfinished in bank.glob(".*.part"):
                unfinished.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot write models to {bank}: {error.strerror}. Choose another --models."
            ) from error
        yield


def exit_with_parent() -> None:
    """In a process of a pool: end when the parent has ended, however that happened, and not wait
    for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only for processes that this package has started"

    def watch(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _train_one(job: TrainingJob, report: Callable[[int, int, float], None]) -> None:
    with single_thread():
        pair = _train(job, report)
    _save(job, pair)


def _save(job: TrainingJob, pair: TrainedNetworks) -> None:
    critic_mean, critic_std = _critic_scores(pair, job.pixels)
    card = replace(
        job.card,
        network=pair.generator.spec,
        noise_amplitude=pair.noise_amplitude,
        critic_mean=critic_mean,
        critic_std=critic_std,
        loss_curve=pair.loss_curve,
        kernel=pair.kernel,
        remark=pair.remark,
    )
    if not all(torch.isfinite(tensor).all() for tensor in pair.generator.state_dict().values()):
        raise ModelError(
            f"training {job.path.stem} diverged: its weights are not finite. Try another --seed."
        )
    try:
        save_model(job.path, card, pair.generator, pair.critic)
    except OSError as error:
        raise OutputError(
            f"cannot write {job.path}: {error.strerror}. Models made so far are kept."
        ) from None


def _critic_scores(
    pair: TrainedNetworks, keyframe: torch.Tensor
) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the critic's map on the keyframe."""
    if pair.critic is None:
        return None, None
    with torch.inference_mode():
        scores = pair.critic((2 * keyframe - 1)[None])
    return float(scores.mean()), float(scores.std())


def _train(job: TrainingJob, report: Callable[[int, int, float], None]) -> TrainedNetworks:
    if not job.neighbours:
        return job.method.train(job.pixels, job.method.options, job.card.seed, report)
    assert job.method.train_steady is not None, "this method has no use for neighbours"
    return job.method.train_steady(
        job.pixels, job.neighbours, job.method.options, job.card.seed, report
    )


_updates: "multiprocessing.Queue[tuple[int, int, int, float]] | None" = None


def _start_worker(news: "multiprocessing.Queue[tuple[int, int, int, float]]") -> None:
    """The parent alone answers Ctrl-C, and ends its workers then."""
    global _updates  # noqa: PLW0603 (a worker's initializer has no other way to hand the queue to its tasks)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    _updates = news


def _train_in_worker(number: int, job: TrainingJob) -> None:
    assert _updates is not None
    send = _updates.put

    def report(done: int, total: int, loss: float) -> None:
        if done % REPORT_EVERY == 0 or done == total:
            send((number, done, total, loss))

    _train_one(job, report)
