"""Pictures of the page as data URIs, as good as the room on it allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vsr.evaluate.images import LOSSLESS, RgbImage, data_uri
from vsr.evaluate.report.frames import MomentFrames

QUALITIES = (LOSSLESS, 95, 88, 80, 70, 55, 40)
SCALES = (1, 2, 4)
"""Reductions of the whole frames, tried when no quality is enough."""
LOSSLESS_BYTES_PER_PIXEL = 1.4
"""Length of the text, about. Where it would not fit, lossless pictures are not tried: they take
long."""


@dataclass(frozen=True)
class EncodedMoment:
    """The pictures of one moment as data URIs, one for each version."""

    pictures: tuple[str, ...]
    loops: tuple[str, ...]
    """Frames of the loop, one below the other."""
    slices: tuple[str, ...]


def encode_moments(
    samples: Sequence[MomentFrames], max_bytes: int
) -> tuple[list[EncodedMoment], str]:
    """Encode all pictures within `max_bytes` of text; tell as well how they are stored."""
    num_pixels = sum(picture.size // 3 for sample in samples for picture in sample.pictures)
    for scale in SCALES:
        for quality in QUALITIES:
            if quality == LOSSLESS and num_pixels * LOSSLESS_BYTES_PER_PIXEL > max_bytes:
                continue
            encoded = _encode_within(samples, quality, scale, max_bytes)
            if encoded is not None:
                return encoded, _describe_storage(quality, scale)
    raise AssertionError("the worst quality of the smallest pictures fits any page")


def _encode_within(
    samples: Sequence[MomentFrames], quality: int, scale: int, max_bytes: int
) -> list[EncodedMoment] | None:
    """Encode all pictures; None, as soon as it is known, where the room is not enough."""
    room = max_bytes

    def encode(pictures: Sequence[RgbImage]) -> tuple[str, ...] | None:
        nonlocal room
        uris = []
        for picture in pictures:
            uris.append(data_uri(picture, quality))
            room -= len(uris[-1])
            if room < 0:
                return None
        return tuple(uris)

    encoded = []
    for sample in samples:
        whole = encode([_reduced(picture, scale) for picture in sample.pictures])
        loops = whole and encode([np.concatenate(loop) for loop in sample.loops])
        slices = loops and encode(list(sample.slices))
        if not (whole and loops and slices):
            return None
        encoded.append(EncodedMoment(whole, loops, slices))
    return encoded


def _reduced(picture: RgbImage, scale: int) -> RgbImage:
    if scale == 1:
        return picture
    size = max(1, picture.shape[1] // scale), max(1, picture.shape[0] // scale)
    reduced: RgbImage = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return reduced


def _describe_storage(quality: int, scale: int) -> str:
    kept = "without loss" if quality == LOSSLESS else f"as WebP of quality {quality}"
    return kept if scale == 1 else f"{kept}, whole frames at 1/{scale} of their size"
