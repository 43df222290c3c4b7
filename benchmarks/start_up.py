"""What it takes before anything happens: `vsr --help`, and the first frame of `vsr run`, with torch
and without.

    python -m benchmarks.start_up

With PYTHONDONTWRITEBYTECODE every module is compiled each time; a first, uncounted round writes the
byte code else.
"""

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from benchmarks.measure import print_table

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
HELP = "from vsr.cli import main; import sys; sys.argv = ['vsr', '--help']; main()"
FIRST_FRAME = f"""
import importlib.machinery, os, sys, time
loader = importlib.machinery.SourceFileLoader
execute = loader.exec_module
def clocks():
    return time.perf_counter(), time.process_time()
def timed(self, module):
    before = clocks()
    execute(self, module)
    if module.__name__ == "torch":
        torch_at[:] = [before, clocks()]
    if module.__name__ == "vsr.video.reader":
        decode = module.ClipReader._to_frame
        def first(reader, *decoded):
            decode(reader, *decoded)
            for began, before, there, now in zip(start, *torch_at, clocks()):
                print(now - there, now - there + before - began, file=sys.stderr)
            sys.stderr.flush()
            os._exit(0)
        module.ClipReader._to_frame = first
torch_at = []
loader.exec_module = timed
start = clocks()
from vsr.cli import main
sys.argv = ["vsr", "run", "{SAMPLES / "clip.mp4"}", "-o", sys.argv[1]]
sys.argv += ["--policy", "smi", "--models", "{SAMPLES / "ckpts"}", "-y"]
main()
"""
"""Ends at the first frame, and tells seconds since torch was there, and those of all but torch: by
the wall, by CPU."""
NAMES = (
    "vsr --help",
    "first frame of vsr run: after import torch",
    "first frame of vsr run: all but import torch",
)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            of_help = taken_by(HELP)
            command = [sys.executable, "-c", FIRST_FRAME, str(Path(folder) / "out.mp4")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            wall_after, wall_all, cpu_after, cpu_all = map(float, done.stderr.split()[-4:])
            if number:
                for name, taken in zip(
                    NAMES, [of_help, (wall_after, cpu_after), (wall_all, cpu_all)], strict=True
                ):
                    runs[name].append(taken)
    rows = []
    for name, values in runs.items():
        walls, cpus = zip(*values, strict=True)
        rows.append(
            [
                name,
                f"{min(walls):.2f}",
                f"{median(walls):.2f}",
                f"{min(cpus):.2f}",
                f"{median(cpus):.2f}",
            ]
        )
    head = ["what", "least s", "median s", "least CPU s", "median CPU s"]
    print_table(f"{options.rounds} runs, files in the system's cache", head, rows)


def taken_by(code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a program."""
    from os import times

    wall, before = time.perf_counter(), times()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return time.perf_counter() - wall, cpu


if __name__ == "__main__":
    main()
