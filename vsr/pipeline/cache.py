"""Banks of clips in the user's cache: found again by the clip itself, held to a size, safe where
several processes use them."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from platformdirs import user_cache_path

from vsr import __version__
from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import FolderLock, write_atomically
from vsr.models.bank import bank_files, load_model
from vsr.models.shot_model import load_shot_model, shot_model_files
from vsr.records import Origin, from_json, to_table
from vsr.train.clip import clip_name
from vsr.video.frames import ClipInfo
from vsr.video.reader import ReadOptions

CACHE_VARIABLE = "VSR_CACHE"
"""Environment variable that names another folder."""
LIMIT_VARIABLE = "VSR_CACHE_LIMIT"
"""Environment variable with another size, such as 500M or 20G."""
DEFAULT_LIMIT_BYTES = 4 * 2**30
"""Some ten thousand shot models."""
MIN_FREE_BYTES = 64 * 2**20
"""Free space that a bank is begun with: models and the states of trainings take less."""
RECORD_NAME = "bank.json"
"""Record of a cached bank; a folder without one is not ours, and is never removed."""
LOCK_NAME = ".vsr-cache-lock"
USE_PREFIX = ".vsr-used-"
KEY_CHARACTERS = 16
SHOT_MODELS = "shot"
"""Kind of a bank with shot models."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_uses = count()


@dataclass(frozen=True)
class BankRecord:
    """Origin of a cached bank."""

    clip: str
    """File name of the clip when its bank was begun, without its folder."""
    clip_identity: str
    kind: str = SHOT_MODELS
    """Models that are in it."""


@dataclass(frozen=True)
class CachedBank:
    """A bank in the cache, for people."""

    name: str
    """Name of its folder."""
    clip: str
    kind: str
    """Models that are in it: `shot`, or a training on keyframes."""
    models: int
    size_bytes: int
    last_used: datetime
    is_used: bool
    """Whether a process works with it now."""


def cache_folder() -> Path:
    """Name the folder of all cached banks; it may not exist yet."""
    named = os.environ.get(CACHE_VARIABLE)
    return (Path(named) if named else user_cache_path("vsr")) / "banks"


def bank_path(info: ClipInfo, read: ReadOptions, kind: str = SHOT_MODELS) -> Path:
    """Name the folder of a clip's models, which may not exist yet: another one for another content,
    way of reading, kind of models or version, but not for another name of the file."""
    what = json.dumps([info.identity, to_table(read), kind, __version__])
    return cache_folder() / hashlib.sha256(what.encode()).hexdigest()[:KEY_CHARACTERS]


@contextmanager
def cached_bank(
    info: ClipInfo,
    read: ReadOptions,
    notify: Callable[[str], None] = lambda _: None,
    kind: str = SHOT_MODELS,
) -> Iterator[Path]:
    """Yield the folder of a clip's models, made where it is new, and keep it from being removed
    meanwhile.

    It is found by the clip's content and by how it is read: a clip that was changed has another.
    Models that are damaged are removed, to be trained again; the banks that were used least
    recently go where all are larger than the limit. Raises `UsageError` for a pipe, which has no
    identity, and `OutputError` for a cache that cannot be written.
    """
    if not info.identity:
        raise UsageError(
            "the models of a pipe cannot be trained beside the run, which would read it twice: "
            "give a file, or a bank with --models DIR."
        )
    bank = bank_path(info, read, kind)
    folder = bank.parent
    with ExitStack() as held:
        try:
            with _cache_lock(folder):
                _check_free_space(folder)
                bank.mkdir(exist_ok=True)
                held.enter_context(_use_of(bank))
                record = BankRecord(clip_name(info), info.identity, kind)
                # Its time of change is that of the last use.
                write_atomically(bank / RECORD_NAME, json.dumps(asdict(record)).encode())
                _evict(folder, size_limit(), notify)
            _remove_damaged(bank, notify)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield bank


def list_banks() -> list[CachedBank]:
    """List the banks in the cache, the last used first. Raises `OutputError` where the folder
    cannot be read."""
    try:
        banks = [_describe(bank) for bank in _banks(cache_folder())]
    except OSError as error:
        raise _unwritable(cache_folder(), error) from error
    return sorted(banks, key=lambda bank: bank.last_used, reverse=True)


def clear_banks(
    names: Sequence[str] = (), notify: Callable[[str], None] = lambda _: None
) -> list[CachedBank]:
    """Remove the banks of these names, or of clips of these names; without names all. Those in use
    stay, and `notify` is told.

    Returns those that were removed. Raises `UsageError` for an unknown name, `OutputError` where
    one cannot be removed.
    """
    known = list_banks()
    for name in names:
        if all(name not in (bank.name, bank.clip) for bank in known):
            raise UsageError(f"no bank in the cache is named {name}; vsr cache list shows them.")
    chosen = [bank for bank in known if not names or {bank.name, bank.clip} & set(names)]
    removed = []
    folder = cache_folder()
    if chosen:
        try:
            with _cache_lock(folder):
                for bank in chosen:
                    if _is_used(folder / bank.name):
                        notify(f"{bank.name} is in use and stays")
                    else:
                        shutil.rmtree(folder / bank.name)
                        removed.append(bank)
        except OSError as error:
            raise _unwritable(folder, error) from error
    return removed


def size_limit() -> int:
    """Read the size that all cached banks may have together, in bytes. Raises `UsageError`."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT_BYTES
    found = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise UsageError(
            f"{LIMIT_VARIABLE} is {text!r}; expected a number of bytes, such as 500M or 20G."
        )
    return int(found[1]) * _UNITS[found[2].upper()]


def _banks(folder: Path) -> list[Path]:
    """List the folders that are ours, in no order. Raises OSError."""
    if not folder.exists():
        return []
    return [path for path in folder.iterdir() if (path / RECORD_NAME).is_file()]


def _describe(bank: Path) -> CachedBank:
    record = bank / RECORD_NAME
    try:
        origin = Origin(str(record), ModelError, lenient=True)
        found = from_json(BankRecord, record.read_bytes(), origin)
    except (ModelError, OSError):
        # It can still be removed by the name of its folder.
        found = BankRecord("unknown", "", "unknown")
    return CachedBank(
        name=bank.name,
        clip=found.clip,
        kind=found.kind,
        models=len(bank_files(bank)) + len(shot_model_files(bank)),
        size_bytes=_size_of(bank),
        last_used=datetime.fromtimestamp(record.stat().st_mtime),
        is_used=_is_used(bank),
    )


def _size_of(bank: Path) -> int:
    total = 0
    for path in bank.rglob("*"):
        # Files come and go while models are trained.
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _evict(folder: Path, limit_bytes: int, notify: Callable[[str], None]) -> None:
    """Remove the banks that were used least recently until all fit the limit; those in use stay.
    Raises OSError."""
    banks = sorted(_banks(folder), key=lambda bank: (bank / RECORD_NAME).stat().st_mtime)
    sizes = {bank: _size_of(bank) for bank in banks}
    total = sum(sizes.values())
    for bank in banks:
        if total <= limit_bytes:
            return
        if not _is_used(bank):
            shutil.rmtree(bank)
            total -= sizes[bank]
            notify(f"the cache is full: the oldest bank, {bank.name}, was removed")


def _remove_damaged(bank: Path, notify: Callable[[str], None]) -> None:
    """Remove models that cannot be read, as after a disk's failure, so that they are trained
    again. Raises OSError."""
    for files, load in ((bank_files, load_model), (shot_model_files, load_shot_model)):
        for path in files(bank):
            try:
                load(path)
            except ModelError:
                path.unlink(missing_ok=True)
                notify(f"the cached model {path} is damaged; it is trained again")


def _check_free_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise OutputError(
            f"the cache {folder} has {free // 2**20} MiB of free space, expected at least "
            f"{MIN_FREE_BYTES // 2**20}. Empty it with vsr cache clear, or name another folder "
            f"with {CACHE_VARIABLE}."
        )


def _cache_lock(folder: Path) -> FolderLock:
    """Hold the cache while its folders are made and removed, which takes a moment."""
    folder.mkdir(parents=True, exist_ok=True)
    return FolderLock(folder, "the cache is in use", LOCK_NAME, waits=True)


def _use_of(bank: Path) -> FolderLock:
    """Mark a bank as used by this process. The system ends the mark where the process is killed."""
    return FolderLock(bank, "it is in use", f"{USE_PREFIX}{os.getpid()}-{next(_uses)}")


def _is_used(bank: Path) -> bool:
    """Tell whether a process uses a bank; marks of processes that were killed are removed."""
    for mark in bank.glob(f"{USE_PREFIX}*"):
        try:
            with FolderLock(bank, "it is in use", mark.name):
                pass
        except OutputError:
            return True
    return False


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"the cache {folder} cannot be used: {error.strerror}. Name another folder with "
        f"{CACHE_VARIABLE}, or give a bank with --models DIR."
    )
