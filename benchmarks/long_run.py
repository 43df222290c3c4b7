"""`vsr run` on an hour of film: memory and open files from the first minute to the last, and every
time at the end.

    python -m benchmarks.long_run

The film is synthetic and tiny (48x32, 25 frames a second with times that swing by a millisecond, a
cut every 20 seconds), the policy bicubic, so that the hour takes some minutes. The run is a process
of its own, with real decoding and encoding; twice a second its resident memory and its open files
are read from the kernel.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.made_clips import MILLISECOND, moving_pictures
from benchmarks.measure import print_table

FRAMES_A_MINUTE = 25 * 60
FRAMES_A_SHOT = 500
SEGMENT_FRAMES = 240
LOOK_SECONDS = 0.5
ALLOWED_GROWTH = 0.05


@dataclass(frozen=True)
class Look:
    """The process at one moment."""

    frames: int
    """In closed segments by then."""
    mebibytes: float
    """Resident."""
    files: int
    """Open ones."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=int, default=60, help="length of the film (default %(default)s)"
    )
    parser.add_argument(
        "--metrics", help="of the run; an empty text: none (default: the run's own)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip, output = Path(folder) / "film.mkv", Path(folder) / "out.mkv"
        write_film(clip, options.minutes * FRAMES_A_MINUTE)
        print(f"{options.minutes * FRAMES_A_MINUTE} frames are made", file=sys.stderr)
        start = time.monotonic()
        looks = watch(
            clip, output, [] if options.metrics is None else ["--metrics", options.metrics]
        )
        seconds = time.monotonic() - start
        wrong = wrong_times(clip, output)
    first = next(look for look in looks if look.frames >= FRAMES_A_MINUTE)
    later = looks[looks.index(first) :]
    # What comes after is the tidying up, in which segments become fewer.
    last = max(later, key=lambda look: look.frames)
    quarters = [
        min(later, key=lambda look: abs(look.frames - last.frames * part // 4))
        for part in (1, 2, 3)
    ]
    rows = [
        [str(look.frames), f"{look.mebibytes:.1f}", str(look.files)]
        for look in (first, *quarters, last)
    ]
    print_table(
        f"{options.minutes} minutes of film in {seconds:.0f} s",
        ["frames done", "MiB resident", "open files"],
        rows,
    )
    growth = max(look.mebibytes for look in later) / first.mebibytes - 1
    files = max(look.files for look in later) - first.files
    print(
        f"\nfrom the first minute on: memory at most {100 * growth:+.1f} %, open files at most "
        f"{files:+d}"
    )
    print(
        f"{wrong} of {options.minutes * FRAMES_A_MINUTE} frames have another time than in the "
        "source"
    )
    sys.exit(growth > ALLOWED_GROWTH or files > 2 or wrong > 0)


def write_film(path: Path, num_frames: int) -> None:
    """Pictures that come again in every shot but for their brightness; frame n at 40 n ms or one
    more."""
    pictures = moving_pictures(FRAMES_A_SHOT // 4, 32, 48)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = MILLISECOND
        for number in range(num_frames):
            dark = 1 + number // FRAMES_A_SHOT % 2
            picture = np.ascontiguousarray(pictures[number % len(pictures)] // dark)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 40 * number + number % 3 // 2, MILLISECOND
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def watch(clip: Path, output: Path, options: list[str]) -> list[Look]:
    """What the process of a run showed while it was upscaling."""
    command = [
        "run",
        str(clip),
        "-o",
        str(output),
        "--policy",
        "bicubic",
        "--scale",
        "2",
        "--preset",
        "ultrafast",
    ]
    code = "from vsr.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, *options], stderr=subprocess.DEVNULL
    )
    work, looks = output.with_name(f".{output.name}.vsr-work"), []
    while process.poll() is None:
        looks.append(look_at(process.pid, work))
        time.sleep(LOOK_SECONDS)
    assert process.returncode == 0, f"the run ended with exit code {process.returncode}"
    # At the very end the process, or its work, may be gone already.
    return [look for look in looks if look.mebibytes and look.frames]


def look_at(process: int, work: Path) -> Look:
    try:
        status = Path(f"/proc/{process}/status").read_text()
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        segments = sum(1 for _ in work.glob("segment-*.json"))
    except OSError:
        return Look(0, 0.0, 0)
    resident = status.partition("VmRSS:")[2].split()
    return Look(segments * SEGMENT_FRAMES, int(resident[0]) / 1024 if resident else 0.0, files)


def wrong_times(clip: Path, output: Path) -> int:
    """Frames of either film that have no frame at their very time in the other."""
    one, other = times(clip), times(output)
    return max(len(one), len(other)) - sum(a == b for a, b in zip(one, other, strict=False))


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as film:
        return sorted(
            packet.pts * packet.time_base for packet in film.demux(video=0) if packet.size
        )


if __name__ == "__main__":
    main()
