"""Destinations in which a result is put together until it is whole and gets its name: a file, a
folder, or a pipe."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from vsr.files import flush_to_disk, sync_folder

_NUMBER_FIELD = re.compile(r"%0?(\d*)d")


class Destination(Protocol):
    """A context manager in which a result is put together."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def commit(self) -> None:
        """Give the whole result its name."""
        ...


class FileDestination:
    """A file, open for writing as `file`, that becomes the target; without `commit` it is removed.
    Raises OSError."""

    def __init__(
        self, target: Path, part: Path, before_commit: Callable[[Path, Path], None]
    ) -> None:
        self._target, self._part = target, part
        self._before_commit = before_commit

    def __enter__(self) -> Self:
        self.file: BinaryIO = self._part.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What could not be flushed to a full disk is thrown away here in any case.
        with suppress(OSError):
            self.file.close()
        self._part.unlink(missing_ok=True)

    def commit(self) -> None:
        self.file.flush()
        flush_to_disk(self.file.fileno())
        self.file.close()
        # The note comes first: killed in between, a later run finds the result and knows it.
        self._before_commit(self._part, self._target)
        os.replace(self._part, self._target)
        sync_folder(self._target.parent)


class FolderDestination:
    """A folder of pictures that becomes the target, or whose pictures replace those there; other
    files stay.

    It is there from one attempt to the next, since a part of its pictures may have reached the
    target already.
    """

    def __init__(
        self,
        target: Path,
        part: Path,
        pattern: str,
        before_commit: Callable[[Path, Path], None],
        is_temporary: bool,
    ) -> None:
        self.target = target
        self.folder = part
        self._pattern = pattern
        self._before_commit = before_commit
        self._is_temporary = is_temporary

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=not self._is_temporary)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            # Only where it is empty.
            self.folder.rmdir()
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def move_in(self, pictures: Sequence[Path]) -> None:
        """Move these pictures in; those that are gone were moved in before."""
        self._names = [path.name for path in pictures]
        for path in pictures:
            if path.exists():
                shutil.move(path, self.folder / path.name)
            elif not (self.folder / path.name).exists() and not (self.target / path.name).exists():
                raise FileNotFoundError(2, f"the picture {path.name} is gone")

    def commit(self) -> None:
        self._before_commit(self.folder, self.target)
        # One rename where the folder is new; file by file where it is shared with others.
        if not self.target.exists():
            os.replace(self.folder, self.target)
            return
        fresh = set(self._names)
        stale = [
            path for path in existing_images(self.target, self._pattern) if path.name not in fresh
        ]
        for name in self._names:
            if (self.folder / name).exists():
                os.replace(self.folder / name, self.target / name)
        # Old pictures that the new clip has no number for would be taken for its own.
        for path in stale:
            path.unlink()


class PipeDestination:
    """Standard output; what was sent cannot be taken back."""

    def __enter__(self) -> Self:
        # A buffer of our own: at its end the interpreter flushes sys.stdout's, and would complain
        # of a closed pipe.
        self._pipe = _UnseekablePipe(open(sys.stdout.fileno(), "wb", closefd=False))
        self.file = cast(BinaryIO, self._pipe)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()

    def commit(self) -> None:
        self._pipe.flush()


class _UnseekablePipe:
    """A file that cannot seek: standard output may be one that others append to, where going back
    would destroy what they wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.closed = False
        """PyAV looks here before it ends a container that was given up."""

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True
        with suppress(OSError):
            self._file.close()


def existing_images(folder: Path, pattern: str) -> list[Path]:
    """List files in the folder that the pattern could have named."""
    names = name_regex(pattern)
    return (
        [path for path in folder.iterdir() if names.fullmatch(path.name)] if folder.is_dir() else []
    )


def format_name(pattern: str, number: int) -> str:
    """Fill in the `%06d` of a pattern."""
    return _NUMBER_FIELD.sub(lambda field: f"{number:0{field.group(1) or 1}d}", pattern, count=1)


def name_regex(pattern: str) -> re.Pattern[str]:
    """Build an expression that matches every name that the pattern can give."""
    if _NUMBER_FIELD.search(pattern) is None:
        return re.compile(re.escape(pattern))
    before, _, after = _NUMBER_FIELD.split(pattern, maxsplit=1)
    return re.compile(re.escape(before) + r"[0-9]+" + re.escape(after))
