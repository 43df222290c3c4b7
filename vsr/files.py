"""Files that appear whole or not at all, and folders that one process at a time may write to."""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vsr.errors import OutputError, UsageError

LOCK_NAME = "lock"
MAX_NAME_BYTES = 255
WAIT_SECONDS = 0.2
"""Time between two looks at a lock that is waited for."""


def write_atomically(path: Path, content: bytes) -> None:
    """Give `path` this content, or leave it as it was: also where the power fails. Raises
    OSError."""
    # A device or a pipe, such as /dev/null, is written to; putting a file in its place destroys it.
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    temporary = hidden_sibling(path, f".{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            flush_to_disk(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def hidden_sibling(path: Path, ending: str) -> Path:
    """A hidden name beside a file, always the same, and short enough for a file system where the
    file's own is."""
    name = f".{path.name}{ending}"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{ending}"
    return path.with_name(name)


def flush_to_disk(descriptor: int) -> None:
    """Wait until what was written can survive a loss of power, where the file system can do that.
    Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FSYNC_UNSUPPORTED:
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power. Raises OSError."""
    # Windows opens no folder, and writes names through on its own.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush_to_disk(descriptor)
    finally:
        os.close(descriptor)


_FSYNC_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP)
"""Errors of a file system that has no way to wait."""
_LOCKS_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that takes no locks."""


class FolderLock:
    """A context manager that holds a folder for this process alone.

    The system itself lets go of the lock when its owner ends, however that happens: there are no
    stale locks to judge, and a process number that was given to another program since then misleads
    nobody. Raises OutputError on entry, with the owner's number, where another process holds it,
    and OSError.
    """

    def __init__(
        self, folder: Path, purpose: str, name: str = LOCK_NAME, *, waits: bool = False
    ) -> None:
        """`purpose` is what the owner does, in words; with `waits` another owner is waited for."""
        self._path = folder / name
        self._purpose = purpose
        self._waits = waits

    def __enter__(self) -> Self:
        from filelock import FileLock, Timeout

        # Never a lock without the system's help: that would outlive an owner that was killed.
        self._lock = FileLock(self._path, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire(blocking=self._waits, poll_interval=WAIT_SECONDS)
        except Timeout:
            raise OutputError(
                f"{self._path.parent}: {self._purpose} by {_owner(self._path)}; wait for it, or "
                "stop it"
            ) from None
        except OSError as error:
            if error.errno not in _LOCKS_UNSUPPORTED:
                raise
            raise OutputError(
                f"{self._path.parent}: its file system takes no locks ({error.strerror}); use a "
                "local folder"
            ) from None
        # The owner's name only serves the others' messages: it must not fail on a full disk, nor
        # on a system whose locks keep even their owner from writing.
        with suppress(OSError):
            owner = {"process": os.getpid(), "machine": socket.gethostname()}
            self._path.write_text(json.dumps(owner))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Removed while it is held: whoever opened it meanwhile sees that it is gone, and makes a
        # new one. Where an open file cannot be removed, the lock does it itself.
        with suppress(PermissionError):
            self._path.unlink(missing_ok=True)
        self._lock.release()


def _owner(lock: Path) -> str:
    try:
        owner = json.loads(lock.read_text())
        return f"process {owner['process']} on {owner['machine']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def strict_json(value: Any) -> str:
    """Readable JSON without NaN or infinity, which strict parsers refuse."""
    return json.dumps(value, indent=2, allow_nan=False)


def check_record(destination: str | Path | None, protected: Iterable[str | Path | None]) -> None:
    """Refuse, before any work, a place where a record cannot be written or would replace a clip of
    this run.

    Raises `OutputError` for the first and `UsageError` for the second. None and `-` are always
    fine.
    """
    if destination is None or str(destination) == "-":
        return
    path = Path(destination)
    try:
        if not path.name or path.is_dir():
            raise OutputError(f"cannot write to {str(destination)!r}: it is a folder. Name a file.")
        if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise OutputError(
                f"cannot write {path}: its folder is missing or read-only. Choose another place."
            )
        clips = [Path(clip) for clip in protected if clip is not None]
        if any(
            path == clip or (path.exists() and clip.exists() and path.samefile(clip))
            for clip in clips
        ):
            raise UsageError(
                f"{path} would replace a clip that this command reads or writes. Choose another "
                "place."
            )
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose another place.") from None


def check_output(output: str | Path, protected: Iterable[str | Path | None]) -> None:
    """Refuse, before any work, an output that would replace a clip read beside the input. Raises
    `OutputError`."""
    path = Path(output)
    for clip in (Path(clip) for clip in protected if clip is not None):
        if path.exists() and clip.exists() and path.samefile(clip):
            raise OutputError(f"{path}: this is a clip that the command reads; name another output")


def check_distinct(destinations: Mapping[str, str | Path | None]) -> None:
    """Refuse, with `UsageError`, two records in one place; `destinations` are by option."""
    given = [str(place) for place in destinations.values() if place is not None]
    if len(set(given)) < len(given):
        raise UsageError(
            f"two of {', '.join(destinations)} name the same place; give each its own."
        )


def write_json(text: str, destination: str | None) -> None:
    """Write to a file, whole or not at all, or to standard output for `-`; to None, nothing. Raises
    `OutputError`."""
    if destination is None:
        return
    if destination == "-":
        print(text)
        return
    path = Path(destination)
    try:
        write_atomically(path, (text + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Choose another place for --json."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; file names in it that are no UTF-8 are shown escaped.
    Raises `OutputError`."""
    try:
        write_atomically(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}; name another file"
        ) from error
