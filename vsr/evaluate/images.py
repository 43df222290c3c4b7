"""Pictures for pages: 8-bit RGB and its data URIs."""

import base64

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]
"""RGB, (H, W, 3)."""

LOSSLESS = 101
"""WebP's quality above which OpenCV stores every sample as it is."""


def to_rgb_image(pixels: torch.Tensor) -> RgbImage:
    """Round pixels (3, H, W) in [0, 1] to an 8-bit image."""
    rounded = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    image: RgbImage = rounded.permute(1, 2, 0).contiguous().cpu().numpy()
    return image


def encode_small(pixels: torch.Tensor, max_width_px: int, quality: int = 85) -> bytes:
    """Encode pixels (3, H, W) in [0, 1] as WebP of at most that width."""
    image = to_rgb_image(pixels)
    height, width = image.shape[:2]
    if width > max_width_px:
        size = max_width_px, max(1, round(height * max_width_px / width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_webp(image, quality)


def data_uri(picture: RgbImage, quality: int) -> str:
    """Write a picture as a data URI, WebP of quality 0..100 or `LOSSLESS`."""
    return "data:image/webp;base64," + base64.b64encode(encode_webp(picture, quality)).decode()


def encode_webp(picture: RgbImage, quality: int) -> bytes:
    """Encode a picture as WebP, quality 0..100 or `LOSSLESS`."""
    # OpenCV's order of channels is BGR.
    is_written, stored = cv2.imencode(
        ".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality]
    )
    assert is_written, "WebP holds any picture up to 16383 px a side"
    return bytes(stored.tobytes())
