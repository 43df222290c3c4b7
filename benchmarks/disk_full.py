"""Runs and trainings on a disk that becomes full at many different points: nothing broken, and all
can be gone on with.

    sudo python -m benchmarks.disk_full --trials 150 --state disk_full.json

The disk is a tmpfs of its own, so this needs the right to mount. In half of the trials it has too
little room from the beginning, by an amount drawn evenly from what the command needs; in the others
something else fills it at a moment drawn evenly from the time that the command takes. The command
must end with exit code 4 and one line, with nothing under the final name; with the room back, the
same command must end with exit code 0 and the result that it has on an empty disk. Trials of
commands that were done before the disk was full count as such.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.crash import (
    CASES,
    FRAMES,
    SEGMENT_FRAMES,
    Case,
    Reference,
    begin,
    closed,
    finish,
    has_ended,
    in_child,
    look_at,
    prepare,
    reference,
    work,
)
from benchmarks.measure import print_table
from benchmarks.tally import Tally

CHOSEN = ("bicubic, mkv", "lanczos, mp4", "bicubic, PNG", "smi, one take", "shot", "train-keyframe")
DISK_BYTES = 32 * 2**20
BLOCK_BYTES = 4096
DISK_FULL_EXIT = 4


@dataclass
class Fillings(Tally):
    """What came of the full disks."""

    filled: Counter[str] = field(default_factory=Counter)
    """Commands that a full disk ended, by case."""
    not_filled: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials", type=int, default=150, help="stop after so many (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after so long, whatever was done"
    )
    parser.add_argument(
        "--state", type=Path, help="where the counts are kept from one slice to the next"
    )
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    tally = Fillings.load(options.state)
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        root = Path(folder)
        in_child(lambda: prepare(root))
        needed = {
            name: (reference(root, CASES[name], name), room_needed(root, disk, CASES[name]))
            for name in CHOSEN
        }
        while tally.trials < options.trials and time.monotonic() < end:
            chance = random.Random(tally.trials)
            name = chance.choice(CHOSEN)
            try_once(root, disk, name, *needed[name], chance, tally)
            tally.trials += 1
            tally.save(options.state)
    show(tally)
    sys.exit(bool(tally.faults))


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def room_needed(root: Path, disk: Path, case: Case) -> int:
    """The most bytes that the command takes at any one time, as far as looking often tells."""
    empty(disk)
    before = free_bytes(disk)
    process, most = begin(root, disk, case), 0
    while not has_ended(process):
        most = max(most, before - free_bytes(disk))
        time.sleep(0.0005)
    assert finish(process) == 0
    return most


def try_once(
    root: Path,
    disk: Path,
    name: str,
    expected: Reference,
    needed_bytes: int,
    chance: random.Random,
    tally: Fillings,
) -> None:
    empty(disk)
    case = CASES[name]
    if chance.random() < 0.5:
        fill(disk, leave_bytes=chance.randrange(needed_bytes))
        process = begin(root, disk, case)
    else:
        process = begin(root, disk, case)
        end = time.monotonic() + chance.uniform(0, expected.seconds)
        while time.monotonic() < end and not has_ended(process):
            time.sleep(0.002)
        fill(disk, leave_bytes=chance.choice((0, 0, BLOCK_BYTES, 16 * BLOCK_BYTES)))
    code = finish(process)
    where = f"{name}, trial {tally.trials}"
    said = (root / "said").read_text(errors="replace").strip().splitlines()[-1:]
    if code == 0:
        tally.not_filled[name] += 1
    elif code != DISK_FULL_EXIT:
        tally.faults.append(f"{where}: exit {code}, {said}")
    else:
        tally.filled[name] += 1
        tally.moments[moment(disk, case)] += 1
        if not case.is_training and (disk / case.result).exists():
            tally.faults.append(f"{where}: something stands under the final name")
    (disk / "ballast").unlink(missing_ok=True)
    code = 0 if code == 0 else finish(begin(root, disk, case))
    if code != 0:
        said = (root / "said").read_text(errors="replace").strip().splitlines()[-1:]
        tally.faults.append(f"{where}: exit {code} with the room back, {said}")
        return
    remains = [path.name for path in disk.iterdir() if path.name != case.result]
    if look_at(disk / case.result) != (expected.digest, expected.frames) or remains:
        tally.faults.append(f"{where}: another result, or remains {remains}")
    else:
        tally.same[name] += 1


def moment(disk: Path, case: Case) -> str:
    done = len(closed(disk, case))
    if case.is_training:
        return f"training, {done} models kept"
    if not work(disk, case).exists():
        return "run: nothing kept yet"
    return (
        "run: all segments kept"
        if done == -(-FRAMES // SEGMENT_FRAMES)
        else "run: some segments kept"
    )


def empty(disk: Path) -> None:
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(disk: Path, leave_bytes: int) -> None:
    """Take all room but so much, by blocks."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        block = bytes(BLOCK_BYTES)
        try:
            while free_bytes(disk) > leave_bytes:
                ballast.write(block * max(1, (free_bytes(disk) - leave_bytes) // BLOCK_BYTES // 4))
        except OSError:
            return


def free_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def show(tally: Fillings) -> None:
    rows = [
        [name, str(tally.filled[name]), str(tally.not_filled[name]), str(tally.same[name])]
        for name in CHOSEN
    ]
    totals = [str(counter.total()) for counter in (tally.filled, tally.not_filled, tally.same)]
    head = ["command", "ended by the full disk", "done before", "same result in the end"]
    print_table("A disk that becomes full", head, [*rows, ["together", *totals]])
    print_table(
        "When",
        ["what was kept", "times"],
        [[name, str(count)] for name, count in tally.moments.most_common()],
    )
    tally.show_faults()


if __name__ == "__main__":
    main()
