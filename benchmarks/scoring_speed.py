"""How many 720p frames `vsr score` measures in a second of one core, decoding both clips included.

    python -m benchmarks.scoring_speed

The first 24 frames of each clip are decoded twice, so that short clips seem slower than long ones
are. The whole process is bound to one core, and keeps the memory that it frees as the command does.
Its processor time is counted as well, which sharing the machine changes little.
"""

import os
import tempfile
from argparse import ArgumentParser
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

import cv2
import torch

from benchmarks.clips import EXCERPTS, use_shared_data, write_h264
from benchmarks.measure import print_table
from vsr.cli import keep_freed_memory
from vsr.evaluate import score

CLIPS = ("bunny", "cockatoo")
MEASURED = {
    "psnr,ssim,flicker,warping_error,tof": ("medium", 1.3),
    "psnr,ssim,flicker,warping_error": ("fast", 5.0),
}
"""The metrics, the flow, and the frames per second that are wanted at least."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--frames", type=int, default=120, metavar="N", help="of each clip (default %(default)s)"
    )
    options = parser.parse_args()
    use_shared_data()
    keep_freed_memory()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CLIPS:
            truth, result = (Path(folder) / f"{name}_{role}.mp4" for role in ("truth", "result"))
            clip = replace(EXCERPTS[name], last=None)
            write_h264(truth, islice(clip.pictures(), options.frames), crf=8)
            write_h264(result, islice(clip.pictures(), options.frames), crf=30)
            for metrics, (flow, wanted) in MEASURED.items():
                rows.append([name, metrics, flow])
                rows[-1] += [*frames_per_second(result, truth, metrics, flow), f"{wanted:.1f}"]
    head = ["clip", "metrics", "flow", "frames per CPU second", "frames per second", "wanted"]
    print_table(f"1280x720, {options.frames} frames, one core", head, rows)


def frames_per_second(result: Path, truth: Path, metrics: str, flow: str) -> list[str]:
    """By the processor's clock and by the wall's."""
    start, start_cpu = perf_counter(), process_time()
    scores = score(result, reference=truth, metrics=metrics.split(","), flow=flow)
    frames = len(scores.results[0].frame_indices)
    return [
        f"{frames / spent:.2f}" for spent in (process_time() - start_cpu, perf_counter() - start)
    ]


if __name__ == "__main__":
    main()
