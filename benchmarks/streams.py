"""Is anything lost? Clips with sound, subtitles and uneven times through a run, before and after as
ffprobe sees them.

    python -m benchmarks.streams

ffprobe is only asked here; a run never needs it.
"""

import json
import subprocess
import tempfile
from argparse import ArgumentParser
from fractions import Fraction
from pathlib import Path

from benchmarks.clips import CLIPS, use_shared_data
from benchmarks.measure import print_table
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles

DEFAULT_CLIPS = ("format/audio_subs_stream-of-water.mkv", "format/vfr_flower.mp4")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "clips", nargs="*", default=DEFAULT_CLIPS, help="paths below the clips of the shared data"
    )
    options = parser.parse_args()
    use_shared_data()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            clip = CLIPS / name
            output = Path(folder) / clip.name
            pipeline.run(clip, Recipe("bicubic", scale=2), RunFiles(output))
            rows.append([clip.name, *compare(clip, output)])
    head = [
        "clip",
        "streams",
        "kinds kept",
        "frames",
        "largest time error s",
        "other streams' packets",
    ]
    print_table("What ffprobe sees before and after", head, rows)


def compare(clip: Path, output: Path) -> list[str]:
    kinds = [
        [stream["codec_type"] for stream in probe(path, "stream=codec_type")["streams"]]
        for path in (clip, output)
    ]
    times = [frame_times(path) for path in (clip, output)]
    errors = [abs(one - other) for one, other in zip(*times, strict=False)]
    packets = [other_packets(path) for path in (clip, output)]
    return [
        ", ".join(kinds[0]),
        "all" if kinds[0] == kinds[1] else ", ".join(kinds[1]),
        f"{len(times[0])} in, {len(times[1])} out",
        f"{float(max(errors)):g}",
        f"{len(packets[0])}, {'identical' if packets[0] == packets[1] else 'different'}",
    ]


def frame_times(path: Path) -> list[Fraction]:
    """Seconds at which each frame of the film is shown."""
    frames = probe(path, "frame=pts_time", "-select_streams", "v:0")["frames"]
    return [Fraction(frame["pts_time"]) for frame in frames]


def other_packets(path: Path) -> list[tuple[int, str, str]]:
    """Stream, time and content's hash of every packet that is not of the film."""
    packets = probe(
        path, "packet=codec_type,stream_index,pts_time,data_hash", "-show_data_hash", "md5"
    )["packets"]
    kept = [packet for packet in packets if packet["codec_type"] != "video"]
    return sorted(
        (packet["stream_index"], packet["pts_time"], packet["data_hash"]) for packet in kept
    )


def probe(path: Path, entries: str, *more: str):
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", entries, *more, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
