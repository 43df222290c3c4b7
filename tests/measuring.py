"""Pictures and clips for the tests of metrics, the short way to measure them, and a full disk."""

import resource
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import torch

from tests.clips import moving_pictures
from vsr.metrics.scoreboard import Scoreboard
from vsr.video.frames import Frame


def tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def array(pixels):
    """(H, W, 3) float64."""
    return pixels.permute(1, 2, 0).numpy().astype(np.float64)


def luma(pixels):
    red, green, blue = pixels.double().numpy()
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def noisy(pixels, sigma=0.03, seed=0):
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed)) * sigma
    return (pixels + noise).clamp(0, 1)


def moving(count=3, height=64, width=96, step=(0.5, 1.0), seed=0):
    return [tensor(picture) for picture in moving_pictures(count, height, width, step, seed)]


def measure(names, results, truths=None, low_resolutions=None, border=0):
    """MetricResult by name."""
    board = Scoreboard(
        names,
        has_truth=truths is not None,
        has_low_resolution=low_resolutions is not None,
        border=border,
    )
    for index, result in enumerate(results):
        board.update(
            Frame(result, index, index, Fraction(1, 25)),
            None if truths is None else truths[index],
            None if low_resolutions is None else low_resolutions[index],
        )
    return board.compute()


def value(name, result, truth=None, low_resolution=None, border=0):
    """The metric of a single frame."""
    truths = None if truth is None else [truth]
    lows = None if low_resolution is None else [low_resolution]
    return measure([name], [result], truths, lows, border)[name].per_frame[0]


@contextmanager
def full_disk(num_bytes=64):
    """Within it no file can become larger than that: writing more raises OSError, as on a full
    disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
