"""Commands of this checkout against those of another one, such as that of an earlier commit.

    git worktree add --detach ../earlier COMMIT
    python -m benchmarks.two_checkouts ../earlier --rounds 5

A checkout from before the distribution was renamed wants a folder `vsr-0.0.0.dist-info` with a file
METADATA (Name: vsr, Version: 0.0.0) in it. Runs take turns; CPU time of all threads; the first
round is not counted, since it writes byte code. Both read the sample and its bank, measure the same
live metrics, and leave restoration out, which the earlier code may not have.
"""

import os
import resource
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from benchmarks.measure import print_table

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "samples" / "clip.mp4"
BANK = ROOT / "samples" / "ckpts"
METRICS = ["--metrics", "flicker_live,sharpness_live,lr_psnr", "-c", "ffv1", "-y"]
COMMON = ["--models", str(BANK), "--threads", "1", *METRICS]
COMMANDS = {
    "--help": ["--help"],
    "bicubic": ["run", str(CLIP), "--policy", "bicubic", *METRICS],
    "smi, steady 0": ["run", str(CLIP), "--policy", "smi", "--steady", "0", *COMMON],
    "smi, steady auto": ["run", str(CLIP), "--policy", "smi", *COMMON],
    "shot, balanced": ["run", str(CLIP), "--policy", "shot", *COMMON],
    "shot, fast": ["run", str(CLIP), "--policy", "shot", "--quality", "fast", *COMMON],
}
NEW_OPTIONS = ["--restore", "0"]


def main() -> None:
    """Print the medians and their ratio for each command."""
    parser = ArgumentParser()
    parser.add_argument("earlier", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            output = [] if name == "--help" else ["-o", str(Path(folder, "out.mkv"))]
            seconds: dict[str, list[float]] = {"before": [], "now": []}
            for _ in range(given.rounds + 1):
                for which, root in (("before", given.earlier.resolve()), ("now", ROOT)):
                    new = NEW_OPTIONS if which == "now" and output else []
                    seconds[which].append(cpu_seconds(root, [*arguments, *new, *output]))
            before, now = (median(seconds[which][1:]) for which in ("before", "now"))
            rows.append([name, f"{before:.2f}", f"{now:.2f}", f"{now / before:.3f}"])
    print_table("CPU seconds", ["command", "before", "now", "now / before"], rows)


def cpu_seconds(root: Path, arguments: list[str]) -> float:
    """Run a command of a checkout in a process of its own, and take its CPU time."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "vsr", *arguments],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
    )
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (end.ru_utime + end.ru_stime) - (start.ru_utime + start.ru_stime)


if __name__ == "__main__":
    main()
