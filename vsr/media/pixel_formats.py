"""Which pixel format an encoder is given."""

from collections.abc import Iterable

from vsr.errors import UsageError
from vsr.pixel_layouts import LAYOUTS, nearest_format


def choose_pixel_format(source_format: str, offered: Iterable[str], wanted: str | None, codec: str) -> str:
    """What the user wants, or what keeps most of the input: channels, RGB or YUV, depth, chroma, in this order."""
    usable = [name for name in offered if name in LAYOUTS and not name.startswith("yuvj")]
    if wanted is not None:
        if wanted.replace("yuvj", "yuv") not in usable:
            raise UsageError(f"{codec} has no pixel format {wanted}; it has {', '.join(usable)}")
        return wanted.replace("yuvj", "yuv")
    source = LAYOUTS[nearest_format(source_format)]

    def loss(name: str) -> tuple[int, ...]:
        layout = LAYOUTS[name]
        rows = layout.chroma_rows - source.chroma_rows
        columns = layout.chroma_columns - source.chroma_columns
        return (
            max(0, source.num_channels - layout.num_channels),
            int(source.has_alpha and not layout.has_alpha),
            int(layout.is_rgb != source.is_rgb),
            max(0, source.bits - layout.bits),
            max(0, rows) + max(0, columns),
            int(layout.has_alpha and not source.has_alpha),
            layout.num_channels - source.num_channels,
            layout.bits - source.bits,
            -rows - columns,
        )

    return min(usable, key=loss)
