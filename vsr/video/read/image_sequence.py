"""Folders of pictures and numbered pictures as clips: their files in order, one decoded frame
each."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import av

from vsr.errors import InputError
from vsr.video.pixel_layouts import common_format, lost_by
from vsr.video.read.picture_header import read_picture_header
from vsr.video.read.sources import clip_identity, open_container, pixel_limit_options

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".jp2"),
    *(".exr", ".dpx", ".tga", ".pnm", ".pam", ".jxl"),
)

IMAGE_SEQUENCE_FPS = 25
"""Frames a second at which pictures are shown, since they carry no time."""

_NUMBER_FIELD = re.compile(r"%0?\d*d")


def is_numbered_pattern(path: Path) -> bool:
    """Tell whether a name is a pattern such as `%04d.png`."""
    return _NUMBER_FIELD.search(path.name) is not None


def find_image_sequence(source: Path) -> list[Path] | None:
    """List the pictures of a folder in natural order, or those of a numbered pattern by number;
    None for anything else.

    Raises InputError for a folder or a pattern without pictures, and for what may not be looked at.
    """
    try:
        is_pattern = is_numbered_pattern(source) and not source.exists()
        if not source.is_dir() and not is_pattern:
            return None
        folder = source.parent if is_pattern else source
        # macOS leaves a companion `._NAME` beside each file on foreign disks: it holds no picture.
        files = [
            path for path in folder.iterdir() if path.is_file() and not path.name.startswith("._")
        ]
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from error
    if is_pattern:
        before, after = _NUMBER_FIELD.split(source.name, maxsplit=1)
        member = re.compile(re.escape(before) + r"[0-9]+" + re.escape(after))
        pictures = [path for path in files if member.fullmatch(path.name)]
    else:
        pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not pictures:
        raise InputError(
            f"{source}: no pictures there; expected a video file or pictures "
            f"({' '.join(IMAGE_SUFFIXES)})"
        )
    return sorted(pictures, key=_natural_key)


def image_sequence_identity(pictures: Sequence[Path]) -> str:
    """Compute SHA-256 over every picture's name and size and the content of the first and the last
    one."""
    listing = "".join(f"{picture.name}\0{picture.stat().st_size}\n" for picture in pictures)
    ends = clip_identity(pictures[0]) + clip_identity(pictures[-1])
    return hashlib.sha256((listing + ends).encode("utf-8", "surrogateescape")).hexdigest()


def common_picture_format(pictures: Sequence[Path], first: str) -> str:
    """The pixel format that holds every picture, by their headers; `first` is the first one's."""
    formats = {first}
    for picture in pictures:
        header = read_picture_header(picture)
        if header is not None:
            formats.add(header.pixel_format)
    # Chroma and color model alone are no reason: what is stored as a JPEG stays one.
    return first if not any(lost_by(one, first) for one in formats) else common_format(formats)


def decode_image(picture: Path, allow_huge: bool = False) -> av.VideoFrame | None:
    """Decode the first picture in the file; None where nothing in it can be decoded."""
    try:
        with open_container(picture, allow_huge) as container:
            container.streams.video[0].codec_context.options = pixel_limit_options(allow_huge)
            return next(container.decode(video=0), None)
    except (InputError, av.FFmpegError, IndexError):
        return None


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 2.png before 10.png."""
    # ASCII digits alone: `isdigit` also holds for superscripts, which `int` refuses.
    return [
        (int(part), "") if position % 2 else (-1, part)
        for position, part in enumerate(re.split(r"([0-9]+)", path.name))
    ]
