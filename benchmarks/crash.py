"""Runs and trainings that are killed at random moments and begun again: nothing may be lost,
nothing may differ.

    python -m benchmarks.crash --kills 220 --state crash.json

Each attempt is the command in a process of its own, forked from one in which everything is loaded,
and ended by SIGKILL; after one to three kills the same command is left to finish. Its result is
compared with that of a command that was never killed: every packet of every stream, every decoded
picture, every byte of a picture or model. Half of the kills come at a moment drawn evenly from the
time that the command takes, half a moment after some segment or model was closed. The counts go on
where they stopped, so that a campaign may be run in slices (`--seconds`).
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import av

from benchmarks.made_clips import moving_pictures, read_frames, two_shots, write_clip
from benchmarks.made_models import make_model, make_shot_model, picture
from benchmarks.measure import print_table
from benchmarks.tally import Tally
from vsr import cli
from vsr.models.shot_model import save_shot_model
from vsr.train import shot as shot_learning
from vsr.train.methods.shot_network import ShotTrainingOptions

FRAMES = 20
SEGMENT_FRAMES = 4
SECONDS_ALLOWED = 600
# Precision "auto" is what was fastest when a run began, which on a busy machine is not always the
# same.
ENLARGED = ("--scale", "2", "--dtype", "fp32")
SEGMENTS = ("--set", f"encode.segment_frames={SEGMENT_FRAMES}")
QUICK = (*SEGMENTS, "--preset", "ultrafast")
SMALL = (*ENLARGED, *QUICK)
PICTURES = (*ENLARGED, *SEGMENTS, "-c", "png")
BRIEF = ("--set", "iterations=40", "--set", "crop_px=24")
BANK = ("--models", "{root}/bank")


@dataclass(frozen=True)
class Case:
    """A command to be killed."""

    arguments: tuple[str, ...]
    result: str
    """Name of what it writes into the folder `{here}`."""
    one_core: bool = True
    """Trainings use one process for each core that they see."""

    @property
    def is_training(self) -> bool:
        return self.arguments[0].startswith("train")


CASES = {
    "bicubic, mkv": Case(
        ("run", "{root}/clip.mkv", "--policy", "bicubic", *SMALL, "-o", "{here}/o.mkv"), "o.mkv"
    ),
    "lanczos, mp4": Case(
        ("run", "{root}/clip.mkv", "--policy", "lanczos", *SMALL, "-o", "{here}/o.mp4"), "o.mp4"
    ),
    "bicubic, PNG": Case(
        ("run", "{root}/clip.mkv", "--policy", "bicubic", *PICTURES, "-o", "{here}/o"), "o"
    ),
    "smi": Case(
        ("run", "{root}/clip.mkv", "--policy", "smi", *BANK, *SMALL, "-o", "{here}/o.mkv"), "o.mkv"
    ),
    "smi, one take": Case(
        ("run", "{root}/take.mkv", "--policy", "smi", *BANK, *SMALL, "-o", "{here}/o.mp4"), "o.mp4"
    ),
    "avgi by target": Case(
        (
            "run",
            "{root}/clip.mkv",
            "--policy",
            "avgi",
            *BANK,
            *SMALL,
            "--target-flicker",
            "1",
            "-o",
            "{here}/o.mkv",
        ),
        "o.mkv",
    ),
    "dsrfi": Case(
        ("run", "{root}/clip.mkv", "--policy", "dsrfi", *BANK, *SMALL, "-o", "{here}/o.mkv"),
        "o.mkv",
    ),
    "shot": Case(
        ("run", "{root}/clip.mkv", "--policy", "shot", *BANK, *SMALL, "-o", "{here}/o.mkv"), "o.mkv"
    ),
    "steady": Case(
        (
            "steady",
            "{root}/large.mkv",
            "--low-resolution",
            "{root}/clip.mkv",
            *QUICK,
            "-o",
            "{here}/o.mkv",
        ),
        "o.mkv",
    ),
    "train-keyframe": Case(
        ("train-keyframe", "{root}/clip.mkv", "--models", "{here}/bank", "--count", "3", *BRIEF),
        "bank",
    ),
    "train-keyframe, 2 processes": Case(
        ("train-keyframe", "{root}/clip.mkv", "--models", "{here}/bank", "--count", "4", *BRIEF),
        "bank",
        False,
    ),
    "train-shot": Case(
        ("train-shot", "{root}/clip.mkv", "--models", "{here}/bank", "--shots", "all"), "bank"
    ),
}
OFTEN = {"train-keyframe, 2 processes": 1}
"""How often a case is drawn, where not 3 times: its processes load everything anew."""


@dataclass
class Kills(Tally):
    """What came of the kills."""

    kills: Counter[str] = field(default_factory=Counter)
    """By case."""
    resumed: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=220, help="stop after so many (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after so long, whatever was done"
    )
    parser.add_argument(
        "--state", type=Path, help="where the counts are kept from one slice to the next"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    tally = Kills.load(options.state)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        in_child(lambda: prepare(root))
        references = {name: reference(root, CASES[name], name) for name in options.cases}
        drawn = [name for name in options.cases for _ in range(OFTEN.get(name, 3))]
        while tally.kills.total() < options.kills and time.monotonic() < end:
            chance = random.Random(tally.trials)
            name = chance.choice(drawn)
            try_once(root, name, references[name], chance, tally)
            tally.trials += 1
            tally.save(options.state)
    show(tally)
    sys.exit(bool(tally.faults))


def prepare(root: Path) -> None:
    """Clips and a bank, small as they are."""
    write_clip(
        root / "clip.mkv",
        two_shots(FRAMES, 48, 64),
        codec="ffv1",
        pixel_format="bgr0",
        audio_codec="aac",
    )
    write_clip(
        root / "take.mkv",
        moving_pictures(FRAMES, 48, 64),
        pts=[i * i + 40 * i for i in range(FRAMES)],
    )
    (root / "bank").mkdir()
    for seed in range(2):
        make_model(root / "bank", f"m{seed}", picture(48, 64), seed)
    model = make_shot_model()
    save_shot_model(root / "bank" / "m.shot.safetensors", model.card, model.networks)
    sys.argv = [
        "vsr",
        "run",
        str(root / "clip.mkv"),
        "-o",
        str(root / "large.mkv"),
        "--policy",
        "lanczos",
        *SMALL,
    ]
    cli.main()


@dataclass(frozen=True)
class Reference:
    """What an unhindered command makes."""

    digest: str
    frames: int
    seconds: float


def reference(root: Path, case: Case, name: str) -> Reference:
    here = root / "reference" / name
    here.mkdir(parents=True)
    start = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(begin(root, here, case), 0)[1])
    assert code == 0, f"{name} fails without any kill: see {root / 'said'}"
    seconds = time.monotonic() - start
    return Reference(*look_at(here / case.result), seconds)


def try_once(
    root: Path, name: str, expected: Reference, chance: random.Random, tally: Kills
) -> None:
    """Kill a command one to three times, let it finish, and compare."""
    case, here = CASES[name], root / "trial"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    for _ in range(chance.randint(1, 3)):
        process = begin(root, here, case)
        wait_for_moment(here, case, expected.seconds, chance, process)
        os.kill(process, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            tally.kills[name] += 1
            tally.moments[moment(here, case)] += 1
    left = bool(closed(here, case))
    code = finish(begin(root, here, case) if not is_done(here, case) else None)
    if code != 0:
        said = (root / "said").read_text(errors="replace").strip().splitlines()
        tally.faults.append(
            f"{name}, trial {tally.trials}: exit {code}: {said[-1] if said else 'nothing said'}"
        )
        return
    digest, frames = look_at(here / case.result)
    remains = [path.name for path in here.iterdir() if path.name != case.result]
    tally.resumed[name] += left
    if (digest, frames, remains) == (expected.digest, expected.frames, []):
        tally.same[name] += 1
    else:
        tally.faults.append(
            f"{name}, trial {tally.trials}: {frames} of {expected.frames} frames, remains {remains}"
        )


def begin(root: Path, here: Path, case: Case) -> int:
    """The command in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    said = os.open(root / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if case.is_training and case.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    # Of its thousand iterations a few will do here.
    shot_learning.ShotTrainingOptions = lambda: replace(
        ShotTrainingOptions(), iterations=(25, 25), crop_px=24
    )  # type: ignore[assignment]
    sys.argv = ["vsr", *(word.format(root=root, here=here) for word in case.arguments)]
    try:
        cli.main()
    except SystemExit as left:
        os._exit(left.code if isinstance(left.code, int) else bool(left.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(1)


def finish(process: int | None) -> int:
    """The exit code; 124 for one that had to be ended."""
    end = time.monotonic() + SECONDS_ALLOWED
    while process is not None:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return 124
        time.sleep(0.01)
    return 0


def wait_for_moment(
    here: Path, case: Case, seconds: float, chance: random.Random, process: int
) -> None:
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, seconds))
        return
    wanted = chance.randint(
        len(closed(here, case)), -(-FRAMES // SEGMENT_FRAMES) if not case.is_training else 4
    )
    end = time.monotonic() + 2 * seconds
    while len(closed(here, case)) < wanted and time.monotonic() < end and not has_ended(process):
        time.sleep(0.001)
    time.sleep(chance.expovariate(50))


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def work(here: Path, case: Case) -> Path:
    return here / f".{case.result}.vsr-work"


def closed(here: Path, case: Case) -> list[Path]:
    """What is safe: records of segments, or models."""
    return list(
        (here / case.result if case.is_training else work(here, case)).glob(
            "[a-z]*.safetensors" if case.is_training else "segment-*.json"
        )
    )


def is_done(here: Path, case: Case) -> bool:
    """Whether nothing is left to be done: the film has its name, and its work is gone."""
    return not case.is_training and (here / case.result).exists() and not work(here, case).exists()


def moment(here: Path, case: Case) -> str:
    """What was there when the process was killed."""
    done = len(closed(here, case))
    if case.is_training:
        return "training: no model yet" if not done else "training: some models"
    if (here / case.result).exists():
        return "run: named, not tidied up" if work(here, case).exists() else "run: at the very end"
    if not done:
        return "run: no segment yet"
    return "run: all segments" if done == -(-FRAMES // SEGMENT_FRAMES) else "run: some segments"


def look_at(path: Path) -> tuple[str, int]:
    """A digest of all that is in a film, a folder of pictures or a bank, and the number of frames
    or files."""
    if path.is_dir():
        files = sorted(path.iterdir())
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest(), len(files)
    return in_child(lambda: _look_at_film(path))


def _look_at_film(path: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    with av.open(str(path)) as film:
        for packet in film.demux():
            digest.update(
                repr((packet.stream_index, packet.pts, packet.dts, packet.duration)).encode()
                + bytes(packet)
            )
    frames = read_frames(path)
    for frame in frames:
        digest.update(repr((frame.pts, frame.time_base)).encode() + frame.to_ndarray().tobytes())
    return digest.hexdigest(), len(frames)


def in_child(work: Callable[[], object]) -> tuple[str, int]:
    """What `work` gives, from a process of its own: this one must start no threads before it
    forks."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.close(reading)
            value = work()
            os.write(writing, json.dumps(value).encode())
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(process, 0)
    assert status == 0, "what a campaign needs could not be made"
    digest, count = json.loads(answer) if answer and answer != b"null" else ("", 0)
    return digest, count


def show(tally: Kills) -> None:
    rows = [
        [name, str(tally.kills[name]), str(tally.resumed[name]), str(tally.same[name])]
        for name in CASES
        if tally.kills[name]
    ]
    totals = [str(counter.total()) for counter in (tally.kills, tally.resumed, tally.same)]
    print_table(
        "Killed and begun again",
        ["command", "kills", "gone on with", "same result"],
        [*rows, ["together", *totals]],
    )
    print_table(
        "When",
        ["what was there", "kills"],
        [[name, str(count)] for name, count in tally.moments.most_common()],
    )
    tally.show_faults()


if __name__ == "__main__":
    main()
