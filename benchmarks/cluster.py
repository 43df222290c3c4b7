"""Runs on a Ray cluster: what they cost, what kills do to them, and where they stop scaling.

    python -m benchmarks.cluster kill --kills 20 --state kills.json
    python -m benchmarks.cluster same
    python -m benchmarks.cluster full
    python -m benchmarks.cluster overhead --seconds 120 --policy bicubic
    python -m benchmarks.cluster scaling --seconds 64 --policy shot --size 96x64
    python -m benchmarks.cluster times --json times.json
    python -m benchmarks.cluster simulate --json times.json

`kill` starts a cluster of several nodes in processes of their own, and kills a worker, a node or
the driver at a random moment of each run. The result is compared frame by frame with that of one
process; the counts go on where they stopped (`--seconds` ends a slice). `same` compares runs and
trainings over two and four nodes with those of one process, `full` fills the object store, and then
goes on. `overhead` compares one worker with a plain run, `scaling` two workers with one. `times`
measures the tasks of a film on this machine, and `simulate` plays a film of two hours on 1 to 1,000
workers with them, and draws `docs/figures/cluster.png`.
"""

import argparse
import heapq
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# Before Ray is loaded: the clusters are this process's own, on this machine alone.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_USAGE_STATS_ENABLED="0",
    OMP_NUM_THREADS="1",
    VSR_BENCHMARK=f"cluster of {os.getpid()}",
)

import torch

import vsr
from benchmarks.made_clips import moving_pictures, read_frames, write_clip
from benchmarks.made_models import make_model, make_shot_model, picture
from benchmarks.measure import print_table
from benchmarks.tally import Tally
from vsr.models.shot_model import save_shot_model
from vsr.train.cluster import join_cluster, put
from vsr.video.write.segment_store import SegmentEnds

HEIGHT, WIDTH = 32, 48
SEGMENT_FRAMES = 8
STORE_BYTES = 100 * 2**20


@dataclass
class Kills(Tally):
    kills: Counter[str] = field(default_factory=Counter)
    again: int = 0
    """Tasks that were done twice."""
    in_flight: int = 0
    """The most that may have been: one for each worker at each kill."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(COMMANDS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--policy", default="bicubic")
    parser.add_argument("--size", default=f"{WIDTH}x{HEIGHT}", help="of `overhead` and `scaling`")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsr-") as folder:
        root = Path(folder)
        COMMANDS[given.what](root, given)


def make_clip(path: Path, shots: list[int], height: int = HEIGHT, width: int = WIDTH) -> Path:
    pictures = []
    for number, count in enumerate(shots):
        moving = moving_pictures(count, height, width, (0.1, 0.2), seed=number + 1)
        pictures += [each // (1 if number % 2 == 0 else 4) for each in moving]
    return write_clip(path, pictures, codec_options={"preset": "ultrafast"})


def make_bank(folder: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    folder.mkdir()
    make_model(folder, "model", picture(height, width))
    model = make_shot_model()
    save_shot_model(folder / f"{model.name}.shot.safetensors", model.card, model.networks)
    return folder


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    return [(frame.pts, frame.to_ndarray().tobytes()) for frame in read_frames(path)]


@contextmanager
def nodes(count: int, cores: int = 1, system: dict | None = None):
    """A cluster of several nodes in processes of their own; the first, without cores, is never
    killed. `system` are settings of Ray itself."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": system or {}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    members = [
        cluster.add_node(num_cpus=cores, object_store_memory=STORE_BYTES) for _ in range(count)
    ]
    try:
        yield cluster, members
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


# -- kills


def kill(root: Path, given: argparse.Namespace) -> None:
    """Kill something in the middle of a run, as often as asked."""
    chance, end = random.Random(given.seed), time.monotonic() + given.seconds
    tally = Kills.load(given.state)
    shots = [12, 20, 8, 16]
    segments = 2 + 3 + 1 + 2
    clip, bank = make_clip(root / "clip.mkv", shots), make_bank(root / "bank")
    options = {"policy": "smi", "models": str(bank), "scale": 2, "threads": 1, "dtype": "fp32"}
    settings = [f"encode.segment_frames={SEGMENT_FRAMES}"]
    vsr.run(clip, root / "plain.mkv", **options, settings=settings)
    expected = frames_of(root / "plain.mkv")
    with nodes(2) as (cluster, members):
        # Once without a kill: the workers load what they need.
        begin = time.monotonic()
        out = root / "whole.mkv"
        vsr.run(clip, out, cluster=cluster.address, **options, settings=settings)
        assert frames_of(out) == expected
        out.unlink()
        begin = time.monotonic()
        vsr.run(clip, out, cluster=cluster.address, **options, settings=settings)
        usual = time.monotonic() - begin
        while tally.kills.total() < given.kills and time.monotonic() < end:
            victim = ("worker", "node", "driver")[tally.trials % 3]
            tally.trials += 1
            out = root / f"out-{tally.trials}.mkv"
            if victim == "driver":
                done = kill_driver(cluster.address, clip, out, options, settings, usual, chance)
                tally.again += max(0, done - segments)
            else:
                manifest = kill_beside(
                    cluster,
                    members,
                    victim,
                    usual,
                    chance,
                    lambda out=out: vsr.run(
                        clip, out, cluster=cluster.address, **options, settings=settings
                    ),
                )
                tally.again += manifest.cluster["retried"]
                if manifest.cluster["tasks"] != segments:
                    tally.faults.append(f"trial {tally.trials}: {manifest.cluster}")
            tally.kills[victim] += 1
            tally.in_flight += 2
            if frames_of(out) == expected:
                tally.same[victim] += 1
            else:
                tally.faults.append(f"trial {tally.trials}, {victim}: other frames")
            if left := [path.name for path in root.glob(f".{out.name}*")]:
                tally.faults.append(f"trial {tally.trials}, {victim}: {left} is left")
            out.unlink()
            tally.save(given.state)
    rows = [[name, str(count), str(tally.same[name])] for name, count in tally.kills.items()]
    print_table("Killed in the middle of a run", ["what", "kills", "same frames"], rows)
    print(
        f"{tally.again} tasks of {segments * tally.trials} were done twice; {tally.in_flight} may "
        "have been in flight"
    )
    tally.show_faults()


def kill_beside(cluster, members, victim, usual, chance, run):
    """Run, and kill a worker or a node at a random moment of it."""
    finished = threading.Event()

    def at_random() -> None:
        if finished.wait(chance.uniform(0.1, 0.9) * usual):
            return
        if victim == "node":
            node = members.pop(chance.randrange(len(members)))
            cluster.remove_node(node, allow_graceful=False)
            return
        workers = find_workers()
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)

    killer = threading.Thread(target=at_random)
    killer.start()
    try:
        return run()
    finally:
        finished.set()
        killer.join()
        # Ray adds nodes in the main thread alone.
        while len(members) < 2:
            members.append(cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))


def find_workers(title: bytes = b"ray::work") -> list[int]:
    """Processes of workers, by default of those in which a task is running."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            ours = os.environ["VSR_BENCHMARK"].encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if words.startswith(title) and ours:
            found.append(int(folder.name))
    return found


def kill_driver(address, clip, out, options, settings, usual, chance) -> int:
    """Kill the driver, begin again, and count the tasks of both."""
    words = [sys.executable, "-m", "vsr", "run", str(clip), "-o", str(out)]
    words += ["--cluster", address, "--json", str(out.with_suffix(".json"))]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    for setting in settings:
        words += ["--set", setting]
    work = out.with_name(f".{out.name}.vsr-work")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Its own start takes longer than the run, so the moment counts from the first that is kept.
    while process.poll() is None and not list(work.glob("ahead-*")) + list(
        work.glob("segment-*.json")
    ):
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.8) * usual)
    process.kill()
    process.wait()
    kept = len(list(work.glob("segment-*.json"))) + len(list(work.glob("ahead-*[0-9]")))
    if out.exists() and not work.exists():
        return kept
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return kept + json.loads(out.with_suffix(".json").read_text())["cluster"]["tasks"]


# -- the same bits


def same(root: Path, _: argparse.Namespace) -> None:
    """Compare runs and trainings over two and four nodes with those of one process."""
    clip, bank = make_clip(root / "clip.mkv", 8 * [12, 20]), make_bank(root / "bank")
    settings = [f"encode.segment_frames={SEGMENT_FRAMES}"]
    options = {"models": bank, "scale": 2, "threads": 1, "dtype": "fp32", "settings": settings}
    policies = {"bicubic": {}, "smi": {"steady": 0.9}, "shot": {}}
    trainings = {
        "train-keyframe": lambda folder, cluster: vsr.train_keyframe(
            clip, folder, count=4, settings=["iterations=20", "crop_px=16"], cluster=cluster
        ),
        "train-shot": lambda folder, cluster: vsr.train_shot(
            clip, folder, shots="all", cluster=cluster
        ),
    }
    for policy, more in policies.items():
        vsr.run(clip, root / f"{policy}.mkv", policy=policy, **options, **more)
    # The batch is split by the number of threads, and workers have one.
    torch.set_num_threads(1)
    for training, train in trainings.items():
        train(root / training, None)
    rows = []
    for count in (2, 4):
        with nodes(count) as (cluster, _):
            for policy, more in policies.items():
                out = root / f"{policy}-{count}.mkv"
                manifest = vsr.run(
                    clip, out, policy=policy, cluster=cluster.address, **options, **more
                )
                assert frames_of(out) == frames_of(root / f"{policy}.mkv"), (policy, count)
                workers, frames = manifest.cluster["workers"], manifest.frames_out
                rows.append([policy, str(count), str(workers), f"{frames} frames"])
            for training, train in trainings.items():
                folder = root / f"{training}-{count}"
                train(folder, cluster.address)
                names = sorted(path.name for path in (root / training).iterdir())
                for name in names:
                    made = (folder / name).read_bytes()
                    assert made == (root / training / name).read_bytes(), (name, count)
                rows.append([training, str(count), "", f"{len(names)} files"])
    print_table("Equal to one process", ["what", "nodes", "workers that took part", "equal"], rows)


def full(root: Path, _: argparse.Namespace) -> None:
    """Fill the object store, and pretend a full disk behind it; then give it back and go on."""
    clip = make_clip(root / "clip.mkv", [40, 40, 40], 256, 384)
    settings = ["encode.segment_frames=20"]
    options = {"policy": "bicubic", "scale": 2, "threads": 1, "settings": settings}
    vsr.run(clip, root / "plain.mkv", **options)
    out = root / "out.mkv"
    no_disk = {"automatic_object_spilling_enabled": False, "local_fs_capacity_threshold": 0.0}
    with nodes(2, system=no_disk) as (cluster, _), join_cluster(cluster.address, 1):
        held = [put(np.zeros(STORE_BYTES // 100, np.uint8)) for _ in range(96)]
        try:
            vsr.run(clip, out, cluster=cluster.address, **options)
        except vsr.VsrError as error:
            print(f"exit code {error.exit_code}: {error}")
        else:
            sys.exit("a full object store was not noticed")
        assert not out.exists()
        del held
        vsr.run(clip, out, cluster=cluster.address, **options)
    assert frames_of(out) == frames_of(root / "plain.mkv")
    print("once there was room, the same command gave all frames of a plain run")


# -- cost


def compare(root: Path, given: argparse.Namespace, counts: tuple[int, int]) -> None:
    """Time a clip with so many workers of one thread each; 0 is a plain run. Ray's start and the
    first run of each worker, which loads torch, are told apart."""
    width, height = map(int, given.size.split("x"))
    frames = round(25 * given.seconds)
    clip = make_clip(root / "clip.mkv", [100] * (frames // 100), height, width)
    short = make_clip(root / "short.mkv", [24, 24, 24, 24], height, width)
    bank = make_bank(root / "bank", height, width)
    options = {"policy": given.policy, "models": bank, "scale": 2, "threads": 1, "dtype": "fp32"}
    rows = []
    for count in counts:
        out = root / f"{count}.mkv"
        if count == 0:
            vsr.run(short, root / "warm.mkv", **options, overwrite=True)
            begin, used = time.monotonic(), cpu_seconds(os.getpid())
            vsr.run(clip, out, **options)
            rows.append(row(count, begin, used, cpu_seconds(os.getpid()), 0.0))
            continue
        start = time.monotonic()
        with nodes(count) as (cluster, _):
            up = time.monotonic() - start
            vsr.run(short, root / "warm.mkv", cluster=cluster.address, **options, overwrite=True)
            processes = [os.getpid(), *find_workers(b"ray::")]
            begin, used = time.monotonic(), sum(map(cpu_seconds, processes))
            vsr.run(clip, out, cluster=cluster.address, **options)
            rows.append(row(count, begin, used, sum(map(cpu_seconds, processes)), up))
        assert frames_of(out) == frames_of(root / f"{counts[0]}.mkv")
    head = ["workers", "wall seconds", "processor seconds", "start of Ray"]
    print_table(f"{given.policy}, x2, {frames} frames of {given.size}", head, rows)


def overhead(root: Path, given: argparse.Namespace) -> None:
    """Time one worker beside a plain run."""
    compare(root, given, (0, 1))


def scaling(root: Path, given: argparse.Namespace) -> None:
    """Time two workers beside one."""
    compare(root, given, (1, 2))


def row(count: int, begin: float, before: float, after: float, start: float) -> list[str]:
    name = "plain run" if count == 0 else str(count)
    return [name, f"{time.monotonic() - begin:.1f}", f"{after - before:.1f}", f"{start:.1f}"]


def cpu_seconds(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times(root: Path, given: argparse.Namespace) -> None:
    """Measure the processor time of a frame by each policy, and of reading one: other programs on
    this machine count little then."""
    height, width, count = 90, 160, 16
    clip = make_clip(root / "clip.mkv", [count], height, width)
    short = make_clip(root / "short.mkv", [count // 2], height, width)
    bank = make_bank(root / "bank", height, width)
    found = {"height": height, "width": width, "scale": 4, "policies": {}}
    for policy in ("bicubic", "smi", "shot"):
        # Of two lengths, so that what is done once does not count.
        used, out = [], root / f"{policy}.mkv"
        for film in (short, clip):
            before = cpu_seconds(os.getpid())
            manifest = vsr.run(
                film, out, policy=policy, models=bank, threads=1, dtype="fp32", overwrite=True
            )
            used.append(cpu_seconds(os.getpid()) - before)
        each = (used[1] - used[0]) / (count - count // 2)
        stages = dict(manifest.timings_seconds)
        del stages["total"]
        share = stages["read"] / sum(stages.values())
        found["policies"][policy] = each * (1 - share)
        if policy == "bicubic":
            found["read"] = each * share
        found["result_bytes"] = out.stat().st_size / count
    found["frame_bytes"] = height * width * 1.5
    print(json.dumps(found, indent=1))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


# -- simulation

FILM_FRAMES, MEAN_SHOT = 170_000, 170
FILM_PX = 720 * 480
"""Pixels of its frames: what was measured on smaller ones counts as often more."""
NETWORK_BYTES = 1.25e9
"""A second, at the driver: 10 Gb/s."""
TASK_SECONDS = 0.05
"""Ray's own time for a task, and the driver's for keeping its segment."""
SLOW_SHARE, SLOW_FACTOR = 0.02, 4.0
HOURS_TO_FAILURE = 50.0
"""Of one worker, which is replaced two minutes later."""


@dataclass(frozen=True)
class Film:
    """Segments in order: frames, whether it begins a shot."""

    segments: list[tuple[int, bool]]
    longest_shot: int


def make_film(chance: random.Random) -> Film:
    """Cut a film of shots of random length as a run does."""
    shots = []
    while sum(shots) < FILM_FRAMES:
        shots.append(max(12, round(chance.lognormvariate(np.log(MEAN_SHOT) - 0.5, 1.0))))
    segments, begins, frame = [], True, 0
    ends = SegmentEnds(0, 240)
    start = 0
    for shot in shots:
        for position in range(shot):
            is_last = position == shot - 1
            if ends.ends_at(frame, before_cut=is_last):
                segments.append((frame + 1 - start, begins))
                start, begins = frame + 1, is_last
            frame += 1
    return Film(segments, max(shots))


def play(film: Film, seconds: float, read: float, sent: float, workers: int, seed: int) -> float:
    """Play a run and return its duration in seconds.

    A segment is ready when it is read and sent, and when the one before it in its shot is done.
    Workers take the first that is ready; a slow task is run twice once others take half as long; a
    failure loses the task at hand.
    """
    chance = random.Random(seed)
    arrival, driver = [], 0.0
    for frames, _ in film.segments:
        driver += frames * max(read, sent) + TASK_SECONDS
        arrival.append(driver)
    free = [0.0] * workers
    heapq.heapify(free)
    done: dict[int, float] = {}
    ready = [
        (arrival[number], number)
        for number, (_, begins) in enumerate(film.segments)
        if begins or number == 0
    ]
    heapq.heapify(ready)
    end = 0.0
    while ready:
        at, number = heapq.heappop(ready)
        begin = max(at, heapq.heappop(free))
        usual = film.segments[number][0] * seconds
        # A copy is begun at twice the usual time, so no task takes more than three times it.
        slow = chance.random() < SLOW_SHARE
        taken = usual * (min(SLOW_FACTOR, 3.0) if slow else chance.uniform(0.95, 1.05))
        lost = 0.0
        while chance.random() < (taken + lost) / (3600 * HOURS_TO_FAILURE):
            lost += chance.random() * taken + 120
        finish = begin + taken + lost
        heapq.heappush(free, finish)
        done[number] = finish
        end = max(end, finish)
        following = number + 1
        if following < len(film.segments) and not film.segments[following][1]:
            heapq.heappush(ready, (max(arrival[following], finish), following))
    return end


def simulate(_: Path, given: argparse.Namespace) -> None:
    """Play a film on more and more workers, and draw it."""
    measured = json.loads(given.json.read_text())
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    film = make_film(random.Random(given.seed))
    counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    larger = FILM_PX / measured["height"] / measured["width"]
    read = larger * measured["read"]
    sent = larger * (measured["frame_bytes"] + measured["result_bytes"]) / NETWORK_BYTES
    figure, axes = plt.subplots(figsize=(6, 4))
    rows = []
    for policy, small in measured["policies"].items():
        seconds = larger * small
        taken = [play(film, seconds, read, sent, n, given.seed) for n in counts]
        whole = sum(frames for frames, _ in film.segments) * seconds
        chain = film.longest_shot * seconds
        reading = FILM_FRAMES * max(read, sent)
        axes.loglog(counts, [taken[0] / each for each in taken], marker="o", label=policy)
        for number, each in zip(counts, taken, strict=True):
            rows.append([policy, str(number), f"{each / 3600:.2f}", f"{whole / each / number:.0%}"])
        print(
            f"{policy}: {seconds:.3f} s a frame; longest shot {chain / 3600:.2f} h, reading "
            f"{reading / 3600:.2f} h: no run is faster than the longer of the two"
        )
    axes.loglog(counts, counts, color="gray", linestyle=":", label="perfect")
    axes.set_xlabel("workers")
    axes.set_ylabel("times as fast as one")
    axes.legend()
    figure.tight_layout()
    figure.savefig("docs/figures/cluster.png", dpi=110)
    print_table("A film of two hours", ["policy", "workers", "hours", "efficiency"], rows)


COMMANDS = {
    "kill": kill,
    "same": same,
    "full": full,
    "overhead": overhead,
    "scaling": scaling,
    "times": times,
    "simulate": simulate,
}

if __name__ == "__main__":
    main()
