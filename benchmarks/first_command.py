"""`vsr run CLIP` alone on real clips: what it announces beside what it takes, and its result beside
that of the separate commands.

    python -m benchmarks.first_command
    python -m benchmarks.first_command --clips walk carphone --frames 24

Each clip is run with an empty cache, by the command line. The announced time is that of the third
line, "takes about ...", and is compared with the time from that line on. Then `vsr train-shot
--shots all` and `vsr run --models` make the same again, and the decoded frames of both results are
compared.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic

import numpy as np

from benchmarks.clips import CLIPS, DATA, use_shared_data, write_lossless
from benchmarks.made_clips import read_frames
from benchmarks.measure import print_table
from vsr.video.reader import open_clip

REAL_CLIPS = {
    "walk": CLIPS / "vid4" / "walk_lrx4.mkv",
    "calendar": CLIPS / "vid4" / "calendar_lrx4.mkv",
    "carphone": CLIPS / "natural" / "carphone_pristine.mp4",
    "film": DATA / "real" / "film-dirt-f9-15.mkv",
    "phone": DATA / "real" / "phone3gp.mkv",
    "video call": DATA / "real" / "carphone_9kbit.mp4",
}
ANNOUNCED = re.compile(r"takes about ([^,;]*)")
PARTS = re.compile(r"([\d.]+) (s|min|h)\b")
SECONDS = {"s": 1, "min": 60, "h": 3600}


def main() -> None:
    """Print a row a clip."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", choices=REAL_CLIPS, default=list(REAL_CLIPS))
    parser.add_argument("--frames", type=int, help="take the first of each clip alone")
    options = parser.parse_args()
    use_shared_data()
    rows = []
    for name in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            clip = excerpt(REAL_CLIPS[name], options.frames, Path(folder))
            rows.append(compare(name, clip, Path(folder)))
    head = [
        "clip",
        "size",
        "frames",
        "announced s",
        "then took s",
        "ratio",
        "in all s",
        "CPU s",
        "equal frames",
    ]
    print_table("vsr run CLIP", head, rows)


def excerpt(clip: Path, frames: int | None, folder: Path) -> Path:
    """The clip itself, or its first frames as FFV1."""
    if frames is None:
        return clip
    path = folder / f"{clip.stem}.mkv"
    with open_clip(clip) as reader:
        write_lossless(path, [frame.pixels for frame in islice(reader.frames(), frames)])
    return path


def compare(name: str, clip: Path, folder: Path) -> list[str]:
    """Run the one command, then the separate ones."""
    alone, apart, bank = (folder / part for part in ("alone.mkv", "apart.mkv", "bank"))
    one = vsr(folder, "run", str(clip), "-o", str(alone))
    vsr(folder, "train-shot", str(clip), "--models", str(bank), "--shots", "all")
    vsr(folder, "run", str(clip), "--policy", "shot", "--models", str(bank), "-o", str(apart))
    results = [[frame.to_ndarray() for frame in read_frames(path)] for path in (alone, apart)]
    equal = sum(map(np.array_equal, *results))
    announced = announced_seconds(one.text)
    with open_clip(clip) as reader:
        size = f"{reader.info.width}x{reader.info.height}"
    return [
        name,
        size,
        str(len(results[0])),
        f"{announced:.0f}",
        f"{one.rest:.0f}",
        f"{announced / one.rest:.2f}",
        f"{one.wall:.0f}",
        f"{one.cpu:.0f}",
        f"{equal} of {len(results[1])}",
    ]


@dataclass(frozen=True)
class Outcome:
    """A command that went well."""

    wall: float
    """Seconds by the clock."""
    rest: float
    """Those behind the announcement, which takes a trial of its own."""
    cpu: float
    """Seconds of all cores."""
    text: str
    """What it told the user."""


def vsr(folder: Path, *arguments: str) -> Outcome:
    """Run a command in a process of its own, with a cache of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), monotonic()
    lines, announced = [], start
    command = [sys.executable, "-m", "vsr", *arguments]
    environment = os.environ | {"VSR_CACHE": str(folder / "cache")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            lines.append(line)
            if ANNOUNCED.search(line):
                announced = monotonic()
    if running.returncode:
        raise RuntimeError("".join(lines))
    end, after = monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(end - start, end - announced, cpu, "".join(lines))


def announced_seconds(text: str) -> float:
    """The time that the first lines announce, such as "2 min 10 s", in seconds."""
    found = ANNOUNCED.search(text)
    assert found is not None, text
    return sum(float(number) * SECONDS[unit] for number, unit in PARTS.findall(found[1]))


if __name__ == "__main__":
    main()
