"""What it takes before anything happens: `vsr --help`, and the first frame of `vsr run` after torch is there.

python -m benchmarks.start_up
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
import sys, time
import torch
wall, cpu = time.perf_counter(), time.process_time()
from vsr.reader import ClipReader
decode = ClipReader._to_pixels
def first(self, decoded):
    pixels = decode(self, decoded)
    print(time.perf_counter() - wall, time.process_time() - cpu, file=sys.stderr)
    sys.stderr.flush()
    import os
    os._exit(0)
ClipReader._to_pixels = first
from vsr.cli import main
sys.argv = ["vsr", "run", "{SAMPLES / "clip.mp4"}", "-o", sys.argv[1], "--models", "{SAMPLES / "ckpts"}", "-y"]
main()
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {"vsr --help": [], "first frame of vsr run, after import torch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            runs["vsr --help"].append(taken_by(HELP))
            command = [sys.executable, "-c", FIRST_FRAME, str(Path(folder) / "out.mp4")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            wall, cpu = map(float, done.stderr.split()[-2:])
            runs["first frame of vsr run, after import torch"].append((wall, cpu))
    rows = []
    for name, values in runs.items():
        walls, cpus = zip(*values, strict=True)
        rows.append([name, f"{min(walls):.2f}", f"{median(walls):.2f}", f"{min(cpus):.2f}", f"{median(cpus):.2f}"])
    head = ["what", "least s", "median s", "least CPU s", "median CPU s"]
    print_table(f"{options.rounds} runs, files in the system's cache", head, rows)


def taken_by(code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a program."""
    from os import times

    wall, before = time.perf_counter(), times()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - wall, cpu


if __name__ == "__main__":
    main()
