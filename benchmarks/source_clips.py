"""Writes the clips and pictures on which docs/sources.md runs the recipes of the sources' tables.

    python -m benchmarks.source_clips FOLDER

- The first twelve frames of Vid4's walk: `x4-truth` at full size and `x4-low` a quarter of it,
  `x2-truth` at half the size and `x2-low` half of that, and `x2-blurred`, which is reduced by the
  unknown kernel of `benchmarks.zssrgan` instead.
- `shots`: twelve shots in seven clips, a quarter of the size, to train models on, and `pictures`: a
  later frame of each shot at full size, or the last one of a shot that is trained on whole.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.clips import EXCERPTS, VID4, Excerpt, reduce, use_shared_data, write_lossless
from benchmarks.zssrgan import UNKNOWN, bicubic_reduction
from vsr.image.blur import reduce_blurred

FRAMES = 12
BIKES = Excerpt("cuts/bikes.mp4")
LAST_OF_BIKES = (29, 75, 136, 186, 241, 249)
"""Frames that end the shots of `BIKES`."""
LATER = {**dict.fromkeys(VID4, 33), "water": 23, "swan": 23}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    use_shared_data()
    for place in (folder / "shots", folder / "pictures"):
        place.mkdir(parents=True, exist_ok=True)
    for name, pictures in clips(EXCERPTS["walk"]).items():
        write_lossless(folder / f"{name}.mkv", pictures)
    for name, number in LATER.items():
        write_lossless(folder / "shots" / f"{name}.mkv", low_pictures(EXCERPTS[name]))
        write_picture(folder / "pictures" / f"{name}.png", EXCERPTS[name], number)
    write_lossless(folder / "shots" / "bikes.mkv", map(reduce, BIKES.pictures()))
    for number in LAST_OF_BIKES:
        write_picture(folder / "pictures" / f"bikes-{number}.png", BIKES, number)


def clips(excerpt: Excerpt) -> dict[str, list[torch.Tensor]]:
    """The clips of one scene, by name."""
    truth = list(islice(excerpt.pictures(), FRAMES))
    half = [bicubic_reduction(picture) for picture in truth]
    return {
        "x4-truth": truth,
        "x4-low": list(low_pictures(excerpt)),
        "x2-truth": half,
        "x2-low": [bicubic_reduction(picture) for picture in half],
        "x2-blurred": [reduce_blurred(picture, UNKNOWN) for picture in half],
    }


def low_pictures(excerpt: Excerpt) -> Iterator[torch.Tensor]:
    """The first frames at a quarter of the size, as published where they are."""
    if excerpt.low is not None:
        return islice(Excerpt(excerpt.low).pictures(), FRAMES)
    return map(reduce, islice(excerpt.pictures(), FRAMES))


def write_picture(path: Path, excerpt: Excerpt, number: int) -> None:
    """Write one frame as a PNG of 8 bit."""
    picture = next(islice(excerpt.pictures(), number, None))
    pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    cv2.imwrite(str(path), pixels[..., ::-1])


if __name__ == "__main__":
    main()
