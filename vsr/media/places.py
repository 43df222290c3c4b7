"""Where a result is built until it is whole: a hidden file or folder in the target's own folder, or a pipe."""

import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from vsr.media.picture_output import names_of


class Place(Protocol):
    """A context manager that removes what was built unless `commit` was called."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def commit(self) -> None:
        """Give the whole result its name."""
        ...


class FilePlace:
    """A file beside the target; `file` is open for writing. Raises OSError."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = _part_of(target)

    def __enter__(self) -> Self:
        self.file: BinaryIO = self._part.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What could not be flushed to a full disk is thrown away here in any case.
        with suppress(OSError):
            self.file.close()
        self._part.unlink(missing_ok=True)

    def commit(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._part, self._target)


class FolderPlace:
    """A folder beside the target folder; pictures already in the target are replaced, other files stay."""

    def __init__(self, target: Path, pattern: str) -> None:
        self._target = target
        self._pattern = pattern
        self.folder = _part_of(target)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self) -> None:
        if not self._target.exists():
            os.replace(self.folder, self._target)
            return
        fresh = {path.name for path in self.folder.iterdir()}
        stale = [path for path in existing_pictures(self._target, self._pattern) if path.name not in fresh]
        for name in sorted(fresh):
            os.replace(self.folder / name, self._target / name)
        for path in stale:
            path.unlink()


class PipePlace:
    """Standard output; what was sent cannot be taken back."""

    def __enter__(self) -> Self:
        # A buffer of our own: at its end the interpreter flushes sys.stdout's, and would complain of a closed pipe.
        self._pipe = _Pipe(open(sys.stdout.fileno(), "wb", closefd=False))
        self.file = cast(BinaryIO, self._pipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()

    def commit(self) -> None:
        self._pipe.flush()


class _Pipe:
    """Cannot seek: standard output may be a file that others append to, where going back would do harm."""

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


def existing_pictures(folder: Path, pattern: str) -> list[Path]:
    """Files in the folder that the pattern could have named."""
    names = names_of(pattern)
    return [path for path in folder.iterdir() if names.fullmatch(path.name)] if folder.is_dir() else []


def _part_of(target: Path) -> Path:
    return target.absolute().with_name(f".vsr-{secrets.token_hex(4)}.part")
