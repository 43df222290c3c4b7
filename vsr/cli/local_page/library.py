"""Clips in the folders that were given: listed, named by numbers, and taken in."""

import hashlib
import os
import shutil
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vsr.errors import InputError, OutputError, UsageError
from vsr.files import hidden_sibling
from vsr.text import printable

CLIP_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "m2ts", "mts"),
        *("wmv", "flv", "ogv", "3gp", "y4m", "vob", "gif", "mxf", "dv"),
    )
)
"""Endings of the files that are listed; others can be given on the command line."""
MAX_LISTED = 2000
MAX_NAME_BYTES = 200
DEFAULT_UPLOAD_LIMIT = 16 * 2**30


class UploadTooLargeError(UsageError):
    """A file that is dropped is larger than the limit."""


@dataclass(frozen=True)
class Clip:
    """A file that can be enlarged."""

    id: str
    """Stands for the path: no path ever comes from the page."""
    path: Path
    name: str
    """Name to show, beginning with its folder where that is not the first level."""
    size_bytes: int


class Library:
    """The clips of some folders, whose paths never leave them."""

    def __init__(self, folders: list[Path], upload_limit: int = DEFAULT_UPLOAD_LIMIT) -> None:
        """Raises InputError for what is no folder."""
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder; name one with --folder.")
        self._folders = [folder.resolve() for folder in folders]
        self._upload_limit = upload_limit

    def clips(self) -> list[Clip]:
        """List the clips, folder by folder, by name."""
        found: list[Clip] = []
        for root in self._folders:
            for path in _files_below(root):
                if len(found) == MAX_LISTED:
                    return found
                try:
                    is_inside = path.resolve().is_relative_to(root)
                    size = path.stat().st_size
                except OSError:
                    # Gone meanwhile, or not to be looked at.
                    continue
                # A link may lead out of the folder.
                if is_inside:
                    name = printable(str(path.relative_to(root)))
                    found.append(Clip(_identifier(path), path, name, size))
        return found

    def find(self, identifier: str) -> Clip:
        """Find a clip by its identifier. Raises InputError where it is gone."""
        for clip in self.clips():
            if clip.id == identifier:
                return clip
        raise InputError("this clip is not there any more.")

    def holds(self, path: Path) -> bool:
        """Tell whether a path lies in one of the folders, links followed."""
        return any(path.resolve().is_relative_to(root) for root in self._folders)

    async def take_in(
        self, name: str, stated_bytes: int | None, chunks: AsyncIterable[bytes]
    ) -> Clip:
        """Write a file that was dropped into the first folder, whole or not at all.

        Raises UsageError for a name that will not do, OutputError where it exists already or the
        disk is full, UploadTooLargeError beyond the limit.
        """
        target = self._folders[0] / _safe_name(name)
        if target.exists():
            raise OutputError(f"{printable(target.name)} exists already; rename one of the two.")
        self._check_size(stated_bytes or 0)
        part = hidden_sibling(target, f".{os.getpid()}.upload")
        received = 0
        try:
            with part.open("wb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    self._check_size(received)
                    file.write(chunk)
            _give_name(part, target)
        except FileExistsError:
            raise OutputError(f"{printable(target.name)} exists already.") from None
        except OSError as error:
            raise OutputError(f"the file cannot be written: {error.strerror}.") from None
        finally:
            part.unlink(missing_ok=True)
        return Clip(_identifier(target), target, printable(target.name), received)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._upload_limit:
            raise UploadTooLargeError(
                f"the file is larger than the limit of {self._upload_limit / 2**20:.0f} MiB; put "
                "it into the folder by hand."
            )
        if size_bytes > shutil.disk_usage(self._folders[0]).free:
            raise OutputError("the disk has no room for this file.")


def _files_below(root: Path) -> Iterator[Path]:
    """Yield the files of a folder that look like clips, hidden ones and their folders left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in CLIP_SUFFIXES:
                yield Path(folder, name)


def _give_name(part: Path, target: Path) -> None:
    """Give a file its name, never over one that came up meanwhile. Raises OSError."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        if target.exists():
            raise FileExistsError(target) from None
        part.rename(target)


def _identifier(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:20]


def _safe_name(name: str) -> str:
    """Take the last part of a name that a browser sent. Raises UsageError for one that will not
    do."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    is_plain = last.isprintable() and not last.startswith(".")
    if not last or not is_plain or len(os.fsencode(last)) > MAX_NAME_BYTES:
        raise UsageError("a file of this name is not taken; rename it.")
    if Path(last).suffix.lower() not in CLIP_SUFFIXES:
        raise UsageError(f"{last} does not look like a video; expected a name such as clip.mp4.")
    return last
