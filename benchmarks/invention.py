"""What the shot model invents: printed text, line art and regular patterns that no picture of its
prior holds, and a face.

    python -m benchmarks.invention --figure docs/figures/invention.png

`LR-PSNR` compares the result, reduced again, with its input, before any encoding. `strokes` is the
share of pixels, in a thousand, that differ by more than 4 gray levels from the paper where nothing
is drawn for `CLEAR_PX` pixels around: ink that nobody drew. Drawn scenes move by a
fraction of a pixel; the face is a crop of a real clip. Shot models are trained as by default.
"""

import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from itertools import islice
from math import cos, pi, sin
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.clips import EXCERPTS, reduce, use_shared_data, write_lossless
from benchmarks.figure import beside, enlarge, labels, picture
from benchmarks.measure import print_table, upscale
from benchmarks.real_footage import REALESR
from benchmarks.shot import source_of, train_shot_models
from vsr.image.luma import luma
from vsr.metrics.scoreboard import Scoreboard
from vsr.pipeline.options import Recipe
from vsr.pipeline.profile import StageClock
from vsr.upscale.policy import no_shot_models
from vsr.video.frames import Frame

FRAMES, SIDE = 12, 256
SUPERSAMPLING = 4
CLEAR_PX = 8
INK_LEVELS = 4
CROP = (slice(72, 152), slice(64, 192))
METHODS = {
    "bicubic": Recipe("bicubic"),
    "shot": Recipe("shot"),
    "realesr": Recipe(upscaler=str(REALESR), steady=0.0, restore=0.0),
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--figure", type=Path, help="write crops of the drawn scenes to a PNG file")
    given = parser.parse_args()
    use_shared_data()
    rows, panels = [], []
    for scene in given.scenes:
        with tempfile.TemporaryDirectory() as folder:
            truths = list(SCENES[scene]())
            clip = Path(folder) / "low.mkv"
            write_lossless(clip, map(reduce, truths))
            crops = []
            for method, recipe in METHODS.items():
                models = no_shot_models
                if method == "shot":
                    models = source_of(train_shot_models(clip, Path(folder) / "models"))
                made = list(upscale(clip, recipe, [], [], StageClock(), models))
                rows.append([scene, method, *figures(truths, made)])
                print(rows[-1], flush=True)
                crops.append(made[FRAMES // 2][1].pixels)
            # The face is of a clip that may not be copied.
            if scene != "face":
                shown = [picture(one)[CROP] for one in (*crops, truths[FRAMES // 2])]
                panels.append(beside([enlarge(one, 3, 3) for one in shown]))
    print_table("invention", ["scene", "method", "LR-PSNR", "PSNR-Y", "strokes, ‰"], rows)
    if given.figure is not None:
        sheet = np.concatenate([labels([*METHODS, "truth"]), *panels])
        cv2.imwrite(str(given.figure), sheet[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def figures(truths: list[torch.Tensor], made: list[tuple[Frame, Frame]]) -> tuple[str, str, str]:
    """Means over the frames, each with its enlargement."""
    board = Scoreboard(("lr_psnr", "psnr_y"), has_truth=True, has_low_resolution=True)
    strokes = []
    for truth, (low, large) in zip(truths, made, strict=True):
        board.update(large, truth, low.pixels)
        true = luma(truth)
        clear = is_clear(true.numpy())
        if clear.any():
            change = (luma(large.pixels) - true).numpy()[clear]
            # A method may shade all paper alike; strokes are what stands out from it.
            off = np.abs(change - np.median(change)) > INK_LEVELS / 255
            strokes.append(1000 * float(off.mean()))
    means = {name: result.mean for name, result in board.compute().items()}
    ink = f"{np.mean(strokes):.2f}" if strokes else "-"
    return f"{means['lr_psnr']:.1f}", f"{means['psnr_y']:.2f}", ink


def is_clear(plane: np.ndarray) -> np.ndarray:
    """Where all is of one shade, to half a gray level, for `CLEAR_PX` around."""
    window = np.ones((2 * CLEAR_PX + 1, 2 * CLEAR_PX + 1), np.uint8)
    clear: np.ndarray = cv2.dilate(plane, window) - cv2.erode(plane, window) < 0.5 / 255
    return clear


def moved(drawing: np.ndarray) -> Iterator[torch.Tensor]:
    """Pan over a large gray drawing by fractions of a pixel, and reduce it to the frames."""
    large = SUPERSAMPLING * SIDE
    for frame in range(FRAMES):
        left, top = 20 + round(5.3 * frame), 20 + round(2.9 * frame)
        shown = drawing[top : top + large, left : left + large]
        small = cv2.resize(shown, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        yield torch.from_numpy(small.astype(np.float32) / 255).expand(3, -1, -1).clone()


def paper(shade: int = 235) -> np.ndarray:
    return np.full((SUPERSAMPLING * SIDE + 120, SUPERSAMPLING * SIDE + 120), shade, np.uint8)


def text() -> Iterator[torch.Tensor]:
    """Print lines of several sizes, by a typeface that no training picture was lettered with."""
    page, top = paper(), 120
    lines = ("Hamburgefonstiv 1234567890", "The quick brown fox jumps", "Sphinx of quartz, judge")
    for size in (110, 80, 64, 52, 44, 36):
        for line in lines[: 1 if size > 70 else 2]:
            page = cv2.putText(page, line, (30, top), 20, cv2.FontFace("serif"), size)[1]
            top += round(1.25 * size)
    return moved(page)


def line_art() -> Iterator[torch.Tensor]:
    """Draw a fan of lines, circles around a point, and a face of curves."""
    page = paper()
    for number in range(36):
        angle = pi * number / 36
        end = (round(300 + 280 * cos(angle)), round(330 - 280 * sin(angle)))
        cv2.line(page, (300, 330), end, 30, 2 + number % 5, cv2.LINE_AA)
    for radius in range(20, 260, 44):
        cv2.circle(page, (830, 330), radius, 40, 3, cv2.LINE_AA)
    cv2.ellipse(page, (560, 800), (180, 230), 0, 0, 360, 20, 7, cv2.LINE_AA)
    for left in (490, 630):
        cv2.ellipse(page, (left, 740), (42, 22), 0, 0, 360, 20, 5, cv2.LINE_AA)
        cv2.circle(page, (left, 740), 12, 20, -1, cv2.LINE_AA)
    cv2.ellipse(page, (560, 880), (80, 40), 0, 10, 170, 20, 6, cv2.LINE_AA)
    return moved(page)


def pattern() -> Iterator[torch.Tensor]:
    """Draw gratings of ever finer pitch, down to the input's limit, a checkerboard and a mesh."""
    side = SUPERSAMPLING * SIDE + 120
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    half = side // 2
    # A pitch of 2 pixels of the input is 8 of the frames: its limit.
    pitch = SUPERSAMPLING * (9 + 24 * across / side)
    grating = np.sin(2 * pi * down / pitch) > 0
    checker = (across // 52 + down // 52) % 2 > 0
    mesh = (((across + down) % 84) < 14) | (((across - down) % 84) < 14)
    drawn = np.where(down < half, grating, np.where(across < half, checker, mesh))
    return moved(np.where(drawn, 60, 210).astype(np.uint8))


def face() -> Iterator[torch.Tensor]:
    """A real face, as a telephone's camera saw it."""
    yield from islice(EXCERPTS["carphone"].pictures(), FRAMES)


SCENES: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
    "text": text,
    "line art": line_art,
    "pattern": pattern,
    "face": face,
}


if __name__ == "__main__":
    main()
