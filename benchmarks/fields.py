"""Interlaced video, woven of clips whose frames stand for moments: `--deinterlace field` beside
bwdif alone, in PSNR of RGB.

    python -m benchmarks.fields --frames 12 --clips walk city juggle swan cockatoo
"""

import math
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.clips import EXCERPTS, use_shared_data, write_lossless
from benchmarks.measure import BORDER_PX, options_parser, print_table
from vsr.image.resample import resize
from vsr.video.read.deinterlace import split_fields
from vsr.video.reader import ReadOptions, open_clip

HEIGHT, WIDTH = 288, 352
ENDS = 2
"""Frames at either end that are not measured: their fields have no neighbor on one side."""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["walk", "juggle", "swan"])
    options = parser.parse_args()
    use_shared_data()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            truths = list(islice(moments(name), (options.frames or 24) // 2 * 2))
            clip = Path(folder) / f"{name}.mkv"
            pairs = zip(truths[::2], truths[1::2], strict=True)
            write_lossless(clip, (weave(top, bottom) for top, bottom in pairs))
            plain, along_motion = (
                fmean(map(psnr, made[ENDS:-ENDS], truths[ENDS:-ENDS]))
                for made in (by_bwdif(clip), fields_of(clip))
            )
            rows.append(
                [name, f"{plain:.2f}", f"{along_motion:.2f}", f"{along_motion - plain:+.2f}"]
            )
    print_table("**50 frames of 25**", ["clip", "bwdif dB", "field dB", "gain"], rows)


def moments(name: str) -> Iterator[torch.Tensor]:
    """The middle of the excerpt's frames, reduced by whole factors, rounded to 8 bits."""
    for whole in EXCERPTS[name].pictures():
        height, width = whole.shape[-2:]
        factor = max(1, min(height // HEIGHT, width // WIDTH))
        picture = resize(whole, height // factor, width // factor).clamp(0, 1)
        height, width = picture.shape[-2:]
        top, left = (height - HEIGHT) // 4 * 2, (width - WIDTH) // 2
        yield (255 * picture[:, top : top + HEIGHT, left : left + WIDTH]).round() / 255


def weave(top: torch.Tensor, bottom: torch.Tensor) -> torch.Tensor:
    woven = top.clone()
    woven[:, 1::2] = bottom[:, 1::2]
    return woven


def fields_of(clip: Path) -> list[torch.Tensor]:
    with open_clip(clip, ReadOptions(deinterlace="field")) as reader:
        return [frame.pixels for frame in reader.frames()]


def by_bwdif(clip: Path) -> list[torch.Tensor]:
    """The fields as the filter makes them whole."""
    # Its lines are what `field` begins with: nothing else of the reader differs.
    with open_clip(clip, ReadOptions(deinterlace="off")) as reader:
        timed = ((picture, number, 1) for number, picture in enumerate(reader._source.pictures))
        return [
            reader._samples(one[0].frame, 0, 0, 1, None).frame().pixels
            for one in split_fields(timed, True)
        ]


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    inner = slice(BORDER_PX, -BORDER_PX)
    error = float((one - other)[:, inner, inner].square().mean())
    return 100.0 if error == 0 else -10 * math.log10(error)


if __name__ == "__main__":
    main()
