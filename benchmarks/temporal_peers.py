"""What steadies an upscaled clip best: `vsr steady`, vs_temporalfix, ffmpeg's tmedian, a mean of
three frames, or nothing.

    python -m tools.vapoursynth_environment ENV --with vs-temporalfix==2.4.1
    python -m benchmarks.temporal_peers FOLDER --vapoursynth ENV

Ten excerpts at x4: five clips of the shared data, enlarged by one model of the sample's bank (made
for another clip, so that it flickers), and the same five by networks as their authors published
them. All work on one core; seconds are CPU seconds per frame, in a process that has steadied four
frames before. What lies in FOLDER is not made again.

Figures are those of `vsr score` against the truth, 8 pixels off (LPIPS and tLPIPS by squeeze). tOF
and tLPIPS also leave two frames off each end, as TecoGAN's script does. E*warp is `warping_error`:
flow by DIS MEDIUM on the truth, in gray levels of unoccluded pixels.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from time import process_time

import av
import numpy as np
import torch

import vsr
from benchmarks.clips import DATA, EXCERPTS, SCALE, reduce, use_shared_data, write_lossless
from vsr.video.reader import open_clip

BORDER_PX, ENDS = 8, 2
START = 4
"""Frames of the uncounted start; the peer takes no fewer."""
CROP = (128, 160)
"""Height and width of the truth that is cut out of the middle."""
METRICS = ("sharpness", "flicker", "tof", "tlpips", "warping_error", "lpips")
TECOGAN = ("tof", "tlpips")
"""Metrics whose first and last frames are left off."""
PEER = "vs_temporalfix"
"""The method that needs the other environment."""
BANK = Path(__file__).resolve().parents[1] / "samples" / "ckpts"
WEIGHTS = DATA / "weights"


@dataclass(frozen=True)
class Row:
    """One upscaled excerpt."""

    clip: str
    upscaler: str | None = None
    """File of a published network; None: a model of the sample's bank."""

    @property
    def name(self) -> str:
        return f"{self.clip}, {Path(self.upscaler).stem if self.upscaler else 'one model'}"

    @property
    def folder(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")


ROWS = (
    *(Row(clip) for clip in ("calendar", "foliage", "walk", "swan", "street")),
    Row("calendar", "realesr-animevideov3.pth"),
    Row("foliage", "fsrcnn_x4.pth"),
    Row("walk", "espcn_x4.pth"),
    Row("swan", "realesr-animevideov3.pth"),
    Row("street", "fsrcnn_x4.pth"),
)


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vapoursynth", type=Path, metavar="ENV")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rows", type=int, default=len(ROWS), help="the first so many")
    parser.add_argument("--make", choices=METHODS, help="make the results of one method, no more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folders = {row: options.folder / row.folder for row in ROWS[: options.rows]}
    if options.make:
        for folder in folders.values():
            make(options.make, folder, options.frames)
        return
    use_shared_data()
    for row, folder in folders.items():
        prepare(row, folder, options.frames)
        for method in METHODS:
            if method != PEER:
                make(method, folder, options.frames)
    make_in(options.vapoursynth, options)
    found = {}
    for row, folder in folders.items():
        found[row.name] = measure(folder, options.frames)
        print_table(row.name, found[row.name])
    means = {
        method: {
            name: fmean(each[method][name] for each in found.values())
            for name in next(iter(found.values()))[method]
        }
        for method in METHODS
    }
    print_table(f"Mean of {len(found)}", means)


def prepare(row: Row, folder: Path, frames: int) -> None:
    """Write the truth, its low resolution and its enlargement."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, low, given = (folder / f"{name}.mkv" for name in ("truth", "low", "given"))
    if given.exists():
        return
    pictures = [middle(each) for each in islice(EXCERPTS[row.clip].pictures(), frames)]
    write_lossless(truth, pictures)
    write_lossless(low, map(reduce, pictures))
    by = {"models": BANK, "policy": "smi"}
    if row.upscaler is not None:
        by = {"upscaler": WEIGHTS / row.upscaler}
    plain = {"steady": 0.0, "restore": 0.0, "metrics": (), "threads": 1}
    vsr.run(low, given, scale=SCALE, codec="ffv1", pix_fmt="bgr0", **by, **plain)


def middle(picture: torch.Tensor) -> torch.Tensor:
    """Cut `CROP` out of the middle."""
    height, width = (min(side, most) for side, most in zip(picture.shape[-2:], CROP, strict=True))
    height, width = height - height % SCALE, width - width % SCALE
    top, left = (picture.shape[-2] - height) // 2, (picture.shape[-1] - width) // 2
    return picture[:, top : top + height, left : left + width]


def make(method: str, folder: Path, frames: int) -> None:
    """Make the result of a method and note its CPU seconds per frame, unless it is there."""
    record = folder / f"{method}-{frames}.seconds"
    if record.exists():
        return
    # What is loaded once does not count.
    METHODS[method](folder, START, folder / f"{method}-start.mkv")
    start = process_time()
    METHODS[method](folder, frames, folder / f"{method}-{frames}.mkv")
    record.write_text(str((process_time() - start) / frames))


def make_in(environment: Path | None, options: Namespace) -> None:
    """Make the results of the peer in its environment, all in one process."""
    if environment is None:
        sys.exit("--vapoursynth ENV is needed: python -m tools.vapoursynth_environment")
    environment = environment.absolute()
    chosen = [str(options.folder), f"--frames={options.frames}", f"--rows={options.rows}"]
    root = Path(__file__).resolve().parents[1]
    subprocess.run(
        [environment / "bin/python", "-m", "benchmarks.temporal_peers", "--make", PEER, *chosen],
        check=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def measure(folder: Path, frames: int) -> dict[str, dict[str, float]]:
    """Score the results of all methods, or find what was found before."""
    record = folder / f"figures-{frames}.json"
    if record.exists():
        return json.loads(record.read_text())
    results = [folder / f"{method}-{frames}.mkv" for method in METHODS]
    scores = vsr.score(results, folder / "truth.mkv", metrics=METRICS, border=BORDER_PX)
    found: dict[str, dict[str, float]] = {}
    for method, clip in zip(METHODS, scores.results, strict=True):
        figures = {}
        for name in METRICS:
            values = clip.metrics[name].per_frame or []
            if name in TECOGAN:
                # The first pair that counts lies behind the frames that are left off.
                values = values[ENDS + 1 : -ENDS]
            figures[name] = fmean(value for value in values if value is not None)
        figures["seconds"] = float((folder / f"{method}-{frames}.seconds").read_text())
        found[method] = figures
    record.write_text(json.dumps(found, indent=1) + "\n")
    return found


def first(path: Path, frames: int) -> Iterator[torch.Tensor]:
    with open_clip(path) as reader:
        yield from (frame.pixels for frame in islice(reader.frames(), frames))


def nothing(folder: Path, frames: int, target: Path) -> None:
    write_lossless(target, first(folder / "given.mkv", frames))


def steady(folder: Path, frames: int, target: Path) -> None:
    given, low = folder / f"given-{frames}.mkv", folder / f"low-{frames}.mkv"
    write_lossless(given, first(folder / "given.mkv", frames))
    write_lossless(low, first(folder / "low.mkv", frames))
    form = {"codec": "ffv1", "pix_fmt": "bgr0", "overwrite": True}
    vsr.steady(given, low, target, metrics=(), threads=1, **form)


def mean_of_three(folder: Path, frames: int, target: Path) -> None:
    def means(pictures: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        for index in range(len(pictures)):
            yield torch.stack(pictures[max(index - 1, 0) : index + 2]).mean(0)

    write_lossless(target, means(list(first(folder / "given.mkv", frames))))


def tmedian(folder: Path, frames: int, target: Path) -> None:
    """ffmpeg's filter, of three frames; the first and the last picture repeated, as it has no
    neighbors to look at there."""
    given = list(first(folder / "given.mkv", frames))
    padded = [given[0], *given, given[-1]]
    graph = av.filter.Graph()
    height, width = given[0].shape[1:]
    source = graph.add_buffer(width=width, height=height, format="gbrp", time_base="1/25")
    median, sink = graph.add("tmedian", "radius=1"), graph.add("buffersink")
    source.link_to(median)
    median.link_to(sink)
    graph.configure()
    made = []
    for number, each in enumerate(padded):
        levels = (255 * each).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        frame = av.VideoFrame.from_ndarray(levels, format="rgb24").reformat(format="gbrp")
        frame.pts = number
        source.push(frame)
        made += drained(sink)
    source.push(None)
    made += drained(sink)
    # One comes out for each three that went in, under the time of the first of them.
    assert len(made) == frames
    arrays = [frame.to_ndarray(format="rgb24") for frame in made]
    write_lossless(target, (torch.from_numpy(each).permute(2, 0, 1) / 255 for each in arrays))


def drained(sink: av.filter.context.FilterContext) -> list[av.VideoFrame]:
    frames = []
    while True:
        try:
            frames.append(sink.pull())
        except (av.BlockingIOError, av.EOFError):
            return frames


def vs_temporalfix(folder: Path, frames: int, target: Path) -> None:
    """Its model at the strength that its page shows, on the CPU; in the other environment."""
    import vapoursynth as vs
    import vs_temporalfix as peer

    clip = vs.core.bs.VideoSource(str(folder / "given.mkv"), cachemode=0)[:frames]
    fixed = peer.model(clip.resize.Point(format=vs.RGBH), strength=2.0, backend="cpu")
    rgb = fixed.resize.Point(format=vs.RGBS)

    def pictures() -> Iterator[torch.Tensor]:
        for frame in rgb.frames():
            yield torch.from_numpy(np.stack([np.asarray(frame[plane]) for plane in range(3)]))

    write_lossless(target, pictures())


METHODS: dict[str, Callable[[Path, int, Path], None]] = {
    "nothing": nothing,
    "steady": steady,
    "vs_temporalfix": vs_temporalfix,
    "tmedian": tmedian,
    "mean_of_three": mean_of_three,
}


def print_table(title: str, figures: dict[str, dict[str, float]]) -> None:
    names = {
        "sharpness": "sharpness",
        "flicker": "flicker",
        "tof": "tOF px",
        "tlpips": "tLPIPS x100",
        "warping_error": "E*warp",
        "lpips": "LPIPS",
        "seconds": "s/frame",
    }
    print(f"\n**{title}**\n\n| method | {' | '.join(names.values())} |")
    print(f"|---|{'--:|' * len(names)}")
    for method, values in figures.items():
        shown = {**values, "tlpips": 100 * values["tlpips"]}
        cells = [f"{shown[name]:.3f}" for name in names]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
