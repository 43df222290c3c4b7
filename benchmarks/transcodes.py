"""What is seen of an encoder in clips that are stored without loss, beside its quantizer.

    python -m benchmarks.transcodes

All clips but carphone, which is too small, reduced four times, 12 frames each. *True* is the mean
quantizer that the encoder's own stream tells, on H.264's scale, and *off* the estimate less that.
The last rows have no lattice to be seen: never coded, or resized since.
"""

import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import fmean, median

import cv2
import torch

from benchmarks.clips import EXCERPTS, make_pair, use_shared_data, write_lossless
from benchmarks.measure import print_table
from benchmarks.real_footage import Pictures, encode, noisy, unchanged
from vsr.pipeline.inspection import inspect_clip
from vsr.video.reader import open_clip

CLIPS = tuple(name for name in EXCERPTS if name != "carphone")
FRAMES = 12
JPEG = {"strict": "unofficial"}
CODINGS: dict[str, tuple[str, dict[str, str]]] = {
    **{f"x264 crf {crf}": ("libx264", {"crf": str(crf)}) for crf in (18, 23, 28, 33, 38)},
    "x264 veryfast crf 28": ("libx264", {"crf": "28", "preset": "veryfast"}),
    "x264 baseline crf 28": ("libx264", {"crf": "28", "profile": "baseline"}),
    **{f"MPEG-2, {q}": ("mpeg2video", {"qmin": str(q), "qmax": str(q)}) for q in (4, 8, 16)},
    **{f"motion JPEG, {q}": ("mjpeg", {"qmin": str(q), "qmax": str(q)} | JPEG) for q in (4, 8, 16)},
    "x265 crf 28": ("libx265", {"crf": "28", "x265-params": "log-level=none"}),
    "VP9, 40": ("libvpx-vp9", {"qmin": "40", "qmax": "40", "crf": "40", "b": "0"}),
    "AV1 crf 44": ("libsvtav1", {"crf": "44", "preset": "8"}),
}
"""Codec and options by name."""


def resized(share: float, method: int) -> Callable[[Pictures], Pictures]:
    """Change the size of pictures."""

    def resize(pictures: Pictures) -> Pictures:
        planes = [picture.permute(1, 2, 0).contiguous().numpy() for picture in pictures]
        made = [cv2.resize(p, None, fx=share, fy=share, interpolation=method) for p in planes]
        return [torch.from_numpy(each).permute(2, 0, 1) for each in made]

    return resize


def blurred(sigma: float) -> Callable[[Pictures], Pictures]:
    """Blur pictures."""

    def blur(pictures: Pictures) -> Pictures:
        planes = [picture.permute(1, 2, 0).contiguous().numpy() for picture in pictures]
        made = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes]
        return [torch.from_numpy(each).permute(2, 0, 1) for each in made]

    return blur


WITHOUT_LATTICE: dict[str, tuple[str | None, Callable[[Pictures], Pictures]]] = {
    "clean": (None, unchanged),
    "noise 3": (None, noisy(3)),
    "noise 12": (None, noisy(12)),
    "blur 0.6": (None, blurred(0.6)),
    "blur 1.8": (None, blurred(1.8)),
    "x264 crf 28, then 0.75 of the size": ("x264 crf 28", resized(0.75, cv2.INTER_AREA)),
    "x264 crf 28, then 1.5 of the size": ("x264 crf 28", resized(1.5, cv2.INTER_CUBIC)),
}
"""Coding and what was done to its pictures."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(CLIPS))
    given = parser.parse_args()
    use_shared_data()
    true: dict[str, list[float]] = {}
    found: dict[str, list[float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.clips:
            pictures = read_pictures(make_pair(name, Path(folder)).low)
            coded = Path(folder) / "coded.mkv"
            for label, (codec, options) in CODINGS.items():
                encode(coded, pictures, codec, options)
                (shot, *_), _ = inspect_clip(coded)
                true.setdefault(label, []).append(shot.degradation.qp or 0.0)
                found.setdefault(label, []).append(seen(read_pictures(coded), Path(folder)))
            for label, (coding, change) in WITHOUT_LATTICE.items():
                source = pictures
                if coding is not None:
                    encode(coded, pictures, *CODINGS[coding])
                    source = read_pictures(coded)
                found.setdefault(label, []).append(seen(change(source), Path(folder)))
    print_table(
        "Earlier encoders",
        ["what", "seen", "true", "off, median", "range"],
        [row(label, estimates, true.get(label)) for label, estimates in found.items()],
    )


def read_pictures(path: Path) -> Pictures:
    """The first frames, of even sides."""
    with open_clip(path) as reader:
        frames = islice(reader.frames(), FRAMES)
        height, width = (side // 2 * 2 for side in (reader.info.height, reader.info.width))
        return [frame.pixels[:, :height, :width] for frame in frames]


def seen(pictures: Pictures, folder: Path) -> float | None:
    """Store pictures without loss, and look for an earlier encoder."""
    write_lossless(folder / "stored.mkv", pictures)
    (shot, *_), _ = inspect_clip(folder / "stored.mkv")
    return shot.degradation.earlier_qp


def row(label: str, estimates: list[float | None], true: list[float] | None) -> list[str]:
    known = [each is not None for each in estimates]
    shown = [label, f"{sum(known)} of {len(known)}"]
    if true is None or not any(known):
        return [*shown, "-" if true is None else f"{fmean(true):.1f}", "-", "-"]
    off = [one - other for one, other in zip(estimates, true, strict=True) if one is not None]
    return [
        *shown,
        f"{fmean(true):.1f}",
        f"{median(off):+.1f}",
        f"{min(off):+.1f} to {max(off):+.1f}",
    ]


if __name__ == "__main__":
    main()
