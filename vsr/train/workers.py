"""Trains many models, on as many cores as asked, and saves each as soon as it is whole."""

import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vsr.engine.tiling import single_thread
from vsr.errors import InterruptedRunError, ModelError, OutputError
from vsr.files import write_atomically
from vsr.models.bank import ModelCard, save_model
from vsr.progress import ignore, never
from vsr.records import to_table
from vsr.train.cluster import TaskPool, join_cluster
from vsr.train.fit import (
    IterationProgress,
    ProgressAggregator,
    TrainingListener,
    fit,
)
from vsr.train.methods.method import Method, TrainedNetworks
from vsr.train.state_file import StateFile

CPU = torch.device("cpu")
POLL_SECONDS = 0.2
REPORT_EVERY = 10
"""Iterations between two news of a worker."""

News = tuple[int, int, int, float] | str
"""Job, iteration, iterations and loss; or a sentence for the user."""


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


def available_cores() -> int:
    """Number of cores that this process may use; where the system does not say, of all it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def train_all(
    jobs: Sequence[TrainingJob],
    workers: int,
    listener: TrainingListener,
    device: torch.device = CPU,
    cluster: str | None = None,
) -> None:
    """Train and save every job's model; what was finished before an error or Ctrl-C stays.

    On the `cluster` of this address each model is a task. On a GPU all models of a keyframe are one
    job, where `is_batchable` says so; the others are trained on the CPU. Raises
    `ModelError` for weights that are not finite or a worker that died, `OutputError` for a full
    disk, and `InterruptedRunError` where the user asks for an end.
    """
    gather = ProgressAggregator(len(jobs), listener)
    if cluster is not None:
        _train_on_cluster(cluster, jobs, listener, gather)
        return
    batched = {
        number: job for number, job in enumerate(jobs) if device != CPU and is_batchable(job)
    }
    for keyframe in dict.fromkeys(job.card.keyframe_hash for job in batched.values()):
        _train_batched(
            {n: job for n, job in batched.items() if job.card.keyframe_hash == keyframe},
            device,
            gather,
        )
    # What a GPU does not take is done after it, on the cores.
    separate = {number: job for number, job in enumerate(jobs) if number not in batched}
    if min(workers, len(separate)) > 1:
        _train_in_pool(separate, min(workers, len(separate)), listener, gather)
        return
    for number, job in separate.items():
        report = partial(gather.update, number)
        _train_one(job, report, listener.notify, listener.should_stop)


def train_model_in_worker(job: TrainingJob, _: Sequence[object]) -> bytes:
    """Train a model on a cluster; returns its file."""
    with TemporaryDirectory() as folder:
        here = replace(job, path=Path(folder) / job.path.name)
        _train_one(here, ignore, ignore, never)
        return here.path.read_bytes()


def _train_on_cluster(
    address: str,
    jobs: Sequence[TrainingJob],
    listener: TrainingListener,
    gather: ProgressAggregator,
) -> None:
    """Train each model as a task of its own, on one core, and save it here."""
    if not jobs:
        return
    with join_cluster(address, 1, cores=available_cores()) as cluster:
        pool = TaskPool(cluster, listener.notify)
        waiting = list(enumerate(jobs))[::-1]
        try:
            while waiting or pool.num_at_work:
                while waiting and pool.has_room:
                    number, job = waiting.pop()
                    pool.add(number, train_model_in_worker, job)
                for number, model in pool.wait(POLL_SECONDS):
                    write_model(jobs[number].path, model)
                    gather.update(number, 1, 1, 0.0)
                if listener.should_stop():
                    raise InterruptedRunError(
                        f"stopped after {pool.finished} of {len(jobs)} models, which are kept",
                        can_resume=True,
                    )
        finally:
            pool.cancel()
        pool.summarize("models")


def write_model(path: Path, model: bytes) -> None:
    """Give a model that a worker has made its name. Raises `OutputError`."""
    try:
        write_atomically(path, model)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Models made so far are kept."
        ) from None


def is_batchable(job: TrainingJob) -> bool:
    """Whether a job can be one of several that a GPU does at once."""
    batched = job.method.batched
    return (
        batched is not None
        and not job.neighbours
        and batched.can_train(job.pixels, job.method.options)
    )


def exit_with_parent() -> None:
    """In a process of a pool: end when the parent has ended, however that happened, and not wait
    for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only for processes that this package has started"

    def watch(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _train_batched(
    jobs: Mapping[int, TrainingJob], device: torch.device, gather: ProgressAggregator
) -> None:
    """Train jobs of one keyframe and one method at once."""
    numbers, first = list(jobs), next(iter(jobs.values()))
    seeds = [job.card.seed for job in jobs.values()]
    assert first.method.batched is not None

    def report(place: int, done: int, total: int, loss: float) -> None:
        gather.update(numbers[place], done, total, loss)

    for place, trained in first.method.batched.train(
        first.pixels, first.method.options, seeds, device, report
    ):
        _save(jobs[numbers[place]], trained)


def _train_one(
    job: TrainingJob,
    report: IterationProgress,
    notify: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train and save a model, from the state of a stopped training where there is one."""
    plan = {"card": asdict(job.card), "options": to_table(job.method.options)}
    states = StateFile(job.path, plan, notify, begins_anew=True)
    # Whatever the cores: a model must be the same on every machine of a kind.
    with single_thread():
        training = job.method.begin(
            [job.pixels, *job.neighbours], job.method.options, job.card.seed
        )
        fit(training, report, states, should_stop)
        trained = training.trained()
    _save(job, trained)
    states.remove()


def _save(job: TrainingJob, trained: TrainedNetworks) -> None:
    critic_mean, critic_std = _critic_scores(trained, job.pixels)
    card = replace(
        job.card,
        network=trained.generator.spec,
        noise_amplitude=trained.noise_amplitude,
        critic_mean=critic_mean,
        critic_std=critic_std,
        loss_curve=trained.loss_curve,
        kernel=trained.kernel,
        remark=trained.remark,
    )
    # A finite loss at the last iteration says nothing of the weights that its step has made.
    if not all(torch.isfinite(tensor).all() for tensor in trained.generator.state_dict().values()):
        raise ModelError(
            f"training {job.path.stem} diverged: its weights are not finite. Try another --seed."
        )
    try:
        save_model(job.path, card, trained.generator, trained.critic)
    except OSError as error:
        raise OutputError(
            f"cannot write {job.path}: {error.strerror}. Models made so far are kept."
        ) from None


def _critic_scores(
    trained: TrainedNetworks, keyframe: torch.Tensor
) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the critic's map on the keyframe."""
    if trained.critic is None:
        return None, None
    with torch.inference_mode():
        scores = trained.critic((2 * keyframe - 1)[None])
    return float(scores.mean()), float(scores.std())


def _train_in_pool(
    jobs: Mapping[int, TrainingJob],
    workers: int,
    listener: TrainingListener,
    gather: ProgressAggregator,
) -> None:
    # Started afresh: what a fork would copy, such as threads that hold locks, does not serve.
    context = multiprocessing.get_context("spawn")
    news, stop = context.Queue(), context.Event()
    # Only workers of this pool are ended on an error.
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(news, stop))
    try:
        futures = [pool.submit(_train_in_worker, number, job) for number, job in jobs.items()]
        while not all(future.done() for future in futures):
            if listener.should_stop() and not stop.is_set():
                # Those at work save their states, which is waited for; the others never begin.
                stop.set()
                for future in futures:
                    future.cancel()
            _raise_first_error(futures)
            try:
                item = news.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, str):
                listener.notify(item)
            else:
                gather.update(*item)
        _raise_first_error(futures)
        made = sum(not future.cancelled() and future.result() for future in futures)
        if made < len(futures):
            raise InterruptedRunError(
                f"stopped after {made} of {len(futures)} models; the states of those in training "
                "are kept",
                can_resume=True,
            )
    except BaseException:
        for worker in set(multiprocessing.active_children()).difference(others):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _raise_first_error(futures: Sequence["Future[bool]"]) -> None:
    try:
        for future in futures:
            if future.done() and not future.cancelled():
                future.result()
    except BrokenProcessPool:
        raise ModelError(
            "a training process was killed, perhaps for lack of memory. Finished models are kept: "
            "the same command continues."
        ) from None


_news: "multiprocessing.Queue[News] | None" = None
_stop: Event | None = None


def _start_worker(news: "multiprocessing.Queue[News]", stop: Event) -> None:
    """Leave Ctrl-C to the parent, which tells its workers then."""
    # An initializer has no other way to hand these to its tasks.
    global _news, _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    _news, _stop = news, stop


def _train_in_worker(number: int, job: TrainingJob) -> bool:
    """Train and save a model; whether it was not stopped before."""
    assert _news is not None
    assert _stop is not None
    send = _news.put

    def report(done: int, total: int, loss: float) -> None:
        # News of every iteration would keep the parent busy.
        if done % REPORT_EVERY == 0 or done == total:
            send((number, done, total, loss))

    try:
        _train_one(job, report, send, _stop.is_set)
    # As a value: an exception that is raised again in the parent would end the others at once.
    except InterruptedRunError:
        return False
    return True
