"""Peak memory of `vsr run` on a clip and on the same looped to many times its length, and what live
metrics cost.

    python -m benchmarks.memory

Each run is a process of its own, with real decoding and encoding; its peak is the kernel's VmHWM.
The first part needs only the repository's own sample; the second takes a 1280x720 clip reduced to
320x180.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data
from benchmarks.measure import options_parser, print_table, train_bank
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "clip.mp4"
MEASURED_RUN = """
from pathlib import Path
from vsr.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument(
        "--times",
        type=int,
        nargs="+",
        default=[1, 3, 10, 30],
        help="how often the sample is looped",
    )
    parser.add_argument(
        "--clip", choices=EXCERPTS, default="juggle", help="for the cost of live metrics"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare_lengths(Path(folder), options.models / "sample", options.times)
        use_shared_data()
        show_stages(Path(folder), options.clip, options.models)


def compare_lengths(folder: Path, models: Path, times: Sequence[int]) -> None:
    train_bank(SAMPLE, models, 1)
    clips = {turns: folder / f"{turns}.mp4" for turns in times}
    for turns, clip in clips.items():
        loop(SAMPLE, turns, clip)
    rows = []
    for policy in ("bicubic", "smi"):
        peaks = [peak_mib(clip, folder / "out.mp4", policy, models) for clip in clips.values()]
        rows.append([policy, *(f"{peak:.0f}" for peak in peaks)])
    print_table(
        "Peak memory in MiB, by how often the sample is looped", ["policy", *map(str, times)], rows
    )


def loop(clip: Path, times: int, target: Path) -> None:
    """The packets of a clip, all of them over and over."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        # AAC begins a packet before time 0, so that turns without a gap would overlap.
        period_seconds = source.duration / av.time_base + 0.1
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for turn in range(times):
            source.seek(0)
            for packet in source.demux():
                if packet.dts is None:
                    continue
                offset = round(turn * period_seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


def peak_mib(clip: Path, output: Path, policy: str, models: Path) -> float:
    """Largest resident size of one run of the command."""
    command = ["run", clip, "-o", output, "--policy", policy, "--models", models, "-y"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED_RUN, *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout.split()[-1]) / 1024


def show_stages(folder: Path, name: str, models: Path) -> None:
    pair = make_pair(name, folder)
    train_bank(pair.low, models / name, 1)
    manifest = pipeline.run(
        pair.low, Recipe("smi", steady=0.0), RunFiles(folder / "large.mp4", models=models / name)
    )
    total = manifest.timings_seconds["total"]
    rows = [
        [stage, f"{spent:.2f}", f"{100 * spent / total:.1f} %"]
        for stage, spent in manifest.timings_seconds.items()
    ]
    print_table(
        f"Stages of a default run, smi, {name}, {manifest.frames_out} frames",
        ["stage", "s", "share"],
        rows,
    )


if __name__ == "__main__":
    main()
