"""A clip and the folder of its models, as every training on a clip uses them: which shots, which
frames, which names."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vsr.errors import InputError, OutputError, UsageError
from vsr.files import FolderLock
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import Shot, find_shots

HASH_CHARACTERS = 6

ShotChoice = Literal["longest", "all"] | int

LOCK_NAME = ".vsr-lock"


def shots_of_clip(clip: str | Path, read: ReadOptions) -> tuple[ClipInfo, list[Shot]]:
    """Read the clip once for its shots. Raises `InputError`, also where there is no frame."""
    with open_clip(clip, read) as reader:
        info = reader.info
        found = find_shots(reader.frames())
    if not found:
        raise InputError(f"{clip} has no frame to train on.")
    return info, list(found)


def choose_shots(
    found: Sequence[Shot], shots: ShotChoice, keyframe: int | Literal["auto", "all"] = "auto"
) -> list[Shot]:
    """Choose the shots that a user asked for; a keyframe asks for its own, and `all` for each shot
    as often as it has frames. Raises `UsageError` for what is not there."""
    if keyframe == "all":
        return [
            replace(shot, keyframe=index)
            for shot in choose_shots(found, shots)
            for index in range(shot.first_frame, shot.last_frame + 1)
        ]
    if isinstance(keyframe, int):
        for shot in found:
            if shot.first_frame <= keyframe <= shot.last_frame:
                return [replace(shot, keyframe=keyframe)]
        raise UsageError(
            f"--keyframe {keyframe} is not in the clip; expected 0 to {found[-1].last_frame}."
        )
    if shots == "all":
        return list(found)
    if shots == "longest":
        return [max(found, key=lambda shot: shot.num_frames)]
    if isinstance(shots, str) or not 0 <= shots < len(found):
        raise UsageError(
            f"--shots {shots} is not in the clip; expected 0 to {len(found) - 1}, longest or all."
        )
    return [found[shots]]


def read_frames(clip: str | Path, wanted: set[int], read: ReadOptions) -> dict[int, Frame]:
    """Read the frames of these numbers, and no further than the last. Raises `InputError`."""
    # Read once, in order: seeking is not exact in every container.
    frames: dict[int, Frame] = {}
    with open_clip(clip, read) as reader:
        for frame in reader.frames():
            if frame.index in wanted:
                frames[frame.index] = frame
            if len(frames) == len(wanted):
                return frames
    raise InputError(f"{clip} ended before frame {max(wanted)} when it was read again.")


def clip_name(info: ClipInfo) -> str:
    """A clip's file name as text: one that is not UTF-8 is shown escaped."""
    return Path(info.path).name.encode(errors="backslashreplace").decode()


def file_stem(clip_name: str) -> str:
    """The beginning of the names of a clip's models: its own without what a file name might not
    hold."""
    # Of the clip's name only what every file system takes.
    return re.sub(r"[^\w-]+", "_", Path(clip_name).stem).strip("_") or "clip"


def make_folder(bank: Path) -> None:
    """Make the folder of a bank. Raises `OutputError` where models cannot be written to it."""
    try:
        bank.mkdir(parents=True, exist_ok=True)
        if not os.access(bank, os.W_OK):
            raise PermissionError(13, "no permission to write")
    except OSError as error:
        raise _unwritable(bank, error) from None


@contextmanager
def bank_lock(bank: Path) -> Iterator[None]:
    """Hold a bank for this training alone, and clear away what a killed one left half-written.
    Raises `OutputError`."""
    with ExitStack() as resources:
        try:
            resources.enter_context(FolderLock(bank, "models are being trained in it", LOCK_NAME))
            for unfinished in bank.glob(".*.part"):
                unfinished.unlink()
        except OSError as error:
            raise _unwritable(bank, error) from error
        yield


def _unwritable(bank: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write models to {bank}: {error.strerror}. Choose another --models.")


def short_hash(text: str) -> str:
    """Hash a text to a few characters that tell trainings apart in names."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]
