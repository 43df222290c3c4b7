"""Moving scenes with known truth, each with what tempts a fusion of frames to leave ghosts."""

from collections.abc import Callable

import numpy as np
import torch

from tests.clips import textured_picture
from vsr.image.resample import resize

HEIGHT, WIDTH, COUNT = 160, 224, 10
Scene = list[np.ndarray]


def background(i: int, speed: float = 1.5, seed: int = 1) -> np.ndarray:
    """A texture that moves by `speed` a frame: coarse waves that the low resolution shows, and some
    that it cannot."""
    coarse = textured_picture(HEIGHT // 4, WIDTH // 4, (0.3 * i / 4, speed * i / 4), seed=seed)
    coarse = (
        resize(torch.from_numpy(coarse).permute(2, 0, 1).float(), HEIGHT, WIDTH)
        .permute(1, 2, 0)
        .numpy()
    )
    fine = textured_picture(HEIGHT, WIDTH, (0.3 * i, speed * i), seed=seed)
    return np.clip(0.85 * coarse + 0.15 * fine, 0, 255)


def occlusion() -> Scene:
    """A square with a texture of its own passes over a background that moves the other way."""
    patch = textured_picture(64, 64, seed=7).astype(np.float32)[..., ::-1]

    def frame(i):
        picture = background(i)
        left = 150 - 9 * i
        picture[40:104, left : left + 64] = patch
        return picture

    return [frame(i) for i in range(COUNT)]


def cut() -> Scene:
    """Two scenes with nothing in common, and nobody says where the cut is."""
    return [background(i, seed=1 if i < COUNT // 2 else 5) for i in range(COUNT)]


def flash() -> Scene:
    """One frame is lit brightly."""
    return [
        np.clip(background(i) * 1.5 + 40, 0, 255) if i == 5 else background(i) for i in range(COUNT)
    ]


def fade() -> Scene:
    """Down to black in as many frames as there are."""
    return [background(i) * (1 - i / COUNT) for i in range(COUNT)]


def title() -> Scene:
    """White bars with black gaps, like lines of text, scroll up over a still background."""

    def frame(i):
        picture = background(0)
        for line in range(5):
            top = 130 + 24 * line - 8 * i
            for letter in range(8):
                picture[
                    max(top, 0) : max(top + 12, 0), 30 + 20 * letter : 38 + 20 * letter + letter
                ] = 255
        return picture

    return [frame(i) for i in range(COUNT)]


def subtitle() -> Scene:
    """Letters appear and vanish over a moving background, in one place."""

    def frame(i):
        picture = background(i)
        if 3 <= i < 7:
            for letter in range(9):
                picture[130:146, 30 + 18 * letter : 40 + 18 * letter] = 250
        return picture

    return [frame(i) for i in range(COUNT)]


def fast_pan() -> Scene:
    """Half the picture's width goes by in four frames."""
    return [background(i, speed=28) for i in range(COUNT)]


def still() -> Scene:
    """Nothing moves."""
    return [background(0) for _ in range(COUNT)]


SCENES: dict[str, Callable[[], Scene]] = {
    scene.__name__: scene
    for scene in (occlusion, cut, flash, fade, title, subtitle, fast_pan, still)
}


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    """Float32 RGB (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
