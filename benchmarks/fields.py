"""Interlaced video, woven of clips whose frames stand for moments: `--deinterlace field` beside
bwdif alone, in PSNR of RGB.

    python -m benchmarks.fields --frames 12 --clips walk city juggle swan cockatoo
    python -m benchmarks.fields --enlarge --frames 24 --clips walk juggle swan

With `--enlarge` frames are woven at half the size of the truth, and both ways' frames are enlarged
by the shot model of the shipped prior before they are measured.
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
from vsr.models.prior import load_shipped_prior
from vsr.restore.data_term import CLEAN
from vsr.upscale.shot import FUSION
from vsr.upscale.shot_stages import STAGE_SCALE, upscale_shot
from vsr.video.read.deinterlace import split_fields
from vsr.video.reader import ReadOptions, open_clip

HEIGHT, WIDTH = 288, 352
ENDS = 2
"""Frames at either end that are not measured: their fields have no neighbor on one side."""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=["walk", "juggle", "swan"])
    parser.add_argument("--enlarge", action="store_true", help="Enlarge twice before measuring.")
    options = parser.parse_args()
    use_shared_data()
    rows = []
    scale = STAGE_SCALE if options.enlarge else 1
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clips:
            truths = list(islice(moments(name, scale), (options.frames or 24) // 2 * 2))
            # Rounded, as a file holds them.
            shown = [(255 * reduced(truth, scale)).round() / 255 for truth in truths]
            clip = Path(folder) / f"{name}.mkv"
            pairs = zip(shown[::2], shown[1::2], strict=True)
            write_lossless(clip, (weave(top, bottom) for top, bottom in pairs))
            ways = [by_bwdif(clip), fields_of(clip)]
            if options.enlarge:
                # More than of whole frames cannot be made.
                ways.append(shown)
            plain, along_motion, *whole = (
                fmean(map(psnr, enlarged(made, scale)[ENDS:-ENDS], truths[ENDS:-ENDS]))
                for made in ways
            )
            gain = f"{along_motion - plain:+.2f}"
            rows.append(
                [
                    name,
                    f"{plain:.2f}",
                    f"{along_motion:.2f}",
                    gain,
                    *(f"{each:.2f}" for each in whole),
                ]
            )
            print(*rows[-1], flush=True)
    columns = ["clip", "bwdif dB", "field dB", "gain"]
    if options.enlarge:
        print_table("**50 frames of 25, enlarged twice**", [*columns, "whole frames dB"], rows)
    else:
        print_table("**50 frames of 25**", columns, rows)


def moments(name: str, scale: int = 1) -> Iterator[torch.Tensor]:
    """The middle of the excerpt's frames, `scale` times as large as what is woven; reduced by whole
    factors, rounded to 8 bits."""
    for whole in EXCERPTS[name].pictures():
        height, width = whole.shape[-2:]
        factor = max(1, min(height // (scale * HEIGHT), width // (scale * WIDTH)))
        picture = resize(whole, height // factor, width // factor).clamp(0, 1)
        # Whole lines of both fields, once it is reduced.
        height, width = (
            min(side, scale * limit) // (2 * scale) * 2 * scale
            for side, limit in zip(picture.shape[-2:], (HEIGHT, WIDTH), strict=True)
        )
        top, left = (picture.shape[-2] - height) // 4 * 2, (picture.shape[-1] - width) // 2
        yield (255 * picture[:, top : top + height, left : left + width]).round() / 255


def reduced(picture: torch.Tensor, scale: int) -> torch.Tensor:
    height, width = (side // scale for side in picture.shape[-2:])
    return resize(picture, height, width).clamp(0, 1)


def enlarged(frames: list[torch.Tensor], scale: int) -> list[torch.Tensor]:
    """By the prior's shot model, as it is."""
    if scale == 1:
        return frames
    networks = load_shipped_prior().networks
    shot = upscale_shot(frames, networks, scale, CLEAN, FUSION["balanced"])
    return [picture.clamp(0, 1) for picture in shot]


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
