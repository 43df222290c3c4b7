"""What is estimated of a clip's degradation, beside what was done to it.

    python -m benchmarks.estimates --json estimates.json
    python -m benchmarks.estimates --json estimates.json --draw docs/figures/estimates.png

Ten clips, 12 settings: x264 at four quantizers, Gaussian noise of four strengths on red, green and
blue, and four Gaussian blurs, each on 12 frames that were reduced four times before.
"""

import json
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from benchmarks.clips import make_pair, use_shared_data, write_lossless
from benchmarks.measure import print_table
from benchmarks.real_footage import CLIPS, Pictures, encode, noisy
from vsr.pipeline.inspection import inspect_clip
from vsr.video.reader import open_clip

QUANTIZERS, NOISES, BLURS = (22, 28, 34, 40), (3, 6, 9, 12), (0.6, 1.0, 1.4, 1.8)
"""True values: H.264's scale; gray levels; standard deviation in pixels."""
KINDS = {"quantizer": QUANTIZERS, "noise": NOISES, "blur": BLURS}
NAMES = {"quantizer": "quantizer of x264", "noise": "noise, gray levels", "blur": "blur, pixels"}
FRAMES = 12
Found = dict[str, dict[str, float | None]]
"""Estimate by "clip kind value" and kind."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", default=[*CLIPS, "taxi"])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--draw", type=Path)
    given = parser.parse_args()
    use_shared_data()
    found: Found = json.loads(given.json.read_text()) if given.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.clips:
            for key, estimates in estimate(name, found, Path(folder)):
                found[key] = estimates
            given.json.write_text(json.dumps(found, indent=0))
    print_rows(found, given)
    if given.draw:
        draw(found, given)


def estimate(
    name: str, known: Found, folder: Path
) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Degrade one clip in all ways that are not known yet, and estimate each."""
    with open_clip(make_pair(name, folder).low) as reader:
        # Even sides, for 4:2:0.
        height, width = (side // 2 * 2 for side in (reader.info.height, reader.info.width))
        frames = islice(reader.frames(), FRAMES)
        pictures = [frame.pixels[:, :height, :width] for frame in frames]
    for kind, values in KINDS.items():
        for value in values:
            key = f"{name} {kind} {value}"
            if key in known:
                continue
            path = folder / f"{name}-{kind}-{value}.mkv"
            degrade(path, pictures, kind, value)
            (shot, *_), _ = inspect_clip(path)
            degradation = shot.degradation
            yield (
                key,
                {
                    "quantizer": degradation.qp,
                    "noise": degradation.noise_sigma,
                    "blur": degradation.blur or 0.0,
                },
            )


def degrade(path: Path, pictures: Pictures, kind: str, value: float) -> None:
    if kind == "quantizer":
        # All frames alike, without the offsets of frame types: then the true value is known.
        options = {"qp": str(value), "preset": "medium", "i_qfactor": "1", "b_qfactor": "1"}
        encode(path, pictures, "libx264", options)
    elif kind == "noise":
        write_lossless(path, noisy(value)(pictures))
    else:
        blurred = [cv2.GaussianBlur(plane_last(picture), (0, 0), value) for picture in pictures]
        write_lossless(path, [torch.from_numpy(each).permute(2, 0, 1) for each in blurred])


def plane_last(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).contiguous().numpy()


def print_rows(found: Found, given: Namespace) -> None:
    """One row a setting: the median estimate over clips, and the range."""
    rows = []
    for kind, values in KINDS.items():
        for value in values:
            estimates = estimates_of(found, given, kind, value)
            inside = sum(abs(each - value) <= 0.25 * value for each in estimates)
            rows.append(
                [
                    NAMES[kind],
                    f"{value:g}",
                    f"{median(estimates):.2f}",
                    f"{min(estimates):.2f} to {max(estimates):.2f}",
                    f"{inside} of {len(estimates)}",
                ]
            )
    print_table("Estimates", ["what", "true", "median", "range", "within 25 %"], rows)


def estimates_of(found: Found, given: Namespace, kind: str, value: float) -> list[float]:
    """One estimate a clip; 0 where nothing was found."""
    return [found[f"{name} {kind} {value}"][kind] or 0.0 for name in given.clips]


def draw(found: Found, given: Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.6))
    offsets = torch.linspace(-0.15, 0.15, len(given.clips)).tolist()
    for axes, (kind, values) in zip(panels, KINDS.items(), strict=True):
        step = values[1] - values[0]
        for name, offset in zip(given.clips, offsets, strict=True):
            estimates = [found[f"{name} {kind} {value}"][kind] or 0.0 for value in values]
            places = [value + offset * step for value in values]
            axes.plot(places, estimates, "o", markersize=4, label=name)
        ends = [values[0] - step / 2, values[-1] + step / 2]
        axes.plot(ends, ends, color="gray", linewidth=1)
        axes.set(title=NAMES[kind], xlabel="true", ylabel="estimated")
    panels[-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(given.draw, dpi=110)


if __name__ == "__main__":
    main()
