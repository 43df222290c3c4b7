"""What encoding costs: one SMI result, kept in memory, written by several presets and qualities of
libx264.

    python -m benchmarks.encoding --frames 24

Times are medians over rounds that take every preset in turn; they include the conversion to 4:2:0.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.clips import VID4, make_pair, use_shared_data
from benchmarks.measure import (
    BORDER_PX,
    cells,
    labels,
    options_parser,
    print_table,
    train_bank,
    upscale,
)
from vsr.engine.options import choose_device
from vsr.evaluate import score
from vsr.metrics.scoreboard import Scoreboard
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import open_clip
from vsr.video.writer import ClipWriter, EncodeOptions

PRESETS = ("ultrafast", "veryfast", "faster", "medium", "slow")
YARDSTICK = "veryfast"
CRF = 16
SHOWN = ("sharpness", "flicker", "psnr_y")


@dataclass(frozen=True)
class Encoding:
    """One way to write the frames."""

    preset: str
    crf: int

    def write(self, path: Path, source: ClipInfo, frames: Sequence[Frame]) -> float:
        """Seconds that it took."""
        options = EncodeOptions("libx264", self.crf, self.preset, "yuv420p")
        start = perf_counter()
        with ClipWriter(
            path,
            source,
            frames[0].height,
            frames[0].width,
            options,
            overwrite=True,
            device=choose_device("cpu"),
        ) as writer:
            for frame in frames:
                writer.write(frame)
            writer.finish()
        return perf_counter() - start


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clip", choices=VID4, default="walk")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--preset", default="medium", help="the preset whose other qualities are measured"
    )
    options = parser.parse_args()
    use_shared_data()
    encodings = [
        *(Encoding(preset, CRF) for preset in PRESETS),
        *(Encoding(options.preset, crf) for crf in (18, 20)),
    ]
    pair = make_pair(options.clip, Path())
    with open_clip(pair.low) as reader:
        source = reader.info
    bank = train_bank(pair.low, options.models / pair.name, options.count)
    clock = StageClock()
    frames = [
        large
        for _, large in islice(
            upscale(pair.low, Recipe("smi", steady=0.0), bank, [], clock), options.frames
        )
    ]
    upscaling = clock.seconds()["upscale"] / len(frames)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{encoding.preset}-{encoding.crf}.mp4" for encoding in encodings]
        rounds = [
            [
                encoding.write(path, source, frames)
                for encoding, path in zip(encodings, paths, strict=True)
            ]
            for _ in range(options.rounds)
        ]
        seconds = [median(times) for times in zip(*rounds, strict=True)]
        scores = score(paths, reference=pair.truth.path, metrics=SHOWN, border=BORDER_PX).results
        sizes = [path.stat().st_size for path in paths]
    unit = seconds[PRESETS.index(YARDSTICK)]
    rows = [
        [
            "before encoding",
            "",
            "",
            "",
            "",
            *cells(score_unencoded(frames, pair.truth.pictures()), SHOWN),
        ]
    ]
    for encoding, spent, size, scored in zip(encodings, seconds, sizes, scores, strict=True):
        means = {name: result.mean for name, result in scored.metrics.items()}
        cost = [f"{spent / len(frames):.3f}", f"{spent / unit:.2f}", f"{size / 1024:.0f}"]
        rows.append([encoding.preset, str(encoding.crf), *cost, *cells(means, SHOWN)])
    head = ["preset", "crf", "s/frame", f"time over {YARDSTICK}", "KiB", *labels(SHOWN)]
    print_table(
        f"{pair.name}, {len(frames)} frames; upscaling took {upscaling:.2f} s a frame", head, rows
    )


def score_unencoded(frames, truths) -> dict[str, float | None]:
    board = Scoreboard(SHOWN, has_truth=True, has_low_resolution=False, border=BORDER_PX)
    for frame, truth in zip(frames, truths, strict=False):
        board.update(frame, truth)
    return {name: result.mean for name, result in board.compute().items()}


if __name__ == "__main__":
    main()
