"""Layouts of libav's pixel formats: the only module that knows their planes and depths."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import av
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list

ByteOrder = Literal["<", ">"]

PADDING = -1
ALPHA = -2


@dataclass(frozen=True)
class PixelLayout:
    """Planes, channels and depth of a pixel format."""

    planes: tuple[tuple[int, ...], ...]
    """For each plane the channels that alternate in it: 0 1 2 for Y Cb Cr or R G B; -1 is padding,
    -2 alpha."""
    is_rgb: bool = False
    bits: int = 8
    """32: floats, black at 0 and white at 1, chroma from -1/2 to 1/2. No libav name stands for
    these; other programs hand them over."""
    unused_low_bits: int = 0
    byte_order: ByteOrder = "<"
    chroma_rows: int = 1
    """Luma rows per chroma row."""
    chroma_columns: int = 1

    @property
    def num_channels(self) -> int:
        return 1 + max(channel for plane in self.planes for channel in plane)

    @property
    def has_alpha(self) -> bool:
        return any(ALPHA in plane for plane in self.planes)

    @property
    def is_float(self) -> bool:
        """Whether samples are floats."""
        return self.bits == 32

    @property
    def sample_type(self) -> np.dtype[np.unsignedinteger]:
        """Type of an integer sample in memory."""
        return (
            np.dtype(np.uint8)
            if self.bits == 8
            else np.dtype(np.uint16).newbyteorder(self.byte_order)
        )


def _planar_layouts(bits: int, ending: str, byte_order: ByteOrder) -> dict[str, PixelLayout]:
    layouts = {
        f"gray{ending}": PixelLayout(((0,),), bits=bits, byte_order=byte_order),
        f"gbrp{ending}": PixelLayout(
            ((1,), (2,), (0,)), is_rgb=True, bits=bits, byte_order=byte_order
        ),
        f"gbrap{ending}": PixelLayout(
            ((1,), (2,), (0,), (ALPHA,)), is_rgb=True, bits=bits, byte_order=byte_order
        ),
    }
    for chroma, rows, columns in (("420", 2, 2), ("422", 1, 2), ("444", 1, 1), ("440", 2, 1)):
        for prefix, alpha in (("yuv", ()), ("yuva", ((ALPHA,),))):
            layouts[f"{prefix}{chroma}p{ending}"] = PixelLayout(
                ((0,), (1,), (2,), *alpha),
                bits=bits,
                byte_order=byte_order,
                chroma_rows=rows,
                chroma_columns=columns,
            )
    return layouts


def _packed_rgb(channels: str, bits: int = 8, byte_order: ByteOrder = "<") -> PixelLayout:
    places = {"r": 0, "g": 1, "b": 2, "a": ALPHA, "0": PADDING}
    return PixelLayout(
        (tuple(places[c] for c in channels),), is_rgb=True, bits=bits, byte_order=byte_order
    )


def _all_layouts() -> dict[str, PixelLayout]:
    layouts = _planar_layouts(8, "", "<")
    for bits in (9, 10, 12, 14, 16):
        layouts |= _planar_layouts(bits, f"{bits}le", "<") | _planar_layouts(bits, f"{bits}be", ">")
    layouts |= {
        name.replace("yuv", "yuvj"): value for name, value in layouts.items() if name in _JPEG_TWINS
    }
    layouts |= {
        name: _packed_rgb(name)
        for name in ("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr")
    }
    layouts |= {
        "rgb24": _packed_rgb("rgb"),
        "bgr24": _packed_rgb("bgr"),
        "ya8": PixelLayout(((0, ALPHA),)),
    }
    orders: tuple[tuple[str, ByteOrder], ...] = (("le", "<"), ("be", ">"))
    for ending, order in orders:
        layouts |= {
            f"rgb48{ending}": _packed_rgb("rgb", 16, order),
            f"rgba64{ending}": _packed_rgb("rgba", 16, order),
        }
        layouts[f"ya16{ending}"] = PixelLayout(((0, ALPHA),), bits=16, byte_order=order)
    layouts["nv12"] = PixelLayout(((0,), (1, 2)), chroma_rows=2, chroma_columns=2)
    layouts["p010le"] = PixelLayout(
        ((0,), (1, 2)), bits=10, unused_low_bits=6, chroma_rows=2, chroma_columns=2
    )
    return {name: layout for name, layout in layouts.items() if name in av.video.format.names}  # type: ignore[attr-defined]


_JPEG_TWINS = ("yuv420p", "yuv422p", "yuv444p", "yuv440p")

LAYOUTS = _all_layouts()
"""Every pixel format that is converted here, by its libav name."""


def nearest_format(pixel_format: str) -> str:
    """Find the format to decode to: itself where it is converted here, else the one that libav
    converts it to with the least loss."""
    if pixel_format in LAYOUTS:
        return pixel_format
    nearest, _ = find_best_pix_fmt_of_list(list(LAYOUTS), pixel_format)
    assert nearest is not None
    return nearest.name


def conversion_loss(source: PixelLayout, target: PixelLayout) -> tuple[int, ...]:
    """Rank a conversion: what is lost, by weight, then what would be stored in vain; 0 is best."""
    rows = target.chroma_rows - source.chroma_rows
    columns = target.chroma_columns - source.chroma_columns
    return (
        max(0, source.num_channels - target.num_channels),
        int(source.has_alpha and not target.has_alpha),
        int(target.is_rgb != source.is_rgb),
        max(0, source.bits - target.bits),
        max(0, rows) + max(0, columns),
        int(target.has_alpha and not source.has_alpha),
        target.num_channels - source.num_channels,
        target.bits - source.bits,
        -rows - columns,
    )


def common_format(pixel_formats: Iterable[str]) -> str:
    """Choose the format that holds pictures of all these: the one of which the worst conversion
    loses least.

    Gray counts as RGB beside RGB, and as YUV beside YUV.
    """
    names = list(dict.fromkeys(map(nearest_format, pixel_formats)))
    if len(names) == 1:
        return names[0]
    sources = [LAYOUTS[name] for name in names]

    def losses(name: str) -> tuple[int, ...]:
        target = LAYOUTS[name]
        each = [
            conversion_loss(replace(source, is_rgb=target.is_rgb or source.is_rgb), target)
            if source.num_channels == 1
            else conversion_loss(source, target)
            for source in sources
        ]
        return tuple(map(sum, zip(*each, strict=True)))

    # Formats of the pictures themselves come first among equals.
    return min([*names, *LAYOUTS], key=losses)


def lost_by(source_format: str, target_format: str) -> list[str]:
    """Name what pictures of one format lose in another: color, transparency, depth."""
    source, target = LAYOUTS[nearest_format(source_format)], LAYOUTS[nearest_format(target_format)]
    lost = []
    if source.num_channels > target.num_channels:
        lost.append("color")
    elif (source.chroma_rows, source.chroma_columns) < (target.chroma_rows, target.chroma_columns):
        lost.append("detail of color")
    if source.has_alpha and not target.has_alpha:
        lost.append("transparency")
    if source.bits > target.bits:
        lost.append(f"depth ({source.bits} bits)")
    return lost
