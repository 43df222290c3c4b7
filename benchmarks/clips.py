"""What is measured: excerpts of real clips, which stay outside the repository, and low resolutions
made of them."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import torch
from av.video.reformatter import Colorspace

from vsr.image.resample import resize
from vsr.models.weights import WEIGHTS_PATH_VARIABLE
from vsr.video.reader import open_clip

SCALE = 4
RATE = Fraction(25)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLIPS = DATA / "clips"


@dataclass(frozen=True)
class Excerpt:
    """Consecutive frames of a clip."""

    file: str
    """Below `CLIPS`."""
    first: int = 0
    last: int | None = None
    """Frame numbers, both included; None: to the end."""
    low: str | None = None
    """The published low resolution of the whole clip, where there is one; else `reduce` makes
    it."""

    @property
    def path(self) -> Path:
        return CLIPS / self.file

    def pictures(self) -> Iterator[torch.Tensor]:
        """(3, H, W) in [0, 1], the sides cut to multiples of `SCALE`."""
        with open_clip(self.path) as reader:
            for frame in islice(
                reader.frames(), self.first, None if self.last is None else self.last + 1
            ):
                height, width = (side - side % SCALE for side in frame.pixels.shape[-2:])
                yield frame.pixels[:, :height, :width]


EXCERPTS = {
    "calendar": Excerpt("vid4/calendar_hr.mkv", low="vid4/calendar_lrx4.mkv"),
    "city": Excerpt("vid4/city_hr.mkv", low="vid4/city_lrx4.mkv"),
    "foliage": Excerpt("vid4/foliage_hr.mkv", low="vid4/foliage_lrx4.mkv"),
    "walk": Excerpt("vid4/walk_hr.mkv", low="vid4/walk_lrx4.mkv"),
    "street": Excerpt("cuts/bikes.mp4", 142, 177),
    "taxi": Excerpt("cuts/bikes.mp4", 80, 103),
    "cut": Excerpt("cuts/bikes.mp4", 58, 93),
    "water": Excerpt("natural/stream-of-water.mp4", 0, 23),
    "cockatoo": Excerpt("cuts/cockatoo.mp4", 0, 23),
    "flower": Excerpt("natural/flower.mp4", 100, 123),
    "swan": Excerpt("natural/blackswan.mp4", 0, 23),
    "bunny": Excerpt("natural/bigbuckbunny.mp4", 0, 23),
    "carphone": Excerpt("natural/carphone_pristine.mp4", 0, 23),
    "friday": Excerpt("natural/friday.mp4", 0, 23),
    "juggle": Excerpt("natural/juggle_120.mp4"),
}
VID4 = ("calendar", "city", "foliage", "walk")


@dataclass(frozen=True)
class Pair:
    """A low-resolution clip and its truth, frame by frame."""

    name: str
    low: Path
    truth: Excerpt


def use_shared_data() -> None:
    """Leave with a sentence where the clips are not there; let metrics find the weights that lie
    beside them."""
    if not CLIPS.is_dir():
        sys.exit(f"this needs the real clips in {CLIPS}, which are not part of the repository")
    os.environ.setdefault(WEIGHTS_PATH_VARIABLE, str(DATA / "weights"))


def reduce(picture: torch.Tensor) -> torch.Tensor:
    """The low resolution of a (3, H, W) picture, as the product defines it."""
    return resize(picture, picture.shape[-2] // SCALE, picture.shape[-1] // SCALE)


def make_pair(name: str, folder: Path) -> Pair:
    """The excerpt of that name with its low resolution, written to `folder` where none is
    published."""
    excerpt = EXCERPTS[name]
    if excerpt.low is not None:
        return Pair(name, CLIPS / excerpt.low, excerpt)
    return degraded_pair(name, folder, name, reduce)


def degraded_pair(
    label: str,
    folder: Path,
    name: str,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    frames: int | None = None,
) -> Pair:
    """The excerpt `name` with `degrade` of its first `frames` pictures for a low resolution."""
    excerpt = EXCERPTS[name]
    low = folder / f"{label}.mkv"
    write_lossless(low, map(degrade, islice(excerpt.pictures(), frames)))
    return Pair(label, low, excerpt)


def write_lossless(path: Path, pictures: Iterable[torch.Tensor]) -> None:
    """FFV1 RGB of (3, H, W) pictures, rounded to 8 bit, at `RATE`; the same bytes each time."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        stream = None
        for picture in pictures:
            levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
            frame = av.VideoFrame.from_ndarray(
                levels.permute(1, 2, 0).contiguous().numpy(), format="rgb24"
            )
            if stream is None:
                stream = out.add_stream(
                    "ffv1", rate=RATE, width=frame.width, height=frame.height, pix_fmt="bgr0"
                )
            out.mux(stream.encode(frame.reformat(format="bgr0")))
        out.mux(stream.encode(None))


def write_h264(path: Path, pictures: Iterable[torch.Tensor], crf: int) -> None:
    """H.264 4:2:0 of (3, H, W) pictures by x264's medium preset, tagged BT.709, at `RATE`."""
    with av.open(str(path), "w") as out:
        stream = None
        for picture in pictures:
            levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
            frame = av.VideoFrame.from_ndarray(
                levels.permute(1, 2, 0).contiguous().numpy(), format="rgb24"
            )
            if stream is None:
                stream = out.add_stream(
                    "libx264", rate=RATE, width=frame.width, height=frame.height, pix_fmt="yuv420p"
                )
                stream.options = {"crf": str(crf), "preset": "medium"}
                stream.codec_context.colorspace = Colorspace.ITU709
            out.mux(
                stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709))
            )
        out.mux(stream.encode(None))
