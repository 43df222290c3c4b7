"""Store of an unfinished run: a folder of closed segments, each with the checkpoint after it."""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import torch

from vsr.errors import OutputError, UsageError
from vsr.files import (
    LOCK_NAME,
    FolderLock,
    flush_to_disk,
    hidden_sibling,
    sync_folder,
    write_atomically,
)
from vsr.records import option
from vsr.video.step import Checkpoint, Json, State

FORMAT = 2
"""Number of the form of work folders; others are refused."""
PLAN_NAME = "run.json"
REQUESTED, RESOLVED = "asked", "decided"
"""Parts of a plan: options that a resumed run must share, and choices that it takes over."""
COMMIT_RECORD_NAME = "naming.json"
TENSORS_SUFFIX = "-last.npz"
PICTURE = "picture"
WORK_SUFFIX = ".vsr-work"
LEFTOVER_SUFFIX = ".gone"
PART_SUFFIX = ".part"
"""Ends the name of what is not whole yet."""


@dataclass(frozen=True)
class WorkOptions:
    """Options of where the work of a run is kept, and for how long."""

    folder: Path | None = option(
        None,
        "Folder for the unfinished segments; default: a hidden folder beside the output.",
        "--work-dir",
        metavar="DIR",
    )
    keep: bool = option(False, "Keep the segments after the run has finished.", "--keep-work")
    restart: bool = option(
        False, "Discard the unfinished segments and start at the first frame.", "--restart"
    )


@dataclass(frozen=True)
class ClosedSegment:
    """Record of one closed segment, kept beside its frames."""

    first_frame: int
    num_frames: int
    num_bytes: int
    """Size of the segment's file; 0 for a folder of pictures."""
    times: tuple[tuple[int, int | None, int], ...]
    """Presentation time, decoding time and duration of each packet, in the source's time base:
    Matroska would round."""
    states: Json
    """State of each stage after the last of these frames, by name: its record, and the growth of
    its log since the segment before."""


@dataclass(frozen=True)
class Resumed:
    """State of the work of an earlier run; empty without one."""

    frames_done: int = 0
    picture: torch.Tensor | None = None
    """The last picture, as it was before it was encoded: (3, H, W)."""
    states: Mapping[str, State] = field(default_factory=dict)
    """State of each stage, by name, with the whole of its log."""


class SegmentStore:
    """A context manager that holds the folder of one run, with the segments that are closed
    already.

    What is closed stays when the process ends, however it ends, until `mark_finished` was called. A
    folder without a plan belongs to an output that nothing can be added to later: it is removed on
    leaving in any case. Raises OSError, and OutputError where another process holds the folder or
    where what it holds is broken.
    """

    def __init__(
        self, folder: Path, plan: Json | None, *, keep: bool = False, restart: bool = False
    ) -> None:
        self.folder = folder
        self.plan = plan
        self._wanted = plan
        self._keep = keep
        self._restart = restart
        self._is_finished = False
        self.num_segments = 0
        """Closed ones."""
        self.frames_done = 0
        """Frames in them, counted from the first of the clip."""

    @classmethod
    def of(cls, output: Path, plan: Json | None, options: WorkOptions) -> "SegmentStore":
        """Make the folder in which the work of this output is kept from one attempt to the next.

        Without a plan it is a folder beside the output that does not outlive the process, if that
        can be helped.
        """
        if plan is None:
            return cls(output.absolute().with_name(f".vsr-{secrets.token_hex(4)}.part"), None)
        if options.folder is not None and not options.folder.is_dir():
            raise OutputError(
                f"--work-dir {options.folder}: there is no such folder; make it, or name another"
            )
        plan = {"format": FORMAT, **plan}
        # Through JSON and back, so that it compares equal to what will be read from the disk.
        plan = json.loads(json.dumps(plan, allow_nan=False))
        return cls(work_folder(output, options), plan, keep=options.keep, restart=options.restart)

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self.folder.mkdir(exist_ok=self._wanted is not None)
            resources.callback(self._remove_if_empty)
            resources.enter_context(
                FolderLock(self.folder, "the work of this output is being done")
            )
            resources.callback(self._clean_up)
            # Behind the lock: another process may be at work on what would be removed.
            if self._restart:
                _clear(self.folder, but=LOCK_NAME)
            self._read()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def _clean_up(self) -> None:
        is_begun = self._record_path(0).exists()
        if self._wanted is None or not is_begun or (self._is_finished and not self._keep):
            # In one step: ended before it, the same command finds all of its work and finishes
            # again. Ended after it, the record still tells whose the result is, until it goes last.
            gone = _leftover(self.folder)
            with suppress(OSError):
                _clear(gone)
                gone.rmdir()
            with suppress(OSError):
                self.folder.rename(gone)
                _clear(gone, but=COMMIT_RECORD_NAME)
            shutil.rmtree(gone, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def segments(self) -> Iterator[ClosedSegment]:
        """Read the closed segments in order, one by one: a long clip has many frames."""
        for number in range(self.num_segments):
            values = json.loads(self._record_path(number).read_bytes())
            yield ClosedSegment(**{**values, "times": tuple(map(tuple, values["times"]))})

    def segment_path(self, number: int, suffix: str) -> Path:
        return self.folder / f"segment-{number:06d}{suffix}"

    def close_segment(
        self,
        num_frames: int,
        num_bytes: int,
        times: tuple[tuple[int, int | None, int], ...],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Note that the next segment is whole; its own file or folder must have its final name
        already. See `ClosedSegment` for the first three.

        Until the next segment is closed, the last `picture`, before it was encoded, and the tensors
        of the checkpoint are kept exactly.
        """
        states = checkpoint.states
        if self._wanted is not None:
            arrays: dict[str, Any] = {PICTURE: picture.cpu().numpy()}
            for stage, state in states.items():
                for name, tensor in state.tensors.items():
                    arrays[f"{stage}/{name}"] = tensor.cpu().numpy()
            with self._tensors_path(self.num_segments).open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                flush_to_disk(file.fileno())
            sync_folder(self.folder)
        records = {
            stage: {"record": state.record, "log": dict(state.log)}
            for stage, state in states.items()
        }
        segment = ClosedSegment(self.frames_done, num_frames, num_bytes, times, records)
        # This file is what makes the segment count; whatever it speaks of is on the disk by now.
        write_atomically(
            self._record_path(self.num_segments),
            json.dumps(asdict(segment), allow_nan=False).encode(),
        )
        self._tensors_path(self.num_segments - 1).unlink(missing_ok=True)
        self.num_segments += 1
        self.frames_done += num_frames

    def resumed(self) -> Resumed:
        """Read from the closed segments what a run needs to resume after them."""
        if not self.num_segments:
            return Resumed()
        records: dict[str, Json] = {}
        logs: dict[str, dict[str, list[Any]]] = {}
        # Records replace each other; logs grow from segment to segment.
        for segment in self.segments():
            for stage, state in segment.states.items():
                records[stage] = state["record"]
                for name, entries in state["log"].items():
                    logs.setdefault(stage, {}).setdefault(name, []).extend(entries)
        tensors = self._tensors()
        picture = tensors.pop(PICTURE)
        by_stage: dict[str, dict[str, torch.Tensor]] = {stage: {} for stage in records}
        for path, tensor in tensors.items():
            stage, _, name = path.partition("/")
            by_stage[stage][name] = tensor
        states = {
            stage: State(record, by_stage[stage], logs.get(stage, {}))
            for stage, record in records.items()
        }
        return Resumed(self.frames_done, picture, states)

    def _tensors(self) -> dict[str, torch.Tensor]:
        with np.load(self._tensors_path(self.num_segments - 1), allow_pickle=False) as arrays:
            return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def record_commit(self, whole: Path, target: Path) -> None:
        """Note which result is about to get its name: a later run knows it for its own then, by
        `is_committed_result`."""
        if self._wanted is not None:
            write_atomically(
                self.folder / COMMIT_RECORD_NAME,
                json.dumps([str(target.name), whole.stat().st_ino]).encode(),
            )

    def part_path(self, output: Path) -> Path:
        """Path at which the whole result is put together: on the disk of the output, so that
        renaming it is one step."""
        if self.folder.parent == output.parent:
            return self.folder / f"whole{PART_SUFFIX}"
        return hidden_sibling(output, f".vsr{PART_SUFFIX}")

    def mark_finished(self) -> None:
        """Note that the result is whole and has its name: the work is no longer needed."""
        self._is_finished = True

    def _read(self) -> None:
        """Take over what is there, or begin."""
        if self._wanted is None:
            return
        plan = self.folder / PLAN_NAME
        if not plan.exists():
            _clear(self.folder, but=LOCK_NAME)
            write_atomically(plan, json.dumps(self._wanted, indent=1, allow_nan=False).encode())
            return
        try:
            self.plan = json.loads(plan.read_bytes())
            self._check_format()
            while self._record_path(self.num_segments).exists():
                self.num_segments += 1
            self.frames_done = sum(
                self._check_size(number, each).num_frames
                for number, each in enumerate(self.segments())
            )
            if self.num_segments:
                self.resumed()
        except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
            raise OutputError(
                f"{self.folder}: the work of an earlier run is damaged ({error}); start over with "
                "--restart"
            ) from error
        # A part that was not closed counts for nothing: its frames are made again.
        self._drop_unfinished()
        if not self.num_segments:
            # Nothing is lost by another plan then.
            self.plan = self._wanted
            write_atomically(plan, json.dumps(self._wanted, indent=1, allow_nan=False).encode())
        assert self.plan is not None
        if changed := differences(self.plan[REQUESTED], self._wanted[REQUESTED]):
            raise UsageError(
                f"{self.folder} holds {self.frames_done} frames of a run with other options: "
                f"{'; '.join(changed[:3])}. Use the same options, or start over with --restart."
            )

    def _drop_unfinished(self) -> None:
        """Remove what an earlier process was writing when it was ended."""
        closed = {self.segment_path(number, "").name for number in range(self.num_segments)}
        for path in self.folder.glob("segment-*"):
            if path.name.partition(".")[0] not in closed or path.suffix == PART_SUFFIX:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        parts = self.folder.glob(f".*{PART_SUFFIX}")
        for path in [*parts, *self.folder.glob(f"*{TENSORS_SUFFIX}")]:
            if path != self._tensors_path(self.num_segments - 1):
                path.unlink()

    def _check_format(self) -> None:
        # Without a closed segment nothing is lost, and the plan is simply replaced.
        found = self.plan.get("format", 1) if isinstance(self.plan, dict) else None
        if found != FORMAT and self._record_path(0).exists():
            raise UsageError(
                f"{self.folder} holds the work of another version of vsr (format {found}, expected "
                f"{FORMAT}): finish it with that version, or start over with --restart."
            )

    def _check_size(self, number: int, segment: ClosedSegment) -> ClosedSegment:
        path = self.segment_path(number, ".mkv")
        if segment.num_bytes and path.stat().st_size != segment.num_bytes:
            raise ValueError(f"{path.name} has changed its size")
        return segment

    def _record_path(self, number: int) -> Path:
        return self.segment_path(number, ".json")

    def _tensors_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{TENSORS_SUFFIX}"


def work_folder(output: Path, options: WorkOptions) -> Path:
    """Path of the folder in which the work of an output is kept."""
    if options.folder is None:
        return hidden_sibling(output.absolute(), WORK_SUFFIX)
    return hidden_sibling(options.folder.absolute() / output.name, WORK_SUFFIX)


def _clear(folder: Path, but: str = "") -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != but:
            path.unlink()


def _leftover(folder: Path) -> Path:
    """Name of a work folder that is being removed."""
    return folder.with_name(f"{folder.name}{LEFTOVER_SUFFIX}")


def is_committed_result(output: Path, options: WorkOptions) -> bool:
    """Tell whether a run that kept its work here was ended after it had named its whole result, and
    before it had tidied up."""
    folder = work_folder(output, options)
    return any(_names(output, each / COMMIT_RECORD_NAME) for each in (folder, _leftover(folder)))


def _names(output: Path, record: Path) -> bool:
    """Tell whether a record is of this very file or folder."""
    try:
        name, inode = json.loads(record.read_bytes())
        return bool(name == output.name and output.stat().st_ino == inode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def differences(planned: Json, wanted: Json, path: str = "") -> list[str]:
    """List what two plans say differently, each as a sentence with the dotted name of the entry."""
    found: list[str] = []
    for key in [*planned, *(key for key in wanted if key not in planned)]:
        before, now = planned.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f"{path}{key}.")
        elif before != now:
            found.append(f"{path}{key} was {_format_value(before)} and is {_format_value(now)}")
    return found


def _format_value(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
