"""Download of weight files: only when a user asks for it by `vsr weights get`, never during a run.

A file is taken only where its publisher states a hash, and gets its name only when its content has
that hash. What was fetched before a connection broke lies hidden beside it, and is gone on from.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pooch
import requests

from vsr.errors import ModelError, OutputError
from vsr.files import FolderLock, flush_to_disk, hidden_sibling, sync_folder
from vsr.models.weights import WeightFile, is_published

MIRROR_VARIABLE = "VSR_WEIGHTS_MIRROR"
"""Environment variable: an address that takes the place of everything before the file's name, such
as that of a company's own server."""
TIMEOUT_SECONDS = 30.0
"""Time without a byte after which a server counts as gone."""
CHUNK_BYTES = 1 << 16
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
"""Answers of HTTP to a request for the rest of a file."""

ByteProgress = Callable[[int, int | None], None]
"""Takes the number of bytes that are there, and of all, or None where the server does not say."""


def download_address(file: WeightFile) -> str:
    """Return the address of a file: the publisher's, or that of the mirror."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return f"{mirror}/{file.name}" if mirror else file.address


def download_size(file: WeightFile) -> int | None:
    """Ask the server for the size of a file in bytes; None where it does not say. Raises
    ModelError."""
    with _explained(file):
        answer = requests.head(
            download_address(file),
            allow_redirects=True,
            timeout=TIMEOUT_SECONDS,
            headers=_PLAIN,
        )
        answer.raise_for_status()
    return _length(answer)


def download(file: WeightFile, folder: Path, progress: ByteProgress) -> Path:
    """Fetch a file into `folder`, which is made, and return its path.

    One that is there with the right content is kept. Raises ModelError where the server cannot be
    reached, breaks off or has another content, and OutputError where the folder does not take it.
    """
    assert file.address, "only files whose publisher states a hash are fetched"
    target = folder / file.name
    # pooch tells its own log of every step; the user is told by us.
    pooch.get_logger().setLevel("ERROR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(folder, "weights are being fetched into it", ".vsr-weights-lock"):
            if target.exists() and not is_published(file, target):
                # The name states the hash: this can only be a damaged copy.
                target.unlink()
            pooch.retrieve(
                download_address(file),
                known_hash=None,  # pooch compares whole hashes; eight digits are checked below
                fname=file.name,
                path=folder,
                downloader=_ResumingDownloader(file, target, progress),
            )
            sync_folder(folder)
    except OSError as error:
        # Errors of requests are OSErrors too, but were explained where they happened.
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}; free some space or name "
            "another folder in VSR_WEIGHTS, then give the same command, which goes on with what "
            "is there"
        ) from error
    return target


_PLAIN = {"Accept-Encoding": "identity"}
"""Header that keeps servers from packing a file, whose bytes could then not be counted."""


class _ResumingDownloader:
    """A downloader for pooch that goes on with what an earlier one has left behind."""

    def __init__(self, file: WeightFile, target: Path, progress: ByteProgress) -> None:
        self._file, self._progress = file, progress
        self._part = hidden_sibling(target, ".part")

    def __call__(self, url: str, output_file: str, _: object) -> None:
        """Fetch `url`, check its content, and move it to `output_file`."""
        there = self._part.stat().st_size if self._part.exists() else 0
        with _explained(self._file), self._open(url, there) as answer:
            if answer.status_code == RANGE_NOT_SATISFIABLE:
                # All of it is there, or too much: its hash decides.
                total: int | None = there
            else:
                # A server that ignores the range sends all from the start.
                if answer.status_code != PARTIAL_CONTENT:
                    there = 0
                length = _length(answer)
                total = None if length is None else there + length
                _check_room(self._part.parent, length)
                with self._part.open("ab" if there else "wb") as stream:
                    self._receive(answer, stream, there, total)
        # A body may end early without an error, so sizes are compared.
        if total is not None and self._part.stat().st_size < total:
            raise self._broken_off(self._part.stat().st_size)
        if not is_published(self._file, self._part):
            with self._part.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            # Else every later try would go on with the same wrong bytes.
            self._part.unlink()
            raise ModelError(
                f"{url} has the hash {found[:12]}..., expected {self._file.sha256}...; it was "
                "deleted. Try again later, or tell the publisher."
            )
        self._part.replace(output_file)

    def _open(self, url: str, there: int) -> requests.Response:
        headers = _PLAIN | ({"Range": f"bytes={there}-"} if there else {})
        answer = requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers)
        # Asked for the rest, a server answers this where there is none: that is no failure.
        if answer.status_code != RANGE_NOT_SATISFIABLE or not there:
            answer.raise_for_status()
        return answer

    def _receive(
        self, answer: requests.Response, stream: BinaryIO, there: int, total: int | None
    ) -> None:
        try:
            for chunk in answer.iter_content(CHUNK_BYTES):
                stream.write(chunk)
                there += len(chunk)
                self._progress(there, total)
        except requests.RequestException:
            raise self._broken_off(there) from None
        # Before it gets its name: after a power failure that would stand for a cut-off file.
        stream.flush()
        flush_to_disk(stream.fileno())

    def _broken_off(self, size: int) -> ModelError:
        return ModelError(
            f"{self._file.name}: the connection broke off after {size / 1e6:.1f} MB; give the same "
            "command, which goes on with what is there"
        )


def _length(answer: requests.Response) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if stated.isdecimal() else None


def _check_room(folder: Path, wanted: int | None) -> None:
    """Raise OSError where the folder has no room for so many bytes, before they are fetched."""
    if wanted is not None and wanted > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _explained(file: WeightFile) -> Iterator[None]:
    """Turn failures of the network into a ModelError of one line."""
    host = urlsplit(download_address(file)).netloc
    try:
        yield
    except requests.HTTPError as error:
        answer = error.response
        raise ModelError(
            f"{file.name}: {host} answers {answer.status_code} {answer.reason}; try again later, "
            f"or get it by hand from {file.source}"
        ) from error
    except requests.RequestException as error:
        raise ModelError(
            f"{file.name}: {host} cannot be reached ({_cause(error)}); check the network and the "
            "proxy (HTTPS_PROXY), then give the same command"
        ) from error


def _cause(error: BaseException) -> str:
    """Name the innermost cause in a few words: what wraps it fills lines with addresses."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    seen = str(error)
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        if isinstance(error, OSError) and error.strerror:
            seen = error.strerror
    return seen.splitlines()[0][:120] if seen else type(error).__name__
