"""A Ray cluster: joining it, keeping it busy, and seeing that all its workers give the same bits.

Ray is asked for nothing but to run functions somewhere: what is lost is given again here, where it
can be counted, and what must be there after an end is never left in Ray.
"""

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from vsr.engine.machine import machine
from vsr.engine.tiling import set_num_threads
from vsr.errors import ModelError, UsageError, VsrError

AUTO = "auto"
CONNECT_SECONDS = 5.0
MAX_LOSSES = 8
"""Times that a task is given again; one that takes its worker with it each time never ends."""
SLOW_FACTOR = 2.0
"""Time of a task, over what others of its size took, from which it is run a second time where a
worker has nothing else to do."""
SLOTS_SECONDS = 2.0
"""Time for which the number of workers is believed: machines may join and leave."""

Task = Callable[[Any, Sequence[Any]], Any]
"""A function of a module: plain arguments, and references to objects in Ray's store -> result."""


@dataclass
class Cluster:
    """A Ray cluster that was joined."""

    address: str
    """Host and port, by Ray."""
    threads: int
    """Cores of one task."""
    gpus: bool = False
    """Whether a task takes a GPU."""
    _slots: tuple[float, int] = (-1e9, 0)

    def slots(self) -> int:
        """Number of tasks that the cluster can run at once."""
        import ray

        if monotonic() - self._slots[0] > SLOTS_SECONDS:
            self._slots = (monotonic(), sum(map(self._slots_of, ray.nodes())))
        return self._slots[1]

    def store_bytes(self) -> int:
        """Size of the object store of the machine that gives the tasks."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        return sum(
            int(node["Resources"].get("object_store_memory", 0))
            for node in ray.nodes()
            if node["Alive"] and node["NodeID"] == here
        )

    def _slots_of(self, node: dict[str, Any]) -> int:
        resources = node["Resources"] if node["Alive"] else {}
        if self.gpus:
            return int(resources.get("GPU", 0))
        return int(resources.get("CPU", 0) // self.threads)


@contextmanager
def join_cluster(
    address: str, threads: int, *, gpus: bool = False, cores: int | None = None
) -> Iterator[Cluster]:
    """Join the Ray cluster at an address, or start one on this machine for `auto`; a started one
    ends with the process.

    Raises `UsageError` where Ray is not installed or the address is none, and `ModelError` where
    nothing answers or no worker has so many cores.
    """
    if address != AUTO:
        _check_answers(address)
    # No figures of its use are sent anywhere, and nothing listens beyond this machine.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == AUTO:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--cluster needs Ray, which is not installed: pip install 'steady-vsr[cluster]'."
        ) from None
    if not ray.is_initialized():
        _start(address, cores)
    cluster = Cluster(_gcs_address(), threads, gpus)
    if not cluster.slots():
        wanted = "a GPU" if gpus else f"{threads} cores"
        raise ModelError(
            f"no worker of the cluster at {cluster.address} has {wanted}, which a task needs: use "
            f"{'--device cpu' if gpus else 'a smaller --threads'}, or add a machine."
        )
    yield cluster


@dataclass
class Throughput:
    """The work of one worker."""

    size: int = 0
    """Frames enlarged; models trained."""
    seconds: float = 0.0


@dataclass
class _Given:
    """A task and its runs, by reference."""

    key: Any
    function: Task
    arguments: Any
    references: Sequence[Any]
    size: int
    runs: dict[Any, float] = field(default_factory=dict)
    """Start of each run that has not ended."""
    losses: int = 0


class TaskPool:
    """The tasks at work on a cluster: as many as it has room for.

    What is lost with its worker is given again, and where workers have nothing else to do, the
    slowest tasks are run twice; the first result counts.
    """

    def __init__(self, cluster: Cluster, notify: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.finished = 0
        self.retried = 0
        """Runs that were lost and given again, and second runs of slow tasks."""
        self.workers: dict[str, Throughput] = {}
        self._notify = notify
        self._waiting: deque[_Given] = deque()
        self._running: dict[Any, _Given] = {}
        """Task of each run, by the reference to its result."""
        self._seconds: dict[Task, list[float]] = {}
        """Times of finished runs, for one unit of size, by function."""
        self._remote: Any = None

    @property
    def num_at_work(self) -> int:
        """Number of tasks that are not finished."""
        return len(self._waiting) + len({id(task) for task in self._running.values()})

    @property
    def has_room(self) -> bool:
        """Whether a task that is added now would run at once, or soon."""
        return self.num_at_work <= self.cluster.slots()

    def add(
        self,
        key: Any,
        function: Task,
        arguments: Any,
        references: Sequence[Any] = (),
        size: int = 1,
        *,
        first: bool = False,
    ) -> None:
        """Give a task; its result comes out of `wait` under its key. One that is `first` goes
        before all that wait."""
        task = _Given(key, function, arguments, references, size)
        (self._waiting.appendleft if first else self._waiting.append)(task)
        self._fill()

    def wait(self, seconds: float) -> list[tuple[Any, Any]]:
        """Wait for results, at most so long; returns those that came, by key.

        Raises the error of a task, `ModelError` for a worker that is refused, and where a task was
        lost too often.
        """
        import ray

        self._fill()
        if not self._running:
            threading.Event().wait(seconds)
            return []
        ready, _ = ray.wait(list(self._running), timeout=seconds)
        results = []
        for reference in ready:
            # The other run of a task that has just come in is gone already.
            if reference in self._running:
                results += self._take(reference)
        self._fill()
        return results

    def cancel(self) -> None:
        """End all tasks; what they have done is lost."""
        import ray

        self._waiting.clear()
        for reference in self._running:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        self._running.clear()

    def summarize(self, unit: str) -> None:
        """Tell what each worker has done, and what was run again."""
        for worker, done in self.workers.items():
            rate = done.size / done.seconds if done.seconds else 0.0
            self._notify(f"worker {worker}: {done.size} {unit}, {rate:.3g} a second")
        if self.retried:
            self._notify(f"{self.retried} runs of {self.finished} tasks were lost or run twice")

    def record(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "address": self.cluster.address,
            "workers": len(self.workers),
            "tasks": self.finished,
            "retried": self.retried,
            "throughput": [
                {"worker": worker, "done": done.size, "seconds": done.seconds}
                for worker, done in self.workers.items()
            ],
        }

    def _take(self, reference: Any) -> list[tuple[Any, Any]]:
        """Take the result of a run that has ended."""
        import ray

        task = self._running.pop(reference)
        started = task.runs.pop(reference)
        try:
            worker, seconds, result, refusal = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise _as_own_error(error) from error
        except ray.exceptions.RayError as error:
            self._lost(task, error)
            return []
        if refusal:
            raise ModelError(
                f"worker {worker} would not give the same bits: {refusal}. Make it equal, or leave "
                "it out; what is done is kept."
            )
        for other in task.runs:
            self._running.pop(other)
            with suppress(Exception):
                ray.cancel(other, force=True)
        done = self.workers.setdefault(worker, Throughput())
        done.size += task.size
        done.seconds += seconds
        self._seconds.setdefault(task.function, []).append(
            (monotonic() - started) / max(task.size, 1)
        )
        self.finished += 1
        return [(task.key, result)]

    def _lost(self, task: _Given, error: Exception) -> None:
        task.losses += 1
        self.retried += 1
        if task.losses > MAX_LOSSES:
            raise ModelError(
                f"a task was lost {task.losses} times with its worker "
                f"({type(error).__name__}), perhaps for lack of memory. What is done is kept: the "
                "same command continues."
            )
        self._notify(f"a worker was lost ({type(error).__name__}): its task is given again")
        if not task.runs:
            self._waiting.appendleft(task)

    def _fill(self) -> None:
        """Start what there is room for."""
        while self._waiting and len(self._running) < self.cluster.slots():
            self._run(self._waiting.popleft())
        if not self._waiting and len(self._running) < self.cluster.slots():
            self._run_slowest_again()

    def _run(self, task: _Given) -> None:
        import ray
        from ray import cloudpickle

        if self._remote is None:
            self._remote = _remote_function(self.cluster)
        payload = cloudpickle.dumps((task.function, task.arguments))
        expected = machine(self.cluster.threads)
        try:
            reference = self._remote.remote(expected, payload, list(task.references))
        except ray.exceptions.RayError as error:
            raise _as_own_error(error) from error
        task.runs[reference] = monotonic()
        self._running[reference] = task

    def _run_slowest_again(self) -> None:
        """Run a second time what takes much longer than others of its kind."""
        for task in self._running.values():
            usual = self._seconds.get(task.function)
            if usual is None or len(task.runs) > 1:
                continue
            (started,) = task.runs.values()
            if monotonic() - started > SLOW_FACTOR * median(usual) * max(task.size, 1) + 1:
                self.retried += 1
                self._notify("a worker is slow: its task is run a second time elsewhere")
                self._run(task)
                return


def put(value: Any) -> Any:
    """Put a value into the object store, and return the reference to it. Raises `ModelError` where
    it does not hold that."""
    import ray

    try:
        return ray.put(value)
    except (ray.exceptions.RayError, OSError) as error:
        raise _as_own_error(error) from error


def _remote_function(cluster: Cluster) -> Any:
    """The one function that Ray runs. It travels by value, so that a worker with another version of
    vsr can still tell so."""
    import ray

    threads = cluster.threads

    def work(expected: dict[str, str], payload: bytes, references: list[Any]) -> Any:
        import socket
        from time import perf_counter

        name = f"{socket.gethostname()}, node {ray.get_runtime_context().get_node_id()[:8]}"
        try:
            from vsr.train.cluster import run_task
        except ImportError as missing:
            return name, 0.0, None, f"it has no vsr of this version ({missing})"
        begin = perf_counter()
        result, refusal = run_task(threads, expected, payload, references)
        return f"{name}, process {os.getpid()}", perf_counter() - begin, result, refusal

    # Lost tasks are given again by the pool, which counts them.
    resources = {"num_gpus": 1} if cluster.gpus else {"num_cpus": threads}
    return ray.remote(max_retries=0, **resources)(work)


def run_task(
    threads: int, expected: dict[str, str], payload: bytes, references: list[Any]
) -> tuple[Any, str]:
    """Run a task in a worker; returns its result, or why the worker does not serve."""
    from ray import cloudpickle

    set_num_threads(threads)
    found = machine(threads)
    other = [
        f"{name} is {found.get(name, 'not there')}, expected {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if other:
        return None, "; ".join(other)
    function, arguments = cloudpickle.loads(payload)
    return function(arguments, references), ""


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise UsageError(
            f"--cluster {address}: expected auto or HOST:PORT, as ray start --head prints it."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ModelError(
            f"no Ray cluster answers at {address} ({error}): start one with ray start --head, or "
            "use --cluster auto."
        ) from None


def _start(address: str, cores: int | None) -> None:
    import ray

    local = {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local" if address == AUTO else address,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            **(local if address == AUTO else {}),
        )
    # Of Ray's many ways to say so: another version, another Python, no node on this machine.
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the Ray cluster at {address} cannot be joined: {reason}. This machine must be a node "
            "of it (ray start --address=...), with the same Ray and Python."
        ) from None
    finally:
        # Ray takes SIGTERM for itself; here it asks for an end with the work kept.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _gcs_address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _as_own_error(error: Exception) -> VsrError | Exception:
    """Turn an error of a task, or of Ray's store, into one that a user can act on, where it is
    one."""
    import ray

    cause = getattr(error, "cause", None) or error
    if isinstance(cause, VsrError):
        return cause
    full = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
    if isinstance(cause, full) or "ObjectStoreFull" in str(error):
        return ModelError(
            "Ray's object store is full: give it more (ray start --object-store-memory=BYTES), or "
            "use shorter segments (--set encode.segment_frames=60). What is done is kept."
        )
    return cause if isinstance(cause, Exception) else error
